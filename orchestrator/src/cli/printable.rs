//! Text from archives and guests, made safe for a terminal.

use std::borrow::Cow;

/// Control characters, which could move the cursor or forge a line, as Rust escapes (`\n`,
/// `\u{1b}`).
pub fn printable(text: &str) -> Cow<'_, str> {
    printable_except(text, &[])
}

/// The same for text of several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    printable_except(text, &['\n', '\t'])
}

fn printable_except<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let dangerous = |c: char| c.is_control() && !kept.contains(&c);
    if !text.contains(dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if dangerous(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_stays() {
        assert_eq!(printable("/a\x1b[2J\nb\u{9b}é"), "/a\\u{1b}[2J\\nb\\u{9b}é");
        assert_eq!(printable_lines("a\n\tb\r"), "a\n\tb\\r");
        assert!(matches!(printable("/usr/bin"), Cow::Borrowed(_)));
    }
}
