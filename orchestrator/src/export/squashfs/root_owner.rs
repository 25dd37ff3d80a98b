//! The owner of an image's root directory, which `sqfstar` 4.5 takes from the exporting user, whatever
//! `-root-uid` and `-root-gid` say.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// Most bytes in a metadata block, which a header of two bytes precedes.
const BLOCK: u64 = 8192;
const HEADER: u64 = 2;
/// In a block's header: stored, not compressed.
const STORED: u16 = 0x8000;

/// Where the superblock has what is needed here.
const ID_COUNT: u64 = 26;
const ROOT_INODE: u64 = 32;
const ID_TABLE: u64 = 48;
const INODE_TABLE: u64 = 64;

/// Makes the root belong to `uid` and `gid`. The image's inodes and owners must be stored uncompressed
/// (`-noI`). False where the image has no place for one of the two numbers: nothing else has it.
pub(super) fn set(image: &File, uid: u32, gid: u32) -> io::Result<bool> {
    let ids = ids(image)?;
    let place = root_inode(image)?;
    let index_of = |id: u32| {
        ids.iter().position(|listed| *listed == id).and_then(|index| u16::try_from(index).ok())
    };
    // An inode begins with its type and its mode.
    for (offset, id) in [(4, uid), (6, gid)] {
        // An inode may begin at an odd place, so that a block ends in the middle of a number.
        let (low, high) = (place.at(offset), place.at(offset + 1));
        let [low_byte] = read(image, low)?;
        let [high_byte] = read(image, high)?;
        let current = usize::from(u16::from_le_bytes([low_byte, high_byte]));
        if ids.get(current) == Some(&id) {
            continue;
        }
        let Some(index) = index_of(id) else { return Ok(false) };
        let [low_byte, high_byte] = index.to_le_bytes();
        image.write_all_at(&[low_byte], low)?;
        image.write_all_at(&[high_byte], high)?;
    }
    Ok(true)
}

/// A place in the inode table.
struct Place {
    block: u64,
    offset: u64,
}

impl Place {
    /// Where the image has the byte that comes so many bytes later: in the next block, if this one
    /// ends before.
    fn at(&self, offset: u64) -> u64 {
        let offset = self.offset.saturating_add(offset);
        let headers = HEADER.saturating_mul((offset / BLOCK).saturating_add(1));
        self.block.saturating_add(offset).saturating_add(headers)
    }
}

fn root_inode(image: &File) -> io::Result<Place> {
    let reference = u64::from_le_bytes(read(image, ROOT_INODE)?);
    let table = u64::from_le_bytes(read(image, INODE_TABLE)?);
    let block = table.checked_add(reference >> 16).ok_or(ErrorKind::InvalidData)?;
    stored(image, block)?;
    Ok(Place { block, offset: reference & 0xffff })
}

/// Every owner and group of the image, once.
fn ids(image: &File) -> io::Result<Vec<u32>> {
    let count = u64::from(u16::from_le_bytes(read(image, ID_COUNT)?));
    let table = u64::from_le_bytes(read(image, ID_TABLE)?);
    let mut ids = Vec::new();
    let per_block = BLOCK / 4;
    for number in 0..count {
        let pointer = table.checked_add(number / per_block * 8).ok_or(ErrorKind::InvalidData)?;
        let block = u64::from_le_bytes(read(image, pointer)?);
        stored(image, block)?;
        let place = block.checked_add(HEADER + number % per_block * 4);
        ids.push(u32::from_le_bytes(read(image, place.ok_or(ErrorKind::InvalidData)?)?));
    }
    Ok(ids)
}

fn stored(image: &File, block: u64) -> io::Result<()> {
    match u16::from_le_bytes(read(image, block)?) & STORED {
        0 => Err(io::Error::new(ErrorKind::InvalidData, "its inodes or owners are compressed")),
        _ => Ok(()),
    }
}

fn read<const N: usize>(image: &File, place: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    image.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image as far as it is looked at: inodes of `inodes` bytes, the last eight of them the
    /// root's, in blocks from 96 on, and then the owners.
    fn image(inodes: usize, owner: (u16, u16), ids: &[u32]) -> File {
        let mut root = [1, 0, 0xed, 1, 0, 0, 0, 0];
        root[4..6].copy_from_slice(&owner.0.to_le_bytes());
        root[6..8].copy_from_slice(&owner.1.to_le_bytes());
        let mut table = vec![0xaa; inodes - 8];
        let at = table.len();
        table.extend(root);
        let mut bytes = vec![0; 96];
        let add_blocks = |bytes: &mut Vec<u8>, content: &[u8]| -> Vec<u64> {
            let add = |block: &[u8]| {
                let place = bytes.len() as u64;
                bytes.extend((STORED | block.len() as u16).to_le_bytes());
                bytes.extend(block);
                place
            };
            content.chunks(BLOCK as usize).map(add).collect()
        };
        let blocks = add_blocks(&mut bytes, &table);
        let owners: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let pointers = add_blocks(&mut bytes, &owners);
        let id_table = bytes.len() as u64;
        bytes.extend(pointers.iter().flat_map(|place| place.to_le_bytes()));
        let reference = ((blocks[at / BLOCK as usize] - 96) << 16) | (at as u64 % BLOCK);
        let mut put = |at: u64, value: &[u8]| {
            bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
        };
        put(ID_COUNT, &(ids.len() as u16).to_le_bytes());
        put(ROOT_INODE, &reference.to_le_bytes());
        put(ID_TABLE, &id_table.to_le_bytes());
        put(INODE_TABLE, &96u64.to_le_bytes());
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    fn content(image: &File) -> Vec<u8> {
        let mut bytes = vec![0; image.metadata().unwrap().len() as usize];
        image.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn the_root_gets_its_owner_wherever_it_lies_and_nothing_else_changes() {
        let block = BLOCK as usize;
        let many: Vec<u32> = (0..5000).rev().collect();
        for inodes in (block..=block + 8).chain([8, 3 * block + 2]) {
            for (ids, uid, gid) in [(&[7, 999, 0][..], 0, 7), (&many, 1, 4999)] {
                let index = |id| ids.iter().position(|listed| *listed == id).unwrap() as u16;
                let (mended, right) =
                    (image(inodes, (1, 1), ids), image(inodes, (index(uid), index(gid)), ids));
                assert!(set(&mended, uid, gid).unwrap());
                assert!(content(&mended) == content(&right), "{inodes}");
                assert!(set(&mended, uid, gid).unwrap());
                assert!(content(&mended) == content(&right), "{inodes}");
            }
        }
    }

    #[test]
    fn an_owner_that_the_image_does_not_know_and_a_damaged_image_are_told() {
        assert!(!set(&image(64, (0, 0), &[999]), 0, 0).unwrap());
        let compressed = image(64, (0, 0), &[999, 0]);
        compressed.write_all_at(&[64, 0], 96).unwrap();
        assert!(set(&compressed, 0, 0).unwrap_err().to_string().contains("compressed"));
        let short = image(64, (0, 0), &[999, 0]);
        short.set_len(60).unwrap();
        assert!(set(&short, 0, 0).is_err());
    }
}
