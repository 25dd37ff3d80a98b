//! Resolves strata: the chunks of their entries, and what those need.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::Reading;
use super::chunk::Origin;
use super::defaults::split_rules_from;
use super::model::{Chunk, Component, ComponentId, Detail, Kind, Member, Stratum};
use super::problem::{Severity, Spot};
use super::raw::RawEntry;
use super::resolve::{Loaded, Resolver, check_name, identity};
use super::split;

impl Resolver {
    pub(super) fn stratum(&mut self, file: &mut Loaded) {
        let mut stratum = Stratum::default();
        let mut known = HashSet::new();
        for (i, item) in file.raw.build_depends.take().unwrap_or_default().iter().enumerate() {
            let spot = file.spot.field("build-depends").item(i).field("morph");
            if let Some(id) = self.reference(&item.morph, Kind::Stratum, &spot)
                && known.insert(id)
            {
                stratum.build_depends.push(id);
            }
        }
        let products = file.raw.products.take().unwrap_or_default();
        stratum.products =
            split_rules_from(products, &file.spot.field("products"), &mut self.problems);
        let Some(entries) = file.raw.chunks.take() else {
            self.problems.error(file.spot.clone(), "a stratum needs `chunks`");
            return;
        };
        if entries.is_empty() {
            self.problems.warning(file.spot.field("chunks"), "the stratum has no chunks");
        }
        let Some((path, name)) = self.get(file.id).map(|c| (c.path.clone(), c.name.clone())) else {
            return;
        };
        let targets: HashSet<String> = stratum
            .products
            .iter()
            .chain(&self.defaults.stratum_rules)
            .map(|rule| split::artifact_name(&name, &rule.artifact))
            .collect();
        let mut context = StratumContext {
            path,
            build_depends: &stratum.build_depends,
            siblings: HashMap::with_capacity(entries.len()),
            lost: HashSet::new(),
            targets,
            needs: Needs::new(&entries, file.spot.field("chunks")),
        };
        let mut members = Vec::with_capacity(entries.len());
        for (i, mut entry) in entries.into_iter().enumerate() {
            let spot = file.spot.field("chunks").item(i);
            match self.member(&mut context, &mut entry, &spot) {
                Some(member) => members.push(member),
                None => context.lost.extend(entry_name(&entry)),
            }
        }
        stratum.members = members;
        self.set(file.id, Detail::Stratum(stratum));
    }

    fn member(
        &mut self,
        context: &mut StratumContext<'_>,
        entry: &mut RawEntry,
        spot: &Spot,
    ) -> Option<Member> {
        let Some(name) = entry_name(entry) else {
            self.problems.error(spot.clone(), "the entry has neither `name` nor `morph`");
            return None;
        };
        if let Err(reason) = check_name(&name) {
            self.problems.error(spot.clone(), format!("`{name}` cannot be a name: {reason}"));
            return None;
        }
        let id = self.member_chunk(context, entry, &name, spot)?;
        let own = self.siblings(context, entry, &name, spot);
        if entry.submodules.is_some() {
            self.came_with(8, "`submodules`", || spot.field("submodules"));
        }
        if entry.build_system.is_some() {
            self.came_with(6, "`build-system` in a stratum", || spot.field("build-system"));
        }
        let origin = Origin::from_entry(entry, spot, &mut self.problems);
        self.merge_origin(id, origin, spot);
        let inherited = context.build_depends;
        if let Some(chunk) = self.chunk_mut(id) {
            let mut known: HashSet<_> = chunk.build_depends.iter().copied().collect();
            let all = inherited.iter().copied().chain(own);
            chunk.build_depends.extend(all.filter(|dependency| known.insert(*dependency)));
        }
        let mut artifacts = BTreeMap::new();
        for (artifact, target) in entry.artifacts.take().unwrap_or_default().0 {
            if !context.targets.contains(&target) {
                let message = format!("the stratum has no artifact `{target}`");
                let spot = spot.field("artifacts").field(&artifact);
                let known = context.targets.iter().map(String::as_str);
                self.problems.misspelt(spot, message, &target, known);
            }
            artifacts.insert(artifact, target);
        }
        match context.siblings.insert(name.clone(), id) {
            None => Some(Member { chunk: id, artifacts }),
            Some(earlier) => {
                let message = format!("a second chunk `{name}` in this stratum");
                match earlier == id {
                    true => self.problems.tolerated(spot.clone(), message, None, "they are one"),
                    false => self.problems.error(spot.clone(), message),
                }
                None
            }
        }
    }

