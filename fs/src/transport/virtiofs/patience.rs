//! How long a thread looks for the next request before it sleeps.
//!
//! A guest with one processor asks, waits for the answer, and soon asks again. Waking a thread that
//! sleeps on another processor often costs more than answering (docs/virtiofs.md has figures), so
//! the thread stays awake while requests come close after each other, and lets every other thread
//! that wants the processor go first.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// A request that comes later than this after the last answer was not worth waiting for: about what
/// two wakings cost.
const LONGEST_WAIT: Duration = Duration::from_micros(200);

/// A turn of other threads that takes longer shows that the processor is wanted: QEMU needs about
/// 20 µs to tell the guest of an answer.
const LONGEST_TURN: Duration = Duration::from_micros(100);

/// How long nothing is waited for after that. One turn of a busy thread is a few milliseconds, which
/// no request shall wait for often.
const REST: Duration = Duration::from_millis(100);

/// What the last requests of one queue tell about the next.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When everything was answered.
    idle_since: Option<Instant>,
    /// Whether the last request came soon.
    soon: bool,
    rests_until: Option<Instant>,
}

impl Patience {
    /// Requests were found and answered; `found` and `answered` are the times of these.
    pub(super) fn answered(&mut self, found: Instant, answered: Instant) {
        if let Some(since) = self.idle_since {
            self.soon = found.saturating_duration_since(since) <= LONGEST_WAIT;
        }
        self.idle_since = Some(answered);
    }

    /// Whether to look once more instead of sleeping. The time of the look is `now`.
    pub(super) fn waits(&self, now: Instant) -> bool {
        let Some(since) = self.idle_since else { return false };
        self.soon
            && self.rests_until.is_none_or(|until| now >= until)
            && now.saturating_duration_since(since) < LONGEST_WAIT
    }

    /// Other threads had the processor from `before` to `after`.
    pub(super) fn gave_way(&mut self, before: Instant, after: Instant) {
        if after.saturating_duration_since(before) > LONGEST_TURN {
            self.rests_until = after.checked_add(REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A queue whose requests came at these times in µs and took 5 µs each, and its last answer.
    fn after_requests(start: Instant, at: &[u32]) -> (Patience, Instant) {
        let mut patience = Patience::default();
        let mut answered = start;
        for at in at {
            let found = start + MICROSECOND * *at;
            answered = found + MICROSECOND * 5;
            patience.answered(found, answered);
        }
        (patience, answered)
    }

    #[test]
    fn only_after_requests_that_came_close_is_the_next_waited_for() {
        let start = Instant::now();
        let (first, now) = after_requests(start, &[0]);
        assert!(!first.waits(now), "one request tells nothing");
        let (close, now) = after_requests(start, &[0, 100]);
        assert!(close.waits(now));
        let (far, now) = after_requests(start, &[0, 100, 5000]);
        assert!(!far.waits(now));
    }

    #[test]
    fn waiting_ends() {
        let (patience, answered) = after_requests(Instant::now(), &[0, 100]);
        assert!(patience.waits(answered + LONGEST_WAIT - MICROSECOND));
        assert!(!patience.waits(answered + LONGEST_WAIT));
    }

    #[test]
    fn a_processor_that_others_want_is_left_to_them_for_a_while() {
        let (mut patience, now) = after_requests(Instant::now(), &[0, 100]);
        patience.gave_way(now, now + MICROSECOND * 20);
        assert!(patience.waits(now + MICROSECOND * 20), "a short turn of QEMU");
        let busy = now + MICROSECOND * 150;
        patience.gave_way(now, busy);
        assert!(!patience.waits(busy));
        let later = busy + REST;
        patience.answered(later, later);
        patience.answered(later + MICROSECOND * 50, later + MICROSECOND * 55);
        assert!(patience.waits(later + MICROSECOND * 55));
    }
}
