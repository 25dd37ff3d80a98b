//! What people do in a guest, on one tree over several ways.

use super::Case;
use crate::bench::{Bench, remove};
use crate::guest::kit::Kit;
use crate::guest::machine::{Machine, Marks, Share};
use crate::guest::serve::Served;
use crate::guest::tree::{GuestTree, Virtiofsd};
use crate::measure::{Contender, Result, take_turns};
use crate::row::{Row, Target, at_most};
use crate::trees::mount_outcrop;

pub const CASE: Case = Case {
    name: "guest-load",
    title: "Work in a guest",
    how: "One emulated guest (TCG, one processor, 1 GiB, the kit's kernel) a round and contender, \
          freshly booted; the tree is the kit's packages and a git repository of 3,000 files. In \
          this order, by the guest's own clock: `find /usr -ls`, twice; `tar x` of the 3,000 files \
          and `sync`; `git status`, twice; and a script that works as `./configure` does (small \
          programs written, preprocessed, compiled, searched). Outcrop: the packages as layers, over \
          virtiofs, and over QEMU's 9p on a mount with the mapped view. The original: the tree \
          unpacked in QEMU's `mapped-file` model on ext4. virtiofsd: the tree unpacked as root on \
          ext4, served by root with `--cache always`. virtio-blk: an ext4 image. 9p is mounted with \
          `msize=524288,cache=loose`. `sync` reaches the disk with virtio-blk, virtiofsd and the \
          original; Outcrop keeps nothing of a guest's scratch, so there is nothing to be made \
          durable before the capture.",
    by_default: true,
    rounds: 3,
    run,
};

const VIRTIOFSD: &str = "virtiofsd";
const ORIGINAL: &str = "the original (9p mapped-file)";
const EXT4: &str = "ext4 on virtio-blk";

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let kit = Kit::find()?;
    let tree = GuestTree::make(bench, &kit)?;
    let machine = Machine::new(bench, &kit, "load")?.with_archive(&tree.archive)?;
    let over_virtiofs = || {
        let served = Served::start(bench, &tree.layers)?;
        machine.run(&Share::Virtiofs { socket: served.socket.clone() })
    };
    let over_9p = || {
        let arguments = ["--rw", "--view", "mapped"].map(std::path::PathBuf::from);
        let opened = mount_outcrop(bench, arguments.into_iter().chain(tree.layer_arguments()))?;
        let share = Share::NineP { directory: opened.place.clone(), model: "mapped-xattr" };
        let marks = machine.run(&share)?;
        opened.end()?;
        Ok(marks)
    };
    let original = |directory: &std::path::PathBuf| {
        machine.run(&Share::NineP { directory: directory.clone(), model: "mapped-file" })
    };
    let virtiofsd = |directory: &std::path::PathBuf| {
        let daemon = Virtiofsd::start(bench, directory)?;
        machine.run(&Share::Virtiofs { socket: daemon.socket.clone() })
    };
    let virtio_blk =
        |image: &std::path::PathBuf| machine.run(&Share::Disk { image: image.clone() });
    let contenders = vec![
        Contender::new("Outcrop", over_virtiofs),
        Contender::new("Outcrop over 9p", over_9p),
        Contender::with(ORIGINAL, tree.as_original(bench), original),
        Contender::with(VIRTIOFSD, tree.unpacked(bench), virtiofsd),
        Contender::with(EXT4, tree.image(bench), virtio_blk),
    ];
    let results = take_turns(rounds, contenders)?;
    let names = |marks: &Marks| marks.count("find-cold") as f64;
    let names = results.iter().map(|outcome| outcome.map(names)).collect();
    drop(tree);
    remove(&bench.scratch.join("guest"))?;
    let row = |what: &str, step: &'static str, targets: Vec<Target>| {
        let column = |marks: &Marks| marks.seconds(step).unwrap_or(f64::NAN);
        Row::new(what, results.iter().map(|outcome| outcome.map(column)).collect()).targets(targets)
    };
    let as_disk = || vec![at_most(1.1).of(EXT4)];
    Ok(vec![
        Row::new("names that find lists", names).unit("names"),
        row(
            "guest: find /usr -ls, cold",
            "find-cold",
            vec![at_most(0.08).of(ORIGINAL), at_most(0.5).of(VIRTIOFSD)],
        ),
        row("guest: find /usr -ls, warm", "find-warm", vec![]),
        row(
            "guest: untar of 3,000 files",
            "untar",
            vec![at_most(0.2).of(ORIGINAL), at_most(0.75).of(VIRTIOFSD)],
        ),
        row("guest: git status, cold", "git-cold", as_disk()),
        row("guest: git status, warm", "git-warm", as_disk()),
        row("guest: configure", "configure", as_disk()),
    ])
}
