//! Collections beside running builds and mounts, and verification.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outcrop_tests::definitions::fresh_name;
use outcrop_tests::own_store::Own;
use outcrop_tests::samples::{self, Sampled};
use outcrop_tests::{as_user, give_to_user, guests_can_run, run, wait_until};

const LONG: Duration = Duration::from_secs(180);

/// (part, name) of what a collection has removed, or would.
fn collected(stdout: &str) -> Vec<(String, String)> {
    let member = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
    stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (member(&line, "part"), member(&line, "name")))
        .collect()
}

#[test]
fn a_mount_keeps_its_layers_from_a_collection() {
    let sampled = Sampled::new();
    let gc = |more: &[&str]| {
        let arguments = [&["store", "gc", "--size", "0", "--json"], more].concat();
        collected(&sampled.outcrop(&arguments).ok().stdout)
    };
    sampled.outcrop(&["ls", "app.deb"]).ok();
    sampled.outcrop(&["mount", "--background", "--layer", "app.tar.xz", "root"]).ok();
    let of_layers = |removed: &[(String, String)]| -> Vec<String> {
        removed.iter().filter(|(part, _)| part == "layers").map(|(_, name)| name.clone()).collect()
    };
    let would = of_layers(&gc(&["--dry-run"]));
    assert_eq!(would.len(), 1, "{would:?}");
    assert!(would[0].starts_with("app.deb-"), "{would:?}");
    assert_eq!(of_layers(&gc(&["--only", "logs"])), [""; 0]);
    assert_eq!(of_layers(&gc(&[])), would);
    assert_eq!(of_layers(&gc(&[])), [""; 0]);
    let motd = sampled.scratch.join("root/etc/motd");
    assert_eq!(run(as_user("cat").arg(&motd)).ok().stdout, "the app\n");
    sampled.outcrop(&["unmount", "root"]).ok();
    let after = of_layers(&gc(&[]));
    assert!(after.len() == 1 && after[0].starts_with("app.tar.xz-"), "{after:?}");
    assert_eq!(sampled.outcrop(&["cat", "app.tar.xz", "/etc/motd"]).ok().stdout, "the app\n");
}

#[test]
fn what_kept_changes_are_based_on_stays() {
    let sampled = Sampled::new();
    sampled.outcrop(&["store", "list"]).ok();
    let key = |digit: &str| format!("x.{}", digit.repeat(64));
    for digit in ["a", "b"] {
        let place = format!(".store/artifacts/{0}{0}/{1}/artifact.json", digit, key(digit));
        sampled.scratch.file(&place, "{}");
    }
    let request = format!(
        "{{\"directory\": \"/\", \"layers\": [\"artifact:{}\"], \"zone\": \"/\", \
          \"mtime\": null, \"out\": \"/x.tar\"}}",
        key("a")
    );
    let request = sampled.scratch.file(".store/kept/one/request.json", request);
    let gc = ["store", "gc", "--size", "0", "--json"];
    let removed = collected(&sampled.outcrop(&gc).ok().stdout);
    assert_eq!(removed, [("artifacts".to_owned(), key("b"))]);
    std::fs::write(request, "{").unwrap();
    sampled.outcrop(&gc).fails(1).says("kept/one/request.json");
    assert!(sampled.scratch.join(&format!(".store/artifacts/aa/{}", key("a"))).exists());
}

#[test]
fn du_counts_each_part_and_gc_of_an_empty_store_does_nothing() {
    let sampled = Sampled::new();
    sampled.outcrop(&["ls", "app.deb"]).ok();
    let said = sampled.outcrop(&["store", "du", "--json"]).ok();
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let layers = lines.iter().find(|line| line["name"] == "layers").unwrap();
    assert_eq!(layers["items"], 1);
    assert!(layers["bytes"].as_u64().unwrap() > 0);
    let said = sampled.outcrop(&["store", "gc", "--size", "1G"]).ok();
    assert!(said.stdout.is_empty() && said.stderr.starts_with("0 bytes freed"), "{}", said.stderr);
}

