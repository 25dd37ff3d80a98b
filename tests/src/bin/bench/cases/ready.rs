//! How long until a tree of layers that were used before can be used.

use outcrop_tests::as_user;

use super::Case;
use crate::bench::{Bench, remove, unpack};
use crate::measure::{Contender, Result, seconds, take_turns};
use crate::row::{Row, at_most};
use crate::trees::Way;

pub const CASE: Case = Case {
    name: "ready",
    title: "A tree of 20 layers on the host, indexes present",
    how: "From the start of the command until the tree can be used. `tar x`: all layers over each \
          other. The original: every file unpacked with mode 0600, and one more file with its owner \
          and mode. Hard links: `cp -al` of an unpacked tree. overlayfs and fuse-overlayfs: mounting \
          layers that are unpacked already. buildbox-fuse: StageTree of buildbox-casd, which runs \
          already and has imported the tree (see *index* for what that costs).",
    by_default: true,
    rounds: 5,
    run,
};

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let set = bench.trees()?;
    let open = |way: Way| {
        Contender::with(way.name(), way.probe(bench), move |()| {
            let opened = way.open(bench, set)?;
            let took = opened.took;
            opened.end()?;
            Ok(took)
        })
    };
    let contenders = vec![
        open(Way::Outcrop),
        Contender::new("tar x", || unpack(&set.tars, &bench.fresh("unpacked")?)),
        Contender::new("the original", || {
            let into = bench.fresh("unpacked")?;
            seconds(bench.helper()?.arg("original-unpack").arg(&into).args(&set.tars))
        }),
        Contender::new("hard links", || {
            let into = bench.fresh("unpacked")?.join("links");
            seconds(as_user("cp").arg("-al").arg(&set.merged).arg(into))
        }),
        open(Way::Buildbox),
        open(Way::FuseOverlayfs),
        open(Way::Overlayfs),
    ];
    let results = take_turns(rounds, contenders)?;
    remove(&bench.scratch.join("unpacked"))?;
    Ok(vec![Row::new("tree usable on the host", results).targets([
        at_most(0.05),
        at_most(0.02).of("tar x"),
        at_most(0.01).of("the original"),
        at_most(1.0).of("buildbox-fuse"),
    ])])
}
