//! apt's source files: `sources.list` lines and deb822 `.sources` stanzas, as far as a private apt
//! needs them (sources.list(5)).

#![forbid(unsafe_code)]

/// One enabled binary archive of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// A keyring's path or fingerprint; or an armoured key, its lines as in the file.
    pub signed_by: Option<String>,
}

impl Source {
    /// Whether this looks like a Debian archive: the last part of each URI's path is `debian`,
    /// `debian-security` or the like, and `main` is enabled. The signature, not this, decides what
    /// is trusted.
    pub fn is_debian(&self) -> bool {
        let debian = |uri: &String| {
            let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            last == "debian" || last.starts_with("debian-security")
        };
        !self.uris.is_empty()
            && self.uris.iter().all(debian)
            && self.components.iter().any(|component| component == "main")
    }

    /// As a deb822 stanza, `main` only.
    pub fn to_stanza(&self, types: &str) -> String {
        let mut stanza = format!(
            "Types: {types}\nURIs: {}\nSuites: {}\nComponents: main\n",
            self.uris.join(" "),
            self.suites.join(" ")
        );
        if let Some(signed_by) = &self.signed_by {
            stanza.push_str("Signed-By:");
            stanza.push_str(if signed_by.starts_with('\n') { "" } else { " " });
            stanza.push_str(signed_by);
            stanza.push('\n');
        }
        stanza
    }
}

/// Parses one-line format. Lines that are not an enabled `deb` entry are skipped, as apt would
/// refuse them itself.
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    rest = rest.trim_start();
    let mut signed_by = None;
    if let Some(inner) = rest.strip_prefix('[') {
        let (options, after) = inner.split_once(']')?;
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), signed_by })
}

/// Parses deb822 stanzas; disabled ones and those without `deb` in `Types` are skipped.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source_of(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let disabled = field("enabled").is_some_and(|value| {
        matches!(value.trim().to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off")
    });
    if disabled || !words("types").iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_format() {
        let text = "# comment\n\
            deb http://example.org/debian bookworm main contrib # trailing\n\
            deb-src http://example.org/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://example.org/debian-security/ s main\n\
            deb http://incomplete.example.org\n";
        let sources = parse_list(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[1].signed_by.as_deref(), Some("/k.gpg"));
        assert!(sources.iter().all(Source::is_debian));
    }

    #[test]
    fn deb822_with_inline_key_disabled_and_foreign_stanzas() {
        let text = "Types: deb deb-src\nURIs: http://example.org/debian\n# why\nSuites: a b\n\
            Components: main\nSigned-By:\n -----BEGIN-----\n .\n abc\n\n\
            Types: deb\nEnabled: no\nURIs: http://example.org/debian\nSuites: c\nComponents: main\n\n\
            Types: deb\nURIs: https://other.example.org/node_20.x\nSuites: d\nComponents: main\n";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["a", "b"]);
        assert_eq!(sources[0].signed_by.as_deref(), Some("\n -----BEGIN-----\n .\n abc"));
        assert!(sources[0].is_debian() && !sources[1].is_debian());
        assert_eq!(parse_deb822(&sources[0].to_stanza("deb")), [sources[0].clone()]);
    }

    proptest! {
        #[test]
        fn parsers_accept_any_text(text in "(?s).{0,400}") {
            parse_list(&text);
            parse_deb822(&text);
        }
    }
}
