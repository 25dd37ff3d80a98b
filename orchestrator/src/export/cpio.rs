//! `cpio`: the "newc" format (`070701`) that Linux unpacks as an initramfs.
//!
//! The format is described in the kernel's `Documentation/driver-api/early-userspace/
//! buffer-format.rst`: headers of 110 ASCII bytes with eight hexadecimal digits a field, names and
//! contents padded to 4 bytes. A node with several names has its content at the first of them;
//! the kernel links the others to it by their common inode number.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use outcrop_fs::capture::{Progress, Visit, walk};
use outcrop_fs::{Errno, Error as FsError, Ino, Kind, Metadata};

use super::{Error, Exporter, Job, Outcome, Result};

const BUFFER: usize = 512 * 1024;
const END: &[u8] = b"TRAILER!!!";

pub(super) struct Cpio {
    pub gzip: bool,
}

impl Exporter for Cpio {
    fn name(&self) -> &'static str {
        if self.gzip { "cpio.gz" } else { "cpio" }
    }

    fn about(&self) -> &'static str {
        if self.gzip { "an initramfs, compressed with gzip" } else { "an initramfs (newc)" }
    }

    fn write(&self, job: &Job<'_>, draft: &Path) -> Result<Outcome> {
        let fault = |source| FsError::host("cannot write", draft, source);
        let mut file = File::create(draft).map_err(fault)?;
        if self.gzip {
            // No name and no time in the header, so that the same tree gives the same bytes.
            let mut gzip = GzBuilder::new().write(&mut file, Compression::default());
            write_archive(job, &mut gzip, draft)?;
            gzip.finish().map_err(fault)?;
        } else {
            write_archive(job, &mut file, draft)?;
        }
        let survey = job.survey;
        let warnings = [
            survey.with_xattrs.warning("that cpio cannot carry"),
            survey.beyond_u32_mtime.warning("times before 1970 or after 2106, which cpio cannot carry: they became the nearest that it can"),
        ];
        Ok(Outcome { warnings: warnings.into_iter().flatten().collect(), ..Outcome::default() })
    }
}

fn write_archive(job: &Job<'_>, out: &mut dyn Write, name: &Path) -> Result<()> {
    let mut writer = Writer {
        job,
        out: BufWriter::with_capacity(BUFFER, out),
        name,
        position: 0,
        entries: 0,
        numbers: HashMap::new(),
        last_number: 0,
        buffer: vec![0; BUFFER],
    };
    let mut outcome = Ok(());
    let walked = walk(job.tree, job.root, None, &mut |visit| {
        let path = visit.path;
        writer.visit(visit).map_err(|error| match error {
            Error::Files(FsError::Os(errno)) => {
                FsError::host("cannot read", format!("/{}", path.escape_ascii()), errno.into())
            }
            Error::Files(error) => error,
            other => {
                outcome = Err(other);
                FsError::Os(Errno::CANCELED)
            }
        })
    });
    outcome?;
    walked?;
    writer.finish()
}

struct Writer<'a, 'o> {
    job: &'a Job<'a>,
    out: BufWriter<&'o mut dyn Write>,
    name: &'a Path,
    position: u64,
    entries: u64,
    /// Inode numbers in the archive of nodes with several names.
    numbers: HashMap<Ino, u32>,
    last_number: u32,
    buffer: Vec<u8>,
}

impl Writer<'_, '_> {
    fn visit(&mut self, visit: Visit<'_>) -> Result<()> {
        self.entries = self.entries.saturating_add(1);
        self.job.report(Progress { entries: self.entries, bytes: self.position })?;
        if visit.path == END {
            let problem = "/TRAILER!!! would end a cpio archive; no file can have that name in one";
            return Err(Error::Invalid(problem.into()));
        }
        let ino = visit.attributes.ino;
        let meta = visit.attributes.meta;
        // Linux takes every symlink for its own node, so each needs its target.
        let linked = visit.hard_link.is_some() && meta.kind != Kind::Symlink;
        let target = match meta.kind {
            Kind::Symlink => self.job.tree.read_link(ino)?,
            _ => Vec::new(),
        };
        let size = match meta.kind {
            Kind::Symlink => target.len() as u64,
            Kind::File if !linked => meta.size,
            _ => 0,
        };
        let Ok(size_field) = u32::try_from(size) else {
            let path = visit.path.escape_ascii();
            return Err(Error::Invalid(format!("/{path} has 4 GiB or more; cpio cannot carry it")));
        };
        let nlink = match meta.kind {
            Kind::Symlink => 1,
            Kind::Directory => 2,
            _ => visit.attributes.nlink,
        };
        let number = if nlink > 1 && !meta.kind.is_directory() {
            self.shared_number(ino)
        } else {
            self.next_number()
        };
        let path = if visit.path.is_empty() { b"." } else { visit.path };
        self.header(path, &meta, number, nlink, size_field)?;
        if meta.kind == Kind::Symlink {
            self.put(&target)?;
        } else {
            self.content(ino, size)?;
        }
        self.pad(4)
    }

    fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.saturating_add(1);
        self.last_number
    }

    fn shared_number(&mut self, ino: Ino) -> u32 {
        match self.numbers.get(&ino) {
            Some(number) => *number,
            None => {
                let number = self.next_number();
                self.numbers.insert(ino, number);
                number
            }
        }
    }

    fn header(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        number: u32,
        nlink: u32,
        size: u32,
    ) -> Result<()> {
        let mtime = self.job.options.mtime.apply(meta.mtime).seconds;
        let device = meta.kind.device();
        let fields = [
            number,
            meta.st_mode(),
            meta.uid,
            meta.gid,
            nlink,
            mtime.clamp(0, i64::from(u32::MAX)) as u32,
            size,
            0,
            0,
            device.major,
            device.minor,
        ];
        self.raw_header(fields, path)
    }

    /// The fields from the inode number to the device's minor, then length of the name and the
    /// checksum that this format does not use.
    fn raw_header(&mut self, fields: [u32; 11], path: &[u8]) -> Result<()> {
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut text = String::from("070701");
        for field in fields.into_iter().chain([length, 0]) {
            text.push_str(&format!("{field:08X}"));
        }
        self.put(text.as_bytes())?;
        self.put(path)?;
        self.put(&[0])?;
        self.pad(4)
    }

    fn content(&mut self, ino: Ino, size: u64) -> Result<()> {
        let mut offset = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        while offset < size {
            let step = (size - offset).min(buffer.len() as u64) as usize;
            let piece = buffer.get_mut(..step).unwrap_or_default();
            if self.job.tree.read(ino, offset, piece)? != piece.len() {
                return Err(FsError::Os(Errno::IO).into());
            }
            self.put(piece)?;
            offset = offset.saturating_add(step as u64);
            self.job.report(Progress { entries: self.entries, bytes: self.position })?;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.raw_header([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], END)?;
        self.pad(512)?;
        self.out.flush().map_err(|source| FsError::host("cannot write", self.name, source).into())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.position = self.position.saturating_add(bytes.len() as u64);
        self.out
            .write_all(bytes)
            .map_err(|source| FsError::host("cannot write", self.name, source).into())
    }

    fn pad(&mut self, alignment: u64) -> Result<()> {
        let zeros = self.position.next_multiple_of(alignment) - self.position;
        self.put([0; 512].get(..zeros as usize).unwrap_or_default())
    }
}
