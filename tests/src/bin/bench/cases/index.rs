//! Layers that nobody has seen before.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use outcrop_tests::as_user;

use super::Case;
use crate::bench::{Bench, remove};
use crate::content;
use crate::measure::{
    Caches, Contender, Outcome, Result, drop_caches, is_root, seconds, take_turns,
};
use crate::peers::buildbox::Buildbox;
use crate::row::{Row, at_least, at_most};
use crate::trees::mount_in_store;

pub const CASE: Case = Case {
    name: "index",
    title: "Layers for the first time",
    how: "`outcrop mount` with an empty store, until the tree can be used, beside reading the same \
          bytes once (`cat`) and beside importing the unpacked tree into buildbox-casd. Compressed: \
          one tar of words, beside its decompressor writing to /dev/null. Cold: the kernel's caches \
          are dropped before.",
    by_default: true,
    rounds: 3,
    run,
};

/// Name of the ending, and what compresses and decompresses.
const COMPRESSORS: [(&str, &str, &str); 4] =
    [("gz", "gzip", "-6"), ("xz", "xz", "-1"), ("zst", "zstd", "-3"), ("bz2", "bzip2", "-6")];

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let mut rows = plain(bench, rounds)?;
    rows.extend(compressed(bench, rounds)?);
    remove(&bench.scratch.join("store"))?;
    Ok(rows)
}

/// Seconds until these layers are mounted by somebody who does not know them.
fn first_mount(bench: &Bench, cold: bool, layers: &[PathBuf]) -> Result<f64> {
    let store = bench.fresh("store")?;
    if cold {
        drop_caches(Caches::All)?;
    }
    let arguments = layers.iter().flat_map(|layer| [Path::new("--layer"), layer]);
    let opened = mount_in_store(bench, &store, arguments)?;
    let took = opened.took;
    opened.end()?;
    Ok(took)
}

fn plain(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let set = bench.trees()?;
    let bytes: u64 = set.tars.iter().map(|tar| Ok(tar.metadata()?.len())).sum::<Result<u64>>()?;
    let megabytes = bytes as f64 / 1e6;
    let mut rows = Vec::new();
    for cold in [true, false] {
        if cold && !is_root() {
            continue;
        }
        let prepare = move || if cold { drop_caches(Caches::All) } else { Ok(()) };
        let mut contenders = vec![
            Contender::new("Outcrop", || first_mount(bench, cold, &set.tars)),
            Contender::new("cat", || {
                prepare()?;
                seconds(as_user("cat").args(&set.tars))
            }),
        ];
        // Takes half a minute, whatever is cached.
        if !cold {
            contenders.push(Contender::with("buildbox-casd", bench.peers.buildbox(), |_| {
                let place = bench.fresh("cas")?;
                let buildbox = Buildbox::start(bench, &place.join("store"))?;
                Ok(buildbox.import(&set.merged)?.1)
            }));
        }
        let results = take_turns(rounds, contenders)?;
        let state = if cold { "cold" } else { "warm" };
        let rates: Vec<Outcome> =
            results.iter().map(|outcome| outcome.map(|took| megabytes / took)).collect();
        let target = if cold { vec![at_most(1.0).of("cat")] } else { vec![] };
        rows.push(Row::new(format!("first mount of plain tars, {state}"), results).targets(target));
        let target = if cold { vec![] } else { vec![at_least(400.0)] };
        let what = format!("indexing rate of plain tars, {state}");
        rows.push(Row::new(what, rates).unit("MB/s").targets(target));
    }
    remove(&bench.scratch.join("cas"))?;
    Ok(rows)
}

fn compressed(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let place = bench.fresh("compressed")?;
    let tar = content::words(&place.join("words.tar"), bench.scaled(3_700), 40_000)?;
    let mut compressing = Vec::new();
    for (ending, program, level) in COMPRESSORS {
        let out = std::fs::File::create(place.join(format!("words.tar.{ending}")))?;
        let mut command = as_user(program);
        compressing.push(command.arg(level).arg("-c").arg(&tar).stdout(out).spawn()?);
    }
    for mut child in compressing {
        child.wait()?;
    }
    let mut rows = Vec::new();
    for (ending, program, _) in COMPRESSORS {
        let packed = place.join(format!("words.tar.{ending}"));
        let contenders = vec![
            Contender::new("Outcrop", || first_mount(bench, false, std::slice::from_ref(&packed))),
            Contender::new(program, || {
                seconds(as_user(program).arg("-dc").arg(&packed).stdout(Stdio::null()))
            }),
        ];
        let results = take_turns(rounds, contenders)?;
        let row = Row::new(format!("first mount of a .tar.{ending}"), results);
        rows.push(row.targets([at_most(1.0).of(program)]));
    }
    remove(&place)?;
    Ok(rows)
}
