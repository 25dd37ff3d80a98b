use super::*;

/// A small package of format 3.0 (quilt) with patches, in every Debian release.
const PACKAGE: &str = "bc";

/// What the host's archives have of a package, or why nothing can be tested.
fn version(sources: &Sources, name: &str) -> Option<String> {
    let spec = debian(name, "0~none", None, false);
    match sources.resolve(&spec, &quiet) {
        Err(Error::Invalid(text)) if text.contains("there is ") => {
            let (_, rest) = text.split_once("there is ").unwrap();
            let versions = rest.split(". Change").next().unwrap();
            versions.split(", ").last().map(str::to_owned)
        }
        other => {
            eprintln!("skipped: apt cannot reach a Debian archive: {other:?}");
            None
        }
    }
}

fn debian(name: &str, version: &str, sha256: Option<&str>, patches: bool) -> SourceSpec {
    SourceSpec::Debian(DebianSpec {
        name: name.to_owned(),
        version: version.to_owned(),
        sha256: sha256.map(|text| Sha256Digest::parse(text).unwrap()),
        patches,
    })
}

#[test]
fn imports_a_real_source_package() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let Some(version) = version(&sources, PACKAGE) else { return };
    let found = sources.resolve(&debian(PACKAGE, &version, None, false), &quiet).unwrap();
    let plain = tree(&found);
    assert!(plain.contains_key("configure") && plain.contains_key("bc/main.c"), "{plain:?}");
    assert!(!plain.keys().any(|path| path.starts_with("debian/")));
    // The packaging's patches change files of the tree, and bring nothing else.
    let patched = sources.resolve(&debian(PACKAGE, &version, None, true), &quiet).unwrap();
    assert_ne!(patched.tree, found.tree);
    let after = tree(&patched);
    assert!(!after.keys().any(|path| path.starts_with("debian/") || path.ends_with(".orig")));
    assert!(plain.keys().all(|path| after.contains_key(path)));
    // The recorded checksum is checked, also when everything is in the store already.
    let wrong = "0".repeat(64);
    let error = sources.resolve(&debian(PACKAGE, &version, Some(&wrong), false), &quiet);
    assert!(matches!(error, Err(Error::Checksum { .. })), "{error:?}");
    // Pinned by content, a version that is gone is found under another one.
    let repo = git2::Repository::open_bare(&found.repo).unwrap();
    let commit = repo.find_commit(found.commit).unwrap();
    let message = commit.message().unwrap().to_owned();
    let sha256 = message.lines().find_map(|line| line.strip_prefix("sha256: ")).unwrap();
    let gone = debian(PACKAGE, "0~gone", Some(sha256), false);
    assert_eq!(sources.resolve(&gone, &quiet).unwrap().commit, found.commit);
    // Another store comes to the same commits.
    let other = tempfile::tempdir().unwrap();
    let again = super::sources(&other);
    assert_eq!(
        again.resolve(&debian(PACKAGE, &version, Some(sha256), true), &quiet).unwrap().commit,
        patched.commit
    );
}

#[test]
fn unknown_packages_and_gone_versions_say_what_there_is() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let Some(version) = version(&sources, "base-files") else { return };
    let error = sources
        .resolve(&debian("no-such-source-package", "1", None, false), &quiet)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such source package"), "{error}");
    assert!(names(&sources.store.mirrors()).is_empty());
    // A native package: its own archive is the tree.
    let found = sources.resolve(&debian("base-files", &version, None, true), &quiet).unwrap();
    assert!(tree(&found).contains_key("debian/control"));
}
