//! What GNU cpio sees of an initramfs.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::*;

fn listing(image: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let text = tool("cpio", &["-itv", "--numeric-uid-gid", "--quiet"], Some(image))?;
    let lines = text.lines().map(|line| {
        let words: Vec<_> = line.split_whitespace().map(String::from).collect();
        let name = line.split(" -> ").next().unwrap().split_whitespace().last().unwrap();
        (name.to_owned(), words)
    });
    Some(lines.collect())
}

#[test]
fn lists_owners_modes_and_devices() {
    let image = exported(&everything(), Format::Cpio, &Options::default()).unwrap();
    let Some(listing) = listing(&image.path) else { return };
    let has = |name: &str, words: &[(usize, &str)]| {
        for (position, want) in words {
            assert_eq!(listing[name][*position], *want, "{name}");
        }
    };
    assert_eq!(listing.len() as u64, image.report.entries);
    has(".", &[(0, "drwxr-x--x")]);
    has("dev/null", &[(0, "crw-rw-rw-"), (4, "1,"), (5, "3")]);
    has("dev/disk", &[(0, "brw-rw----"), (3, "6"), (4, "8,"), (5, "300000")]);
    has("dev/pipe", &[(0, "prw-------"), (2, "5"), (3, "5")]);
    has("bin/su", &[(0, "-rwsr-xr-x"), (1, "2"), (4, "12")]);
    has("bin/su-link", &[(0, "-rwsr-xr-x"), (1, "2"), (4, "0")]);
    has("bin/sh", &[(0, "lrwxrwxrwx")]);
    has("tmp", &[(0, "drwxrwxrwt")]);
    has("home", &[(0, "drwxr-s---"), (2, "1000"), (3, "3000000")]);
    has("home/empty", &[(2, "4000000000")]);
    has("home/holes", &[(4, "1048576")]);
    let warning = "1 node (first: /bin/ping) has extended attributes \
                   (security.capability, user.note) that cpio cannot carry.";
    assert_eq!(image.report.warnings, [warning]);
}

/// Unpacks as root, as the kernel would.
#[test]
fn unpacks_contents_and_hard_links() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can unpack devices and foreign owners");
        return;
    }
    let tree = everything();
    let image = exported(&tree, Format::Cpio, &Options::default()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_str().unwrap();
    let arguments = ["-idm", "--quiet", "--no-absolute-filenames", "-D", directory];
    if tool("cpio", &arguments, Some(&image.path)).is_none() {
        return;
    }
    let mut files = 0;
    outcrop_fs::capture::walk(&tree, ROOT_INO, None, &mut |visit| {
        let path = scratch.path().join(std::ffi::OsStr::from_bytes(visit.path));
        let found = path.symlink_metadata().unwrap();
        let meta = visit.attributes.meta;
        if visit.path.is_empty() {
            // GNU cpio leaves a directory that exists as it is.
            return Ok(());
        }
        assert_eq!(found.mode(), meta.st_mode(), "{}", path.display());
        assert_eq!((found.uid(), found.gid()), (meta.uid, meta.gid), "{}", path.display());
        if found.is_file() {
            files += 1;
            let content = tree.content(visit.attributes.ino);
            assert!(std::fs::read(&path).unwrap() == content, "{}", path.display());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(files, 8);
    let ino = |name: &str| scratch.path().join(name).metadata().unwrap().ino();
    assert_eq!(ino("bin/su"), ino("bin/su-link"));
}

#[test]
fn a_name_that_would_end_the_archive_is_refused() {
    let mut tree = MemoryTree::new();
    let meta = memory::metadata(outcrop_fs::Kind::File, 0o644, 0, 0);
    tree.file(ROOT_INO, b"TRAILER!!!", meta, b"");
    let error = try_export(&tree, Format::Cpio, &Options::default()).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}
