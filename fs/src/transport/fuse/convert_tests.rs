use proptest::prelude::*;

use super::*;

/// What fuser 0.18 makes of a request's time: `src/time.rs`, `system_time_from_time`.
fn as_fuser_decodes(seconds: i64, nanoseconds: u32) -> SystemTime {
    if seconds >= 0 {
        UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds)
    } else {
        UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds)
    }
}

proptest! {
    #[test]
    fn set_times_survive_fuser(seconds in -(1i64 << 40)..1 << 40, nanoseconds in 0u32..1_000_000_000) {
        let asked = TimeOrNow::SpecificTime(as_fuser_decodes(seconds, nanoseconds));
        prop_assert_eq!(set_time(asked), SetTime::At(Timestamp::new(seconds, nanoseconds)));
    }
}

#[test]
fn times_before_1970_count_nanoseconds_forward() {
    let time = system_time(Timestamp::new(-2, 750_000_000));
    assert_eq!(UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_millis(1250));
}

#[test]
fn a_time_beyond_the_clock_does_not_panic() {
    system_time(Timestamp::new(i64::MIN, 0));
    system_time(Timestamp::new(i64::MAX, 999_999_999));
}
