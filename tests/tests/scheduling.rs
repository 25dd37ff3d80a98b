//! What `outcrop build` starts when, beside another build, and what it expects to take.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use outcrop_tests::definitions::fresh_name;
use outcrop_tests::own_store::Own;
use outcrop_tests::{Scratch, guests_can_run, run};
use serde_json::Value;

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn started(events: &[Value]) -> Vec<&str> {
    let started = events.iter().filter(|event| event["event"] == "started");
    started.map(|event| event["key"].as_str().unwrap()).collect()
}

#[test]
fn two_builds_of_one_target_share_the_work() {
    if !guests_can_run() {
        return;
    }
    let names = ["a", "b", "c", "d"].map(fresh_name);
    let install = "sleep 2\nmkdir -p \"$DESTDIR\"\necho made > \"$DESTDIR/made\"\n";
    let chunks: Vec<_> = names.iter().map(|name| (name.as_str(), &[][..], install)).collect();
    let own = Own::new(&chunks);
    let scratch = Scratch::new();
    let build = |number: usize| {
        let events = scratch.join(&format!("events-{number}"));
        let mut command = own.build("all");
        command.args(["--guests", "1", "--json", "--events"]).arg(&events);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        (command.spawn().unwrap(), events)
    };
    let both = [build(1), build(2)].map(|(child, path)| {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let result: Value = serde_json::from_slice(&ended.stdout).unwrap();
        (result, events(&path))
    });
    let keys: Vec<&str> = both.iter().flat_map(|(_, events)| started(events)).collect();
    let different: BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!((keys.len(), different.len()), (4, 4), "one was built twice, or never: {keys:?}");
    for (result, events) in &both {
        let count = |member: &str| result[member].as_array().unwrap().len();
        assert_eq!(count("built"), started(events).len(), "{result}");
        assert!(count("built") > 0 && count("built_elsewhere") > 0, "not shared: {result}");
        assert_eq!(count("built") + count("built_elsewhere"), 4, "{result}");
        let last = events.iter().rfind(|event| event["event"] == "progress").unwrap();
        let members = ["done", "failed", "to_build", "running", "waiting", "seconds_left"];
        let told = members.map(|member| last[member].as_f64().unwrap());
        assert_eq!(told, [4.0, 0.0, 4.0, 0.0, 0.0, 0.0], "{last}");
    }
}

#[test]
fn what_was_built_tells_how_long_it_takes() {
    if !guests_can_run() {
        return;
    }
    let [known, unknown] = ["known", "unknown"].map(fresh_name);
    let mut own = Own::new(&[(&known, &[], "sleep 3\n")]);
    run(&mut own.build(&known)).ok();
    own.define(&[(&known, &[], "sleep 3; true\n"), (&unknown, &[], "true\n")]);
    let status = |own: &Own, more: &[&str]| {
        let mut command = own.on(&["status", "all", "--arch", "x86_64"]);
        run(command.args(more)).ok()
    };
    let said = status(&own, &["--json"]).stdout;
    let of = |name: &str| -> Value {
        let line = said.lines().find(|line| line.contains(name)).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let seconds = of(&known)["seconds"].as_f64().unwrap();
    assert!(seconds >= 3.0, "{said}");
    assert!(of(&unknown)["seconds"].is_null(), "{said}");
    let said = status(&own, &["--guests", "2"]);
    // The longer one is a guess of two minutes.
    said.says("about 2 min with 2 guests; 1 never built here, taken for 2 min each");
    // Half of the durations are known, and two guests do not fit.
    let mut build = own.build("all");
    let said = run(build.args(["--guests", "2", "--memory-budget", "1500"])).ok();
    let said = said.says("2 to build, about 2 min with 1 guest");
    said.says("1 guest at once instead of 2: the memory budget is 1500 MiB, and each has 1024");
    let mut build = own.build("all");
    run(build.args(["--memory-budget", "100"])).fails(2).says("does not hold one guest");
}
