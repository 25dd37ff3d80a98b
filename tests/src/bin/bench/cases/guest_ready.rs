//! How long until a tree can be used in a guest, beyond what booting takes.

use super::Case;
use crate::bench::{Bench, remove};
use crate::guest::kit::Kit;
use crate::guest::machine::{Machine, Share};
use crate::guest::serve::Served;
use crate::measure::{Contender, Result, seconds, take_turns};
use crate::row::{Row, at_most};
use crate::trees::{Way, mount_outcrop};

pub const CASE: Case = Case {
    name: "guest-ready",
    title: "A tree of 20 layers in a guest, indexes present, beyond boot",
    how: "On the host, from the start of the command until QEMU could be started (layers stacked and \
          served; for the original: unpacked); in the guest, by its own clock, mounting it and \
          `ls -l /`. Both added. buildbox: StageTree and QEMU's 9p on buildbox-fuse. The guest is \
          emulated (TCG), with the kit's kernel.",
    by_default: true,
    rounds: 3,
    run,
};

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let set = bench.trees()?;
    let kit = Kit::find()?;
    let machine = Machine::new(bench, &kit, "ready")?;
    let usable = |share: &Share| -> Result<f64> { machine.run(share)?.seconds("usable") };
    let over_virtiofs = || {
        let served = Served::start(bench, &set.tars)?;
        let host = served.took;
        let guest = usable(&Share::Virtiofs { socket: served.socket.clone() })?;
        Ok((host, guest))
    };
    let over_9p = || {
        let arguments = ["--rw", "--view", "mapped"].map(std::path::PathBuf::from);
        let opened = mount_outcrop(bench, arguments.into_iter().chain(set.layer_arguments()))?;
        let share = Share::NineP { directory: opened.place.clone(), model: "mapped-xattr" };
        let (host, guest) = (opened.took, usable(&share)?);
        opened.end()?;
        Ok((host, guest))
    };
    let original = || {
        let directory = bench.fresh("original")?;
        let host = seconds(bench.helper()?.arg("original-unpack").arg(&directory).args(&set.tars))?;
        let guest = usable(&Share::NineP { directory, model: "mapped-file" })?;
        Ok((host, guest))
    };
    let buildbox = |(): &()| {
        let opened = Way::Buildbox.open(bench, set)?;
        let share = Share::NineP { directory: opened.place.clone(), model: "none" };
        let (host, guest) = (opened.took, usable(&share)?);
        opened.end()?;
        Ok((host, guest))
    };
    let contenders = vec![
        Contender::new("Outcrop", over_virtiofs),
        Contender::new("Outcrop over 9p", over_9p),
        Contender::new("the original", original),
        Contender::with("buildbox-fuse", Way::Buildbox.probe(bench), buildbox),
    ];
    let results = take_turns(rounds, contenders)?;
    remove(&bench.scratch.join("original"))?;
    let column = |value: fn(&(f64, f64)) -> f64| {
        results.iter().map(|outcome| outcome.map(value)).collect::<Vec<_>>()
    };
    Ok(vec![
        Row::new("tree usable in the guest, beyond boot", column(|took| took.0 + took.1)).targets(
            [at_most(0.05), at_most(0.01).of("the original"), at_most(1.0).of("buildbox-fuse")],
        ),
        Row::new("of it on the host", column(|took| took.0)),
        Row::new("of it in the guest", column(|took| took.1)),
    ])
}
