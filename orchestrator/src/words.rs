//! Grammar of messages, and what must not be in them.

#![forbid(unsafe_code)]

use std::borrow::Cow;

/// A number and what is counted: `1 entry`, `2 entries`.
pub fn counted(number: u64, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {several}"),
    }
}

/// A text without the user names and passwords of the URLs in it. A name alone stays where it is no
/// secret: over ssh.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    const AFTER_SCHEME: &str = "://";
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(AFTER_SCHEME) {
        shown += before;
        shown += AFTER_SCHEME;
        let end = after.find(ends_authority).unwrap_or(after.len());
        let (authority, behind) = after.split_at_checked(end).unwrap_or((after, ""));
        rest = behind;
        match authority.rsplit_once('@') {
            Some((user, host)) if before.ends_with("ssh") => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                shown.extend([name, "@", host]);
            }
            Some((_, host)) => shown += host,
            None => shown += authority,
        }
    }
    match shown.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(shown + rest),
    }
}

/// Whether a character cannot be part of user, password, host or port (RFC 3986, section 3.2).
fn ends_authority(c: char) -> bool {
    c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>')
}
