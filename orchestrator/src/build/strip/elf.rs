//! An executable or shared object without what only debuggers read.
//!
//! Nothing that is loaded moves: the file keeps its beginning, up to the end of its segments and
//! allocated sections, byte for byte but for the fields of the file header that say where the
//! section headers are. What is kept of the rest moves up to it, and new section headers follow.
//! Source of the format: System V Application Binary Interface, "Object Files".

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::Range;

use object::elf::{
    self, FileHeader32, FileHeader64, SectionHeader32, SectionHeader64, SectionType,
};
use object::endian::{U32, U64};
use object::pod::{bytes_of, bytes_of_slice};
use object::read::elf::{FileHeader, ProgramHeader, Rel, Rela, SectionHeader};
use object::{Endian, Endianness, ReadRef};

/// Most bytes of section names that a sane file has.
const MOST_NAMES: u64 = 1 << 20;

/// Most bytes of sections that move, as they are held in memory.
const MOST_MOVED: u64 = 64 << 20;

/// Largest alignment of a section that moves.
const MOST_ALIGNMENT: u64 = 1 << 16;

/// Where section headers stand, in bytes: enough for both classes.
const TABLE_ALIGNMENT: u64 = 8;

/// Has one note: three words (length of name, length of content, type), `GNU` and a NUL, the content.
const BUILD_ID_SECTION: &[u8] = b".note.gnu.build-id";

/// How a file becomes a stripped one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stripped {
    /// Replaces the beginning of the file.
    pub header: Vec<u8>,
    /// Bytes at the beginning of the file that stay, the header's included.
    pub kept: u64,
    /// Follows them.
    pub tail: Vec<u8>,
    /// Where in what stays the build id is.
    pub build_id: Option<Range<u64>>,
}

/// Says how a file is stripped; `None` where there is nothing to strip, or where it cannot be done
/// with certainty: objects, files that are damaged, that keep relocations for another link, or
/// that have anything behind their last section.
pub fn strip<'data, R: ReadRef<'data>>(data: R) -> Option<Stripped> {
    let identification = data.read_bytes_at(0, 5).ok()?;
    if identification.get(..4)? != elf::ELFMAG.as_slice() {
        return None;
    }
    match elf::FileClass(*identification.get(4)?) {
        elf::ELFCLASS32 => strip_class::<FileHeader32<Endianness>, R>(data),
        elf::ELFCLASS64 => strip_class::<FileHeader64<Endianness>, R>(data),
        _ => None,
    }
}

/// What differs between files of 32 and of 64 bits.
trait Class: FileHeader<Endian = Endianness> {
    /// Says where the section headers are, how many, and which of them has the names.
    fn point_to_sections(
        &mut self,
        endian: Endianness,
        offset: u64,
        count: u16,
        names: u16,
    ) -> Option<()>;

    fn rename(section: &mut Self::SectionHeader, endian: Endianness, name: u32);

    fn place(
        section: &mut Self::SectionHeader,
        endian: Endianness,
        offset: u64,
        size: u64,
    ) -> Option<()>;

    fn relink(section: &mut Self::SectionHeader, endian: Endianness, link: u32, info: u32);
}

macro_rules! class {
    ($header:ident, $section:ident, $offset:ident) => {
        impl Class for $header<Endianness> {
            fn point_to_sections(
                &mut self,
                endian: Endianness,
                offset: u64,
                count: u16,
                names: u16,
            ) -> Option<()> {
                self.e_shoff = $offset::new(endian, offset.try_into().ok()?);
                self.e_shnum.set(endian, count);
                self.e_shstrndx.set(endian, elf::SymbolSection(names));
                Some(())
            }

            fn rename(section: &mut $section<Endianness>, endian: Endianness, name: u32) {
                section.sh_name.set(endian, name);
            }

            fn place(
                section: &mut $section<Endianness>,
                endian: Endianness,
                offset: u64,
                size: u64,
            ) -> Option<()> {
                section.sh_offset = $offset::new(endian, offset.try_into().ok()?);
                section.sh_size = $offset::new(endian, size.try_into().ok()?);
                Some(())
            }

            fn relink(
                section: &mut $section<Endianness>,
                endian: Endianness,
                link: u32,
                info: u32,
            ) {
                section.sh_link.set(endian, link);
                section.sh_info.set(endian, info);
            }
        }
    };
}

class!(FileHeader32, SectionHeader32, U32);
class!(FileHeader64, SectionHeader64, U64);

