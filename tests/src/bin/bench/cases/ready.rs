//! How long until a tree can be used, and what serving it takes.

use outcrop_tests::{as_user, shared_store};

use super::{Bench, remove};
use crate::measure::{Contender, Result, Samples, drop_caches, is_root, seconds, take_turns};
use crate::report::Row;

/// Mounting layers that were used before, against unpacking them.
pub fn ready(bench: &Bench) -> Result<Vec<Row>> {
    bench.mount(bench.layers())?.end()?;
    let contenders = vec![
        Contender::new("outcrop", || {
            let mounted = bench.mount(bench.layers())?;
            let took = mounted.took;
            mounted.end()?;
            Ok(took)
        }),
        Contender::new("tar x", || bench.unpack(&bench.fresh("unpacked")?)),
        Contender::new("the original: unpack and describe", || {
            let into = bench.fresh("unpacked")?;
            let layers = &bench.content.layers;
            seconds(bench.peer()?.arg("original-unpack").arg(&into).args(layers))
        }),
    ];
    let results = take_turns(bench.rounds, contenders)?;
    remove(&bench.scratch.join("unpacked"))?;
    Ok(vec![Row::new("ready, indexes present", "≤ 0.05 s; ≤ 1/50 of tar x", results)])
}

/// Mounting layers that nobody has seen before, against reading them once.
pub fn index(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for cold in [true, false] {
        if cold && !is_root() {
            continue;
        }
        let prepare = || if cold { drop_caches() } else { Ok(()) };
        let contenders = vec![
            Contender::new("outcrop", || {
                remove(&shared_store().join("layers"))?;
                prepare()?;
                let mounted = bench.mount(bench.layers())?;
                let took = mounted.took;
                mounted.end()?;
                Ok(took)
            }),
            Contender::new("cat > /dev/null", || {
                prepare()?;
                seconds(as_user("cat").args(&bench.content.layers))
            }),
        ];
        let results = take_turns(bench.rounds, contenders)?;
        let what = format!("ready without indexes, {}", if cold { "cold" } else { "warm" });
        rows.push(Row::new(what, "≤ 1", results));
    }
    Ok(rows)
}

/// What the server takes after everything was looked at.
pub fn memory(bench: &Bench) -> Result<Vec<Row>> {
    let (mut all, mut anonymous) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        let mounted = bench.mount(bench.layers())?;
        seconds(as_user("find").arg(&mounted.mountpoint).arg("-ls"))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", mounted.process()?))?;
        let megabytes = |field: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let line = line.ok_or_else(|| format!("/proc has no {field}"))?;
            let number: f64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(number * 1024.0 / 1e6)
        };
        all.0.push(megabytes("VmRSS:")?);
        anonymous.0.push(megabytes("RssAnon:")?);
        mounted.end()?;
    }
    Ok(vec![
        Row::alone("resident memory after find -ls", "MB", "≤ 40 MB", all),
        Row::alone("of it not backed by files", "MB", "", anonymous),
    ])
}
