//! Telling what stacked artifacts hide of each other: hardly ever meant, and decided by their order.

use std::collections::HashSet;
use std::sync::Arc;

use outcrop_fs::diff::kind_name;
use outcrop_fs::sysroot::{Overlap, Sysroot};
use parking_lot::Mutex;

use super::error::Result;
use super::log::BuildLog;
use super::workshop::{Workshop, blocking};
use crate::words::counted;

/// Paths that are told one by one.
const SHOWN: usize = 10;

/// What people have been told in a run: the same artifacts meet in many sysroots.
#[derive(Default)]
pub(super) struct Told(Mutex<HashSet<(Vec<u8>, String, String)>>);

impl Told {
    /// Whether nobody was told of it before.
    fn is_news(&self, overlap: &Overlap) -> bool {
        let Overlap { path, shown, hidden, .. } = overlap;
        self.0.lock().insert((path.clone(), shown.clone(), hidden.clone()))
    }
}

/// Writes into the log where layers of a sysroot differ, and tells people what they have not heard.
pub(super) async fn tell(
    workshop: &Workshop,
    component: &str,
    sysroot: Arc<Sysroot>,
    log: &mut BuildLog,
) -> Result<()> {
    let mut overlaps = blocking(move || Ok(sysroot.overlaps()?)).await?;
    // Where a directory is involved, the most is lost.
    overlaps.sort_by_key(|overlap| overlap.shown_kind == overlap.hidden_kind);
    for sentence in sentences(&overlaps) {
        log.note(&sentence);
    }
    overlaps.retain(|overlap| workshop.told.is_news(overlap));
    for sentence in sentences(&overlaps) {
        workshop.notice(format!("{component}: {sentence}"));
    }
    Ok(())
}

/// One for each of the first, and how many more there are.
fn sentences(overlaps: &[Overlap]) -> Vec<String> {
    let sentence = |overlap: &Overlap| {
        let Overlap { path, shown, shown_kind, hidden, hidden_kind } = overlap;
        let path = path.escape_ascii();
        let (upper, lower) = (kind_name(*shown_kind), kind_name(*hidden_kind));
        match upper == lower {
            true => format!("{path}: the {upper} of {shown} hides a different one of {hidden}"),
            false => format!("{path}: the {upper} of {shown} hides the {lower} of {hidden}"),
        }
    };
    let mut sentences: Vec<String> = overlaps.iter().take(SHOWN).map(sentence).collect();
    let more = overlaps.len().saturating_sub(SHOWN);
    if more > 0 {
        let paths = counted(more as u64, "more path", "more paths");
        sentences.push(format!("{paths} at which artifacts have something different"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use outcrop_fs::Kind;

    use super::*;

    fn overlap(number: usize) -> Overlap {
        Overlap {
            path: format!("/etc/{number}\n").into_bytes(),
            shown: "high".into(),
            shown_kind: Kind::File,
            hidden: "low".into(),
            hidden_kind: if number == 0 { Kind::Directory } else { Kind::File },
        }
    }

    #[test]
    fn what_is_hidden_is_told_up_to_a_number() {
        let of = |count| sentences(&(0..count).map(overlap).collect::<Vec<_>>());
        assert!(of(0).is_empty());
        let expected = [
            "/etc/0\\n: the file of high hides the directory of low",
            "/etc/1\\n: the file of high hides a different one of low",
        ];
        assert_eq!(of(2), expected);
        assert_eq!(of(10).len(), 10);
        assert!(of(12).last().is_some_and(|last| last.starts_with("2 more paths ")));
    }

    #[test]
    fn people_are_told_once() {
        let told = Told::default();
        let other = Overlap { shown: "higher".into(), ..overlap(1) };
        let all = [overlap(1), overlap(1), overlap(2), other, overlap(2)];
        assert_eq!(all.each_ref().map(|one| told.is_news(one)), [true, false, true, true, false]);
    }
}
