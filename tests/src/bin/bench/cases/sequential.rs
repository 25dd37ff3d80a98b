//! Reading one large file.

use super::Case;
use super::read::run_in;
use crate::bench::Bench;
use crate::content::{self, LARGE_NAME};
use crate::measure::{Caches, Contender, Outcome, Result, drop_caches, is_root, take_turns};
use crate::row::{Row, at_least};
use crate::trees::{TreeSet, Way};

pub const CASE: Case = Case {
    name: "sequential",
    title: "Reading a file of 1 GiB on the host",
    how: "`dd bs=1M` to /dev/null. Cold: the tree is mounted, the kernel's caches are dropped. Fresh: \
          a fresh mount, while the tar (for ext4: the file) is in the page cache. Warm: it was read \
          before through the same mount.",
    by_default: true,
    rounds: 5,
    run,
};

const WAYS: [Way; 4] = [Way::Outcrop, Way::Ext4, Way::FuseOverlayfs, Way::Buildbox];

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let place = bench.fresh("large")?;
    let bytes = bench.scaled(1 << 30);
    let large = content::large(&place.join("large.tar"), bytes)?;
    let set = TreeSet::new(bench, "large/trees", &[large])?;
    let rows = rates(bench, rounds, &set, bytes);
    set.remove()?;
    crate::bench::remove(&place)?;
    rows
}

fn rates(bench: &Bench, rounds: usize, set: &TreeSet, bytes: u64) -> Result<Vec<Row>> {
    let script = format!("dd if={LARGE_NAME} of=/dev/null bs=1M status=none");
    let script = script.as_str();
    let once = |caches: Option<Caches>| {
        let read = move |way: Way| {
            Contender::with(way.name(), way.probe(bench), move |()| {
                let opened = way.open(bench, set)?;
                if let Some(caches) = caches {
                    drop_caches(caches)?;
                }
                let took = run_in(&opened.place, script)?;
                opened.end()?;
                Ok(took)
            })
        };
        take_turns(rounds, WAYS.map(read).into())
    };
    let row = |what: &str, results: Vec<Outcome>| {
        let rate = |outcome: &Outcome| outcome.map(|took| bytes as f64 / took / 1e9);
        Row::new(what, results.iter().map(rate).collect()).unit("GB/s")
    };
    let ext4 = Way::Ext4.name();
    let mut rows = Vec::new();
    if is_root() {
        let cold = row("sequential read, cold", once(Some(Caches::All))?);
        rows.push(cold.targets([at_least(0.8).of(ext4)]));
    }
    rows.push(
        row("sequential read, fresh mount", once(None)?)
            .targets([at_least(0.8).of(ext4), at_least(1.0)]),
    );
    let read = |way: Way| {
        let opened = way.probe(bench).and_then(|()| way.open(bench, set)).and_then(|opened| {
            run_in(&opened.place, script)?;
            Ok(opened)
        });
        Contender::with(way.name(), opened, move |opened| run_in(&opened.place, script))
    };
    let warm = row("sequential read, warm", take_turns(rounds, WAYS.map(read).into())?);
    rows.push(warm.targets([at_least(0.6).of(ext4), at_least(1.0)]));
    Ok(rows)
}
