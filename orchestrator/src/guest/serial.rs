//! Talking to a shell on a serial line, where nothing but text is certain.
//!
//! A finished system has no agent. Its console echoes what is typed, kernel messages come in
//! between, input typed before the shell listens is lost or piles up. So nothing counts but the
//! *results* of sums that only a shell can work out: what is typed never contains what is waited
//! for.

#![forbid(unsafe_code)]

/// Longest piece of a command in one typed line: editors of small shells cut lines, some at 256.
const PIECE: usize = 120;

/// What is typed next, and what shows that it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub typed: Vec<u8>,
    pub answer: Vec<u8>,
}

/// A word as typed, and as a shell reads it: quotes in the middle, which any shell takes away, keep
/// the echo of what is typed from looking like the answer. `number` makes each one different.
fn riddle(number: u32) -> (String, String) {
    (format!("n''{number:06}"), format!("n{number:06}"))
}

/// Finds out whether a shell listens. Each attempt needs another number. The leading newline wakes
/// an init that asks for Enter.
pub(super) fn greeting(number: u32) -> Step {
    let (typed, answer) = riddle(number);
    Step {
        typed: format!("\necho outcrop-ready-{typed}\n").into_bytes(),
        answer: format!("outcrop-ready-{answer}").into_bytes(),
    }
}

/// Puts `command` into a variable of the shell, piece by piece.
pub(super) fn deposit(command: &[u8], number: u32) -> Vec<Step> {
    let mut pieces = vec![String::new()];
    for byte in command {
        let encoded = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'/' | b'-' | b'_' | b'.' | b'=' => {
                char::from(*byte).to_string()
            }
            // As printf's %b understands it.
            other => format!("\\0{other:03o}"),
        };
        match pieces.last_mut() {
            Some(piece) if piece.len().saturating_add(encoded.len()) <= PIECE => {
                piece.push_str(&encoded);
            }
            _ => pieces.push(encoded),
        }
    }
    let mut first = true;
    let numbers = number..;
    pieces
        .into_iter()
        .zip(numbers)
        .map(|(piece, number)| {
            let (typed, answer) = riddle(number);
            let before = if std::mem::take(&mut first) { "" } else { "$outcrop" };
            Step {
                typed: format!("outcrop={before}'{piece}'; echo outcrop-got-{typed}\n").into(),
                answer: format!("outcrop-got-{answer}").into_bytes(),
            }
        })
        .collect()
}

/// The markers around the output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Execution {
    pub typed: Vec<u8>,
    begin: Vec<u8>,
    end: Vec<u8>,
}

/// Runs what was deposited, in a shell of its own.
pub(super) fn execution(number: u32) -> Execution {
    let (typed, answer) = riddle(number);
    let line = format!(
        "echo outcrop-begin-{typed}; sh -c \"$(printf %b \"$outcrop\")\" </dev/null; \
         echo outcrop-end-{typed}-$?.\n"
    );
    Execution {
        typed: line.into_bytes(),
        begin: format!("outcrop-begin-{answer}\n").into_bytes(),
        end: format!("outcrop-end-{answer}-").into_bytes(),
    }
}

impl Execution {
    /// Whether this piece of the console makes it worth asking for the [`Execution::result`].
    pub fn may_be_over(&self, piece: &[u8]) -> bool {
        find(piece, &self.end).is_some()
    }

    /// Output and exit status, once `console` (as [`plain`] gives it) has all of it.
    pub fn result(&self, console: &[u8]) -> Option<(Vec<u8>, u32)> {
        let from = find(console, &self.begin)?;
        let rest = console.get(from.checked_add(self.begin.len())?..)?;
        let to = find(rest, &self.end)?;
        let after = rest.get(to.checked_add(self.end.len())?..)?;
        let digits = after.split(|byte| *byte == b'.').next()?;
        if digits.len() == after.len() {
            return None;
        }
        let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some((rest.get(..to)?.to_vec(), status))
    }
}

/// A terminal's line ends become newlines.
pub(super) fn plain(console: &[u8]) -> Vec<u8> {
    console.iter().copied().filter(|byte| *byte != b'\r').collect()
}

pub(super) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// What a shell prints when all of `typed` is typed at it, with the echo of a terminal.
    fn shell(typed: &[u8]) -> Vec<u8> {
        let mut child = Command::new("/bin/sh")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(typed).unwrap();
        let mut console = typed.to_vec();
        console.extend(child.wait_with_output().unwrap().stdout);
        console
    }

    fn converse(command: &[u8]) -> (Vec<u8>, u32) {
        let mut typed = Vec::new();
        let steps = deposit(command, 10);
        for step in &steps {
            assert!(step.typed.len() < 250);
            typed.extend_from_slice(&step.typed);
        }
        let execution = execution(9);
        typed.extend_from_slice(&execution.typed);
        let console = shell(&typed);
        for step in steps {
            assert!(find(&console, &step.answer).is_some());
        }
        execution.result(&plain(&console)).unwrap()
    }

    #[test]
    fn output_and_status_come_back() {
        assert_eq!(converse(b"echo hello; exit 3"), (b"hello\n".to_vec(), 3));
        assert_eq!(converse(b"printf 'no newline'"), (b"no newline".to_vec(), 0));
        assert_eq!(converse(b""), (Vec::new(), 0));
    }

    #[test]
    fn what_is_typed_never_looks_like_an_answer() {
        let step = greeting(42);
        assert_eq!(find(&step.typed, &step.answer), None);
        let run = execution(42);
        assert_eq!(run.result(&plain(&run.typed)), None);
    }

    #[test]
    fn half_a_status_is_not_taken_for_all_of_it() {
        let run = execution(1);
        let console = b"outcrop-begin-n000001\nx\noutcrop-end-n000001-12";
        assert_eq!(run.result(console), None);
        let console = b"outcrop-begin-n000001\nx\noutcrop-end-n000001-12.";
        assert_eq!(run.result(console), Some((b"x\n".to_vec(), 12)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn any_text_reaches_the_shell(text in "[ -~\t\nä]{0,400}") {
            let quoted = format!("printf %s '{}'", text.replace('\'', r"'\''"));
            let (output, status) = converse(quoted.as_bytes());
            prop_assert_eq!(String::from_utf8(output).unwrap(), text);
            prop_assert_eq!(status, 0);
        }
    }
}
