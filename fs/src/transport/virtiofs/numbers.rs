//! The inode numbers that a guest's programs see.
//!
//! 32-bit programs that were not built for large files are told `EOVERFLOW` of a file whose number has
//! more than 32 bits, and those of nodes in layers have. The kernel itself goes by our own numbers.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::Ino;
use crate::sync::DashMap;

/// Smaller numbers, those of nodes made later, are shown as they are; others from here on.
const FIRST: u32 = 1 << 31;

/// Numbers of 32 bits, given when they are first asked for, and the same from then on.
#[derive(Default)]
pub(super) struct Numbers {
    given: DashMap<Ino, u32>,
    count: AtomicU32,
}

impl Numbers {
    /// Should they run out, a node is shown with its own number.
    pub(super) fn shown(&self, ino: Ino) -> Ino {
        if ino < Ino::from(FIRST) {
            return ino;
        }
        if let Some(number) = self.given.get(&ino) {
            return Ino::from(*number);
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= u32::MAX - FIRST {
            return ino;
        }
        let next = || FIRST.saturating_add(self.count.fetch_add(1, Ordering::Relaxed));
        Ino::from(*self.given.entry(ino).or_insert_with(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_32_bits_differ_and_stay() {
        let numbers = Numbers::default();
        let layers: Vec<Ino> = (1..200).flat_map(|n| [(n << 40) + 7, (n << 40) + 8]).collect();
        let shown: Vec<Ino> = layers.iter().map(|ino| numbers.shown(*ino)).collect();
        assert!(shown.iter().all(|ino| *ino >= Ino::from(FIRST) && *ino <= u32::MAX.into()));
        let different: std::collections::HashSet<_> = shown.iter().collect();
        assert_eq!(different.len(), layers.len());
        assert!(
            layers.iter().rev().zip(shown.iter().rev()).all(|(ino, n)| numbers.shown(*ino) == *n)
        );
        assert_eq!([1, 2, 99_999].map(|ino| numbers.shown(ino)), [1, 2, 99_999]);
    }

    #[test]
    fn when_they_run_out_the_own_number_is_shown() {
        let numbers = Numbers { count: AtomicU32::new(u32::MAX - FIRST), ..Numbers::default() };
        assert_eq!(numbers.shown(5 << 40), 5 << 40);
    }
}
