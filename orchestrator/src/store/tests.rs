use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::*;

fn key(name: &str, number: u64) -> Key {
    Key::new(name, &Sha256::digest(number.to_le_bytes()).into())
}

fn info(key: &Key, content: &[u8]) -> ArtifactInfo {
    ArtifactInfo {
        key: key.to_string(),
        name: key.name().to_owned(),
        kind: "chunk".to_owned(),
        arch: "x86_64".to_owned(),
        digest: hex(&Sha256::digest(content)),
        size: content.len() as u64,
        created: 1,
        duration: 0.5,
        inputs: BTreeMap::from([("ref".to_owned(), "v1".to_owned())]),
        strata: BTreeMap::new(),
        dependencies: Vec::new(),
        source: None,
    }
}

/// A sound index; of what does not matter to the store.
fn index() -> Vec<u8> {
    let identity = outcrop_fs::index::SourceIdentity {
        size: 0,
        mtime: outcrop_fs::Timestamp::new(0, 0),
        digest: None,
    };
    outcrop_fs::index::Builder::new(identity).finish().unwrap()
}

fn publish(store: &Store, key: &Key, content: &[u8]) -> Result<Artifact> {
    let draft = store.draft(key)?;
    fs::write(draft.tar_path(), content).context("cannot write", draft.tar_path())?;
    fs::write(draft.index_path(), index()).context("cannot write", draft.index_path())?;
    draft.publish(info(key, content))
}

fn open(place: &tempfile::TempDir) -> Store {
    Store::open(place.path().join("store")).unwrap()
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn keys_are_safe_file_names_and_parse_back() {
    let digest = [0xab; 32];
    for (name, escaped) in [
        ("zlib", "zlib"),
        ("g++", "g++"),
        ("a/b", "a@2fb"),
        ("a@2fb", "a@402fb"),
        ("..", "@2e."),
        ("é", "@c3@a9"),
        ("", "@"),
    ] {
        let key = Key::new(name, &digest);
        assert_eq!(key.name(), escaped);
        assert_eq!(key.digest(), "ab".repeat(32));
        assert_eq!(key.as_str().parse::<Key>().unwrap(), key);
    }
    assert!(Key::new(&"é".repeat(500), &digest).as_str().len() <= 255);
    for wrong in ["", "zlib", "zlib.", "a/b", "../x", ".hidden"] {
        let whole = format!("{wrong}{}", "a".repeat(10));
        assert!(whole.parse::<Key>().is_err(), "{whole}");
    }
    assert!(format!("a/b.{}", "a".repeat(64)).parse::<Key>().is_err());
    assert!(format!("zlib.{}", "A".repeat(64)).parse::<Key>().is_err());
}

#[test]
fn publishes_once_and_first_one_wins() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let key = key("zlib", 1);
    assert_eq!(store.artifact(&key).unwrap(), None);
    let late = store.draft(&key).unwrap();
    fs::write(late.tar_path(), b"late").unwrap();
    fs::write(late.index_path(), b"late").unwrap();
    let first = publish(&store, &key, b"first").unwrap();
    assert_eq!(late.publish(info(&key, b"late")).unwrap(), first);
    let found = store.artifact(&key).unwrap().unwrap();
    assert_eq!(fs::read(&found.tar).unwrap(), b"first");
    assert_eq!(found.info, info(&key, b"first"));
    assert_eq!(store.verify(&key).unwrap(), Verdict::Good);
    assert_eq!(store.keys().unwrap(), [key]);
    assert!(entries(store.inner.temporary.path()).is_empty(), "drafts are gone");
}

#[test]
fn what_is_not_whole_is_absent_and_gets_replaced() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    for (number, damage) in ["artifact.tar", "artifact.index", "artifact.json"].iter().enumerate() {
        let key = key("x", number as u64);
        let artifact = publish(&store, &key, b"content").unwrap();
        fs::remove_file(artifact.tar.with_file_name(damage)).unwrap();
        assert_eq!(store.artifact(&key).unwrap(), None, "without {damage}");
        assert!(matches!(store.verify(&key).unwrap(), Verdict::Damaged(_)));
        publish(&store, &key, b"content").unwrap();
        assert_eq!(store.verify(&key).unwrap(), Verdict::Good);
    }
}

