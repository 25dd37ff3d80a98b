//! Splitting: which artifact a path belongs to, and what a system takes.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::model::{Component, Detail, Member, SplitRule};
use super::{ComponentId, Definitions};

/// Compiled size of one expression, in bytes: a bound against hostile definitions.
const MAX_COMPILED: usize = 1 << 20;

/// Compiled size of all expressions of one component.
const MAX_TOGETHER: usize = 64 << 20;

/// Deepest nesting of groups: the compiler of expressions recurses.
const MAX_NESTING: u32 = 50;

/// A rule matches a whole path; bytes, because file names need not be text.
fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// Says why an expression cannot be used.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    let build = |text: &str| -> Result<Regex, regex::Error> {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(MAX_COMPILED).nest_limit(MAX_NESTING).build()
    };
    // Alone first: `a)(b` is no expression, though it is one inside the anchors.
    build(pattern).and_then(|_| build(&anchored(pattern))).map(|_| ()).map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
    })
}

/// Rules of one component in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Splitter {
    patterns: RegexSet,
    /// For each pattern, the index of its artifact in `artifacts`.
    owner: Vec<usize>,
    artifacts: Vec<String>,
}

impl Splitter {
    /// `own` rules come before `defaults`; a leading `-` of an artifact stands for `name`.
    pub fn new(
        name: &str,
        own: &[SplitRule],
        defaults: &[SplitRule],
    ) -> Result<Splitter, regex::Error> {
        let (mut patterns, mut owner, mut artifacts) = (Vec::new(), Vec::new(), Vec::new());
        for rule in own.iter().chain(defaults) {
            for pattern in &rule.include {
                patterns.push(anchored(pattern));
                owner.push(artifacts.len());
            }
            artifacts.push(artifact_name(name, &rule.artifact));
        }
        let mut builder = RegexSetBuilder::new(patterns);
        let patterns = builder.unicode(false).size_limit(MAX_TOGETHER).build()?;
        Ok(Splitter { patterns, owner, artifacts })
    }

    /// The artifact of a path (relative, without a leading `./`; with or without a slash at the
    /// end of a directory), or of a chunk artifact in a stratum. `None` if no rule matches.
    pub fn artifact(&self, path: &[u8]) -> Option<&str> {
        let with_slash = [path, b"/"].concat();
        let first = |text: &[u8]| self.patterns.matches(text).into_iter().next();
        let rule = match (first(path), first(&with_slash)) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        self.artifacts.get(*self.owner.get(rule)?).map(String::as_str)
    }

    /// Every artifact that the rules name, in rule order, without repetition.
    pub fn artifacts(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in &self.artifacts {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// What a system takes of one of its chunks.
#[derive(Debug, Clone)]
pub struct Selection {
    splitter: Splitter,
    artifacts: HashSet<String>,
}

impl Selection {
    /// Whether a path of the chunk (relative, without a leading `./`) belongs to what is taken.
    pub fn takes(&self, path: &[u8]) -> bool {
        self.splitter.artifact(path).is_some_and(|artifact| self.artifacts.contains(artifact))
    }
}

/// The full name of a rule's artifact.
pub(super) fn artifact_name(component: &str, artifact: &str) -> String {
    if artifact.starts_with('-') { format!("{component}{artifact}") } else { artifact.to_owned() }
}

impl Definitions {
    /// The splitter of a chunk (paths) or stratum (chunk artifacts); `None` for other kinds.
    pub fn splitter(&self, component: &Component) -> Option<Result<Splitter, regex::Error>> {
        let (own, defaults) = match &component.detail {
            Detail::Chunk(chunk) => (&chunk.products, &self.defaults.chunk_rules),
            Detail::Stratum(stratum) => (&stratum.products, &self.defaults.stratum_rules),
            _ => return None,
        };
        Some(Splitter::new(&component.name, own, defaults))
    }

    /// What a system takes of a chunk; `None` where it takes everything. A chunk of several of its
    /// strata gives what any of them selects.
    pub fn selection(
        &self,
        system: ComponentId,
        chunk: ComponentId,
    ) -> Result<Option<Selection>, regex::Error> {
        let Some(system) = self.get(system).and_then(Component::system) else { return Ok(None) };
        if system.strata.iter().all(|entry| entry.artifacts.is_none()) {
            return Ok(None);
        }
        let mut artifacts = HashSet::new();
        for entry in &system.strata {
            let Some(stratum) = self.get(entry.stratum).and_then(Component::stratum) else {
                continue;
            };
            for member in stratum.members.iter().filter(|member| member.chunk == chunk) {
                let Some(selection) = &entry.artifacts else { return Ok(None) };
                artifacts.extend(self.selected_artifacts(
                    entry.stratum,
                    member,
                    Some(selection),
                )?);
            }
        }
        let splitter =
            self.get(chunk).and_then(|component| self.splitter(component)).transpose()?;
        Ok(splitter.map(|splitter| Selection { splitter, artifacts }))
    }

    /// The artifacts of `member`'s chunk that a system gets which takes `selection` (`None`: all)
    /// of `stratum`. The member's own assignments come before the stratum's rules.
    pub fn selected_artifacts(
        &self,
        stratum: ComponentId,
        member: &Member,
        selection: Option<&[String]>,
    ) -> Result<Vec<String>, regex::Error> {
        let (Some(stratum), Some(chunk)) = (self.get(stratum), self.get(member.chunk)) else {
            return Ok(Vec::new());
        };
        let (Some(rules), Some(splitter)) = (self.splitter(stratum), self.splitter(chunk)) else {
            return Ok(Vec::new());
        };
        let (rules, splitter) = (rules?, splitter?);
        let selected = splitter.artifacts().into_iter().filter(|artifact| {
            let target = match member.artifacts.get(*artifact) {
                Some(target) => Some(target.as_str()),
                None => rules.artifact(artifact.as_bytes()),
            };
            match (selection, target) {
                (None, _) => true,
                (Some(selection), Some(target)) => selection.iter().any(|s| s == target),
                (Some(_), None) => false,
            }
        });
        Ok(selected.map(str::to_owned).collect())
    }
}
