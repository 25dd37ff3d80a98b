//! From a target to its plan: definitions, graph, sources, keys, and what the store has of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::definitions::fresh_name;
use outcrop_tests::own_store::Own;
use outcrop_tests::{guests_can_run, run};
use serde_json::Value;

use super::Case;
use crate::bench::Bench;
use crate::measure::{Contender, Outcome, Result, seconds, take_turns};
use crate::row::{Row, at_most};

pub const CASE: Case = Case {
    name: "plan",
    title: "Planning",
    how: "The published GNOME system, each of its repositories a small local one, and 100 strata of 99 \
          chunks of 99 repositories. Sources are in the store. `outcrop build` with an artifact of \
          everything in the store, `outcrop status` with none, and `outcrop graph`, which only loads.",
    by_default: true,
    rounds: 5,
    run: measure,
};

const GNOME: &str = "systems/gnome-system-x86_64";
const STRATA: usize = 100;
const CHUNKS: usize = 99;

fn measure(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    if !guests_can_run() {
        return Err("guests are not to be started".into());
    }
    let place = bench.fresh("plan")?;
    let mut repositories = Repositories::new(&place)?;
    let mut rows = Vec::new();
    let published = published().ok_or("OUTCROP_TEST_DEFINITIONS names no definitions")?;
    let definitions = place.join("published");
    localise(&published, &definitions, &mut repositories)?;
    rows.extend(target(&definitions, GNOME, "505 components", [0.15, 0.5, 1.0], rounds)?);
    let definitions = place.join("many");
    generate(&definitions, &mut repositories)?;
    rows.extend(target(
        &definitions,
        "systems/many",
        "10,001 components",
        [1.0, 5.0, 5.0],
        rounds,
    )?);
    Ok(rows)
}

/// The rows of one target.
fn target(
    definitions: &Path,
    target: &str,
    title: &str,
    aims: [f64; 3],
    rounds: usize,
) -> Result<Vec<Row>> {
    let part = fresh_name("part");
    let own = Own::new(&[(&part, &[], "true\n")]);
    run(&mut own.build(&part)).ok();
    let on = |arguments: &[&str]| {
        let mut command = own.outcrop(arguments);
        command.arg(target).arg("--definitions").arg(definitions);
        command
    };
    // Git trusts no repository of somebody else.
    give(&own, definitions.parent().ok_or("definitions lie in a directory")?);
    run(&mut on(&["source", "fetch"])).ok();
    let timed = |arguments: &'static [&'static str]| -> Result<Vec<Outcome>> {
        // The first run reads what the others find in memory.
        seconds(&mut on(arguments))?;
        take_turns(rounds, vec![Contender::new("Outcrop", || seconds(&mut on(arguments)))])
    };
    let loaded = timed(&["graph"])?;
    let nothing_built = timed(&["status"])?;
    let keys = run(&mut on(&["key", "--all"])).ok().stdout;
    pretend(&own, &part, keys.lines())?;
    let all_built = timed(&["build"])?;
    let rows = [
        ("loaded", loaded),
        ("nothing to build", all_built),
        ("everything to build", nothing_built),
    ];
    let row = |((what, outcome), aim)| {
        Row::new(format!("{title}: {what}"), outcome).targets([at_most(aim)])
    };
    Ok(rows.into_iter().zip(aims).map(row).collect())
}

/// Puts an artifact under each key, whose content is that of `part`.
fn pretend<'a>(own: &Own, part: &str, keys: impl Iterator<Item = &'a str>) -> Result<()> {
    let artifacts = own.store().join("artifacts");
    let key = run(&mut own.on(&["key", part, "--arch", "x86_64"])).ok().stdout;
    let directory = |key: &str| -> Result<PathBuf> {
        let digest = key.rsplit('.').next().unwrap_or_default();
        Ok(artifacts.join(digest.get(..2).ok_or("a key without digest")?).join(key))
    };
    let from = directory(key.trim())?;
    let mut info: Value = serde_json::from_slice(&std::fs::read(from.join("artifact.json"))?)?;
    for key in keys {
        let to = directory(key)?;
        std::fs::create_dir_all(&to)?;
        for file in ["artifact.tar", "artifact.index"] {
            std::fs::hard_link(from.join(file), to.join(file))?;
        }
        info["key"] = key.into();
        info["name"] = key.rsplit_once('.').map_or(key, |(name, _)| name).into();
        std::fs::write(to.join("artifact.json"), serde_json::to_vec(&info)?)?;
    }
    give(own, &artifacts);
    Ok(())
}