#[test]
fn verification_finds_changed_bytes() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let (good, bad) = (key("good", 1), key("bad", 2));
    publish(&store, &good, b"content").unwrap();
    let artifact = publish(&store, &bad, b"content").unwrap();
    fs::remove_file(&artifact.tar).unwrap();
    fs::write(&artifact.tar, b"cOntent").unwrap();
    let mut seen = Vec::new();
    store
        .verify_all(|part, name, verdict| seen.push((part, name.to_owned(), verdict.clone())))
        .unwrap();
    let damaged = |seen: &(Part, String, Verdict), key: &Key| {
        seen.0 == Part::Artifacts && seen.1 == key.as_str() && matches!(seen.2, Verdict::Damaged(_))
    };
    assert!(damaged(&seen[0], &bad), "{seen:?}");
    assert_eq!(seen[1], (Part::Artifacts, good.to_string(), Verdict::Good));
    assert!(store.remove_damaged(Part::Artifacts, bad.as_str()).unwrap());
    assert_eq!(store.keys().unwrap(), [good]);
}

#[test]
fn drafts_check_what_they_publish() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let key = key("x", 1);
    let draft = store.draft(&key).unwrap();
    assert!(draft.publish(info(&key, b"")).is_err(), "nothing was written");
    let draft = store.draft(&key).unwrap();
    fs::write(draft.tar_path(), b"short").unwrap();
    fs::write(draft.index_path(), b"").unwrap();
    assert!(draft.publish(info(&key, b"longer")).is_err());
    assert_eq!(store.artifact(&key).unwrap(), None);
    assert!(entries(store.inner.temporary.path()).is_empty());
}

#[test]
fn refuses_foreign_directories_and_other_versions() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("thesis.tex"), b"").unwrap();
    let error = Store::open(place.path().to_owned()).unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(entries(place.path()), ["thesis.tex"]);
    let store = open(&place);
    fs::write(store.root().join("version"), b"2\n").unwrap();
    let error = Store::open(store.root().to_owned()).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
}

#[test]
fn locks_exclude_and_survive_removal_of_their_file() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let key = key("x", 1);
    let held = store.lock(&key).unwrap();
    assert!(store.try_lock(&key).unwrap().is_none());
    let inside = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..20 {
                    let lock = store.lock(&key).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    if round % 3 == 0 {
                        lock.remove().unwrap();
                    }
                }
            });
        }
        drop(held);
    });
}

#[test]
fn verification_finds_every_flipped_bit_of_an_index() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let key = key("x", 1);
    let artifact = publish(&store, &key, b"content").unwrap();
    let layer = store.layers().join("some.tar-0123.plain.index");
    let right = index();
    fs::remove_file(&artifact.index).unwrap();
    for byte in 0..right.len() {
        let mut wrong = right.clone();
        wrong[byte] ^= 1 << (byte % 8);
        fs::write(&artifact.index, &wrong).unwrap();
        let verdict = store.verify(&key).unwrap();
        assert!(matches!(verdict, Verdict::Damaged(_)), "byte {byte}: {verdict:?}");
    }
    fs::write(&artifact.index, &right).unwrap();
    assert_eq!(store.verify(&key).unwrap(), Verdict::Good);
    fs::write(&layer, &right[1..]).unwrap();
    let download = hex(&Sha256::digest(b"right"));
    fs::write(store.sources().join(&download), b"wrong").unwrap();
    let mut damaged = Vec::new();
    let mut tell = |part, name: &str, verdict: &Verdict| {
        if *verdict != Verdict::Good {
            damaged.push((part, name.to_owned()));
        }
    };
    store.verify_all(&mut tell).unwrap();
    let wanted =
        [(Part::Layers, "some.tar-0123.plain".to_owned()), (Part::Sources, download.clone())];
    assert_eq!(damaged, wanted);
    assert!(store.remove_damaged(Part::Sources, &download).unwrap());
    assert!(!store.remove_damaged(Part::Sources, &download).unwrap(), "it is gone");
}

