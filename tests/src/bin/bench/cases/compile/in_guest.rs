//! Packages built by `outcrop build`.

use std::cell::OnceCell;
use std::process::Stdio;

use outcrop_tests::packages::{Package, STEPS};
use outcrop_tests::{outcrop, shared_store};
use serde_json::Value;

use super::{Phase, Taken, Target};
use crate::bench::Bench;
use crate::measure::{Result, seconds};

pub struct Definitions<'a> {
    bench: &'a Bench,
    package: &'static Package,
    target: &'static Target,
    /// Of the first artifact: the others must be the same, whoever compiled.
    digest: OnceCell<String>,
}

impl<'a> Definitions<'a> {
    /// Fetches the source, too.
    pub fn write(
        bench: &'a Bench,
        package: &'static Package,
        target: &'static Target,
    ) -> Result<Definitions<'a>> {
        bench.fresh("definitions")?;
        let definitions = Definitions { bench, package, target, digest: OnceCell::new() };
        let (path, name) = package.define(&bench.scratch);
        let mut fetch = outcrop();
        fetch.args(["source", "fetch", &name, "--arch", target.arch, "--definitions"]);
        seconds(fetch.arg(path))?;
        Ok(definitions)
    }

    pub fn build(&self, transport: &str, compile: &str) -> Result<Taken> {
        let (definitions, name) = self.package.define(&self.bench.scratch);
        let events = self.bench.fresh("events")?.join("events");
        let mut build = outcrop();
        build.args(["build", &name, "--arch", self.target.arch, "--guests", "1"]);
        build.args(["--transport", transport, "--compile", compile, "--definitions"]);
        build.arg(definitions).arg("--events").arg(&events);
        seconds(build.stdin(Stdio::null()))?;
        let digest = digest_of(&name)?;
        if *self.digest.get_or_init(|| digest.clone()) != digest {
            return Err(format!("{name} is another artifact than before").into());
        }
        let text = std::fs::read_to_string(&events)?;
        let mut taken = Taken::default();
        for (phase, step) in taken.iter_mut().zip(STEPS) {
            let report = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|event| event["event"] == "step-done" && event["step"] == step)
                .ok_or_else(|| format!("the build told nothing of the step {step}"))?;
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
            *phase = Phase {
                seconds: number(&report["seconds"]),
                cpu_seconds: number(&report["guest_cpu_seconds"])
                    + number(&report["compiled"]["cpu_seconds"]),
            };
        }
        Ok(taken)
    }
}

/// The digest of the artifact of a name that occurs once in the store (docs/store.md).
fn digest_of(name: &str) -> Result<String> {
    for directory in std::fs::read_dir(shared_store().join("artifacts"))? {
        for artifact in std::fs::read_dir(directory?.path())? {
            let artifact = artifact?;
            if artifact.file_name().to_string_lossy().starts_with(&format!("{name}.")) {
                let info = std::fs::read(artifact.path().join("artifact.json"))?;
                let info: Value = serde_json::from_slice(&info)?;
                return Ok(info["digest"].as_str().ok_or("an artifact has no digest")?.to_owned());
            }
        }
    }
    Err(format!("there is no artifact of {name}").into())
}
