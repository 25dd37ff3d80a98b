//! Grammar of messages.

#![forbid(unsafe_code)]

/// A number and what is counted: `1 entry`, `2 entries`.
pub fn counted(number: u64, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {several}"),
    }
}
