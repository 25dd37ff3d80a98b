//! URLs, which may hold credentials: these serve to connect, and are shown and kept nowhere.

#![forbid(unsafe_code)]

use std::fmt;

use crate::words::without_credentials;

/// A URL as it is given. Its text, in messages too, is without what is secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(String);

impl Url {
    pub fn new(url: impl Into<String>) -> Url {
        Url(url.into())
    }

    /// With everything that a server asks for.
    pub(super) fn whole(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", without_credentials(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_urls_is_not_shown() {
        let cases = [
            ("https://name:pass@host:8443/a.git", "https://host:8443/a.git"),
            ("https://ghp_token@host/a", "https://host/a"),
            ("https://a:p@ss@host", "https://host"),
            ("git://host/a@b/c", "git://host/a@b/c"),
            ("http://host?q=a@b", "http://host?q=a@b"),
            ("ssh://git@host/a", "ssh://git@host/a"),
            ("git+ssh://git:pass@host/a", "git+ssh://git@host/a"),
            ("tar:https://u:p@h/x.tar", "tar:https://h/x.tar"),
            (
                "cannot fetch 'https://u:p@h/x' or http://u:p@i/y: no",
                "cannot fetch 'https://h/x' or http://i/y: no",
            ),
            ("/srv/a@b", "/srv/a@b"),
            ("file:///srv/a@b", "file:///srv/a@b"),
            ("", ""),
        ];
        for (url, shown) in cases {
            assert_eq!(without_credentials(url), shown);
            assert_eq!(Url::new(url).to_string(), shown);
            assert_eq!(Url::new(url).whole(), url);
            assert_eq!(format!("{:?}", Url::new(url)), format!("{shown:?}"));
        }
    }
}
