//! From the last write to the finished artifact.

use std::fs;
use std::path::PathBuf;

use outcrop_tests::{as_user, give_to_user};

use super::Case;
use crate::bench::{Bench, remove, unpack};
use crate::content;
use crate::measure::{Contender, Outcome, Result, seconds, take_turns};
use crate::peers::buildbox::Buildbox;
use crate::row::{Row, at_most};
use crate::trees::mount_outcrop;

pub const CASE: Case = Case {
    name: "capture",
    title: "Finishing an artifact of 490 MB",
    how: "The layers are unpacked with `tar x` into `outcrop mount --rw --capture`; then \
          `outcrop unmount` is timed, until tar and index are durable. `cp`: of one tar of the same \
          content, written just before, without and with `sync`; `cp -r`: of the tree. `tar c`: of a \
          tree just unpacked. The original: files and their metadata files collected into a tar. \
          buildbox-casd: CaptureTree of a tree just unpacked, into an empty store.",
    by_default: true,
    rounds: 3,
    run,
};

const PLACES: [&str; 6] = ["captures", "original", "written", "copied", "cas", "mnt-outcrop"];

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let layers = bench.layers()?;
    let place = bench.fresh("captures")?;
    let empty = content::empty(&place.join("empty.tar"))?;
    let original = bench.fresh("original")?;
    seconds(bench.helper()?.arg("original-unpack").arg(&original).args(&layers.each))?;
    let mut writing = Vec::new();
    let contenders = vec![
        Contender::new("Outcrop", || {
            let out = place.join("out.tar");
            remove(&out)?;
            let arguments = ["--rw".as_ref(), "--layer".as_ref(), empty.as_path()];
            let capture = ["--capture".as_ref(), out.as_path()];
            let opened = mount_outcrop(bench, arguments.into_iter().chain(capture))?;
            writing.push(unpack(&layers.each, &opened.place)?);
            opened.end()
        }),
        Contender::new("cp", || {
            let (from, to) = fresh_tar(bench)?;
            seconds(as_user("cp").arg(from).arg(to))
        }),
        Contender::new("cp and sync", || {
            let (from, to) = fresh_tar(bench)?;
            let script = "cp \"$0\" \"$1\"; sync \"$1\"";
            seconds(as_user("sh").args(["-ec", script]).arg(from).arg(to))
        }),
        Contender::new("cp -r", || {
            let (from, to) = (fresh_tree(bench)?, bench.fresh("copied")?);
            seconds(as_user("cp").arg("-r").arg(from).arg(to))
        }),
        Contender::new("tar c", || {
            let (from, to) = (fresh_tree(bench)?, bench.fresh("copied")?.join("out.tar"));
            seconds(as_user("tar").arg("cf").arg(to).arg("-C").arg(from).arg("."))
        }),
        Contender::new("the original", || {
            let to = place.join("collected.tar");
            remove(&to)?;
            seconds(bench.helper()?.arg("original-collect").arg(&original).arg(to))
        }),
        Contender::with("buildbox-casd", bench.peers.buildbox(), |_| {
            let buildbox = Buildbox::start(bench, &bench.fresh("cas")?.join("store"))?;
            Ok(buildbox.import(&fresh_tree(bench)?)?.1)
        }),
    ];
    let finishing = take_turns(rounds, contenders)?;
    let plain = || unpack(&layers.each, &bench.fresh("written")?);
    let mut writes = vec![Outcome::alone("Outcrop", writing)];
    writes.extend(take_turns(rounds, vec![Contender::new("ext4", plain)])?);
    PLACES.iter().try_for_each(|name| remove(&bench.scratch.join(name)))?;
    Ok(vec![
        Row::new("tar x into a mount", writes),
        Row::new("finishing the artifact", finishing).targets([at_most(1.0).of("cp")]),
    ])
}

/// All the content as one tar, just written as a build would leave it, and where to copy it.
fn fresh_tar(bench: &Bench) -> Result<(PathBuf, PathBuf)> {
    let (from, to) = (bench.fresh("written")?.join("all.tar"), bench.fresh("copied")?);
    fs::copy(&bench.layers()?.all, &from)?;
    give_to_user(&from);
    Ok((from, to.join("all.tar")))
}

fn fresh_tree(bench: &Bench) -> Result<PathBuf> {
    let tree = bench.fresh("written")?;
    unpack(&bench.layers()?.each, &tree)?;
    Ok(tree)
}
