//! Any bytes as an index, with checksums that are right: what it says is not believed.

use outcrop_fs::index::Index;
use outcrop_fs::layer::indexed::IndexedLayer;
use xxhash_rust::xxh3::xxh3_64;

use super::layer::ask_everything;

/// Bytes of an index's header, and of a block with a checksum of its own (docs/index-format.md).
const HEADER: usize = 512;
const BLOCK: usize = 64 * 1024;
/// Where the header has the section of checksums, the checksum of that, and its own.
const CHECKSUMS: usize = 88 + 9 * 16;
const SUM_OF_CHECKSUMS: usize = 496;
const SUM_OF_HEADER: usize = 504;

pub fn run(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let _ = Index::from_bytes(bytes.clone()).map(|index| index.verify());
    if bytes.len() < HEADER {
        return;
    }
    sign(&mut bytes);
    let _ = Index::from_bytes(bytes.clone()).map(|index| index.verify());
    if let Ok(layer) = IndexedLayer::in_memory("fuzz", bytes, vec![0; 64]) {
        ask_everything(&layer);
    }
}

fn sign(index: &mut [u8]) {
    let place = index[CHECKSUMS..CHECKSUMS + 8].try_into().unwrap();
    let place = usize::try_from(u64::from_le_bytes(place)).unwrap_or(usize::MAX);
    if (HEADER..=index.len()).contains(&place) {
        let (blocks, sums) = index.split_at_mut(place);
        for (block, sum) in blocks[HEADER..].chunks(BLOCK).zip(sums.chunks_exact_mut(8)) {
            sum.copy_from_slice(&xxh3_64(block).to_le_bytes());
        }
        let sum = xxh3_64(sums);
        index[SUM_OF_CHECKSUMS..SUM_OF_HEADER].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = xxh3_64(&index[..SUM_OF_HEADER]);
    index[SUM_OF_HEADER..HEADER].copy_from_slice(&sum.to_le_bytes());
}