#[test]
fn verification_reads_the_files_of_unpacked_layers() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let cache = outcrop_fs::layer::cache::LayerCache::new(store.layers());
    for name in ["bad", "good"] {
        let packed = place.path().join(format!("{name}.tar.gz"));
        let file = File::create(&packed).unwrap();
        let encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut tar = tar::Builder::new(encoder);
        let mut header = tar::Header::new_gnu();
        header.set_size(7);
        tar.append_data(&mut header, "etc/motd", &b"content"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        cache.open(&outcrop_fs::layer::cache::Archive::new(packed), &|_| {}).unwrap();
    }
    let verdicts = || {
        let mut seen = Vec::new();
        let tell = |part, name: &str, verdict: &Verdict| {
            seen.push((part, name.to_owned(), verdict.clone()));
        };
        store.verify_all(tell).unwrap();
        seen
    };
    let seen = verdicts();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|(_, _, verdict)| *verdict == Verdict::Good), "{seen:?}");
    let (_, bad, _) = &seen[0];
    let unpacked = store.layers().join(format!("{bad}.tar"));
    let mut bytes = fs::read(&unpacked).unwrap();
    bytes[512] ^= 1;
    fs::write(&unpacked, bytes).unwrap();
    let seen = verdicts();
    assert!(matches!(&seen[0].2, Verdict::Damaged(why) if why.contains("etc/motd")), "{seen:?}");
    assert_eq!(seen[1].2, Verdict::Good);
    assert!(store.remove_damaged(Part::Layers, bad).unwrap());
    assert!(!unpacked.exists() && !unpacked.with_extension("index").exists());
    assert_eq!(verdicts(), seen[1..]);
}

fn set_used(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn all() -> Collection {
    Collection::default()
}

fn names(collected: &Collected) -> Vec<&str> {
    collected.removed.iter().map(|item| item.name.as_str()).collect()
}

#[test]
fn gc_goes_by_least_recent_use_and_spares_the_held() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let content = vec![7; 64 << 10];
    let keys: Vec<Key> = (0..5).map(|number| key("x", number)).collect();
    for (number, key) in keys.iter().enumerate() {
        publish(&store, key, &content).unwrap();
        set_used(&store.artifact_directory(key), 1000 + number as u64);
    }
    // The oldest is used once more, the next is held by somebody.
    let user = Store::open(store.root().to_owned()).unwrap();
    user.held_artifact(&keys[1]).unwrap().unwrap();
    set_used(&store.artifact_directory(&keys[1]), 1001);
    store.artifact(&keys[0]).unwrap().unwrap();
    let before = store.usage().unwrap().total();
    let one = store.items(Part::Artifacts).unwrap()[0].size;
    let budget = before - one - one / 2;
    let would = store.gc(&Collection { budget, dry_run: true, ..all() }).unwrap();
    assert_eq!(store.keys().unwrap().len(), 5, "a dry run removes nothing");
    let done = store.gc(&Collection { budget, ..all() }).unwrap();
    assert_eq!(names(&would), names(&done));
    assert_eq!(names(&done), [keys[2].as_str(), keys[3].as_str()]);
    assert_eq!((done.freed, done.in_use), (2 * one, 1));
    assert!(done.left <= budget && store.usage().unwrap().total() <= before - 2 * one);
    let keep = vec![keys[4].as_str()[..10].to_owned()];
    let done = store.gc(&Collection { keep, ..all() }).unwrap();
    assert_eq!(names(&done), [keys[0].as_str()]);
    assert_eq!(names(&store.gc(&all()).unwrap()), [keys[4].as_str()]);
    assert_eq!(store.keys().unwrap(), [keys[1].clone()]);
    assert!(entries(&store.root().join("locks")).is_empty());
    drop(user);
    assert_eq!(names(&store.gc(&all()).unwrap()), [keys[1].as_str()]);
}

