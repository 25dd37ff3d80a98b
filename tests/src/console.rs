//! Blocks tagged `console` in the documentation: finding them, running them, comparing them.
//!
//! `$ ` begins a command, `> ` goes on with it, anything else is what the command prints on stdout
//! and stderr. `…` stands for any text within a line, a line of `…` alone for any number of lines.
//! All commands of a block run in one shell.

use std::fmt::Write as _;
use std::path::Path;

/// One block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where it is: `docs/layers.md:12`.
    pub place: String,
    /// The word after `console`: `guest`, `slow`, or nothing.
    pub tag: String,
    pub steps: Vec<Step>,
}

/// A command and what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub expected: Vec<String>,
}

/// The blocks of a page.
///
/// # Errors
///
/// One sentence where a block has output before its first command, or does not end.
pub fn blocks(page: &str, text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut other = false;
    for (number, line) in text.lines().enumerate() {
        let fence = line.strip_prefix("```");
        match (&mut open, fence) {
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => add_line(block, line)?,
            (None, Some(_)) if other => other = false,
            (None, Some(info)) => {
                let mut words = info.split_whitespace();
                if words.next() == Some("console") {
                    let place = format!("{page}:{}", number + 1);
                    let tag = words.next().unwrap_or_default().to_owned();
                    open = Some(Block { place, tag, steps: Vec::new() });
                } else {
                    other = true;
                }
            }
            (None, None) => {}
        }
    }
    match open {
        Some(block) => Err(format!("{}: the block does not end", block.place)),
        None => Ok(found),
    }
}

fn add_line(block: &mut Block, line: &str) -> Result<(), String> {
    if let Some(command) = line.strip_prefix("$ ") {
        block.steps.push(Step { command: command.to_owned(), expected: Vec::new() });
        return Ok(());
    }
    let Some(step) = block.steps.last_mut() else {
        return Err(format!("{}: output before the first command: {line}", block.place));
    };
    match line.strip_prefix("> ") {
        Some(more) if step.expected.is_empty() => {
            step.command.push('\n');
            step.command.push_str(more);
        }
        _ => step.expected.push(line.to_owned()),
    }
    Ok(())
}

/// Between the outputs of two commands; no program prints it.
const MARK: &str = "\u{1e}";

/// A script that carries out all steps in one shell, with a mark after each step's output. `$?`
/// stays the status of the command before.
pub fn script(block: &Block) -> String {
    let mut script = String::from("exec 2>&1\n");
    for step in &block.steps {
        let mark = "outcrop_status=$?; printf '\\036\\n'; (exit $outcrop_status)";
        let _ = writeln!(script, "{}\n{mark}", step.command);
    }
    script
}

/// Compares what the script printed with what the block says.
///
/// # Errors
///
/// The place, the command and the difference.
pub fn compare(block: &Block, printed: &str) -> Result<(), String> {
    let outputs: Vec<&str> = printed.split(&format!("{MARK}\n")).collect();
    for (number, step) in block.steps.iter().enumerate() {
        let actual: Vec<&str> = match outputs.get(number) {
            Some(text) => text.lines().collect(),
            None => vec!["(the shell ended before this command)"],
        };
        let expected: Vec<&str> = step.expected.iter().map(String::as_str).collect();
        if !lines_match(&expected, &actual) {
            let difference = difference(&expected, &actual);
            return Err(format!("{}: $ {}\n{difference}", block.place, step.command));
        }
    }
    Ok(())
}

fn lines_match(expected: &[&str], actual: &[&str]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((&"…", rest)) => {
            (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..]))
        }
        Some((first, rest)) => match actual.split_first() {
            Some((line, others)) => line_matches(first, line) && lines_match(rest, others),
            None => false,
        },
    }
}

/// Whether a line fits a pattern in which `…` stands for any text.
pub fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.trim_end().split('…');
    let line = line.trim_end();
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `-` before what the page says, `+` before what the program printed; equal lines at both ends
/// are shown without a sign.
pub fn difference(expected: &[&str], actual: &[&str]) -> String {
    let same = |(a, b): &(&&str, &&str)| line_matches(a, b);
    let head = expected.iter().zip(actual).take_while(same).count();
    let left = expected.len().min(actual.len()) - head;
    let tail = expected.iter().rev().zip(actual.iter().rev()).take(left).take_while(same).count();
    let mut text = String::new();
    let mut show = |sign: &str, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(text, "{sign} {line}");
        }
    };
    show(" ", &expected[..head]);
    show("-", &expected[head..expected.len() - tail]);
    show("+", &actual[head..actual.len() - tail]);
    show(" ", &expected[expected.len() - tail..]);
    text
}

/// `README.md` and `docs/*.md` with their names, as far as they exist.
pub fn pages(repository: &Path) -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(repository.join("docs")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names.sort();
    let read = |name: String| {
        std::fs::read_to_string(repository.join(&name)).ok().map(|text| (name, text))
    };
    names.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_commands_and_their_output() {
        let text = "words\n```sh\n$ no\n```\n```console slow\n$ a \\\n> b\none\n…\n$ c\n```\n";
        let found = blocks("page", text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].place.as_str(), found[0].tag.as_str()), ("page:5", "slow"));
        let step = |command: &str, expected: &[&str]| Step {
            command: command.to_owned(),
            expected: expected.iter().map(|&line| line.to_owned()).collect(),
        };
        assert_eq!(found[0].steps, [step("a \\\nb", &["one", "…"]), step("c", &[])]);
        assert!(blocks("page", "```console\nx\n```\n").is_err());
        assert!(blocks("page", "```console\n$ x\n").is_err());
    }

    #[test]
    fn an_ellipsis_stands_for_text_and_for_lines() {
        assert!(line_matches("a … c", "a b c"));
        assert!(line_matches("…", ""));
        assert!(!line_matches("a … c", "a b d"));
        assert!(!line_matches("ab…b", "ab"));
        assert!(lines_match(&["…", "z"], &["x", "y", "z"]));
        assert!(lines_match(&["…"], &[]));
        assert!(!lines_match(&["x"], &["x", "y"]));
        assert!(!lines_match(&["x", "y"], &["x"]));
    }

    #[test]
    fn a_difference_shows_what_is_common_at_both_ends() {
        let text = difference(&["a", "b", "z"], &["a", "c", "d", "z"]);
        assert_eq!(text, "  a\n- b\n+ c\n+ d\n  z\n");
    }
}
