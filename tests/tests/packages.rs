//! Real packages come out the same, whoever compiles them.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
        "x86_64" => ["distcc", "host"],
        _ => ["guest", "distcc"],
    };
    for package in packages() {
        let scratch = Scratch::new();
        let artifacts = ways.map(|compile| {
            let (definitions, name) = package.define(&scratch);
            let said = build(&definitions, &name, compile);
            let by_host = said.contains("jobs compiled by the host");
            assert_eq!(by_host, compile != "guest", "--compile {compile}:\n{said}");
            format!("artifact:{name}")
        });
        let objects = run(outcrop().args(["ls", "-R", &artifacts[0]])).ok().stdout;
        assert!(objects.contains("/libz.so.1") || objects.contains("/decoder.o"), "{objects}");
        run(outcrop().arg("diff").args(&artifacts)).ok();
    }
}

/// Builds with one guest, and gives what was said.
fn build(definitions: &Path, name: &str, compile: &str) -> String {
    let mut command = outcrop();
    command.args(["build", name, "--arch", &guest_arch(), "--compile", compile, "--guests", "1"]);
    run(command.arg("--definitions").arg(definitions)).ok().stderr
}
