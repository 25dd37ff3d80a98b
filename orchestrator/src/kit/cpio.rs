//! Writes and searches cpio archives of the "newc" format, which the kernel unpacks as initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the Linux tree).

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    Directory,
    File(&'a [u8]),
    /// The target.
    Symlink(&'a [u8]),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Mode and owner of an entry; `mode` is the 12 permission bits.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub const fn root(mode: u16) -> Self {
        Owner { mode, uid: 0, gid: 0 }
    }
}

/// A stream of entries in the order given; parents must come before their children. All mtimes
/// are 0, so the same entries give the same bytes.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    next_inode: u32,
}

impl<W: Write> Writer<W> {
    pub fn new(output: W) -> Self {
        Writer { output, next_inode: 1 }
    }

    /// Adds an entry; `path` is relative to the root, without a leading slash.
    ///
    /// Fails with `InvalidInput` where the format has no room: content of 4 GiB or more, an empty
    /// path or one with a NUL byte.
    pub fn add(&mut self, path: &[u8], entry: Entry<'_>, owner: Owner) -> io::Result<()> {
        if path.is_empty() || path.contains(&0) || path == TRAILER {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path cannot be stored"));
        }
        let (type_bits, content, device) = match entry {
            Entry::Directory => (0o040000, &[][..], (0, 0)),
            Entry::File(content) => (0o100000, content, (0, 0)),
            Entry::Symlink(target) => (0o120000, target, (0, 0)),
            Entry::CharDevice { major, minor } => (0o020000, &[][..], (major, minor)),
            Entry::BlockDevice { major, minor } => (0o060000, &[][..], (major, minor)),
            Entry::Fifo => (0o010000, &[][..], (0, 0)),
        };
        let links = if matches!(entry, Entry::Directory) { 2 } else { 1 };
        let inode = self.next_inode;
        self.next_inode = inode.checked_add(1).ok_or_else(too_large)?;
        let mode = type_bits | u32::from(owner.mode);
        self.record(path, content, [inode, mode, owner.uid, owner.gid, links], device)
    }

    /// Writes the trailer and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.record(TRAILER, &[], [0, 0, 0, 0, 1], (0, 0))?;
        Ok(self.output)
    }

    fn record(
        &mut self,
        path: &[u8],
        content: &[u8],
        [inode, mode, uid, gid, links]: [u32; 5],
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let name_size = u32::try_from(path.len())
            .ok()
            .and_then(|length| length.checked_add(1))
            .ok_or_else(too_large)?;
        write!(self.output, "070701")?;
        for field in [inode, mode, uid, gid, links, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(self.output, "{field:08x}")?;
        }
        self.output.write_all(path)?;
        self.output.write_all(&[0])?;
        self.pad(HEADER_SIZE + path.len() + 1)?;
        self.output.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.wrapping_neg() % 4;
        self.output.write_all([0; 3].get(..missing).unwrap_or_default())
    }
}

const TRAILER: &[u8] = b"TRAILER!!!";
const HEADER_SIZE: usize = 110;

/// Whether an archive, or the first of several one after the other, has an entry of this path
/// (relative to the root).
pub fn contains(mut archive: impl Read, path: &[u8]) -> io::Result<bool> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    loop {
        let mut header = [0; HEADER_SIZE];
        archive.read_exact(&mut header)?;
        let field = |at: usize| -> io::Result<u64> {
            let digits = header.get(at..at + 8).ok_or_else(damaged)?;
            let digits = std::str::from_utf8(digits).map_err(|_| damaged())?;
            u64::from_str_radix(digits, 16).map_err(|_| damaged())
        };
        let (size, name_size) = (field(54)?, field(94)?);
        let mut name = Vec::new();
        // Header and name together are padded to 4 bytes, and so is the content.
        let before = HEADER_SIZE as u64;
        let padded = (before + name_size).next_multiple_of(4) - before;
        (&mut archive).take(padded).read_to_end(&mut name)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if name == TRAILER {
            return Ok(false);
        }
        if name.strip_prefix(b"./").unwrap_or(name) == path {
            return Ok(true);
        }
        let mut content = (&mut archive).take(size.next_multiple_of(4));
        io::copy(&mut content, &mut io::sink())?;
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "too large for a cpio archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_whole_path() {
        let mut writer = Writer::new(Vec::new());
        writer.add(b"lib", Entry::Directory, Owner::root(0o755)).unwrap();
        writer.add(b"lib/odd", Entry::File(b"12345"), Owner::root(0o644)).unwrap();
        writer.add(b"init", Entry::File(b"x"), Owner::root(0o755)).unwrap();
        let archive = writer.finish().unwrap();
        let has = |path: &[u8]| contains(archive.as_slice(), path).unwrap();
        assert!(has(b"init") && has(b"lib/odd") && has(b"lib"));
        assert!(!has(b"odd") && !has(b"lib/od"));
        assert!(contains(&archive[..200], b"init").is_err(), "cut short");
        assert!(contains(&b"no archive"[..], b"init").is_err());
    }
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.add(b"dev", Entry::Directory, Owner::root(0o755)).unwrap();
        writer
            .add(b"dev/console", Entry::CharDevice { major: 5, minor: 1 }, Owner::root(0o600))
            .unwrap();
        for length in 0..6 {
            let content = vec![b'x'; length];
            let path = format!("file{}", "n".repeat(length));
            let owner = Owner { mode: 0o4755, uid: 70000, gid: 3 };
            writer.add(path.as_bytes(), Entry::File(&content), owner).unwrap();
        }
        writer.add(b"link", Entry::Symlink(b"file"), Owner::root(0o777)).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn entries_are_aligned_and_complete() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let mut at = 0;
        let mut names = Vec::new();
        let field = |at: usize, index: usize| {
            let start = at + 6 + index * 8;
            let digits = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(at, 6), field(at, 11));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at = (at + 110 + name_size).next_multiple_of(4) + size;
            at = at.next_multiple_of(4);
        }
        assert_eq!(names.first().unwrap(), "dev");
        assert_eq!(names.last().unwrap(), "TRAILER!!!");
        assert_eq!(names.len(), 10);
    }

    #[test]
    fn cpio_lists_what_was_written() {
        let spawned = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return eprintln!("skipped: cannot run cpio: {error}"),
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(listing.contains("crw-------") && listing.contains("5,   1"), "{listing}");
        assert!(listing.contains("-rwsr-xr-x") && listing.contains("70000"), "{listing}");
        assert!(listing.contains("link -> file"), "{listing}");
    }

    #[test]
    fn impossible_paths_are_refused() {
        let mut writer = Writer::new(Vec::new());
        for path in [&b""[..], b"a\0b", b"TRAILER!!!"] {
            assert!(writer.add(path, Entry::Directory, Owner::root(0o755)).is_err());
        }
    }
}