#[test]
fn a_collection_beside_a_build_takes_nothing_that_the_build_needs() {
    if !guests_can_run() {
        return;
    }
    let [low, high, other] = ["low", "high", "other"].map(fresh_name);
    let install = format!("mkdir -p \"$DESTDIR/lib\"\necho low > \"$DESTDIR/lib/{low}\"\n");
    let wait = format!("sleep 15\ncp /usr/lib/{low} \"$DESTDIR/copy\"\n");
    let own = Own::new(&[
        (&low, &[], &install),
        (&other, &[], "echo other > \"$DESTDIR/other\"\n"),
        (&high, &[&low], &wait),
    ]);
    run(&mut own.build(&low)).ok();
    run(&mut own.build(&other)).ok();
    let building = own.build(&high).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let logs = own.store().join("logs");
    wait_until("the command", LONG, || {
        std::fs::read_dir(&logs).unwrap().flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with(&high)
                && std::fs::read_to_string(entry.path()).is_ok_and(|log| log.contains("sleep"))
        })
    });
    let gc = run(&mut own.outcrop(&["store", "gc", "--size", "0", "--json"])).ok();
    let removed = collected(&gc.stdout);
    let names = |wanted: &str| -> Vec<&String> {
        removed.iter().filter(|(part, _)| part == wanted).map(|(_, name)| name).collect()
    };
    let artifacts = names("artifacts");
    assert!(artifacts.len() == 1 && artifacts[0].starts_with(&other), "{removed:?}");
    let logs = names("logs");
    assert!(logs.iter().all(|log| !log.starts_with(&high)) && logs.len() == 2, "{removed:?}");
    assert_eq!(names("kits").len() + names("mirrors").len(), 0, "{removed:?}");
    // The kit's packages are open; what else the shared store had prepared may go.
    assert!(gc.stderr.contains("in use"), "{}", gc.stderr);
    let ended = building.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let copied = run(&mut own.on(&["cat", &high, "/copy"])).ok().stdout;
    assert_eq!(copied, "low\n");
    let again = run(&mut own.build(&high)).ok();
    assert!(again.stderr.contains("0 to build"), "{}", again.stderr);
    let status = run(&mut own.on(&["status", "strata/all", "--arch", "x86_64"])).ok();
    for (state, name) in [("built", &low), ("to build", &other), ("built", &high)] {
        let line = format!("{state:9} strata/all/{name}\n");
        assert!(status.stdout.contains(&line), "{line}{}", status.stdout);
    }
    flipped_bits_are_found(&own, &low, &high);
}

/// Damages one artifact's tar and another's index.
fn flipped_bits_are_found(own: &Own, low: &str, high: &str) {
    run(&mut own.outcrop(&["store", "verify"])).ok();
    let artifact = |name: &str| -> PathBuf {
        let top = own.store().join("artifacts");
        let shards = std::fs::read_dir(top).unwrap().flatten();
        shards
            .flat_map(|shard| std::fs::read_dir(shard.path()).unwrap().flatten())
            .map(|entry| entry.path())
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(name))
            .unwrap()
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        give_to_user(path);
    };
    flip(&artifact(low).join("artifact.tar"));
    flip(&artifact(high).join("artifact.index"));
    let said = run(&mut own.outcrop(&["store", "verify"])).fails(1);
    let damaged: Vec<&str> =
        said.stdout.lines().filter(|line| line.contains(" damaged: ")).collect();
    assert_eq!(damaged.len(), 2, "{}", said.stdout);
    assert!(damaged.iter().any(|line| line.starts_with(low) && line.contains("SHA-256")));
    assert!(damaged.iter().any(|line| line.starts_with(high) && line.contains("checksum")));
    run(&mut own.outcrop(&["store", "verify", "--remove"])).fails(1).says("2 things");
    run(&mut own.outcrop(&["store", "verify"])).ok();
    assert!(!artifact_exists(own, low));
}

fn artifact_exists(own: &Own, name: &str) -> bool {
    let listed = run(&mut own.outcrop(&["store", "list"])).ok().stdout;
    listed.lines().any(|line| line.contains(&format!(" {name}.")))
}

#[test]
fn damaged_packages_of_kits_are_removed_unless_one_of_the_kits_is_in_use() {
    let sampled = Sampled::new();
    sampled.outcrop(&["store", "list"]).ok();
    sampled.kit("x86_64-one", "shared", "the kernel of one");
    sampled.kit("x86_64-two", "shared", "the kernel of two");
    sampled.outcrop(&["store", "verify"]).ok();
    let kits = sampled.scratch.join(".store/kits");
    let place = |content: &str| {
        kits.join("packages").join(samples::sha256(content.as_bytes())).with_extension("deb")
    };
    std::fs::write(place("shared"), "flipped").unwrap();
    let said = sampled.outcrop(&["store", "verify"]).fails(1);
    said.says("hint: it was made by a program with another recipe, so make a new kit with: ");
    assert!(place("shared").exists());
    let user = std::fs::File::open(kits.join("x86_64-two")).unwrap();
    rustix::fs::flock(&user, rustix::fs::FlockOperation::LockShared).unwrap();
    let remove = || sampled.outcrop(&["store", "verify", "--remove"]).fails(1);
    remove().says("1 package of kit x86_64").says(", 1 in use and not removed");
    assert!(place("shared").exists());
    drop(user);
    remove().says("cannot be used, 1 removed");
    assert!(!place("shared").exists());
    assert!(place("the kernel of one").exists() && place("the kernel of two").exists());
    let said = remove();
    assert!(said.stdout.contains("kits/sample_1_amd64 damaged: No such file"), "{}", said.stdout);
    assert!(!said.stderr.contains("removed"), "{}", said.stderr);
}