    /// The chunk that an entry is about: that of its file, or a new one below the stratum's path.
    fn member_chunk(
        &mut self,
        context: &StratumContext<'_>,
        entry: &RawEntry,
        name: &str,
        spot: &Spot,
    ) -> Option<ComponentId> {
        let mut path = format!("{}/{name}", context.path);
        if let Some(morph) = &entry.morph {
            let spot = spot.field("morph");
            if entry.build_system.is_some() && self.version >= 6 {
                let message = "`morph` and `build-system` exclude each other";
                self.problems.warning(spot.clone(), message);
            }
            let missing = match identity(morph) {
                Ok(path) if self.by_path.contains_key(path) || self.is_unusable(path) => None,
                Ok(path) => Some(path),
                Err(_) => None,
            };
            let strict = self.version >= 2 && self.problems.reading == Reading::Strict;
            let Some(missing) = missing.filter(|_| !strict) else {
                return self.reference(morph, Kind::Chunk, &spot);
            };
            let hint = self.similar_file(missing, Kind::Chunk);
            let message = format!("there is no file `{morph}`; the chunk has no instructions");
            self.problems.warning_hint(spot, message, hint);
            path = missing.to_owned();
        } else {
            if entry.build_system.is_none() && self.version >= 6 {
                let message = format!("`{name}` has neither `morph` nor `build-system`");
                let hint = Some("say `build-system: manual`".to_owned());
                let instead = "how to build it is detected";
                self.problems.tolerated(spot.clone(), message, hint, instead);
            }
            let file = format!("{path}.morph");
            let known = self.by_path.get(&path).copied();
            if known.and_then(|id| self.get(id)).is_some_and(|c| c.file == file) {
                let message = format!("`{path}.morph` exists but the entry does not name it");
                self.problems.warning(spot.clone(), message);
                path.push_str(".default");
            }
        }
        if let Some(id) = self.by_path.get(&path).copied() {
            let other = self.get(id).map(Component::kind).filter(|kind| *kind != Kind::Chunk);
            let Some(kind) = other else { return Some(id) };
            self.problems.error(spot.clone(), format!("`{path}` is a {kind}, not a chunk"));
            return None;
        }
        // Only where YBD's way is followed can there be a chunk of which nobody says how to build it.
        let chunk = Chunk { detected: entry.build_system.is_none(), ..Chunk::default() };
        let detail = Detail::Chunk(Box::new(chunk));
        let (name, file) = (name.to_owned(), spot.file.clone());
        self.add(Component { path, name, description: None, file, detail })
    }

    /// The chunks of an entry's own `build-depends`.
    fn siblings(
        &mut self,
        context: &mut StratumContext<'_>,
        entry: &mut RawEntry,
        own: &str,
        spot: &Spot,
    ) -> Vec<ComponentId> {
        let mut found = Vec::new();
        for (i, name) in entry.build_depends.take().unwrap_or_default().iter().enumerate() {
            if let Some(id) = context.siblings.get(name) {
                found.push(*id);
                continue;
            }
            if context.lost.contains(name) {
                continue;
            }
            let spot = spot.field("build-depends").item(i);
            match context.needs.look_ahead(own, name) {
                Ahead::Nothing => {
                    let message =
                        format!("`{own}` needs `{name}`, and {} has no such chunk", context.path);
                    let known = context.siblings.keys().map(String::as_str);
                    self.problems.misspelt(spot, message, name, known);
                }
                Ahead::Later => {
                    let message = format!(
                        "`{own}` needs `{name}`, which does not stand before it in {}",
                        context.path
                    );
                    self.problems.error_hint(spot, message, "move it up");
                }
                Ahead::Cycle(trail) => {
                    let names = trail.iter().map(|(needed_by, ..)| needed_by.as_str());
                    let names: Vec<_> = names.chain([own]).collect();
                    let message = format!("dependency cycle: {}", names.join(" → "));
                    let trail = trail
                        .iter()
                        .map(|(from, to, spot)| (spot.clone(), format!("`{from}` needs `{to}`")));
                    let trail = trail.collect();
                    self.problems.with_trail(spot, Severity::Error, message, trail);
                }
                Ahead::KnownCycle => {}
            }
        }
        found
    }

    /// Gives a chunk its source, once; another entry for it must say the same.
    fn merge_origin(&mut self, id: ComponentId, origin: Origin, spot: &Spot) {
        let mut earlier = None;
        let (origin, spot) = match self.origins.remove(&id) {
            None => (origin, spot.clone()),
            Some((first, place)) => {
                earlier.clone_from(&first.build_system);
                let merged = self.agreed(id, first, origin, &place, spot);
                (merged, place)
            }
        };
        if let Some(chunk) = self.chunk_mut(id) {
            chunk.source = origin.source.clone();
            chunk.build_mode = origin.build_mode.unwrap_or_default();
            chunk.prefix = origin.prefix.clone();
            // What the chunk's own file says counts before what any entry does.
            let own = chunk.build_system.take().filter(|own| Some(own) != earlier.as_ref());
            chunk.build_system = own.or(origin.build_system.clone());
        }
        self.origins.insert(id, (origin, spot));
    }