#[test]
fn gc_takes_every_part_and_what_is_made_or_used_stays() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let (idle, busy) = (key("idle", 1), key("busy", 2));
    let digest = "ab".repeat(32);
    let file = |path: PathBuf, age: u64| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![1; 5000]).unwrap();
        set_used(&path, age);
        path
    };
    for (number, key) in [&idle, &busy].into_iter().enumerate() {
        file(store.log_path(key), 100 + number as u64);
        file(store.failed_path(key).join("build.tar"), 1);
        set_used(&store.failed_path(key), 200 + number as u64);
        file(store.mirrors().join(key.name()).join("HEAD"), 1);
        set_used(&store.mirrors().join(key.name()), 300 + number as u64);
        let layer = store.layers().join(format!("{}.deb-1.package", key.name()));
        file(layer.with_extension("package.tar"), 1);
        file(layer.with_extension("package.index"), 400 + number as u64);
        file(layer.with_extension("package.lock"), 1);
    }
    file(store.sources().join(&digest), 500);
    file(store.sources().join("apt/lists"), 1);
    file(store.root().join(format!("logs/mount-{}.log", std::process::id())), 1);
    let other = Store::open(store.root().to_owned()).unwrap();
    let _building = other.lock(&busy).unwrap();
    assert!(other.hold(&store.mirrors().join("busy")).unwrap());
    set_used(&store.mirrors().join("busy"), 301);
    let index = store.layers().join("busy.deb-1.package.index");
    assert!(other.hold(&index).unwrap());
    set_used(&index, 401);
    let only = Collection { only: vec![Part::Failed], dry_run: true, ..all() };
    assert_eq!(names(&store.gc(&only).unwrap()), [idle.as_str()]);
    let done = store.gc(&all()).unwrap();
    let log = format!("{idle}.log");
    let wanted = [log.as_str(), idle.as_str(), "idle", "idle.deb-1.package", &digest];
    assert_eq!(names(&done), wanted);
    assert_eq!(done.in_use, 5, "log, failed tree, mirror and layer of the busy one; our own log");
    assert_eq!(entries(&store.mirrors()), ["busy"]);
    assert_eq!(entries(&store.sources()), ["apt"]);
    assert_eq!(entries(&store.root().join("failed")), [busy.to_string()]);
    let left = [
        "busy.deb-1.package.index",
        "busy.deb-1.package.lock",
        "busy.deb-1.package.tar",
        "idle.deb-1.package.lock",
    ];
    assert_eq!(entries(&store.layers()), left);
}