#[test]
fn a_damaged_package_of_the_kit_is_removed_and_told_with_its_remedy() {
    if !guests_can_run() {
        return;
    }
    let name = fresh_name("kitless");
    let own = Own::new(&[(&name, &[], "true\n")]);
    let packages = own.store().join("kits/packages");
    let lock = std::fs::read_to_string(own.store().join("kits/x86_64/kit.lock")).unwrap();
    let bash = lock.split("name = \"bash\"\n").nth(1).expect("the kit has bash");
    let digest = bash.lines().find_map(|line| line.strip_prefix("sha256 = \"")).unwrap();
    let package = packages.join(digest.trim_end_matches('"')).with_extension("deb");
    let size = std::fs::metadata(&package).unwrap().len();
    // The copy shares its files with the store that it was made from.
    std::fs::remove_file(&package).unwrap();
    std::fs::write(&package, vec![0; size as usize]).unwrap();
    give_to_user(&package);
    let said = run(&mut own.outcrop(&["store", "verify", "--remove"])).fails(1);
    said.says("1 package of kit x86_64").says("cannot be used, 1 removed");
    assert!(!package.exists());
    let said = run(&mut own.build(&name)).fails(3);
    let said = said.says("the kit for x86_64 is damaged: package bash");
    assert!(said.stderr.contains("outcrop kit create --arch x86_64 --lock "), "{}", said.stderr);
    let said = run(&mut own.outcrop(&["doctor"])).fails(3).stdout;
    assert!(said.contains("MISSING  kit "), "{said}");
    let said = run(&mut own.outcrop(&["store", "verify"])).fails(1);
    assert!(said.stdout.contains("kits/bash_"), "{}", said.stdout);
    said.says("1 package of kit x86_64");
    // Without archives it cannot be mended, but it is not taken for whole either.
    let create = ["kit", "create", "--if-missing", "--sources", "/dev/null"];
    run(&mut own.outcrop(&create)).fails(3).says("no signed Debian archive");
}

#[test]
fn a_kit_without_a_readable_lock_file_is_damaged() {
    let sampled = Sampled::new();
    sampled.kit("x86_64-1", "1", "2");
    sampled.shell("echo garbage > .store/kits/x86_64-1/kit.lock");
    let said = sampled.outcrop(&["store", "verify"]).fails(1).says("the kit in ");
    assert!(said.stdout.starts_with("kits/x86_64-1 damaged: "), "{}", said.stdout);
}

#[test]
fn a_collection_takes_kits_that_are_not_current_and_no_other() {
    if !guests_can_run() {
        return;
    }
    let own = Own::new(&[]);
    let kits = own.store().join("kits");
    let current = std::fs::read_link(kits.join("x86_64")).unwrap();
    let script = format!(
        "cp -al {current} x86_64-000000000000; touch -d 2024-01-01 x86_64-000000000000
         echo orphan > packages/0123.deb; touch -d 2024-01-02 packages/0123.deb",
        current = current.display()
    );
    run(as_user("sh").args(["-ec", &script]).current_dir(&kits)).ok();
    let gc = ["store", "gc", "--size", "0", "--only", "kits", "--json"];
    let removed = collected(&run(&mut own.outcrop(&gc)).ok().stdout);
    let of_kits = |name: &str| ("kits".to_owned(), name.to_owned());
    assert_eq!(removed, [of_kits("x86_64-000000000000"), of_kits("packages/0123.deb")]);
    let listed = run(&mut own.outcrop(&["kit", "list"])).ok().stdout;
    // The shared store may have kits of other architectures, of which each is its own current one.
    assert!(listed.contains("* x86_64 "), "{listed}");
    assert!(listed.lines().all(|line| line.starts_with("* ")), "{listed}");
    let name = current.to_str().unwrap();
    assert!(kits.join(name).join("kit.lock").is_file());
}
