//! How often each operation was asked for: what a slow guest is asked about first.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// More than any number of an operation that there is.
const OPERATIONS: usize = 64;

pub(super) struct Tally([AtomicU64; OPERATIONS]);

impl Tally {
    pub(super) fn new() -> Self {
        Tally([const { AtomicU64::new(0) }; OPERATIONS])
    }

    pub(super) fn count(&self, operation: u32) {
        let place = usize::try_from(operation).ok().and_then(|number| self.0.get(number));
        if let Some(place) = place {
            place.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All counts since the last time, most frequent first, as `operation×count`.
    pub(super) fn take(&self) -> String {
        let mut counts: Vec<(u64, usize)> = (self.0.iter().enumerate())
            .map(|(operation, count)| (count.swap(0, Ordering::Relaxed), operation))
            .filter(|(count, _)| *count > 0)
            .collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let words: Vec<String> =
            counts.iter().map(|(count, operation)| format!("{operation}×{count}")).collect();
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_once() {
        let tally = Tally::new();
        for operation in [1, 15, 15, 4096, u32::MAX] {
            tally.count(operation);
        }
        assert_eq!(tally.take(), "15×2 1×1");
        assert_eq!(tally.take(), "");
    }
}