#[test]
fn what_an_open_store_holds_outlives_a_collection_and_looking_is_not_use() {
    let place = tempfile::tempdir().unwrap();
    let (user, collector) = (open(&place), open(&place));
    let (held, free) = (key("held", 1), key("free", 2));
    publish(&user, &held, b"held").unwrap();
    publish(&user, &free, b"free").unwrap();
    set_used(&user.artifact_directory(&free), 1000);
    assert_eq!(user.describe(&free).unwrap(), Some(info(&free, b"free")));
    let used = fs::metadata(user.artifact_directory(&free)).unwrap().modified().unwrap();
    assert_eq!(used, SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
    assert!(user.held_artifact(&held).unwrap().is_some());
    assert!(user.held_artifact(&held).unwrap().is_some(), "holding twice is holding");
    assert_eq!(names(&collector.gc(&all()).unwrap()), [free.as_str()]);
    assert_eq!(user.held_artifact(&free).unwrap(), None);
    assert_eq!(user.describe(&free).unwrap(), None);
    drop(user);
    assert_eq!(names(&collector.gc(&all()).unwrap()), [held.as_str()]);
}

#[test]
fn run_directories_of_the_living_stay() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let mine = store.run_directory().unwrap();
    fs::write(mine.path().join("socket"), b"").unwrap();
    let run = store.root().join("run");
    // What a dead process leaves: with its pid file, and (removed in between) without.
    fs::create_dir_all(run.join("4194305-0/mount")).unwrap();
    fs::write(run.join("4194305-0.pid"), b"4194305\n").unwrap();
    fs::create_dir(run.join("4194306-0")).unwrap();
    let mut seen = Vec::new();
    let mut removed = store.clean_stale_runs(|path| seen.push(path.to_owned())).unwrap();
    removed.sort();
    seen.sort();
    assert_eq!(removed, [run.join("4194305-0"), run.join("4194306-0")]);
    assert_eq!(seen, removed);
    assert!(mine.path().join("socket").exists());
    drop(mine);
    assert!(entries(&run).is_empty());
}

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "started by killed_anywhere_artifacts_are_whole_or_absent"]
fn crash_child() {
    let Some(root) = std::env::var_os("OUTCROP_TEST_CRASH_STORE") else { return };
    let store = Store::open(root.into()).unwrap();
    let _run = store.run_directory().unwrap();
    for number in 0.. {
        let key = key("crash", number % 40);
        let _lock = store.lock(&key).unwrap();
        publish(&store, &key, &vec![number as u8; 100_000 + number as usize]).unwrap();
        if number % 7 == 6 {
            store.gc(&Collection { budget: 1_000_000, ..all() }).unwrap();
        }
    }
}

#[test]
fn killed_anywhere_artifacts_are_whole_or_absent() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("store");
    let mut published = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash_child", "--ignored"])
            .env("OUTCROP_TEST_CRASH_STORE", &root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Different moments, none of them decides whether the test passes.
        std::thread::sleep(Duration::from_millis(20 + round * round * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(root.clone()).unwrap();
        store.clean_stale_runs(|_| {}).unwrap();
        store
            .verify_all(|_, name, verdict| {
                assert_eq!(verdict, &Verdict::Good, "{name}");
                published += 1;
            })
            .unwrap();
        for number in 0..40 {
            assert!(store.try_lock(&key("crash", number)).unwrap().is_some());
        }
        assert!(entries(&root.join("run")).is_empty());
        assert_eq!(entries(&root.join("tmp")).len(), 2, "only our own lease");
    }
    assert!(published > 0, "the children never got to publish");
}

#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: this user may not mount a small tmpfs");
        return;
    }
    {
        let store = Store::open(disk.join("store")).unwrap();
        let error = publish(&store, &key("big", 1), &vec![1; 2 << 20]).unwrap_err();
        assert!(error.is_full_disk(), "{error}");
        assert!(error.to_string().contains("outcrop store gc"), "{error}");
        assert_eq!(store.keys().unwrap(), []);
        // A disk that fills up later: at the index, the description or the shard's directory.
        for size in ((960 << 10)..(1 << 20)).step_by(4 << 10) {
            let key = key("fill", size);
            match publish(&store, &key, &vec![1; size as usize]) {
                Ok(_) => {
                    assert_eq!(store.verify(&key).unwrap(), Verdict::Good);
                    store.gc(&all()).unwrap();
                }
                Err(error) => {
                    assert!(error.is_full_disk(), "{error}");
                    assert_eq!(store.artifact(&key).unwrap(), None);
                }
            }
        }
        assert!(entries(store.inner.temporary.path()).is_empty());
        // What was removed takes room while a process that another test is just starting has it open.
        let started = Instant::now();
        while let Err(error) = publish(&store, &key("small", 1), b"fits again") {
            assert!(started.elapsed() < Duration::from_secs(10), "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(Command::new("umount").arg("-l").arg(&disk).status().unwrap().success());
}
