//! Definitions with everything that their keys need: configuration, architecture, kit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::build::BuildError;
use crate::build::gather::{
    self, Gathered, Missing, Request, Source, SourceEvent, SourceFailures, SourceObserver,
};
use crate::build::plan::{Inquiry, Plan, Planned, Resolved, Work};
use crate::build::track::Tracking;
use crate::config::Config;
use crate::definitions::{Arch, ComponentId, Definitions, FilesAgain, load, nearest};
use crate::graph::Graph;
use crate::kit::{self, Architecture, Kit, Kits};
use crate::output;
use crate::sources::{self, Aliases, Cause, Sources};

use super::context::{Context, DefinitionsArguments, TargetArguments, load_definitions, settings};
use super::error::{CommandError, CommandResult, Exit};

/// Loaded definitions and settings, and the target that a command is about.
pub struct Project {
    pub definitions: Definitions,
    pub directory: PathBuf,
    pub config: Config,
    pub arch: Arch,
    target: String,
    aliases: Aliases,
    offline: bool,
    tracked: HashSet<ComponentId>,
    tracking_option: String,
}

impl Project {
    /// Loads definitions for a target. The architecture is what is asked for, else the target
    /// system's, else the host's.
    pub fn open(arguments: &TargetArguments) -> CommandResult<Project> {
        Project::of(&arguments.target, &arguments.definitions)
    }

    /// The same for a target that is told apart from the other arguments.
    pub fn of(target: &str, arguments: &DefinitionsArguments) -> CommandResult<Project> {
        let DefinitionsArguments { definitions: directory, arch, sources, .. } = arguments;
        if let Some(asked) = arch {
            find_architecture(asked)?;
        }
        let (config, reading) = settings(arguments)?;
        let definitions = load_definitions(directory, reading)?;
        let inside = path_inside(directory, target).filter(|path| definitions.find(path).is_some());
        let target = inside.as_deref().unwrap_or(target);
        let id = definitions.select(target).map_err(|error| {
            CommandError::input(error.to_string()).hint(format!(
                "the definitions are those in {}; `--definitions DIR` names others",
                directory.display()
            ))
        })?;
        let of_system = definitions.get(id).and_then(|c| c.system()).map(|s| s.arch.clone());
        let name = match (arch, of_system) {
            (Some(asked), Some(own)) if *asked != own => {
                return Err(CommandError::input(format!(
                    "the system {target} is for {own}, and {asked} was asked for"
                )));
            }
            (Some(asked), _) => asked.clone(),
            (None, Some(own)) => own,
            (None, None) => std::env::consts::ARCH.to_owned(),
        };
        let arch = find_architecture(&name)?;
        let aliases = config.aliases();
        let offline = sources.offline.or(&config);
        let tracked = match (&sources.track_branches, &config.track_branches) {
            (Some(chunks), _) => Tracking::from_words(chunks),
            (None, setting) => setting.clone().unwrap_or_default(),
        };
        let tracked = tracked.chunks(&definitions)?;
        let (directory, target) = (directory.clone(), target.to_owned());
        let tracking_option = sources.tracking_option();
        Ok(Project {
            definitions,
            directory,
            config,
            arch,
            target,
            aliases,
            offline,
            tracked,
            tracking_option,
        })
    }

    /// The kit of the target's architecture, which no collection takes while the command runs.
    pub fn kit(&self, context: &Context) -> CommandResult<Kit> {
        let arch = self.arch.name;
        let kit = Kits::new(context.store.kits()).current(arch).map_err(|error| match error {
            kit::Error::NoKit { .. } => CommandError::host(format!(
                "there is no kit for {arch}, and the key of everything that is built covers the \
                 kit that builds it"
            ))
            .hint(format!("make one with: outcrop kit create --arch {arch}")),
            error => error.into(),
        })?;
        context.store.hold(kit.directory())?;
        Ok(kit)
    }

    /// The target itself.
    pub fn target(&self) -> CommandResult<ComponentId> {
        let id = self.definitions.select(&self.target);
        id.map_err(|error| CommandError::input(error.to_string()))
    }

    /// The target and everything that it is made from.
    pub fn graph(&self) -> CommandResult<(ComponentId, Graph)> {
        Ok(gather::graph_of(&self.definitions, &self.directory, &self.target)?)
    }

    /// The definitions' files, for finding places in them.
    pub fn files_again(&self) -> FilesAgain<impl Fn(&str) -> Option<String>> {
        load::files_again(&self.directory)
    }

