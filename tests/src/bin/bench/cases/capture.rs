//! From the last write to the finished artifact, against copying the same bytes.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use outcrop_tests::{as_user, give_to_user};

use super::{Bench, remove};
use crate::measure::{Contender, Result, Samples, seconds, take_turns};
use crate::report::Row;

pub fn capture(bench: &Bench) -> Result<Vec<Row>> {
    let place = bench.fresh("captures")?;
    let out = place.join("out.tar");
    let original = bench.fresh("original")?;
    let layers = &bench.content.layers;
    seconds(bench.peer()?.arg("original-unpack").arg(&original).args(layers))?;
    let mut writing = Vec::new();
    let contenders = vec![
        Contender::new("outcrop unmount", || {
            remove(&out)?;
            let (empty, capture) = (&bench.content.empty, OsStr::new("--capture"));
            let arguments =
                ["--layer".as_ref(), empty.as_os_str(), "--rw".as_ref(), capture, out.as_os_str()];
            let mounted = bench.mount(arguments)?;
            writing.push(bench.unpack(&mounted.mountpoint)?);
            mounted.end()
        }),
        Contender::new("cp of one tar", || {
            let (from, to) = fresh_tar(bench)?;
            seconds(as_user("cp").arg(from).arg(to))
        }),
        Contender::new("cp of one tar, and sync", || {
            let (from, to) = fresh_tar(bench)?;
            let script = "cp \"$0\" \"$1\"; sync \"$1\"";
            seconds(as_user("sh").args(["-ec", script]).arg(from).arg(to))
        }),
        Contender::new("cp -r of the tree", || {
            let (from, to) = (bench.fresh("written")?, bench.fresh("copied")?);
            bench.unpack(&from)?;
            seconds(as_user("cp").arg("-r").arg(from).arg(to))
        }),
        Contender::new("the original: collect", || {
            remove(&place.join("collected.tar"))?;
            let to = place.join("collected.tar");
            seconds(bench.peer()?.arg("original-collect").arg(&original).arg(to))
        }),
    ];
    let results = take_turns(bench.rounds, contenders)?;
    let written = (String::from("outcrop"), Samples(writing));
    let plain = Contender::new("tar x on ext4", || bench.unpack(&bench.fresh("written")?));
    let mut writes = vec![written];
    writes.extend(take_turns(bench.rounds, vec![plain])?);
    for name in ["captures", "original", "written", "copied", "mnt"] {
        remove(&bench.scratch.join(name))?;
    }
    Ok(vec![
        Row::new("tar x through the mount", "", writes),
        Row::new("capture: after the last write until durable", "≤ 1.2 of cp", results),
    ])
}

/// All the content as one tar, just written as a build would leave it, and where to copy it.
fn fresh_tar(bench: &Bench) -> Result<(PathBuf, PathBuf)> {
    let (from, to) = (bench.fresh("written")?.join("all.tar"), bench.fresh("copied")?);
    fs::copy(&bench.content.all, &from)?;
    give_to_user(&from);
    Ok((from, to.join("all.tar")))
}
