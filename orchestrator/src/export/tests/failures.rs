//! Exports that fail must say why and leave nothing.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;

use outcrop_fs::Kind;

use super::super::builder::{Program, Running, command};
use super::super::survey::Survey;
use super::memory::metadata;
use super::*;

fn job_of<'a>(tree: &'a MemoryTree, survey: &'a Survey, options: &'a Options<'a>) -> Job<'a> {
    Job { tree, root: ROOT_INO, options, survey }
}

/// A shell script in the place of an image builder.
fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("builder");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_tree_that_cannot_be_read_leaves_the_old_output() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("image");
    let mut tree = everything();
    let meta = metadata(Kind::File, 0o644, 0, 0);
    let large = tree.file(ROOT_INO, b"large", meta, &vec![1; 4 << 20]);
    tree.node_mut(large).1.broken_from = Some(3 << 20);
    for format in [Format::Tar, Format::TarZst, Format::Cpio, Format::CpioGz, Format::Squashfs] {
        std::fs::write(&out, "precious").unwrap();
        let error = export(&tree, ROOT_INO, format, &out, &Options::default()).unwrap_err();
        if let Error::HostLacks { .. } = error {
            eprintln!("skipped: {error}");
            continue;
        }
        assert!(error.to_string().contains("cannot read /large"), "{format}: {error}");
        assert_eq!(std::fs::read(&out).unwrap(), b"precious", "{format}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "{format}");
    }
}

#[test]
fn cancelling_leaves_nothing() {
    let mut tree = everything();
    tree.file(ROOT_INO, b"large", metadata(Kind::File, 0o644, 0, 0), &vec![1; 4 << 20]);
    for format in [Format::Tar, Format::TarZst, Format::Cpio, Format::CpioGz, Format::Squashfs] {
        let directory = tempfile::tempdir().unwrap();
        let calls = Cell::new(0);
        let progress = |_: Progress| {
            calls.set(calls.get() + 1);
            if calls.get() > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = Options { progress: Some(&progress), ..Options::default() };
        let out = directory.path().join("image");
        let error = export(&tree, ROOT_INO, format, &out, &options).unwrap_err();
        let lacks = matches!(error, Error::HostLacks { .. });
        assert!(lacks || matches!(error, Error::Cancelled), "{format}: {error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{format}");
    }
}

#[test]
fn a_missing_program_names_its_package() {
    let program = Program { name: "no-such-builder", package: "some-package" };
    let error = program.find("squashfs").unwrap_err();
    assert!(matches!(error, Error::HostLacks { .. }));
    assert_eq!(
        error.to_string(),
        "squashfs needs no-such-builder, which this host lacks: install the package some-package"
    );
}

#[test]
fn a_builder_that_fails_while_it_is_fed_explains_itself() {
    let tree = everything();
    let options = Options::default();
    let survey = Survey::of(&tree, ROOT_INO, MtimePolicy::Keep).unwrap();
    let job = job_of(&tree, &survey, &options);
    let directory = tempfile::tempdir().unwrap();
    let builder = script(directory.path(), "echo 'no space for that' >&2; exit 7");
    let error = Running::run(command(&builder), &job, &vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.to_string(), "builder failed (exit status 7):\nno space for that");
}

#[test]
fn a_cancelled_builder_is_killed_with_its_children() {
    let tree = everything();
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let calls = Cell::new(0);
    let progress = |_: Progress| {
        calls.set(calls.get() + 1);
        let ready = std::fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2);
        if ready { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = Options { progress: Some(&progress), ..Options::default() };
    let survey = Survey::of(&tree, ROOT_INO, MtimePolicy::Keep).unwrap();
    let job = job_of(&tree, &survey, &options);
    let text = format!("sleep 1000 & (echo $$; echo $!) > {}; wait", pids.display());
    let builder = script(directory.path(), &text);
    let error = Running::run(command(&builder), &job, b"").unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        let gone = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            // A killed grandchild may wait for init to reap it.
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone, "process {pid} still lives");
    }
}