    /// Fetches what the store lacks of the target's sources.
    pub fn gather(
        &self,
        context: &Context,
        observer: &SourceObserver<'_>,
    ) -> CommandResult<Gathered> {
        let sources = self.sources(context);
        let gathered = gather::gather(&self.request(&sources, observer), &self.target);
        gathered.map_err(|error| self.explain_offline(error))
    }

    /// Fetches what the store lacks, and gives each source of the target, in building order.
    pub fn fetch(
        &self,
        context: &Context,
        observer: &SourceObserver<'_>,
    ) -> CommandResult<Vec<(ComponentId, sources::Result<Source>)>> {
        let (_, graph) = self.graph()?;
        let sources = self.sources(context);
        Ok(gather::fetch(&self.request(&sources, observer), &graph)?)
    }

    fn sources(&self, context: &Context) -> Sources {
        Sources::new(context.store.clone()).offline(self.offline)
    }

    fn request<'a>(
        &'a self,
        sources: &'a Sources,
        observer: &'a SourceObserver<'a>,
    ) -> Request<'a> {
        Request {
            sources,
            definitions: &self.definitions,
            directory: &self.directory,
            aliases: &self.aliases,
            tracked: &self.tracked,
            observer,
        }
    }

    /// The error, with how to come by sources that may not be fetched.
    pub fn explain_offline(&self, error: BuildError) -> CommandError {
        let hint = match &error {
            BuildError::Sources(failures) => self.offline_hint(failures.0.iter().map(|(_, e)| e)),
            _ => None,
        };
        let error = CommandError::from(error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// An error where sources cannot be had, once all that can be said without them has been.
    pub fn tell_missing(&self, missing: Missing) -> CommandResult {
        match missing.failures.is_empty() {
            true => Ok(()),
            false => {
                let failures = BuildError::Sources(SourceFailures(missing.failures));
                Err(self.explain_offline(failures))
            }
        }
    }

    /// How to come by the sources that may not be fetched, where some of the errors say so.
    pub fn offline_hint<'a>(
        &self,
        mut errors: impl Iterator<Item = &'a sources::Error>,
    ) -> Option<String> {
        if !errors.any(sources::Error::is_offline) {
            return None;
        }
        let mut command = format!("outcrop source fetch {}", self.target);
        if self.directory != Path::new(".") {
            command += &format!(" --definitions {}", self.directory.display());
        }
        command += &self.tracking_option;
        if self.config.offline == Some(true) {
            command += " --offline=false";
        }
        Some(format!("with a network, get them with: {command}"))
    }

    fn inquiry<'a>(&'a self, context: &'a Context, kit: &'a Kit) -> Inquiry<'a> {
        Inquiry {
            store: &context.store,
            definitions: &self.definitions,
            arch: self.arch,
            kit_id: kit.id(),
        }
    }

    /// Fetches what is missing of the target's sources and computes all keys.
    pub fn resolve(
        &self,
        context: &Context,
        kit: &Kit,
        observer: &SourceObserver<'_>,
    ) -> CommandResult<Resolved> {
        let gathered = self.gather(context, observer)?;
        Ok(Resolved::new(&self.inquiry(context, kit), gathered)?)
    }

    /// The same without what lacks a source.
    pub fn resolve_available(
        &self,
        context: &Context,
        kit: &Kit,
        observer: &SourceObserver<'_>,
    ) -> CommandResult<(Resolved, Missing)> {
        let sources = self.sources(context);
        let request = self.request(&sources, observer);
        let (gathered, missing) = gather::gather_available(&request, &self.target)?;
        Ok((Resolved::new(&self.inquiry(context, kit), gathered)?, missing))
    }

    pub fn plan(&self, context: &Context, kit: &Kit, resolved: &Resolved) -> CommandResult<Plan> {
        Ok(Plan::new(&self.inquiry(context, kit), resolved)?)
    }

    /// The job that builds the target, whether or not the store has it.
    pub fn job(&self, context: &Context, kit: &Kit, resolved: &Resolved) -> CommandResult<Work> {
        Ok(Plan::job(&self.inquiry(context, kit), resolved)?)
    }

    /// What is to be done for one of a plan.
    pub fn work(
        &self,
        context: &Context,
        kit: &Kit,
        resolved: &Resolved,
        planned: &Planned,
    ) -> Result<Work, BuildError> {
        Plan::work(&self.inquiry(context, kit), resolved, planned)
    }
}

