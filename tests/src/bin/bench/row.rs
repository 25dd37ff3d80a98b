//! One thing measured, beside the same thing done by others, and what is aimed at.

use serde::{Deserialize, Serialize};

use crate::measure::{Outcome, median};

#[derive(Serialize, Deserialize)]
pub struct Row {
    pub what: String,
    pub unit: String,
    /// Ours first.
    pub contenders: Vec<Measured>,
    pub targets: Vec<Target>,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub samples: Vec<f64>,
    /// Why there is no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtMost,
    AtLeast,
}

/// A bound for our median, or for its ratio to a peer's.
#[derive(Clone, Serialize, Deserialize)]
pub struct Target {
    pub bound: Bound,
    pub value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

pub fn at_most(value: f64) -> Target {
    Target { bound: Bound::AtMost, value, peer: None }
}

pub fn at_least(value: f64) -> Target {
    Target { bound: Bound::AtLeast, value, peer: None }
}

impl Target {
    /// Of the median of this contender.
    pub fn of(self, peer: &str) -> Target {
        Target { peer: Some(peer.to_owned()), ..self }
    }

    pub fn text(&self, unit: &str) -> String {
        let sign = if self.bound == Bound::AtMost { "≤" } else { "≥" };
        match &self.peer {
            Some(peer) => format!("{sign} {} × {peer}", self.value),
            None => format!("{sign} {} {unit}", self.value),
        }
    }

    /// What the target is about, where it was measured.
    pub fn measured(&self, row: &Row) -> Option<f64> {
        let ours = row.contenders.first()?.median?;
        let Some(peer) = &self.peer else { return Some(ours) };
        let peer = row.contenders.iter().find(|contender| contender.name == *peer)?;
        Some(ours / peer.median?)
    }

    pub fn is_met(&self, row: &Row) -> Option<bool> {
        let measured = self.measured(row)?;
        Some(match self.bound {
            Bound::AtMost => measured <= self.value,
            Bound::AtLeast => measured >= self.value,
        })
    }
}

impl Row {
    /// In seconds.
    pub fn new(what: impl Into<String>, outcomes: Vec<Outcome>) -> Row {
        let contenders = outcomes.into_iter().map(Measured::of).collect();
        Row { what: what.into(), unit: "s".to_owned(), contenders, targets: Vec::new() }
    }

    pub fn unit(self, unit: &str) -> Row {
        Row { unit: unit.to_owned(), ..self }
    }

    pub fn targets(self, targets: impl Into<Vec<Target>>) -> Row {
        Row { targets: targets.into(), ..self }
    }
}

impl Measured {
    fn of(outcome: Outcome) -> Measured {
        let Outcome { name, mut samples, lacks } = outcome;
        // JSON has no word for what is no number.
        samples.retain(|sample| sample.is_finite());
        let is_there = !samples.is_empty();
        Measured {
            name,
            median: is_there.then(|| median(&samples)),
            min: samples.iter().copied().reduce(f64::min),
            max: samples.iter().copied().reduce(f64::max),
            samples,
            lacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: Target) -> Row {
        let outcomes =
            vec![Outcome::alone("ours", vec![3.0, 1.0, 2.0]), Outcome::alone("peer", vec![4.0])];
        Row::new("a row", outcomes).targets([target])
    }

    fn is_met(target: Target) -> Option<bool> {
        let row = row(target);
        row.targets[0].is_met(&row)
    }

    #[test]
    fn a_target_is_met_or_missed_by_the_median() {
        assert_eq!(is_met(at_most(2.0)), Some(true));
        assert_eq!(is_met(at_most(1.9)), Some(false));
        assert_eq!(is_met(at_least(2.1)), Some(false));
        assert_eq!(is_met(at_most(0.5).of("peer")), Some(true));
        assert_eq!(is_met(at_most(0.4).of("peer")), Some(false));
    }

    #[test]
    fn a_target_beside_a_peer_that_is_not_there_is_neither() {
        assert_eq!(is_met(at_most(2.0).of("nobody")), None);
    }

    #[test]
    fn a_report_with_what_is_no_number_can_be_read_again() {
        let row = Row::new("a row", vec![Outcome::alone("ours", vec![f64::NAN])]);
        let text = serde_json::to_string(&row).unwrap();
        let again: Row = serde_json::from_str(&text).unwrap();
        assert_eq!(again.contenders[0].median, None);
    }
}
