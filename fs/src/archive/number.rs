//! Numbers as tar headers and pax records write them.

#![forbid(unsafe_code)]

use crate::node::Timestamp;

/// A numeric header field: octal digits padded with spaces or NULs, or GNU's base-256, which is
/// two's complement, big-endian, marked by the highest bit. An empty field is 0.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.split_first() {
        Some((&first, rest)) if first & 0x80 != 0 => base_256(first, rest),
        _ => octal(bytes),
    }
}

fn base_256(first: u8, rest: &[u8]) -> Option<i64> {
    // Bit 6 of the first byte is the sign once the marker is gone.
    let head = i128::from(first & 0x7f);
    let head = if first & 0x40 != 0 { head - 0x80 } else { head };
    let value = rest
        .iter()
        .try_fold(head, |value, &byte| value.checked_mul(256)?.checked_add(i128::from(byte)))?;
    i64::try_from(value).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.trim_ascii_start();
    let end = digits.iter().position(|&b| b == 0 || b == b' ').unwrap_or(digits.len());
    let (digits, padding) = digits.split_at_checked(end)?;
    if padding.iter().any(|&b| b != 0 && b != b' ') {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

/// A decimal number without sign.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A time in pax form: decimal seconds, possibly negative, possibly with a fraction. Digits beyond
/// the nanosecond are cut off towards the past.
pub(super) fn time(bytes: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let mut nanoseconds = 0_u32;
    let mut rest = fraction.iter().copied();
    for _ in 0..9 {
        let digit = rest.next().unwrap_or(b'0').checked_sub(b'0').filter(|&d| d < 10)?;
        nanoseconds = nanoseconds.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    let mut finer = false;
    for digit in rest {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 10)?;
        finer |= digit != 0;
    }
    if !negative {
        return Some(Timestamp { seconds, nanoseconds });
    }
    // -1.25 is 2 seconds before the epoch and 750,000,000 ns forward.
    if finer {
        nanoseconds = nanoseconds.checked_add(1)?;
    }
    let seconds = seconds.checked_neg()?;
    if nanoseconds == 0 {
        return Some(Timestamp { seconds, nanoseconds });
    }
    let seconds = seconds.checked_sub(1)?;
    Some(Timestamp { seconds, nanoseconds: 1_000_000_000_u32.checked_sub(nanoseconds)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b"   644 \0"), Some(0o644));
        assert_eq!(field(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(field(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(field(b"0000648\0"), None);
        assert_eq!(field(b"644\x0012\0\0"), None);
    }

    #[test]
    fn base_256_fields() {
        assert_eq!(field(b"\x80\0\0\0\0\x20\0\x01"), Some(0x20_0001));
        assert_eq!(field(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        let mut too_large = [0xff_u8; 12];
        too_large[0] = 0x80;
        assert_eq!(field(&too_large), None);
    }

    #[test]
    fn times() {
        assert_eq!(time(b"12.5"), Some(Timestamp::new(12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some(Timestamp::new(-2, 750_000_000)));
        assert_eq!(time(b"-1"), Some(Timestamp::new(-1, 0)));
        assert_eq!(time(b"-0.0000000001"), Some(Timestamp::new(-1, 999_999_999)));
        assert_eq!(time(b"1.0000000009"), Some(Timestamp::new(1, 0)));
        assert_eq!(time(b"-0.9999999999"), Some(Timestamp::new(-1, 0)));
        for bad in [&b""[..], b".", b"-", b"1.x", b"99999999999999999999", b"1e3", b"--1"] {
            assert_eq!(time(bad), None, "{}", bad.escape_ascii());
        }
    }
}