/// The component that a path means which leads into the definitions, as a shell completes it.
fn path_inside(directory: &Path, target: &str) -> Option<String> {
    let path = std::path::absolute(target.strip_suffix(".morph")?).ok()?;
    let path = path.strip_prefix(std::path::absolute(directory).ok()?).ok()?;
    path.to_str().map(str::to_owned)
}

/// Says on stderr which source is being fetched, and which branch is tracked.
pub fn tell_fetching(event: SourceEvent<'_>) -> bool {
    if let Some(line) = line_of(&event) {
        output::say(line);
    }
    true
}

/// What is said of an event of a source; nothing of most.
pub fn line_of(event: &SourceEvent<'_>) -> Option<String> {
    match event {
        SourceEvent::Fetching { component, repo } => Some(format!("{component}: fetching {repo}")),
        SourceEvent::Tracked { component, branch: Some(branch), revision } => {
            Some(format!("{component}: branch {branch} is at {revision}"))
        }
        SourceEvent::Tracked { component, branch: None, revision } => Some(format!(
            "{component}: there is no branch to track; {} is taken",
            if revision.is_empty() { "what is pinned" } else { revision }
        )),
        SourceEvent::Counted(_) | SourceEvent::Progress { .. } | SourceEvent::Done { .. } => None,
    }
}

fn find_architecture(name: &str) -> CommandResult<Arch> {
    Arch::find(name).ok_or_else(|| {
        let names = Arch::ALL.map(|arch| arch.name);
        let kits = Architecture::names().collect::<Vec<_>>().join(", ");
        let error = CommandError::input(format!(
            "{name} is not the name of an architecture; there are kits for: {kits}"
        ));
        match Architecture::named_by_others(name).or_else(|| nearest(name, names)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}

impl From<kit::Error> for CommandError {
    fn from(error: kit::Error) -> Self {
        let kit::Error::UnknownArchitecture { name, known } = &error else {
            let exit = if error.is_input() { Exit::BadInput } else { Exit::HostLacks };
            return CommandError::new(exit, error.to_string());
        };
        // A name that definitions know is no slip of the pen.
        let slip = || nearest(name, known.split(", ")).filter(|_| Arch::find(name).is_none());
        let near = Architecture::named_by_others(name).or_else(slip);
        let near = near.map(|near| format!("did you mean `{near}`?"));
        let error = CommandError::input(error.to_string());
        match near {
            Some(near) => error.hint(near),
            None => error,
        }
    }
}

impl From<BuildError> for CommandError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::FileSystem(error) => error.into(),
            BuildError::Mount(error) => error.into(),
            BuildError::Virtiofs(error) => CommandError::host(error.to_string()),
            BuildError::Store(error) => error.into(),
            BuildError::Kit(error) => error.into(),
            BuildError::Sources(failures) => failures.into(),
            BuildError::Source(error) => {
                CommandError::new(exit_of(error.cause()), error.to_string())
            }
            BuildError::Invalid(text) => CommandError::input(text),
            BuildError::Guest(error) => error.into(),
            other => CommandError::build(other.to_string()),
        }
    }
}

/// The exit code of a source that cannot be had.
pub fn exit_of(cause: Cause) -> Exit {
    match cause {
        Cause::Input => Exit::BadInput,
        Cause::Circumstances => Exit::BuildFailed,
        Cause::Host => Exit::HostLacks,
    }
}

impl From<SourceFailures> for CommandError {
    /// docs/operations.md has the rule for several failures.
    fn from(failures: SourceFailures) -> Self {
        let exits = failures.0.iter().map(|(_, error)| exit_of(error.cause()));
        let exit = Exit::of_several(exits).unwrap_or(Exit::BuildFailed);
        CommandError::new(exit, failures.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_shell_completes_lead_into_the_definitions() {
        let inside = |directory: &str, target: &str| path_inside(Path::new(directory), target);
        for (directory, target) in [
            ("defs", "defs/systems/x.morph"),
            ("./defs/", "defs/systems/x.morph"),
            ("/a/defs", "/a/defs/systems/x.morph"),
            (".", "systems/x.morph"),
        ] {
            assert_eq!(inside(directory, target).as_deref(), Some("systems/x"), "{target}");
        }
        assert_eq!(inside("defs", "systems/x.morph"), None);
        assert_eq!(inside("defs", "defs/systems/x"), None);
    }
}
