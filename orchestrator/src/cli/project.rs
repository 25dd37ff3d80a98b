//! Definitions with everything that their keys need: configuration, architecture, kit.

use std::path::PathBuf;

use crate::build::plan::{Inquiry, Plan, Resolved};
use crate::config::Config;
use crate::definitions::{Arch, Definitions};
use crate::kit::{Kit, Kits};
use crate::sources::Aliases;

use super::context::{Context, DefinitionsArguments, load_definitions};
use super::error::{CommandError, CommandResult, Exit};

pub struct Project {
    pub definitions: Definitions,
    pub directory: PathBuf,
    pub config: Config,
    pub arch: Arch,
    pub kit: Kit,
    aliases: Aliases,
}

impl Project {
    /// Loads definitions for a target. The architecture is what is asked for, else the target
    /// system's, else the host's.
    pub fn open(
        context: &Context,
        arguments: &DefinitionsArguments,
        target: &str,
        arch: Option<&str>,
    ) -> CommandResult<Project> {
        let definitions = load_definitions(&arguments.definitions)?;
        let config = Config::load(&arguments.definitions)
            .map_err(|error| CommandError::input(error.to_string()))?;
        let id =
            definitions.select(target).map_err(|error| CommandError::input(error.to_string()))?;
        let of_system = definitions.get(id).and_then(|c| c.system()).map(|s| s.arch.clone());
        let name = match (arch, of_system) {
            (Some(asked), Some(own)) if asked != own => {
                return Err(CommandError::input(format!(
                    "the system {target} is for {own}, and {asked} was asked for"
                )));
            }
            (Some(asked), _) => asked.to_owned(),
            (None, Some(own)) => own,
            (None, None) => std::env::consts::ARCH.to_owned(),
        };
        let arch = Arch::find(&name).ok_or_else(|| {
            CommandError::input(format!("{name} is not the name of an architecture"))
        })?;
        let kit = Kits::new(context.store.kits()).current(arch.name).map_err(|error| {
            CommandError::new(Exit::HostLacks, error.to_string())
                .hint(format!("make one with: outcrop kit create --arch {}", arch.name))
        })?;
        let aliases = config.aliases();
        let directory = arguments.definitions.clone();
        Ok(Project { definitions, directory, config, arch, kit, aliases })
    }

    fn inquiry<'a>(
        &'a self,
        context: &'a Context,
        fetching: &'a dyn Fn(&str, &str),
    ) -> Inquiry<'a> {
        Inquiry {
            store: &context.store,
            definitions: &self.definitions,
            directory: &self.directory,
            arch: self.arch,
            kit_id: self.kit.id(),
            aliases: &self.aliases,
            fetching,
        }
    }

    /// Fetches what is missing of the target's sources and computes all keys.
    pub fn resolve(
        &self,
        context: &Context,
        target: &str,
        fetching: &dyn Fn(&str, &str),
    ) -> CommandResult<Resolved> {
        Ok(Resolved::new(&self.inquiry(context, fetching), target)?)
    }

    pub fn plan(&self, context: &Context, resolved: &Resolved) -> CommandResult<Plan> {
        Ok(Plan::new(&self.inquiry(context, &|_, _| {}), resolved)?)
    }

    /// The job that builds a target, whether or not the store has it.
    pub fn job(
        &self,
        context: &Context,
        resolved: &Resolved,
    ) -> CommandResult<crate::build::plan::Planned> {
        Ok(Plan::job(&self.inquiry(context, &|_, _| {}), resolved)?)
    }
}

impl From<crate::build::BuildError> for CommandError {
    fn from(error: crate::build::BuildError) -> Self {
        use crate::build::BuildError;
        match error {
            BuildError::FileSystem(error) => error.into(),
            BuildError::Mount(error) => error.into(),
            BuildError::Virtiofs(error) => CommandError::host(error.to_string()),
            BuildError::Store(error) => error.into(),
            BuildError::Kit(error) => error.into(),
            BuildError::Invalid(text) => CommandError::input(text),
            other => CommandError::build(other.to_string()),
        }
    }
}
