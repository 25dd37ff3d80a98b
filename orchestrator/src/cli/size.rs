//! Sizes as people write and read them.

const UNITS: [(&str, u32); 4] = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];

/// Bytes of `20G`, `512M` or `0`: a number and perhaps K, M, G or T, each 1024 times the one before.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write a number and K, M, G or T, as in 20G");
    let upper = text.trim().to_ascii_uppercase();
    let plain = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (number, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((plain.strip_suffix(unit)?, *shift)))
        .unwrap_or((plain, 0));
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `1.5 GiB`, `12 KiB`, `7 bytes`.
pub fn human_size(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, shift)| bytes >> shift > 0);
    let Some((unit, shift)) = unit else { return format!("{bytes} bytes") };
    let tenths = (bytes >> (shift - 10)).saturating_mul(10) >> 10;
    if tenths < 100 {
        format!("{}.{} {unit}iB", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}iB", tenths / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("1K", 1 << 10),
            ("20G", 20 << 30),
            ("20 GiB", 20 << 30),
            ("3mb", 3 << 20),
            ("2t", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "-1", "1.5G", "1X", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_with_two_digits_at_least() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 << 20, "10 MiB"),
            ((3 << 40) + (1 << 39), "3.5 TiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
