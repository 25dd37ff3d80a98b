//! A streaming tar parser: v7, ustar, pax, GNU and star headers.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use tar::Header;

use super::input::Input;
use super::pax::Extended;
use super::{number, path};
use crate::error::{Error, Result};
use crate::index::{Content, NewNode};
use crate::node::Kind;

mod content;
mod header;

/// What GNU tar makes of an empty archive has no more bytes.
const EMPTY_ARCHIVE: usize = 10240;

const BLOCK: u64 = 512;
/// No extended header needs more; a larger claim is an attack on memory.
const EXTENSION_LIMIT: u64 = 64 << 20;

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Relative and clean; empty for the root.
    pub path: Vec<u8>,
    /// Where the entry's own header begins.
    pub offset: u64,
    pub node: NewNode,
}

/// Gives the entries of an archive in order.
///
/// Every error is [`Error::Malformed`] with label, entry and offset, or [`Error::Host`] where the
/// host could not read.
pub struct TarReader<I> {
    input: I,
    label: String,
    position: u64,
    globals: Extended,
    current: Current,
    finished: bool,
}

/// The entry whose data comes next in the input.
#[derive(Default)]
struct Current {
    path: Option<String>,
    offset: u64,
    data: u64,
    padding: u64,
}

/// What precedes an entry's own header.
#[derive(Default)]
struct Prefix {
    pax: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<I: Input> TarReader<I> {
    pub fn new(label: &str, input: I) -> Self {
        TarReader {
            input,
            label: label.to_owned(),
            position: 0,
            globals: Extended::default(),
            current: Current::default(),
            finished: false,
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn into_input(self) -> I {
        self.input
    }

    /// The next entry, or `None` after the end-of-archive marker.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>> {
        if self.finished {
            return Ok(None);
        }
        self.finish_current()?;
        let mut prefix = Prefix::default();
        loop {
            let offset = self.position;
            self.current = Current { offset, ..Current::default() };
            let block = self.header_block()?;
            if block.iter().all(|&b| b == 0) {
                if prefix.is_used() {
                    return Err(self.malformed("an extended header without an entry"));
                }
                if offset == 0 {
                    self.check_empty()?;
                }
                self.finished = true;
                return Ok(None);
            }
            if !header::checksum_is_right(&block) {
                return Err(match offset {
                    0 => self.malformed(&format!("{} a tar archive", not_a_tar(&block))),
                    _ => {
                        self.malformed("the checksum of a header is wrong: the archive is damaged")
                    }
                });
            }
            let header = Header::from_byte_slice(&block);
            if !self.extend(header, &mut prefix)? {
                return self.entry(header, offset, prefix).map(Some);
            }
        }
    }

    /// Reads on in the stored data of the entry that `next_entry` gave; 0 at its end. Data that is
    /// not read is passed over.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.current.data).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        let read = self.input.read(buffer).map_err(|e| self.input_error(e))?;
        if read == 0 {
            return Err(self.truncated());
        }
        self.position = self.position.saturating_add(read as u64);
        self.current.data = self.current.data.saturating_sub(read as u64);
        Ok(read)
    }

    /// Gives an error the entry's place.
    pub fn locate(&self, error: Error, entry: u64) -> Error {
        match error {
            Error::Malformed { path, problem, offset: None, .. } => {
                Error::Malformed { layer: self.label.clone(), path, offset: Some(entry), problem }
            }
            other => other,
        }
    }

    /// Takes in a header that only describes the next one; false for any other.
    fn extend(&mut self, header: &Header, prefix: &mut Prefix) -> Result<bool> {
        let kind = header.as_old().linkflag[0];
        if !matches!(kind, b'x' | b'X' | b'g' | b'L' | b'K' | b'V') {
            return Ok(false);
        }
        let size = self.number("size", &header.as_old().size)?;
        if kind == b'V' {
            self.enter_data(size)?;
            self.finish_current()?;
            return Ok(true);
        }
        if size > EXTENSION_LIMIT {
            return Err(self.malformed(&format!("an extended header of {size} bytes is absurd")));
        }
        self.enter_data(size)?;
        let data_offset = self.position;
        let body = self.whole_data()?;
        self.finish_current()?;
        match kind {
            b'L' => prefix.long_name = Some(header::until_nul(&body).to_vec()),
            b'K' => prefix.long_link = Some(header::until_nul(&body).to_vec()),
            _ => {
                let label = self.label.clone();
                let target = if kind == b'g' {
                    &mut self.globals
                } else {
                    let globals = &self.globals;
                    prefix.pax.get_or_insert_with(|| globals.clone())
                };
                target.apply(&body).map_err(|problem| Error::Malformed {
                    layer: label,
                    path: None,
                    offset: Some(data_offset.saturating_add(problem.offset)),
                    problem: problem.text,
                })?;
                let named = self.globals.path.is_some() || self.globals.link_path.is_some();
                if kind == b'g' && (named || self.globals.size.is_some()) {
                    let problem = "a global header gives all entries one path or size";
                    return Err(self.malformed(problem));
                }
            }
        }
        Ok(true)
    }

    fn entry(&mut self, header: &Header, offset: u64, prefix: Prefix) -> Result<TarEntry> {
        let Prefix { pax, long_name, long_link } = prefix;
        let has_pax = pax.is_some();
        let extended = pax.unwrap_or_else(|| self.globals.clone());
        let raw_path = extended
            .sparse
            .name
            .clone()
            .or_else(|| extended.path.clone())
            .or(long_name)
            .unwrap_or_else(|| header::path(header));
        self.current.path = Some(raw_path.escape_ascii().to_string());
        if raw_path.is_empty() {
            return Err(self.malformed("its name is empty"));
        }
        let path = path::clean(&raw_path).map_err(|problem| self.malformed(problem))?;
        let link = extended
            .link_path
            .clone()
            .or(long_link)
            .unwrap_or_else(|| header::until_nul(&header.as_old().linkname).to_vec());

        let flag = header.as_old().linkflag[0];
        let header_size = self.number("size", &header.as_old().size)?;
        let stored = extended.size.unwrap_or(header_size);
        let is_file = matches!(flag, 0 | b'0' | b'7' | b'S');
        let ends_in_slash = is_file && raw_path.ends_with(b"/");
        // Old archives record sizes with links and directories that have no data. Only pax may
        // store data with a hard link, and GNU's dumps with a directory.
        let data = match flag {
            _ if is_file => stored,
            b'1' if has_pax => stored,
            b'D' => stored,
            _ => 0,
        };
        self.enter_data(data)?;

        let mut metadata = self.metadata(header, &extended)?;
        let content = if ends_in_slash {
            metadata.kind = Kind::Directory;
            Content::None
        } else {
            self.content(header, &extended, stored, link, &mut metadata)?
        };
        let is_root_file = path.is_empty() && metadata.kind != Kind::Directory;
        if is_root_file || (path.is_empty() && flag == b'1') {
            return Err(self.malformed("only a directory can stand for the root"));
        }
        let node = NewNode { metadata, content, xattrs: extended.xattrs, digest: None };
        Ok(TarEntry { path, offset, node })
    }

    fn enter_data(&mut self, size: u64) -> Result<()> {
        let end =
            self.position.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK));
        if end.is_none() {
            return Err(self.malformed(&format!("its size of {size} bytes is absurd")));
        }
        self.current.data = size;
        self.current.padding = size.next_multiple_of(BLOCK).saturating_sub(size);
        Ok(())
    }

    fn whole_data(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        // Grows as the bytes come, not by what the header promises.
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => return Ok(body),
                read => body.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    fn finish_current(&mut self) -> Result<()> {
        let rest = self.current.data.saturating_add(self.current.padding);
        if rest > 0 {
            let skipped = self.input.skip(rest).map_err(|e| self.input_error(e))?;
            self.position = self.position.saturating_add(skipped);
            if skipped < rest {
                return Err(self.truncated());
            }
        }
        self.current.data = 0;
        self.current.padding = 0;
        Ok(())
    }

    /// After a first block of zeros: other files begin with zeros, too, such as images of ext4.
    fn check_empty(&mut self) -> Result<()> {
        let mut rest = [0; EMPTY_ARCHIVE];
        self.fill(&mut rest)?;
        match rest.iter().all(|&byte| byte == 0) {
            true => Ok(()),
            false => {
                Err(self.malformed("this is not a tar archive, although it begins with zeros"))
            }
        }
    }

    fn header_block(&mut self) -> Result<[u8; BLOCK as usize]> {
        let mut block = [0; BLOCK as usize];
        self.read_full(&mut block)?;
        Ok(block)
    }

    fn read_full(&mut self, buffer: &mut [u8]) -> Result<()> {
        let start = self.position;
        match self.fill(buffer)? {
            filled if filled == buffer.len() => Ok(()),
            0 if start == 0 => Err(self.malformed("this is not a tar archive: it is empty")),
            _ => Err(self.truncated()),
        }
    }

    /// Reads until the buffer is full or the input ends; tells how much there was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.input.read(rest).map_err(|e| self.input_error(e))? {
                0 => break,
                read => filled = filled.saturating_add(read),
            }
        }
        self.position = self.position.saturating_add(filled as u64);
        Ok(filled)
    }

    fn number(&self, name: &str, field: &[u8]) -> Result<u64> {
        number::field(field)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| self.malformed(&format!("its {name} is not a valid number")))
    }

    fn truncated(&self) -> Error {
        let end = self.position;
        if end < BLOCK {
            return self.malformed("this is not a tar archive: it is shorter than a header");
        }
        let problem = match &self.current.path {
            Some(_) => format!("the archive is truncated: it ends at byte {end}, inside an entry"),
            None => format!(
                "the archive is truncated: it ends at byte {end} without an end-of-archive marker"
            ),
        };
        self.malformed(&problem)
    }

    fn malformed(&self, problem: &str) -> Error {
        Error::Malformed {
            layer: self.label.clone(),
            path: self.current.path.clone(),
            offset: Some(self.current.offset),
            problem: problem.to_owned(),
        }
    }

    /// A decompressor's complaint is about the input; one of the system's is about the host.
    fn input_error(&self, error: std::io::Error) -> Error {
        if error.raw_os_error().is_some() {
            return Error::host("cannot read", PathBuf::from(&self.label), error);
        }
        Error::Malformed {
            layer: self.label.clone(),
            path: self.current.path.clone(),
            offset: Some(self.position),
            problem: format!("the compressed data is damaged or truncated: {error}"),
        }
    }
}

impl Prefix {
    fn is_used(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

/// The beginning of a sentence about a file whose first block is no header.
fn not_a_tar(block: &[u8]) -> &'static str {
    const OTHERS: [(&[u8], &str); 4] = [
        (b"hsqs", "this is a squashfs image, not"),
        (b"0707", "this is a cpio archive, not"),
        (b"PK\x03\x04", "this is a zip archive, not"),
        (b"\x7fELF", "this is a program, not"),
    ];
    let other = OTHERS.iter().find(|(magic, _)| block.starts_with(magic));
    other.map_or("this is not", |(_, sentence)| sentence)
}
