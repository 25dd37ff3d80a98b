//! Write policies by path prefix.
//!
//! Prefixes form a small trie. A directory knows its [`Place`] in it, so the policy of a child is
//! one step and no operation ever has to build a path.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// What happens to writes below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Writable; becomes an artifact.
    Capture,
    /// Writable; thrown away.
    Scratch,
    /// `EROFS`.
    ReadOnly,
}

impl Policy {
    pub const fn is_writable(self) -> bool {
        !matches!(self, Policy::ReadOnly)
    }
}

/// A path prefix with its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// An absolute path; `/` is everything. It need not exist.
    pub prefix: Vec<u8>,
    pub policy: Policy,
}

/// Where a node stands among the zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub policy: Policy,
    /// The trie node of exactly this path, or `OFF` where no zone begins here or below.
    step: u16,
}

const OFF: u16 = u16::MAX;

impl Place {
    pub(super) const fn is_writable(self) -> bool {
        self.policy.is_writable()
    }

    /// Whether a zone begins at this path or below it: such a directory may not be moved.
    pub(super) const fn is_pinned(self) -> bool {
        self.step != OFF
    }
}

struct Step {
    parent: u16,
    own: Option<Policy>,
    policy: Policy,
    children: Vec<(Vec<u8>, u16)>,
}

pub(super) struct Zones {
    steps: Vec<Step>,
}

impl Zones {
    pub(super) fn new(zones: &[Zone]) -> Result<Zones> {
        let root = Step { parent: OFF, own: None, policy: Policy::ReadOnly, children: Vec::new() };
        let mut trie = Zones { steps: vec![root] };
        for zone in zones {
            trie.add(zone)?;
        }
        trie.settle();
        Ok(trie)
    }

    fn add(&mut self, zone: &Zone) -> Result<()> {
        let shown = String::from_utf8_lossy(&zone.prefix);
        if zone.prefix.first() != Some(&b'/') {
            return Err(Error::Invalid(format!(
                "The zone prefix '{shown}' is not an absolute path; begin it with '/'."
            )));
        }
        let mut at = 0;
        for name in components(&zone.prefix) {
            if name == b"." || name == b".." {
                return Err(Error::Invalid(format!(
                    "The zone prefix '{shown}' contains '.' or '..'; write the plain path."
                )));
            }
            at = match self.find(at, name) {
                Some(next) => next,
                None => self.grow(at, name)?,
            };
        }
        if let Some(step) = self.steps.get_mut(usize::from(at))
            && step.own.replace(zone.policy).is_some()
        {
            return Err(Error::Invalid(format!("The zone prefix '{shown}' is given twice.")));
        }
        Ok(())
    }

    fn grow(&mut self, at: u16, name: &[u8]) -> Result<u16> {
        let next = u16::try_from(self.steps.len()).ok().filter(|next| *next != OFF);
        let (Some(next), Some(step)) = (next, self.steps.get_mut(usize::from(at))) else {
            return Err(Error::Invalid(
                "There are too many zones (65,535 path components).".into(),
            ));
        };
        step.children.push((name.to_vec(), next));
        self.steps.push(Step {
            parent: at,
            own: None,
            policy: Policy::ReadOnly,
            children: Vec::new(),
        });
        Ok(next)
    }

    /// Lets every step inherit; parents precede their children.
    fn settle(&mut self) {
        for index in 0..self.steps.len() {
            let inherited = self
                .steps
                .get(index)
                .and_then(|step| self.steps.get(usize::from(step.parent)))
                .map_or(Policy::ReadOnly, |parent| parent.policy);
            if let Some(step) = self.steps.get_mut(index) {
                step.policy = step.own.unwrap_or(inherited);
            }
        }
    }

    fn find(&self, at: u16, name: &[u8]) -> Option<u16> {
        let step = self.steps.get(usize::from(at))?;
        step.children.iter().find(|(child, _)| child == name).map(|(_, next)| *next)
    }

    pub(super) fn root(&self) -> Place {
        let policy = self.steps.first().map_or(Policy::ReadOnly, |step| step.policy);
        Place { policy, step: 0 }
    }

    pub(super) fn child(&self, place: Place, name: &[u8]) -> Place {
        match self.find(place.step, name) {
            Some(next) => {
                let policy = self.steps.get(usize::from(next)).map(|step| step.policy);
                Place { policy: policy.unwrap_or(place.policy), step: next }
            }
            None => Place { policy: place.policy, step: OFF },
        }
    }

    /// Whether a zone begins strictly below the place.
    pub(super) fn has_zones_below(&self, place: Place) -> bool {
        self.steps.get(usize::from(place.step)).is_some_and(|step| !step.children.is_empty())
    }

    pub(super) fn policy_of(&self, path: &[u8]) -> Policy {
        components(path).fold(self.root(), |place, name| self.child(place, name)).policy
    }

    /// A place that answers "may this be written?" for every node, where there is one answer.
    pub(super) fn uniform(&self) -> Option<Place> {
        let policy = self.root().policy;
        let agrees = |step: &Step| step.policy.is_writable() == policy.is_writable();
        self.steps.iter().all(agrees).then_some(Place { policy, step: OFF })
    }

    pub(super) fn any_writable(&self) -> bool {
        self.steps.iter().any(|step| step.policy.is_writable())
    }
}

/// The names of a path, without empty ones.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}
