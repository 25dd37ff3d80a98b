//! Walking and reading a tree of many files.

use std::path::Path;

use outcrop_tests::as_user;

use super::Case;
use crate::bench::Bench;
use crate::measure::{
    Caches, Contender, Outcome, Result, drop_caches, is_root, seconds, take_turns,
};
use crate::row::{Row, at_most};
use crate::trees::Way;

pub const CASE: Case = Case {
    name: "read",
    title: "Walking and reading 40,000 files on the host",
    how: "`find . -ls > /dev/null` and `tar cf - . | cat > /dev/null` in the tree. Cold: the tree is \
          mounted, the kernel's caches are dropped, then it is read. Fresh: the kernel's names and \
          inodes are dropped, the tree is mounted and read; tars and disk blocks may be cached. \
          Warm: it was read before.",
    by_default: true,
    rounds: 5,
    run,
};

const METADATA: (&str, &str) = ("find -ls", "find . -ls > /dev/null");
/// Through a pipe: tar does not read what it writes to /dev/null.
const CONTENT: (&str, &str) = ("tar c", "tar cf - . | cat > /dev/null");

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let ext4 = || [at_most(1.2).of(Way::Ext4.name())];
    let mut rows = Vec::new();
    let (name, script) = METADATA;
    if is_root() {
        let row = Row::new(format!("{name}, cold"), cold(bench, rounds, script)?);
        rows.push(row.targets([at_most(1.5).of(Way::Ext4.name())]));
        let row = Row::new(format!("{name}, fresh mount"), fresh(bench, rounds, script)?);
        rows.push(row.targets(ext4()));
    }
    rows.push(Row::new(format!("{name}, warm"), warm(bench, rounds, script)?).targets(ext4()));
    let (name, script) = CONTENT;
    if is_root() {
        let row = Row::new(format!("{name}, cold"), cold(bench, rounds, script)?);
        rows.push(row.targets([at_most(1.5).of(Way::Ext4.name())]));
    }
    rows.push(Row::new(format!("{name}, warm"), warm(bench, rounds, script)?).targets(ext4()));
    Ok(rows)
}

/// The user enters the tree, not root: a mount belongs to its user alone.
pub fn run_in(tree: &Path, script: &str) -> Result<f64> {
    let script = format!("cd \"$TREE\"; {script}");
    seconds(as_user("sh").args(["-ec", &script]).env("TREE", tree))
}

fn cold(bench: &Bench, rounds: usize, script: &str) -> Result<Vec<Outcome>> {
    let set = bench.trees()?;
    let read = |way: Way| {
        Contender::with(way.name(), way.probe(bench), move |()| {
            let opened = way.open(bench, set)?;
            drop_caches(Caches::All)?;
            let took = run_in(&opened.place, script)?;
            opened.end()?;
            Ok(took)
        })
    };
    take_turns(rounds, Way::ALL.map(read).into())
}

fn fresh(bench: &Bench, rounds: usize, script: &str) -> Result<Vec<Outcome>> {
    let set = bench.trees()?;
    let read = |way: Way| {
        Contender::with(way.name(), way.probe(bench), move |()| {
            drop_caches(Caches::Names)?;
            let opened = way.open(bench, set)?;
            let took = run_in(&opened.place, script)?;
            opened.end()?;
            Ok(took)
        })
    };
    take_turns(rounds, Way::ALL.map(read).into())
}

/// All trees are there at once, so that each stays warm.
fn warm(bench: &Bench, rounds: usize, script: &str) -> Result<Vec<Outcome>> {
    let set = bench.trees()?;
    let read = |way: Way| {
        let opened = way.probe(bench).and_then(|()| way.open(bench, set)).and_then(|opened| {
            run_in(&opened.place, script)?;
            Ok(opened)
        });
        Contender::with(way.name(), opened, move |opened| run_in(&opened.place, script))
    };
    take_turns(rounds, Way::ALL.map(read).into())
}
