//! The extent map against an array that says for every byte where it is.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::layer::Entry;
use crate::sysroot::content::{Extent, ExtentMap, Origin};
use crate::sysroot::merge::Source;

/// Enough for more extents than an array of them may hold.
const SIZE: u64 = 256;
const SOURCE: Source = Source { layer: 3, entry: Entry(9) };

fn origin(spool: bool, at: u64) -> Origin {
    if spool { Origin::Spool(at) } else { Origin::Lower(SOURCE, at) }
}

fn bytes_of(map: &ExtentMap) -> Vec<Option<Origin>> {
    let mut bytes = Vec::new();
    for segment in map.segments(0, SIZE) {
        assert_eq!(segment.offset, bytes.len() as u64, "segments leave no gaps");
        for index in 0..segment.length {
            bytes.push(segment.origin.map(|origin| match origin {
                Origin::Spool(at) => Origin::Spool(at + index),
                Origin::Lower(source, at) => Origin::Lower(source, at + index),
            }));
        }
    }
    bytes
}

/// Mostly short, so that extents stay many.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..6u64, 1 => 0..SIZE]
}

proptest! {
    #[test]
    fn the_map_remembers_where_each_byte_is(
        comb in any::<bool>(),
        steps in vec((0..SIZE, length(), any::<Option<bool>>(), 0..100u64), 0..40),
    ) {
        let mut map = ExtentMap::default();
        let mut bytes = vec![None; SIZE as usize];
        for offset in (0..SIZE).step_by(2).filter(|_| comb) {
            bytes[offset as usize] = Some(Origin::Spool(offset));
            map.insert(Extent { offset, length: 1, origin: Origin::Spool(offset) });
        }
        for (offset, length, kind, at) in steps {
            let length = length.min(SIZE - offset);
            let range = offset as usize..(offset + length) as usize;
            let spooled = |byte: &&Option<Origin>| matches!(byte, Some(Origin::Spool(_)));
            let expected_freed = bytes[range.clone()].iter().filter(spooled).count() as u64;
            let freed = match kind {
                Some(spool) => {
                    for (index, byte) in bytes[range].iter_mut().enumerate() {
                        *byte = Some(origin(spool, at + index as u64));
                    }
                    map.insert(Extent { offset, length, origin: origin(spool, at) })
                }
                None => {
                    bytes[range].fill(None);
                    map.remove(offset, length)
                }
            };
            prop_assert_eq!(freed.iter().map(|range| range.length).sum::<u64>(), expected_freed);
            prop_assert_eq!(bytes_of(&map), bytes.clone());
            let data = bytes.iter().filter(|byte| byte.is_some()).count() as u64;
            prop_assert_eq!(map.data_bytes(), data);
            for at in 0..SIZE {
                let next = (at..SIZE).find(|at| bytes[*at as usize].is_some());
                prop_assert_eq!(map.next_data(at), next);
                let hole = (at..SIZE).find(|at| bytes[*at as usize].is_none()).unwrap_or(SIZE);
                prop_assert_eq!(map.next_hole(at), hole);
            }
        }
    }
}

#[test]
fn consecutive_writes_join_to_one_extent() {
    let mut map = ExtentMap::default();
    for block in [0, 1, 2, 5, 4, 3] {
        let extent =
            Extent { offset: block * 10, length: 10, origin: Origin::Spool(100 + block * 10) };
        assert!(map.insert(extent).is_empty());
    }
    let joined = Extent { offset: 0, length: 60, origin: Origin::Spool(100) };
    assert_eq!(map.extents().collect::<Vec<_>>(), [joined]);
}
