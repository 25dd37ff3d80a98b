//! What a preprocessed source asks for that is not in it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use regex::bytes::Regex;

/// Bytes looked at together.
const WINDOW: u64 = 1 << 20;

/// No word that is looked for is longer: what must stay from one window to the next.
const LONGEST_WORD: usize = 32;

/// Whether an assembler statement may take in a file. Words in comments and strings count as well:
/// they cost time, nothing else.
pub fn reads_files(source: &Path) -> io::Result<bool> {
    static WORDS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?-u)incbin|\.include").ok());
    mentions(source, WORDS.as_ref())
}

/// Whether a program may see columns: preprocessing loses them with the spaces between words.
pub fn asks_for_columns(source: &Path) -> io::Result<bool> {
    static WORDS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?-u)__builtin_source_location").ok());
    mentions(source, WORDS.as_ref())
}

/// Whether a source says one of some short words.
pub fn says_one_of(source: &Path, words: &[String]) -> io::Result<bool> {
    if words.is_empty() {
        return Ok(false);
    }
    let words: Vec<String> = words.iter().map(|word| regex::escape(word)).collect();
    mentions(source, Regex::new(&format!("(?-u){}", words.join("|"))).ok().as_ref())
}

fn mentions(source: &Path, words: Option<&Regex>) -> io::Result<bool> {
    let words = words.ok_or_else(|| io::Error::other("a pattern cannot be compiled"))?;
    let mut file = File::open(source)?;
    let mut window = Vec::new();
    loop {
        window.drain(..window.len().saturating_sub(LONGEST_WORD));
        if file.by_ref().take(WINDOW).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if words.is_match(&window) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn words_are_found_wherever_windows_meet() {
        for before in [0, 1, (1 << 20) - 24, (1 << 20) - 3, 1 << 20, (3 << 20) - 1] {
            let text = " ".repeat(before) + ".incbin \"x\"";
            assert!(reads_files(written(&text).path()).unwrap(), "after {before} bytes");
            let text = " ".repeat(before) + "__builtin_source_location()";
            assert!(asks_for_columns(written(&text).path()).unwrap(), "after {before} bytes");
        }
    }

    #[test]
    fn other_sources_are_left_alone() {
        let file = written("int include, bin, source_location; void f() { asm(\"nop\"); }\n");
        assert!(!reads_files(file.path()).unwrap());
        assert!(!asks_for_columns(file.path()).unwrap());
    }
}