/// What becomes of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its bytes stay where they are.
    Stays,
    Moves,
    /// The names of the sections are written anew.
    Names,
    Goes,
}

struct Section<'data, C: Class> {
    header: C::SectionHeader,
    name: &'data [u8],
    /// First byte and end in the file; an empty range where it has no bytes.
    range: (u64, u64),
    fate: Fate,
}

/// A string table, and where in it each name is.
struct Names<'data> {
    table: Vec<u8>,
    offsets: HashMap<&'data [u8], u32>,
}

struct Tables<'data, C: Class, R> {
    data: R,
    endian: Endianness,
    header: C,
    sections: Vec<Section<'data, C>>,
    /// The section that has the names.
    names: usize,
    /// The end of what stays.
    loaded: u64,
}

fn strip_class<'data, C: Class, R: ReadRef<'data>>(data: R) -> Option<Stripped> {
    let mut tables = Tables::<C, R>::read(data)?;
    tables.decide()?;
    let numbers = tables.numbers()?;
    tables.write(&numbers)
}

impl<'data, C: Class, R: ReadRef<'data>> Tables<'data, C, R> {
    fn read(data: R) -> Option<Self> {
        let header = C::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let is_linked = matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN);
        // Larger numbers stand elsewhere; no real file has so many.
        let counted = header.e_phnum(endian) < elf::PN_XNUM && header.e_shnum(endian) > 0;
        if !is_linked || !counted {
            return None;
        }
        let size = data.len().ok()?;
        let segments = header.program_headers(endian, data).ok()?;
        let headers = header.section_headers(endian, data).ok()?;
        let names = usize::from(header.e_shstrndx(endian).0);
        let names_header = headers.get(names).filter(|_| names != 0)?;
        let names_size: u64 = names_header.sh_size(endian).into();
        if names_size > MOST_NAMES {
            return None;
        }
        let strings = names_header.data(endian, data).ok()?;
        let table = table_range(header.e_phoff(endian).into(), segments)?;
        let mut loaded = table.max(size_of::<C>() as u64);
        for segment in segments {
            let (offset, length) = segment.file_range(endian);
            if length > 0 {
                loaded = loaded.max(offset.checked_add(length)?);
            }
        }
        let mut end = loaded.max(table_range(header.e_shoff(endian).into(), headers)?);
        let mut sections = Vec::with_capacity(headers.len());
        for section in headers {
            let name = name_of(strings, section.sh_name(endian))?;
            let offset: u64 = section.sh_offset(endian).into();
            let length = section.file_range(endian).map_or(0, |(_, length)| length);
            let range = (offset, offset.checked_add(length)?);
            if section.sh_type(endian) != elf::SHT_NULL && length > 0 {
                end = end.max(range.1);
                if section.sh_flags(endian).contains(elf::SHF_ALLOC) {
                    loaded = loaded.max(range.1);
                }
            }
            sections.push(Section { header: *section, name, range, fate: Fate::Stays });
        }
        // Whoever appended something to the file counts on finding it there.
        (end == size).then_some(Tables { data, endian, header: *header, sections, names, loaded })
    }

    fn type_of(&self, section: &Section<'_, C>) -> SectionType {
        section.header.sh_type(self.endian)
    }

    /// Settles what becomes of each section; `None` where nothing goes or something is in doubt.
    fn decide(&mut self) -> Option<()> {
        let mut fates = Vec::with_capacity(self.sections.len());
        for (number, section) in self.sections.iter().enumerate() {
            let fate = if number == self.names { Fate::Names } else { self.fate(section)? };
            fates.push(fate);
        }
        // The names of symbols go with the symbols, unless somebody else uses them.
        let mut users: HashMap<usize, (bool, bool)> = HashMap::new();
        for (section, fate) in self.sections.iter().zip(&fates) {
            let used = users.entry(section.header.sh_link(self.endian) as usize).or_default();
            match fate {
                Fate::Goes => used.0 = true,
                _ => used.1 = true,
            }
        }
        for (number, section) in self.sections.iter().enumerate() {
            let movable = fates.get(number) == Some(&Fate::Moves);
            let only_for_symbols = users.get(&number) == Some(&(true, false));
            if movable && only_for_symbols && self.type_of(section) == elf::SHT_STRTAB {
                *fates.get_mut(number)? = Fate::Goes;
            }
        }
        let goes = fates.contains(&Fate::Goes);
        for (section, fate) in self.sections.iter_mut().zip(fates) {
            section.fate = fate;
        }
        goes.then_some(())
    }

    fn fate(&self, section: &Section<'_, C>) -> Option<Fate> {
        let is_allocated = section.header.sh_flags(self.endian).contains(elf::SHF_ALLOC);
        let kind = self.type_of(section);
        if is_allocated && kind == elf::SHT_NOBITS && section.name == b".text" {
            // Debug information that was split off: the one thing in it is what would go.
            return None;
        }
        match kind {
            _ if is_allocated => Some(Fate::Stays),
            elf::SHT_NULL => Some(Fate::Stays),
            elf::SHT_SYMTAB | elf::SHT_SYMTAB_SHNDX => Some(Fate::Goes),
            // Relocations for another link need the symbols.
            elf::SHT_REL | elf::SHT_RELA | elf::SHT_GROUP => None,
            _ if is_for_debuggers(section.name) => Some(Fate::Goes),
            _ if section.range.1 <= self.loaded => Some(Fate::Stays),
            _ if section.range.0 < self.loaded => None,
            _ => Some(Fate::Moves),
        }
    }

    /// The new number of each section that is left. Symbols refer to allocated sections by number,
    /// so these must keep theirs.
    fn numbers(&self) -> Option<Vec<Option<u16>>> {
        let mut next: u16 = 0;
        let mut numbers = Vec::with_capacity(self.sections.len());
        for (number, section) in self.sections.iter().enumerate() {
            if section.fate == Fate::Goes {
                numbers.push(None);
                continue;
            }
            let is_allocated = section.header.sh_flags(self.endian).contains(elf::SHF_ALLOC);
            if is_allocated && usize::from(next) != number {
                return None;
            }
            numbers.push(Some(next));
            next = next.checked_add(1)?;
        }
        Some(numbers)
    }

    fn write(mut self, numbers: &[Option<u16>]) -> Option<Stripped> {
        let endian = self.endian;
        let Names { table: names, offsets } = self.new_names()?;
        let mut tail = Vec::new();
        self.move_sections(&mut tail)?;
        let names_at = self.loaded.checked_add(tail.len() as u64)?;
        tail.extend_from_slice(&names);
        pad(&mut tail, self.loaded, TABLE_ALIGNMENT);
        let table_at = self.loaded.checked_add(tail.len() as u64)?;
        let mut table = Vec::with_capacity(self.sections.len());
        for section in self.sections.iter().filter(|section| section.fate != Fate::Goes) {
            let mut header = section.header;
            C::rename(&mut header, endian, *offsets.get(section.name)?);
            if section.fate == Fate::Names {
                C::place(&mut header, endian, names_at, names.len() as u64)?;
            }
            let (link, info) = self.links(&section.header, numbers)?;
            C::relink(&mut header, endian, link, info);
            table.push(header);
        }
        let count = u16::try_from(table.len()).ok()?;
        let names_number = (*numbers.get(self.names)?)?;
        self.header.point_to_sections(endian, table_at, count, names_number)?;
        tail.extend_from_slice(bytes_of_slice(&table));
        let size = self.loaded.checked_add(tail.len() as u64)?;
        let header = bytes_of(&self.header).to_vec();
        let build_id = self.build_id();
        let stripped = Stripped { header, kept: self.loaded, tail, build_id };
        (size < self.data.len().ok()?).then_some(stripped)
    }

    /// Where the linker has put a sum of the whole file: SHA-1, or the first half of a longer one.
    fn build_id(&self) -> Option<Range<u64>> {
        const HEADER: u64 = 16;
        let section = self.sections.iter().find(|section| section.name == BUILD_ID_SECTION)?;
        let is_note = self.type_of(section) == elf::SHT_NOTE && section.fate == Fate::Stays;
        let words = self.data.read_bytes_at(section.range.0, HEADER).ok()?;
        let word = |number: usize| {
            let bytes = words.get(4 * number..)?.first_chunk::<4>()?;
            Some(self.endian.read_u32(*bytes))
        };
        let length = u64::from(word(1)?);
        let is_build_id = word(0)? == 4 && word(2)? == elf::NT_GNU_BUILD_ID.0;
        let start = section.range.0.checked_add(HEADER)?;
        let end = start.checked_add(length)?;
        let is_sum = [16, 20].contains(&length) && words.ends_with(b"GNU\0");
        let fits = end <= section.range.1 && end <= self.loaded;
        (is_note && is_build_id && is_sum && fits).then_some(start..end)
    }

    /// The names that are left.
    fn new_names(&self) -> Option<Names<'data>> {
        let mut table = vec![0];
        let mut offsets: HashMap<&[u8], u32> = HashMap::from([(&[][..], 0)]);
        for section in self.sections.iter().filter(|section| section.fate != Fate::Goes) {
            if !offsets.contains_key(section.name) {
                offsets.insert(section.name, u32::try_from(table.len()).ok()?);
                table.extend_from_slice(section.name);
                table.push(0);
            }
        }
        Some(Names { table, offsets })
    }

    /// Appends the sections that move, in the order in which they stood.
    fn move_sections(&mut self, tail: &mut Vec<u8>) -> Option<()> {
        let mut order: Vec<usize> = Vec::new();
        for (number, section) in self.sections.iter().enumerate() {
            if section.fate == Fate::Moves {
                order.push(number);
            }
        }
        order.sort_by_key(|number| self.sections.get(*number).map(|section| section.range));
        for number in order {
            let section = self.sections.get_mut(number)?;
            let alignment: u64 = section.header.sh_addralign(self.endian).into();
            let alignment = alignment.max(1);
            let length = section.range.1.checked_sub(section.range.0)?;
            let fits = length.checked_add(tail.len() as u64)? <= MOST_MOVED;
            if !alignment.is_power_of_two() || alignment > MOST_ALIGNMENT || !fits {
                return None;
            }
            pad(tail, self.loaded, alignment);
            let offset = self.loaded.checked_add(tail.len() as u64)?;
            tail.extend_from_slice(self.data.read_bytes_at(section.range.0, length).ok()?);
            let size: u64 = section.header.sh_size(self.endian).into();
            C::place(&mut section.header, self.endian, offset, size)?;
        }
        Some(())
    }

    /// The section's references to others under their new numbers; `None` where one has gone or
    /// gets other content.
    fn links(&self, section: &C::SectionHeader, numbers: &[Option<u16>]) -> Option<(u32, u32)> {
        let renumbered = |number: u32| -> Option<u32> {
            match number as usize {
                0 => Some(0),
                number if number == self.names => None,
                number => Some(u32::from((*numbers.get(number)?)?)),
            }
        };
        let kind = section.sh_type(self.endian);
        let (mut link, info) = (section.sh_link(self.endian), section.sh_info(self.endian));
        if kind == elf::SHT_NULL {
            return Some((link, info));
        }
        // A static program's own relocations say where symbols would be, and name none.
        if numbers.get(link as usize) == Some(&None) && self.names_no_symbols(section) {
            link = 0;
        }
        let refers = section.sh_flags(self.endian).contains(elf::SHF_INFO_LINK)
            || matches!(kind, elf::SHT_REL | elf::SHT_RELA);
        Some((renumbered(link)?, if refers { renumbered(info)? } else { info }))
    }

    fn names_no_symbols(&self, relocations: &C::SectionHeader) -> bool {
        let endian = self.endian;
        let size: u64 = relocations.sh_size(endian).into();
        if size > MOST_MOVED {
            return false;
        }
        if let Ok(Some((entries, _))) = relocations.rel(endian, self.data) {
            return entries.iter().all(|entry| entry.r_sym(endian) == 0);
        }
        if let Ok(Some((entries, _))) = relocations.rela(endian, self.data) {
            let odd_layout = self.header.is_mips64el(endian);
            return entries.iter().all(|entry| entry.r_sym(endian, odd_layout) == 0);
        }
        false
    }
}

/// The end of a table that begins at `offset`.
fn table_range<T>(offset: u64, table: &[T]) -> Option<u64> {
    if table.is_empty() {
        return Some(0);
    }
    offset.checked_add(size_of_val(table) as u64)
}

fn name_of(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    let length = rest.iter().position(|byte| *byte == 0)?;
    rest.get(..length)
}

/// The sections that `strip --strip-unneeded --remove-section=.comment --remove-section=.note`
/// takes away, apart from symbols.
fn is_for_debuggers(name: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 6] =
        [b".debug", b".zdebug", b".gnu.debuglto_", b".gnu.linkonce.wi.", b".stab", b".line"];
    matches!(name, b".comment" | b".note" | b".gdb_index")
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Fills up to the next multiple of `alignment` in the file, where `tail` begins at `start`.
fn pad(tail: &mut Vec<u8>, start: u64, alignment: u64) {
    let position = start.wrapping_add(tail.len() as u64);
    let gap = position.next_multiple_of(alignment) - position;
    tail.resize(tail.len().saturating_add(gap as usize), 0);
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
