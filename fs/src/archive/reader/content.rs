//! What an entry holds: file data and its sparse maps, links, devices.

#![forbid(unsafe_code)]

use tar::Header;

use super::{BLOCK, EXTENSION_LIMIT, TarReader};
use crate::archive::input::Input;
use crate::archive::path;
use crate::archive::pax::Extended;
use crate::archive::sparse::{self, MapReader};
use crate::error::Result;
use crate::index::Content;
use crate::node::{Kind, Metadata};

impl<I: Input> TarReader<I> {
    /// What an entry holds by its type; completes the metadata with what only that type has.
    pub(super) fn content(
        &mut self,
        header: &Header,
        extended: &Extended,
        stored: u64,
        link: Vec<u8>,
        metadata: &mut Metadata,
    ) -> Result<Content> {
        let content = match header.as_old().linkflag[0] {
            flag @ (0 | b'0' | b'7' | b'S') => {
                return self.file_content(header, flag, extended, stored, metadata);
            }
            b'1' => return self.hard_link(&link),
            b'2' => {
                if link.is_empty() || link.contains(&0) {
                    return Err(self.malformed("a symlink without a valid target"));
                }
                metadata.kind = Kind::Symlink;
                // What Linux shows for every symlink, whatever archives say.
                metadata.mode = 0o777;
                metadata.size = link.len() as u64;
                Content::Target(link)
            }
            b'3' => {
                metadata.kind = Kind::CharDevice(self.device(header, extended)?);
                Content::None
            }
            b'4' => {
                metadata.kind = Kind::BlockDevice(self.device(header, extended)?);
                Content::None
            }
            b'5' | b'D' => {
                metadata.kind = Kind::Directory;
                Content::None
            }
            b'6' => {
                metadata.kind = Kind::Fifo;
                Content::None
            }
            b'M' => return Err(self.malformed("multi-volume archives are not supported")),
            other => {
                let shown = other.escape_ascii();
                return Err(self.malformed(&format!("unknown entry type '{shown}'")));
            }
        };
        Ok(content)
    }

    fn hard_link(&self, link: &[u8]) -> Result<Content> {
        if link.is_empty() {
            return Err(self.malformed("a hard link without a target"));
        }
        let target = path::clean(link).map_err(|problem| {
            self.malformed(&format!("hard link to {}: {problem}", link.escape_ascii()))
        })?;
        Ok(Content::HardLink(target))
    }

    fn file_content(
        &mut self,
        header: &Header,
        flag: u8,
        extended: &Extended,
        stored: u64,
        metadata: &mut Metadata,
    ) -> Result<Content> {
        let map = &extended.sparse;
        if flag != b'S' && !map.is_used() {
            metadata.size = stored;
            return Ok(Content::Data { offset: self.position });
        }
        let (pieces, size) = if flag == b'S' {
            self.old_sparse_map(header)?
        } else {
            let size =
                map.real_size.ok_or_else(|| self.malformed("a sparse file without its size"))?;
            let pieces = match (map.major, &map.map) {
                (None | Some(0), Some(numbers)) => {
                    sparse::pieces(numbers).map_err(|problem| self.malformed(problem))?
                }
                (Some(1), _) if map.minor.unwrap_or(0) == 0 => self.sparse_map_in_data()?,
                _ => return Err(self.malformed("its sparse format is unknown")),
            };
            (pieces, size)
        };
        metadata.size = size;
        let runs = sparse::runs(&pieces, size, self.position, self.current.data)
            .map_err(|problem| self.malformed(problem))?;
        Ok(Content::Sparse { runs })
    }

    /// GNU's 'S' entries: four pieces in the header, more in blocks that follow it.
    fn old_sparse_map(&mut self, header: &Header) -> Result<(Vec<sparse::Piece>, u64)> {
        let Some(gnu) = header.as_gnu() else {
            return Err(self.malformed("a GNU sparse file without a GNU header"));
        };
        let size = self.number("size", &gnu.realsize)?;
        let mut pieces = Vec::new();
        for piece in &gnu.sparse {
            self.old_piece(&piece.offset, &piece.numbytes, &mut pieces)?;
        }
        let mut more = gnu.isextended[0] != 0;
        // The blocks of the map come before the data and are not counted in its size.
        let data = std::mem::take(&mut self.current.data);
        while more {
            let block = self.header_block()?;
            for piece in block.chunks_exact(24).take(21) {
                let (offset, length) = piece.split_at(12);
                self.old_piece(offset, length, &mut pieces)?;
            }
            more = block[504] != 0;
            if pieces.len() as u64 > EXTENSION_LIMIT / 24 {
                return Err(self.malformed("its sparse map is absurd"));
            }
        }
        self.current.data = data;
        Ok((pieces, size))
    }

    fn old_piece(&self, offset: &[u8], length: &[u8], out: &mut Vec<sparse::Piece>) -> Result<()> {
        // An unused slot is all zeros.
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            return Ok(());
        }
        out.push((self.number("sparse offset", offset)?, self.number("sparse length", length)?));
        Ok(())
    }

    /// The map of pax format 1.0, in whole blocks before the data and counted in its size.
    fn sparse_map_in_data(&mut self) -> Result<Vec<sparse::Piece>> {
        let mut map = MapReader::default();
        let mut read = 0_u64;
        loop {
            let mut block = [0; BLOCK as usize];
            if self.current.data < BLOCK || read > EXTENSION_LIMIT {
                return Err(self.malformed("its sparse map is cut short"));
            }
            self.read_full(&mut block)?;
            self.current.data = self.current.data.saturating_sub(BLOCK);
            read = read.saturating_add(BLOCK);
            if map.push(&block).map_err(|problem| self.malformed(problem))? {
                return map.finish().map_err(|problem| self.malformed(problem));
            }
        }
    }
}
