//! GNU tar's opinion of a stream.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::*;

fn gnu_tar(arguments: &[&str], stream: &[u8]) -> Option<Output> {
    let version = Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|output| output.stdout.starts_with(b"tar (GNU tar)")) {
        eprintln!("skipped: there is no GNU tar on this machine");
        return None;
    }
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(stream).unwrap();
    io::Seek::rewind(&mut input).unwrap();
    let mut command = Command::new("tar");
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::from(input));
    Some(command.output().unwrap())
}

/// `rwx` letters of `ls`.
fn mode_string(entry: &decode::Decoded) -> String {
    let mode = entry.meta.mode;
    let kind = match (entry.hard_link.is_some(), entry.meta.kind) {
        (true, _) => 'h',
        (_, Kind::File) => '-',
        (_, Kind::Directory) => 'd',
        (_, Kind::Symlink) => 'l',
        (_, Kind::CharDevice(_)) => 'c',
        (_, Kind::BlockDevice(_)) => 'b',
        (_, Kind::Fifo) => 'p',
        (_, Kind::Socket) => 's',
    };
    let mut letters = kind.to_string();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        letters.push(if mode >> shift & 4 != 0 { 'r' } else { '-' });
        letters.push(if mode >> shift & 2 != 0 { 'w' } else { '-' });
        letters.push(match (mode & special != 0, mode >> shift & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    letters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lists_what_is_there(tree in generate::tree()) {
        let (bytes, _) = stream(&tree, &CaptureOptions::default());
        let listed = gnu_tar(&["--numeric-owner", "--quoting-style=escape", "-tvf", "-"], &bytes);
        let Some(listed) = listed else { return Ok(()) };
        prop_assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let listing = String::from_utf8_lossy(&listed.stdout).into_owned();
        let want = expected(&tree);
        prop_assert_eq!(listing.lines().count(), want.len());
        for (line, entry) in listing.lines().zip(&want) {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            prop_assert_eq!(words[0], mode_string(entry));
            prop_assert_eq!(words[1], format!("{}/{}", entry.meta.uid, entry.meta.gid));
            let size = match entry.meta.kind {
                Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                    // GNU tar keeps a dev_t: 32 bits each on Linux.
                    format!("{},{}", device.major, device.minor)
                }
                _ => entry.meta.size.to_string(),
            };
            prop_assert_eq!(words[2], size);
        }
    }
}

/// Unpacks as root and looks at every node with the host's own eyes.
#[test]
fn unpacks_to_the_same_tree() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can unpack devices and foreign owners");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_str().unwrap();
    let tree = everything();
    let (bytes, _) = stream(&tree, &CaptureOptions::default());
    let arguments =
        ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-", "-C", directory];
    let Some(output) = gnu_tar(&arguments, &bytes) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for entry in expected(&tree) {
        let path = scratch.path().join(Path::new(std::ffi::OsStr::from_bytes(&entry.path)));
        let found = path.symlink_metadata().unwrap();
        if let Some(first) = &entry.hard_link {
            let first = scratch.path().join(Path::new(std::ffi::OsStr::from_bytes(first)));
            assert_eq!(found.ino(), first.metadata().unwrap().ino());
            continue;
        }
        let owner = (found.uid(), found.gid());
        assert_eq!(owner, (entry.meta.uid, entry.meta.gid), "{}", path.display());
        assert_eq!(found.mode(), entry.meta.st_mode(), "{}", path.display());
        if entry.meta.kind != Kind::Symlink {
            assert_eq!(found.mtime(), entry.meta.mtime.seconds, "{}", path.display());
        }
        if let Kind::CharDevice(device) | Kind::BlockDevice(device) = entry.meta.kind {
            assert_eq!(found.rdev(), crate::filesystem::encode_device(device));
        }
        if let Some(target) = &entry.target {
            assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
        }
        if found.file_type().is_file() {
            assert_eq!(std::fs::read(&path).unwrap(), entry.content, "{}", path.display());
        }
        assert_eq!(found.file_type().is_fifo(), entry.meta.kind == Kind::Fifo);
        for (name, value) in &entry.xattrs {
            let mut buffer = vec![0; 256];
            let name = std::str::from_utf8(name).unwrap();
            let length = rustix::fs::lgetxattr(&path, name, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], value.as_slice(), "{}", path.display());
        }
    }
}
