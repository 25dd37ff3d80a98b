//! What most commands begin with: the store, and definitions.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::definitions::{self, Definitions, Files, Reading};
use crate::store::{RunDirectory, Store};

use super::error::{CommandError, CommandResult, Exit};
use super::printable::printable_lines;
use crate::build::MOUNT_POINTS;

/// The store of this user, with what dead processes left in it cleaned away.
pub struct Context {
    pub store: Store,
}

impl Context {
    pub fn open() -> CommandResult<Context> {
        let store = Store::open(Store::default_root()?)?;
        // A killed orchestrator leaves its mounts behind; nobody else can still want them.
        let cleaned = store.clean_stale_runs(|directory| {
            for mountpoint in MOUNT_POINTS.map(|name| directory.join(name)) {
                match outcrop_fs::transport::clean_stale(&mountpoint) {
                    Ok(true) => log::info!("took away the stale mount {}", mountpoint.display()),
                    Ok(false) => {}
                    Err(error) => log::debug!("{error}"),
                }
            }
        })?;
        for directory in cleaned {
            log::info!("removed {}, left by a killed process", directory.display());
        }
        Ok(Context { store })
    }

    pub fn run_directory(&self) -> CommandResult<RunDirectory> {
        Ok(self.store.run_directory()?)
    }
}

/// The settings of a tree, and how its definitions are to be read.
pub fn settings(arguments: &DefinitionsArguments) -> CommandResult<(Config, Reading)> {
    // A setting beside definitions that are not there is no matter.
    let config = Config::load(&arguments.definitions)
        .map_err(|error| CommandError::input(error.to_string()))?;
    let compatible = arguments.compat || config.compat.unwrap_or(false);
    let reading = if compatible { Reading::Compatible } else { Reading::Strict };
    Ok((config, reading))
}

/// The files of a tree, which must have some.
pub fn read_definitions(directory: &Path) -> CommandResult<Files> {
    let place = directory.display();
    let unusable = |problem: String| {
        CommandError::input(problem).hint("`--definitions DIR` names the directory of definitions")
    };
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(unusable(format!("{place} is not a directory of definitions"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(unusable(format!("the directory of definitions {place} does not exist")));
        }
        Err(error) => {
            return Err(unusable(format!("cannot read the definitions in {place}: {error}")));
        }
    }
    let files = definitions::load::read_files(directory);
    if files.is_empty() {
        let problem = "has no definitions: neither VERSION nor DEFAULTS nor any .morph file";
        return Err(unusable(format!("{place} {problem}")));
    }
    Ok(files)
}

/// Definitions of a tree, with their warnings shown.
pub fn load_definitions(directory: &Path, reading: Reading) -> CommandResult<Definitions> {
    let files = read_definitions(directory)?;
    let loaded = Definitions::parse(&files, reading).map_err(|problems| {
        CommandError::new(Exit::BadInput, problems.to_string()).hint(format!(
            "the definitions in {} cannot be used as they are; `--definitions DIR` names others",
            directory.display()
        ))
    })?;
    for warning in &loaded.warnings {
        log::warn!("{}", printable_lines(&warning.to_string()));
    }
    Ok(loaded)
}

/// Where definitions are and for what they are built: shared by all commands that may name a
/// component.
#[derive(clap::Args, Clone)]
pub struct DefinitionsArguments {
    /// The definitions: a directory with strata/, systems/ and so on
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub definitions: PathBuf,

    /// Baserock name of the architecture; without it what a system names, else this machine's
    #[arg(long)]
    pub arch: Option<String>,

    /// Read definitions as YBD did where it put up with what is an error here
    #[arg(long)]
    pub compat: bool,

    #[command(flatten)]
    pub sources: SourceArguments,
}

#[derive(clap::Args, Clone, Copy, Default)]
pub struct OfflineArgument {
    /// Ask nothing of servers: take sources from the store and this machine
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    offline: Option<bool>,
}

impl OfflineArgument {
    /// What is asked for, else what the settings say.
    pub fn or(self, config: &Config) -> bool {
        self.offline.or(config.offline).unwrap_or(false)
    }
}

/// How sources are come by, for everything that has a key.
#[derive(clap::Args, Clone, Default)]
pub struct SourceArguments {
    #[command(flatten)]
    pub offline: OfflineArgument,

    /// Take the newest commit of the branch in `unpetrify-ref`: of all chunks, or of those named
    #[arg(long, value_name = "CHUNK,…", num_args = 0..=1, require_equals = true,
        value_delimiter = ',')]
    pub track_branches: Option<Vec<String>>,
}

impl SourceArguments {
    /// The option as it was given, with a space in front; empty where it was not.
    pub fn tracking_option(&self) -> String {
        match &self.track_branches {
            Some(chunks) if chunks.is_empty() => " --track-branches".to_owned(),
            Some(chunks) => format!(" --track-branches={}", chunks.join(",")),
            None => String::new(),
        }
    }
}

/// What a command works on, shared by all that take a component of definitions.
#[derive(clap::Args, Clone)]
pub struct TargetArguments {
    /// A path in the definitions, or a name that only one of them has
    pub target: String,

    #[command(flatten)]
    pub definitions: DefinitionsArguments,
}

impl From<crate::store::Error> for CommandError {
    fn from(error: crate::store::Error) -> Self {
        let exit = if error.is_full_disk() { Exit::BuildFailed } else { Exit::HostLacks };
        CommandError::new(exit, error.to_string())
    }
}

impl From<outcrop_fs::transport::MountError> for CommandError {
    fn from(error: outcrop_fs::transport::MountError) -> Self {
        let exit = if error.is_host_problem() { Exit::HostLacks } else { Exit::BadInput };
        let lacks = error.is_host_problem();
        let error = CommandError::new(exit, error.to_string());
        if lacks {
            error.hint("`outcrop doctor` checks everything that a host needs")
        } else {
            error
        }
    }
}
