//! What unsquashfs sees of an image.

use super::*;

#[test]
fn keeps_everything() {
    let tree = everything();
    let Some(image) = exported(&tree, Format::Squashfs, &Options::default()) else { return };
    let image_path = image.path.to_str().unwrap();
    let Some(text) = tool("unsquashfs", &["-lln", "-d", "", image_path], None) else { return };
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    let find = |name: &str| {
        lines
            .iter()
            .find(|words| words.iter().skip(2).any(|word| *word == name))
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let has = |name: &str, mode: &str, owner: &str| {
        let words = find(name);
        assert_eq!((words[0], words[1]), (mode, owner), "{name}");
    };
    has("/dev/null", "crw-rw-rw-", "0/0");
    has("/dev/disk", "brw-rw----", "0/6");
    has("/dev/pipe", "prw-------", "5/5");
    has("/bin/su", "-rwsr-xr-x", "0/0");
    has("/bin/su-link", "-rwsr-xr-x", "0/0");
    has("/bin/sh", "lrwxrwxrwx", "0/0");
    has("/tmp", "drwxrwxrwt", "0/0");
    has("/home", "drwxr-s---", "1000/3000000");
    has("/home/empty", "-rw-------", "4000000000/0");
    // unsquashfs 4.5 shows large numbers undecoded: all but the lowest byte, then that.
    let (high, low) = find("/dev/disk")[2].split_once(',').unwrap();
    let encoded = (high.parse::<u64>().unwrap() << 8) | low.parse::<u64>().unwrap();
    let disk = outcrop_fs::Device { major: 8, minor: 300_000 };
    assert_eq!(encoded, outcrop_fs::filesystem::encode_device(disk));
    assert_eq!(lines[0][..2], ["drwxr-x--x", "0/0"], "the root");
    let name = "n".repeat(240);
    has(&format!("/home/{name}"), "-rw-r--r--", "0/0");
    assert_eq!(image.report.warnings, Vec::<String>::new());
}

#[test]
fn keeps_contents() {
    let tree = everything();
    let Some(image) = exported(&tree, Format::Squashfs, &Options::default()) else { return };
    let image_path = image.path.to_str().unwrap();
    let cat = |name| tool("unsquashfs", &["-cat", image_path, name], None);
    let Some(su) = cat("bin/su-link") else { return };
    assert_eq!(su, "#!/bin/true\n");
    let holes = cat("home/holes").unwrap();
    assert_eq!(holes.len(), 1 << 20);
    assert_eq!(holes.bytes().filter(|byte| *byte == 9).count(), 70_000);
}

/// Unpacks as root: xattrs are only visible so.
#[test]
fn keeps_xattrs_and_hard_links() {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can unpack devices and file capabilities");
        return;
    }
    let tree = everything();
    let Some(image) = exported(&tree, Format::Squashfs, &Options::default()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let to = scratch.path().join("out");
    let arguments =
        ["-quiet", "-no-progress", "-d", to.to_str().unwrap(), image.path.to_str().unwrap()];
    if tool("unsquashfs", &arguments, None).is_none() {
        return;
    }
    let mut buffer = [0; 64];
    let length = rustix::fs::lgetxattr(to.join("bin/ping"), "security.capability", &mut buffer);
    assert_eq!(
        buffer[..length.unwrap()],
        tree.nodes
            .iter()
            .find_map(|(_, node)| { node.xattrs.get(&b"security.capability"[..]).cloned() })
            .unwrap()
    );
    let ino = |name: &str| to.join(name).metadata().unwrap().ino();
    assert_eq!(ino("bin/su"), ino("bin/su-link"));
    assert_eq!(to.join("bin/su").metadata().unwrap().mtime(), 1_700_000_000);
}

#[test]
fn times_that_it_cannot_carry_become_the_nearest() {
    let mut tree = MemoryTree::new();
    let times = [("before", -1, 0), ("long", -40_000_000_000, 5), ("after", 1 << 33, 0)];
    for (name, seconds, nanoseconds) in times {
        let mut meta = memory::metadata(outcrop_fs::Kind::File, 0o644, 0, 0);
        meta.mtime = Timestamp::new(seconds, nanoseconds);
        tree.file(ROOT_INO, name.as_bytes(), meta, b"x");
    }
    let Some(image) = exported(&tree, Format::Squashfs, &Options::default()) else { return };
    let warning = "3 nodes (first: /after) have times before 1970 or after 2106";
    assert!(image.report.warnings[0].contains(warning), "{:?}", image.report.warnings);
    let path = image.path.to_str().unwrap();
    let Some(text) = tool("unsquashfs", &["-lln", "-d", "", path], None) else { return };
    for (name, date) in [("before", "1970-01-01"), ("long", "1970-01-01"), ("after", "2106-02-07")]
    {
        let line = text.lines().find(|line| line.ends_with(&format!("/{name}"))).unwrap();
        assert!(line.contains(date), "{line}");
    }
}

#[test]
fn keeps_the_beginning_of_long_targets() {
    let mut tree = MemoryTree::new();
    let targets: Vec<String> = ["/", "./", "../", ""]
        .iter()
        .flat_map(|begin| {
            [90, 100, 101, 300].map(|length| format!("{begin}{}", "t".repeat(length)))
        })
        .collect();
    for (number, target) in targets.iter().enumerate() {
        let name = format!("link{number:02}");
        let ino = tree.symlink(ROOT_INO, name.as_bytes(), target.as_bytes());
        let meta = &mut tree.node_mut(ino).0;
        // Pax records beside the long target.
        (meta.uid, meta.gid, meta.mtime) = (7, 3_000_000, Timestamp::new(5, 500));
    }
    let Some(image) = exported(&tree, Format::Squashfs, &Options::default()) else { return };
    let path = image.path.to_str().unwrap();
    let Some(text) = tool("unsquashfs", &["-lln", "-d", "", path], None) else { return };
    for (number, target) in targets.iter().enumerate() {
        let line = format!(" /link{number:02} -> {target}");
        let found = text.lines().find(|shown| shown.ends_with(&line));
        assert!(found.is_some_and(|shown| shown.contains(" 7/3000000 ")), "{line} in {text}");
    }
}