    /// What two entries for one chunk say together.
    fn agreed(
        &mut self,
        id: ComponentId,
        first: Origin,
        other: Origin,
        place: &Spot,
        spot: &Spot,
    ) -> Origin {
        let Some(field) = first.conflict(&other) else { return first };
        let message = format!(
            "`{}` is described differently in {}: `{field}` is not the same",
            self.get(id).map_or("", |c| &c.path),
            place.file,
        );
        let overlaid = !(first.has_ref() && other.has_ref());
        let instead = match overlaid {
            true => "what this entry says wins",
            false => "the first entry counts",
        };
        self.problems.tolerated(spot.clone(), message, None, instead);
        match overlaid && self.problems.reading == Reading::Compatible {
            true => first.overlaid(other),
            false => first,
        }
    }
}

struct StratumContext<'a> {
    path: String,
    build_depends: &'a [ComponentId],
    /// Chunks of the entries so far, by name.
    siblings: HashMap<String, ComponentId>,
    /// Names of entries so far that have errors of their own.
    lost: HashSet<String>,
    /// The artifacts of the stratum.
    targets: HashSet<String>,
    needs: Needs,
}

/// Cycles that are looked for in one stratum: looking for each in hostile input would take hours.
const MAX_WALKS: usize = 20;

/// What every entry of a stratum says that it needs, for telling a cycle from a wrong order.
struct Needs {
    /// The entry's place and the names in its `build-depends`, by the entry's name.
    entries: HashMap<String, (usize, Vec<String>)>,
    chunks: Spot,
    walks: usize,
    /// Steps of the cycles found.
    known: HashSet<(String, String)>,
}

/// What a name that has not stood in the stratum yet may be.
enum Ahead {
    Nothing,
    Later,
    /// Who needs whom, and where that is said; the end of each step is the beginning of the next.
    Cycle(Vec<(String, String, Spot)>),
    /// A step of a cycle that was told before.
    KnownCycle,
}

impl Needs {
    fn new(entries: &[RawEntry], chunks: Spot) -> Self {
        let named = entries.iter().enumerate().filter_map(|(item, entry)| {
            Some((entry_name(entry)?, (item, entry.build_depends.clone().unwrap_or_default())))
        });
        Needs { entries: named.collect(), chunks, walks: 0, known: HashSet::new() }
    }

    fn look_ahead(&mut self, own: &str, name: &str) -> Ahead {
        if !self.entries.contains_key(name) {
            return Ahead::Nothing;
        }
        if self.known.contains(&(own.to_owned(), name.to_owned())) {
            return Ahead::KnownCycle;
        }
        self.walks = self.walks.saturating_add(1);
        if self.walks > MAX_WALKS {
            return Ahead::Later;
        }
        let Some(way) = self.shortest_way(name, own) else { return Ahead::Later };
        let all = [own].into_iter().chain(way.iter().map(String::as_str)).collect::<Vec<_>>();
        let mut trail = Vec::new();
        for step in all.windows(2) {
            let [from, to] = step else { continue };
            self.known.insert(((*from).to_owned(), (*to).to_owned()));
            trail.push(((*from).to_owned(), (*to).to_owned(), self.spot(from, to)));
        }
        Ahead::Cycle(trail)
    }

    /// Names along the shortest way, both ends included.
    fn shortest_way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut came_from: HashMap<&str, &str> = HashMap::new();
        let mut queue = VecDeque::from([self.entries.get_key_value(from)?.0.as_str()]);
        while let Some(name) = queue.pop_front() {
            if name == to {
                let mut way = vec![name.to_owned()];
                let mut at = name;
                while at != from {
                    at = came_from.get(at).copied()?;
                    way.push(at.to_owned());
                }
                way.reverse();
                return Some(way);
            }
            for next in self.entries.get(name).into_iter().flat_map(|(_, needs)| needs) {
                if next != from && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next.as_str(), name);
                    queue.push_back(next.as_str());
                }
            }
        }
        None
    }

    /// Where an entry says that it needs another.
    fn spot(&self, from: &str, to: &str) -> Spot {
        let Some((item, needs)) = self.entries.get(from) else { return self.chunks.clone() };
        let place = needs.iter().position(|name| name == to).unwrap_or(0);
        self.chunks.item(*item).field("build-depends").item(place)
    }
}

fn entry_name(entry: &RawEntry) -> Option<String> {
    entry.name.clone().or_else(|| {
        let path = entry.morph.as_deref()?;
        let base = path.rsplit('/').next().unwrap_or(path);
        Some(base.strip_suffix(".morph").unwrap_or(base).to_owned())
    })
}
