//! `outcrop build --keep-going`: what is built around what cannot be.

use std::path::Path;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{Said, Scratch, guests_can_run, outcrop, run};

fn outcrop_on(definitions: &Path, arguments: &[&str]) -> Said {
    let mut command = outcrop();
    command.args(arguments).args(["--arch", "x86_64", "--definitions"]).arg(definitions);
    run(&mut command)
}

#[test]
fn everything_around_a_missing_source_is_built() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let [good, absent, above, apart] = ["good", "absent", "above", "apart"].map(fresh_name);
    let install = "mkdir -p \"$DESTDIR\"\necho made > \"$DESTDIR/made\"\n";
    let chunks: [(&str, &[&str], &str); 4] = [
        (&good, &[], install),
        (&absent, &[&good], install),
        (&above, &[&absent], install),
        (&apart, &[], install),
    ];
    let definitions = tree(&scratch, &chunks);
    let place = scratch.join("defs/strata/all.morph");
    let stratum = std::fs::read_to_string(&place).unwrap();
    let morph = format!("  morph: strata/all/{absent}.morph\n");
    let source = format!("  repo: 'tar:nothing.tar'\n  sha256: '{}'\n", "0".repeat(64));
    scratch.file("defs/strata/all.morph", stratum.replace(&morph, &format!("{morph}{source}")));
    let is_built = |name: &str| outcrop_on(&definitions, &["cat", name, "/made"]).code == 0;

    let said = outcrop_on(&definitions, &["build", "all"]).fails(2).says("nothing.tar");
    assert!(said.stdout.is_empty() && !said.stderr.contains("started"), "{}", said.stderr);
    let events = scratch.join("events").display().to_string();
    let build = ["build", "all", "--keep-going", "--json", "--events", &events];
    let said = outcrop_on(&definitions, &build).fails(2);
    let said = said.says(&format!("{absent}: no source: ")).says("nothing.tar");
    assert!(is_built(&good) && is_built(&apart), "{}", said.stderr);
    let result: serde_json::Value = serde_json::from_str(said.stdout.trim()).unwrap();
    let path = |name: &str| format!("strata/all/{name}");
    assert!(result["key"].is_null(), "{result}");
    assert_eq!(result["failed"], serde_json::json!([path(&absent)]));
    assert_eq!(result["skipped"], serde_json::json!([path(&above)]));
    assert_eq!(result["built"].as_array().unwrap().len(), 2, "{result}");
    let events = std::fs::read_to_string(&events).unwrap();
    let missing = events.lines().filter(|line| line.contains("\"event\":\"source-missing\""));
    assert_eq!(missing.count(), 1, "{events}");

    // With nothing left to build it still says what is missing.
    let said = outcrop_on(&definitions, &["build", "all", "-k"]).fails(2);
    said.says(&format!("not tried: {}", path(&above))).says(&format!("{} failed: ", path(&absent)));
}
