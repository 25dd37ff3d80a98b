use std::cmp::Ordering;

use super::super::series::compare;
use super::archives::{file, tarball};
use super::*;

fn name() -> SeriesName {
    SeriesName::parse("group/app-tarball").unwrap()
}

/// An archive `app-VERSION.tar` with one file that differs and one that does not.
fn release(place: &Path, version: &str) -> PathBuf {
    let path = place.join(format!("app-{version}.tar"));
    let (own, same) = (format!("app-{version}/version"), format!("app-{version}/same"));
    std::fs::write(&path, tarball(&[file(&own, version), file(&same, "same")])).unwrap();
    path
}

fn tags(releases: &[Release]) -> Vec<(&str, bool)> {
    releases.iter().map(|release| (release.tag.as_str(), release.added)).collect()
}

fn reference(sources: &Sources, reference: &str) -> Result<ResolvedSource> {
    let reference = reference.to_owned();
    sources.resolve(&SourceSpec::Series { name: name(), reference }, &quiet)
}

/// Everything that a mirror holds and refers to.
fn state(sources: &Sources) -> Vec<String> {
    let repo = git2::Repository::open_bare(sources.store.mirrors().join(name().mirror())).unwrap();
    let mut found = Vec::new();
    repo.odb()
        .unwrap()
        .foreach(|id| {
            found.push(id.to_string());
            true
        })
        .unwrap();
    for reference in repo.references().unwrap() {
        let reference = reference.unwrap();
        found.push(format!("{} {:?}", reference.name().unwrap(), reference.target()));
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn versions_are_ordered_as_people_number_them() {
    let ordered = [
        "app-0.9",
        "app-1.0-alpha",
        "app-1.0-beta2",
        "app-1.0-beta10",
        "app-1.0-rc1",
        "app-1.0rc2",
        "app-1.0-rc3",
        "app-1.0",
        "app-1.0-2",
        "app-1.0.1",
        "app-1.0a",
        "app-1.2",
        "app-1.10",
        "app-20160101000000000000000000",
        "app-20160101000000000000000001",
    ];
    for (number, one) in ordered.iter().enumerate() {
        for (other_number, other) in ordered.iter().enumerate() {
            assert_eq!(compare(one, other), number.cmp(&other_number), "{one} {other}");
        }
    }
    assert_ne!(compare("app-1.01", "app-1.1"), Ordering::Equal);
    assert_eq!(compare("app-1.01", "app-1.2"), Ordering::Less);
}

#[test]
fn the_same_archives_give_the_same_commits_at_once_and_one_by_one() {
    let place = tempfile::tempdir().unwrap();
    let versions = ["1.10", "1.2", "1.9", "2.0-rc1"];
    let archives = versions.map(|version| release(place.path(), version));
    let sources = super::sources(&place);
    let all = sources.import_series(&name(), &archives, &quiet).unwrap();
    let wanted = ["app-1.2", "app-1.9", "app-1.10", "app-2.0-rc1"].map(|tag| (tag, true));
    assert_eq!(tags(&all), wanted);
    // Elsewhere, later, and each on its own.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = super::sources(&other);
    let mut found = Vec::new();
    for version in ["1.2", "1.9", "1.10", "2.0-rc1"] {
        let archive = release(other.path(), version);
        found.extend(elsewhere.import_series(&name(), &[archive], &quiet).unwrap());
    }
    assert_eq!(found, all);
    assert_eq!(state(&elsewhere), state(&sources));
    // Each commit is on top of the one before, its tree that of its archive alone.
    let mirror = sources.store.mirrors().join(name().mirror());
    let repo = git2::Repository::open_bare(&mirror).unwrap();
    let mut parent = None;
    for release in &all {
        let commit = repo.find_commit(release.commit).unwrap();
        assert_eq!(commit.parent_ids().next(), parent);
        parent = Some(release.commit);
        let version = release.tag.strip_prefix("app-").unwrap();
        let found = reference(&sources, &release.tag).unwrap();
        assert_eq!(found.commit, release.commit);
        assert_eq!(found.time, Timestamp::new(100, 0));
        let tree = tree(&found);
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["same", "version"]);
        assert_eq!(tree["version"].1, version.as_bytes());
    }
    assert_eq!(reference(&sources, "main").unwrap().commit, parent.unwrap());
    let by_id = all[0].commit.to_string();
    assert_eq!(reference(&sources, &by_id).unwrap().commit, all[0].commit);
    // Loose objects cost more to read.
    let objects = names(&mirror.join("objects"));
    assert!(objects.iter().all(|name| name == "info" || name == "pack"), "{objects:?}");
}

#[test]
fn what_would_change_a_series_is_refused_and_leaves_it_alone() {
    let place = tempfile::tempdir().unwrap();
    let sources = super::sources(&place);
    let (first, second) = (release(place.path(), "1.0"), release(place.path(), "1.1"));
    sources.import_series(&name(), &[first.clone(), second.clone()], &quiet).unwrap();
    let before = state(&sources);
    let refused = |archives: &[PathBuf], part: &str| {
        let error = sources.import_series(&name(), archives, &quiet).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.cause(), Cause::Input, "{error}");
        assert_eq!(state(&sources), before, "{part}");
    };
    refused(&[release(place.path(), "0.9")], "only later releases can be added");
    refused(&[release(place.path(), "1.0.5"), release(place.path(), "1.2")], "has app-1.1 already");
    let broken = place.path().join("app-1.3.tar");
    std::fs::write(&broken, b"no archive").unwrap();
    refused(&[release(place.path(), "1.2"), broken], "app-1.3.tar: the archive cannot be used");
    refused(&[place.path().join("app-7.tar")], "app-7.tar");
    let twin = place.path().join("app-1.2.tgz");
    std::fs::copy(&first, &twin).unwrap();
    refused(&[release(place.path(), "1.2"), twin], "are both app-1.2");
    let nameless = place.path().join("latest.tar");
    std::fs::copy(&first, &nameless).unwrap();
    refused(&[nameless], "does not say which version");
    // The same file once more is nothing new, another of the same name is.
    let again = sources.import_series(&name(), std::slice::from_ref(&second), &quiet).unwrap();
    assert_eq!(tags(&again), [("app-1.1", false)]);
    std::fs::copy(&first, &second).unwrap();
    refused(&[second], "has another archive as app-1.1");
    let error = sources.import_series(&name(), &[release(place.path(), "1.2")], &|_| false);
    assert!(matches!(error.unwrap_err(), Error::Cancelled));
    assert_eq!(state(&sources), before);
    assert_eq!(names(&sources.store.root().join("tmp")).len(), 2, "only the lease");
}

#[test]
fn a_series_that_is_not_there_says_how_it_comes_there() {
    let place = tempfile::tempdir().unwrap();
    let sources = super::sources(&place);
    let error = reference(&sources, "app-1.0").unwrap_err();
    assert!(error.to_string().contains("outcrop source import --series group/app-tarball"));
    assert_eq!(error.cause(), Cause::Host);
    let broken = place.path().join("app-1.3.tar");
    std::fs::write(&broken, b"no archive").unwrap();
    sources.import_series(&name(), &[broken], &quiet).unwrap_err();
    assert!(names(&sources.store.mirrors()).is_empty());
    sources.import_series(&name(), &[release(place.path(), "1.0")], &quiet).unwrap();
    let error = reference(&sources, "app-1").unwrap_err().to_string();
    assert!(error.contains("no revision app-1") && error.contains("app-1.0"), "{error}");
}
