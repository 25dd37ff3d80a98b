//! Real packages come out the same, whoever compiles them.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use outcrop_tests::packages::Package;
use outcrop_tests::{Scratch, guest_arch, guests_can_run, outcrop, run};

/// A library in C, and the half of a program in C++ that an emulated compiler is done with in a minute.
fn packages() -> [Package; 2] {
    let lzip = Package {
        commands: [
            "./configure CXX=$CXX",
            "make decoder.o list.o",
            "mkdir -p $DESTDIR/objects && cp *.o $DESTDIR/objects",
        ],
        ..Package::by_name("lzip")
    };
    [Package::by_name("zlib"), lzip]
}

#[test]
fn packages_are_the_same_whoever_compiles() {
    if !guests_can_run() {
        return;
    }
    // The host's own processor is faster than an emulated one that does nothing else.
    let ways = match guest_arch().as_str() {
        "x86_64" => vec!["distcc", "host"],
        _ => vec!["guest", "distcc", "host"],
    };
    for package in packages() {
        let scratch = Scratch::new();
        let build_by = |compile: &str| {
            let (definitions, name) = package.define(&scratch);
            let said = build(&definitions, &name, compile);
            let by_host = said.contains("jobs compiled by the host");
            assert_eq!(by_host, compile != "guest", "--compile {compile}:\n{said}");
            format!("artifact:{name}")
        };
        let artifacts: Vec<String> = ways.iter().copied().map(build_by).collect();
        let objects = run(outcrop().args(["ls", "-R", &artifacts[0]])).ok().stdout;
        assert!(objects.contains("/libz.so.1") || objects.contains("/decoder.o"), "{objects}");
        for other in &artifacts[1..] {
            run(outcrop().args(["diff", &artifacts[0], other])).ok();
        }
    }
}

/// Builds with one guest, and gives what was said.
fn build(definitions: &Path, name: &str, compile: &str) -> String {
    let mut command = outcrop();
    command.args(["build", name, "--arch", &guest_arch(), "--compile", compile, "--guests", "1"]);
    if compile == "host" {
        command.args(["--transport", "virtiofs"]);
    }
    run(command.arg("--definitions").arg(definitions)).ok().stderr
}
