//! Reading through the mount, against the same content in a plain directory.

use std::path::Path;

use outcrop_tests::as_user;

use super::{Bench, Mounted, remove};
use crate::content::LARGE_NAME;
use crate::measure::{Contender, Result, Samples, drop_caches, is_root, seconds, take_turns};
use crate::report::Row;

/// One way to read a tree.
struct Reading {
    name: &'static str,
    /// What is run in the tree.
    script: &'static str,
    cold_aim: &'static str,
    warm_aim: &'static str,
}

const METADATA: Reading = Reading {
    name: "find -ls",
    script: "find . -ls > /dev/null",
    cold_aim: "≤ 1.5",
    warm_aim: "≤ 2",
};
/// Through a pipe: tar does not read what it writes to /dev/null.
const CONTENT: Reading = Reading {
    name: "tar c",
    script: "tar cf - . | cat > /dev/null",
    cold_aim: "≤ 1.5",
    warm_aim: "≤ 2",
};

pub fn read(bench: &Bench) -> Result<Vec<Row>> {
    let plain = bench.fresh("plain")?;
    bench.unpack(&plain)?;
    let layers = bench.layers();
    let mount = || bench.mount(&layers);
    mount()?.end()?;
    let mut rows = Vec::new();
    for reading in [METADATA, CONTENT] {
        rows.extend(cold_and_warm(bench, &reading, &plain, &mount)?);
    }
    remove(&plain)?;
    rows.extend(sequential(bench)?);
    Ok(rows)
}

/// The user enters the tree, not root: a mount belongs to its user alone.
fn run(script: &str, tree: &Path) -> Result<f64> {
    let script = format!("cd \"$TREE\"; {script}");
    seconds(as_user("sh").args(["-ec", &script]).env("TREE", tree))
}

fn cold_and_warm(
    bench: &Bench,
    reading: &Reading,
    plain: &Path,
    mount: &dyn Fn() -> Result<Mounted>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if is_root() {
        let contenders = vec![
            Contender::new("outcrop", || {
                let mounted = mount()?;
                drop_caches()?;
                let took = run(reading.script, &mounted.mountpoint)?;
                mounted.end()?;
                Ok(took)
            }),
            Contender::new("ext4", || {
                drop_caches()?;
                run(reading.script, plain)
            }),
        ];
        let results = take_turns(bench.rounds, contenders)?;
        rows.push(Row::new(format!("{}, cold", reading.name), reading.cold_aim, results));
    }
    let mounted = mount()?;
    run(reading.script, &mounted.mountpoint)?;
    run(reading.script, plain)?;
    let contenders = vec![
        Contender::new("outcrop", || run(reading.script, &mounted.mountpoint)),
        Contender::new("ext4", || run(reading.script, plain)),
    ];
    let results = take_turns(bench.rounds, contenders)?;
    mounted.end()?;
    rows.push(Row::new(format!("{}, warm", reading.name), reading.warm_aim, results));
    Ok(rows)
}

/// One large file: GB a second.
fn sequential(bench: &Bench) -> Result<Vec<Row>> {
    let plain = bench.fresh("plain")?;
    let large = &bench.content.large;
    seconds(as_user("tar").arg("xf").arg(large).arg("-C").arg(&plain))?;
    let bytes = std::fs::metadata(plain.join(LARGE_NAME))?.len();
    let rate = |took: f64| bytes as f64 / took / 1e9;
    let script = format!("dd if={LARGE_NAME} of=/dev/null bs=1M status=none");
    let mount = || bench.mount(["--layer".as_ref(), large.as_os_str()]);
    mount()?.end()?;
    let mut rows = Vec::new();
    let mut add = |what: &str, results: Vec<(String, Samples)>| {
        let mut row = Row::new(what, "≥ 1 GB/s", results);
        row.unit = "GB/s";
        rows.push(row);
    };
    if is_root() {
        let contenders = vec![
            Contender::new("outcrop", || {
                let mounted = mount()?;
                drop_caches()?;
                let took = run(&script, &mounted.mountpoint)?;
                mounted.end()?;
                Ok(rate(took))
            }),
            Contender::new("ext4", || {
                drop_caches()?;
                Ok(rate(run(&script, &plain)?))
            }),
        ];
        add("sequential read, cold", take_turns(bench.rounds, contenders)?);
    }
    run(&script, &plain)?;
    let contenders = vec![
        Contender::new("outcrop", || {
            let mounted = mount()?;
            let took = run(&script, &mounted.mountpoint)?;
            mounted.end()?;
            Ok(rate(took))
        }),
        Contender::new("ext4, in the page cache", || Ok(rate(run(&script, &plain)?))),
    ];
    add("sequential read, fresh mount of a cached tar", take_turns(bench.rounds, contenders)?);
    let mounted = mount()?;
    run(&script, &mounted.mountpoint)?;
    let contenders = vec![
        Contender::new("outcrop", || Ok(rate(run(&script, &mounted.mountpoint)?))),
        Contender::new("ext4", || Ok(rate(run(&script, &plain)?))),
    ];
    add("sequential read, warm", take_turns(bench.rounds, contenders)?);
    mounted.end()?;
    remove(&plain)?;
    Ok(rows)
}