/// Makes files those of the user whose store it is.
fn give(own: &Own, what: &Path) {
    let mut chown = Command::new("chown");
    run(chown.arg("-R").arg("--reference").arg(own.store()).arg(what)).ok();
}

/// Small bare repositories, all of one commit.
struct Repositories {
    place: PathBuf,
    commit: String,
    of: BTreeMap<String, PathBuf>,
}

impl Repositories {
    fn new(place: &Path) -> Result<Repositories> {
        let script = "git init -q work && cd work && echo content > file && git add file \
            && git -c user.name=n -c user.email=e@localhost commit -q -m one \
            && git clone -q --bare . ../template && git rev-parse HEAD";
        let said = run(Command::new("sh").args(["-ec", script]).current_dir(place)).ok();
        let (place, commit) = (place.to_owned(), said.stdout.trim().to_owned());
        Ok(Repositories { place, commit, of: BTreeMap::new() })
    }

    fn of(&mut self, name: &str) -> Result<&Path> {
        if !self.of.contains_key(name) {
            let path = self.place.join(format!("repository-{}", self.of.len()));
            run(Command::new("cp").arg("-r").arg(self.place.join("template")).arg(&path)).ok();
            self.of.insert(name.to_owned(), path);
        }
        self.of
            .get(name)
            .map(PathBuf::as_path)
            .ok_or_else(|| "cannot happen: it was just made".into())
    }
}

/// A copy of definitions whose repositories are gone, with local ones in their places.
fn localise(from: &Path, to: &Path, repositories: &mut Repositories) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            localise(&path, &to.join(name), repositories)?;
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let mut local = String::new();
        // The replaced URLs of submodules are indented further than the field's name.
        let mut in_submodules = false;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            in_submodules = line.trim() == "submodules:" || (in_submodules && indent > 2);
            match line.trim_start().trim_start_matches("- ").split_once(": ") {
                _ if in_submodules => {}
                Some(("repo", url)) => {
                    let before = line.strip_suffix(url).unwrap_or(line);
                    writeln!(local, "{before}{}", repositories.of(url)?.display())?;
                }
                Some(("ref", old)) => {
                    let before = line.strip_suffix(old).unwrap_or(line);
                    writeln!(local, "{before}{}", repositories.commit)?;
                }
                _ => writeln!(local, "{line}")?,
            }
        }
        std::fs::write(to.join(name), local)?;
    }
    Ok(())
}

/// Each stratum builds on the two before it, each chunk on the three before it.
fn generate(place: &Path, repositories: &mut Repositories) -> Result<()> {
    std::fs::create_dir_all(place.join("strata"))?;
    std::fs::create_dir_all(place.join("systems"))?;
    std::fs::write(place.join("VERSION"), "version: 8\n")?;
    let mut system = String::from("name: many\nkind: system\narch: x86_64\nstrata:\n");
    for stratum in 0..STRATA {
        let mut text = format!("name: s{stratum}\nkind: stratum\n");
        if stratum > 0 {
            text += "build-depends:\n";
        }
        for below in stratum.saturating_sub(2)..stratum {
            writeln!(text, "- morph: strata/s{below}.morph")?;
        }
        text += "chunks:\n";
        for chunk in 0..CHUNKS {
            let needs: Vec<String> =
                (chunk.saturating_sub(3)..chunk).map(|n| format!("s{stratum}c{n}")).collect();
            let repository = repositories.of(&format!("many {chunk}"))?.display().to_string();
            write!(
                text,
                "- name: s{stratum}c{chunk}\n  repo: {repository}\n  ref: {}\n  \
                 build-system: autotools\n  build-depends: [{}]\n",
                repositories.commit,
                needs.join(", ")
            )?;
        }
        std::fs::write(place.join(format!("strata/s{stratum}.morph")), text)?;
        writeln!(system, "- morph: strata/s{stratum}.morph")?;
    }
    std::fs::write(place.join("systems/many.morph"), system)?;
    Ok(())
}

/// The published definitions, if they are on this machine.
fn published() -> Option<PathBuf> {
    let place = std::env::var_os("OUTCROP_TEST_DEFINITIONS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/baserock-definitions")),
        PathBuf::from,
    );
    place.join("VERSION").is_file().then_some(place)
}
