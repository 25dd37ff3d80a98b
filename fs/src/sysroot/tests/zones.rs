//! Write policies.

use super::layer::MemoryLayer;
use super::*;
use crate::filesystem::SetAttributes;
use crate::node::ROOT_INO;

/// As a chunk is built: sources to scratch in, an empty place to install to, the rest read-only.
fn build() -> Sysroot {
    let layers = vec![
        MemoryLayer::new("base")
            .file("/usr/bin/cc", "cc")
            .file("/x.build/src/main.c", "int")
            .link("/usr/bin/cc", "/x.build/cc")
            .file("/etc/passwd", "root"),
    ];
    let zones = vec![
        zone("/x.build", Policy::Scratch),
        zone("/x.inst", Policy::Capture),
        zone("/x.build/fixed", Policy::ReadOnly),
        zone("/etc/passwd", Policy::Scratch),
    ];
    with_zones(layers, zones)
}

fn chmod(sysroot: &Sysroot, path: &str) -> Result<()> {
    let set = SetAttributes { mode: Some(0o700), ..SetAttributes::default() };
    sysroot.set_attributes(ino(sysroot, path), &set).map(|_| ())
}

#[test]
fn bad_prefixes_are_explained() {
    for (zones, problem) in [
        (vec![zone("usr", Policy::Scratch)], "not an absolute path"),
        (vec![zone("/usr/../x", Policy::Scratch)], "'.' or '..'"),
        (vec![zone("/a", Policy::Scratch), zone("/a/", Policy::Capture)], "twice"),
    ] {
        let options = Options { zones, spool_directory: None };
        let Err(error) = Sysroot::new(vec![], options) else { panic!("accepted: {problem}") };
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn a_missing_spool_directory_is_found_at_once() {
    let directory = std::path::PathBuf::from("/nonexistent/spool");
    let options = Options {
        zones: vec![zone("/", Policy::Scratch)],
        spool_directory: Some(directory.clone()),
    };
    let Err(error) = Sysroot::new(vec![], options) else { panic!("accepted") };
    assert!(error.to_string().contains("/nonexistent/spool"), "{error}");
    let options = Options { zones: vec![], spool_directory: Some(directory) };
    assert!(Sysroot::new(vec![], options).is_ok(), "nothing is written, so nothing is needed");
}

#[test]
fn the_deepest_prefix_wins() {
    let sysroot = build();
    for (path, policy) in [
        ("/", Policy::ReadOnly),
        ("/x.build", Policy::Scratch),
        ("/x.build/a/b", Policy::Scratch),
        ("/x.build/fixed/b", Policy::ReadOnly),
        ("/x.buildx", Policy::ReadOnly),
        ("/x.inst/usr", Policy::Capture),
    ] {
        assert_eq!(sysroot.policy(path.as_bytes()), policy, "{path}");
    }
}

#[test]
fn read_only_zones_refuse_and_writable_ones_do_not() {
    let sysroot = build();
    assert!(!sysroot.is_immutable());
    assert_errno(chmod(&sysroot, "/usr/bin/cc"), Errno::ROFS);
    assert_errno(chmod(&sysroot, "/usr"), Errno::ROFS);
    assert_errno(sysroot.write(ino(&sysroot, "/usr/bin/cc"), 0, b"x"), Errno::ROFS);
    assert_errno(sysroot.make_directory(ROOT_INO, b"new", CREATION), Errno::ROFS);
    assert_errno(sysroot.unlink(ino(&sysroot, "/usr/bin"), b"cc"), Errno::ROFS);
    assert_errno(sysroot.make_temporary(ino(&sysroot, "/usr"), CREATION), Errno::ROFS);
    chmod(&sysroot, "/x.build/src/main.c").unwrap();
    chmod(&sysroot, "/x.build").unwrap();
    sysroot.write(ino(&sysroot, "/x.build/src/main.c"), 0, b"x").unwrap();
    sysroot.write(ino(&sysroot, "/etc/passwd"), 0, b"x").unwrap();
}

#[test]
fn a_hard_link_stands_where_its_first_name_does() {
    let sysroot = build();
    assert_errno(chmod(&sysroot, "/x.build/cc"), Errno::ROFS);
}

#[test]
fn existing_directories_are_reported_before_the_policy() {
    let sysroot = build();
    assert_errno(sysroot.make_directory(ROOT_INO, b"usr", CREATION), Errno::EXIST);
}

#[test]
fn a_prefix_that_does_not_exist_may_be_made_by_either_side() {
    let sysroot = build();
    assert!(sysroot.make_directory(ROOT_INO, b"x.inst", CREATION).is_ok(), "by the guest");
    make_file(&sysroot, "/x.inst", "f", b"");

    let sysroot = build();
    let made = sysroot.make_directories(b"/x.inst/usr/lib", CREATION).unwrap();
    assert_eq!(made, ino(&sysroot, "/x.inst/usr/lib"));
    assert_eq!(
        sysroot.make_directories(b"/x.inst/usr", CREATION).unwrap(),
        ino(&sysroot, "/x.inst/usr")
    );
    make_file(&sysroot, "/x.inst/usr/lib", "f", b"");
}

#[test]
fn the_hosts_directories_ignore_the_policy() {
    let sysroot = build();
    let made = sysroot.make_directories(b"/proc/sub", CREATION).unwrap();
    assert_errno(sysroot.make_directory(made, b"x", CREATION), Errno::ROFS);
    assert_errno(sysroot.make_directories(b"/etc/passwd/x", CREATION), Errno::NOTDIR);
    let sysroot = read_only(vec![MemoryLayer::new("low").file("/f", "")]);
    sysroot.make_directories(b"/dev/pts", CREATION).unwrap();
    assert_eq!(list(&sysroot, "/"), ["f", "dev"]);
}

#[test]
fn nodes_move_between_writable_zones_only() {
    let sysroot = build();
    sysroot.make_directories(b"/x.inst", CREATION).unwrap();
    let (build, install) = (ino(&sysroot, "/x.build"), ino(&sysroot, "/x.inst"));
    sysroot.rename(build, b"src", install, b"src", Rename::Replace).unwrap();
    sysroot.write(ino(&sysroot, "/x.inst/src/main.c"), 0, b"moved").unwrap();
    sysroot.link(ino(&sysroot, "/x.inst/src/main.c"), build, b"back").unwrap();
    let usr = ino(&sysroot, "/usr");
    assert_errno(sysroot.rename(install, b"src", usr, b"src", Rename::Replace), Errno::ROFS);
    assert_errno(sysroot.rename(usr, b"bin", install, b"bin", Rename::Replace), Errno::ROFS);
    assert_errno(sysroot.link(ino(&sysroot, "/usr/bin/cc"), install, b"cc"), Errno::ROFS);
}

#[test]
fn a_zones_beginning_stays_where_it_is() {
    let sysroot = build();
    sysroot.make_directories(b"/x.inst", CREATION).unwrap();
    let install = ino(&sysroot, "/x.inst");
    assert_errno(sysroot.rename(ROOT_INO, b"x.build", install, b"b", Rename::Replace), Errno::BUSY);
    sysroot.remove_directory(ROOT_INO, b"x.inst").unwrap();
    sysroot.make_directory(ROOT_INO, b"x.inst", CREATION).unwrap();
    make_file(&sysroot, "/x.inst", "again", b"");
}
