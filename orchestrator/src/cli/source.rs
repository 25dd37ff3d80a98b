//! `outcrop source`: the sources that the store mirrors.

mod fetch;
mod series;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::output;
use crate::sources::{
    self, Location, Progress, SourceFields, SourceSpec, Sources, UrlOverrides, digest_of,
    is_archive_name,
};

use super::context::{Context, OfflineArgument, TargetArguments};
use super::error::{CommandError, CommandResult};
use super::project::exit_of;
use crate::words::without_credentials;

/// Fetch, import and list sources
#[derive(clap::Subcommand)]
pub enum Command {
    /// Fetch everything that a target is built from
    ///
    /// Several at once. What the store has is not fetched again, so after an interruption the same
    /// command goes on. What cannot be had does not keep the rest from being fetched; all failures
    /// are told at the end. Needs no kit.
    ///
    /// Example: outcrop source fetch minimal-x86_64 --definitions examples/minimal
    #[command(verbatim_doc_comment)]
    Fetch {
        #[command(flatten)]
        target: TargetArguments,

        /// One JSON object for each source
        #[arg(long)]
        json: bool,
    },
    /// Import one source and print the fields with which a definition names it
    ///
    /// The arguments are as in a definition. The checksum of a local archive is computed, and a
    /// branch or tag of a git repository is pinned to its commit.
    ///
    /// With --series the archives of one project become one repository, with a commit and a tag for
    /// each in the order of the versions in their names. Later releases can be added to it.
    ///
    /// Example: outcrop source import zlib-1.3.1.tar.gz
    /// Example: outcrop source import --series make-tarball make-4.2.tar.gz make-4.3.tar.gz
    /// Example: outcrop source import https://github.com/madler/zlib.git --ref v1.3.1
    #[command(verbatim_doc_comment)]
    Import(Import),
    /// List what the store mirrors
    ///
    /// Example: outcrop source list
    #[command(verbatim_doc_comment)]
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub struct Import {
    /// A git repository, an archive or debian:NAME, as `repo` in a definition; of a series local
    /// archives or directories of them
    #[arg(value_name = "REPO", required = true)]
    repos: Vec<String>,

    /// Import archives as the releases of series:NAME
    #[arg(long, value_name = "NAME", conflicts_with_all = ["reference", "sha256", "patches"])]
    series: Option<String>,

    /// A commit, tag or branch; of a Debian package the version
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,

    /// SHA-256 that the archive must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,

    /// Apply the patches of a Debian package
    #[arg(long)]
    patches: bool,

    /// Definitions whose aliases and settings count
    #[arg(long, value_name = "DIR", default_value = ".")]
    definitions: PathBuf,

    #[command(flatten)]
    offline: OfflineArgument,
}

pub fn run(command: &Command) -> CommandResult {
    match command {
        Command::Fetch { target, json } => fetch::run(target, *json),
        Command::Import(arguments) => match (&arguments.series, arguments.repos.as_slice()) {
            (Some(name), archives) => series::import(&Context::open()?, name, archives),
            (None, [repo]) => import(&Context::open()?, repo, arguments),
            (None, _) => {
                Err(CommandError::input("only a series is imported from several archives")
                    .hint("`--series NAME` makes one of them"))
            }
        },
        Command::List { json } => list(&Context::open()?, *json),
    }
}

fn list(context: &Context, json: bool) -> CommandResult {
    for (name, url) in Sources::new(context.store.clone()).list()? {
        if json {
            output::print(serde_json::json!({ "mirror": name, "url": url }))?;
        } else {
            output::print(format_args!("{name} {url}"))?;
        }
    }
    Ok(())
}

fn import(context: &Context, repo: &str, arguments: &Import) -> CommandResult {
    let config = Config::load(&arguments.definitions)
        .map_err(|error| CommandError::input(error.to_string()))?;
    let sha256 = match (&arguments.sha256, local_archive(repo)) {
        (None, Some(path)) => Some(digest_of(&path)?),
        (given, _) => given.clone(),
    };
    // On the command line a relative path begins where the person is.
    let base = std::env::current_dir()
        .map_err(|error| CommandError::host(format!("cannot tell where this is: {error}")))?;
    let fields = SourceFields {
        repo,
        reference: arguments.reference.as_deref(),
        sha256: sha256.as_deref(),
        patches: arguments.patches,
    };
    let spec = SourceSpec::parse(fields, &config.aliases(), &base)
        .map_err(|error| explain_directory(&base, repo, error))?;
    let repo = without_credentials(repo);
    let told = std::cell::Cell::new(false);
    let progress = |_: Progress<'_>| {
        if !told.replace(true) {
            output::say(format_args!("importing {repo}"));
        }
        true
    };
    let offline = arguments.offline.or(&config);
    let sources = Sources::new(context.store.clone()).offline(offline);
    let resolved = sources.resolve(&spec, &progress)?;
    if let SourceSpec::Git { url, .. } = &spec {
        let none = UrlOverrides::new();
        match sources.submodules(&resolved, url, &none, &config.aliases(), &progress) {
            Err(cancelled @ sources::Error::Cancelled) => return Err(cancelled.into()),
            // Definitions may give another URL for it.
            Err(error) => output::say(format_args!("not all submodules were imported: {error}")),
            Ok(_) => {}
        }
    }
    match &spec {
        SourceSpec::Git { reference, .. } | SourceSpec::Series { reference, .. } => {
            output::print(format_args!("repo: {repo}"))?;
            output::print(format_args!("ref: {}", resolved.commit))?;
            // A commit is no branch or tag, however much of its id is given.
            if !resolved.commit.to_string().starts_with(&reference.to_ascii_lowercase()) {
                output::print(format_args!("unpetrify-ref: {reference}"))?;
            }
        }
        SourceSpec::Archive { location, sha256 } => {
            match location {
                Location::Path(path) => {
                    output::print(format_args!("repo: tar:{}", path.display()))?
                }
                Location::Url(_) => output::print(format_args!("repo: {repo}"))?,
            }
            output::print(format_args!("sha256: {sha256}"))?;
        }
        SourceSpec::Debian(package) => {
            output::print(format_args!("repo: debian:{}", package.name))?;
            output::print(format_args!("ref: {}", package.version))?;
            if package.patches {
                output::print("patches: true")?;
            }
        }
    }
    Ok(())
}

/// A directory that is named as a person sees it would mean another one elsewhere: in definitions
/// only its URL or absolute path is a source.
fn explain_directory(base: &Path, repo: &str, error: sources::Error) -> CommandError {
    let error = CommandError::from(error);
    let place = base.join(repo);
    if Path::new(repo).is_absolute() || !place.is_dir() {
        return error;
    }
    let place = place.canonicalize().unwrap_or(place);
    error.hint(format!("{repo} is a directory here: import it as file://{}", place.display()))
}

/// The file of an archive that is named by its path.
fn local_archive(repo: &str) -> Option<PathBuf> {
    let path = match repo.strip_prefix("tar:") {
        Some(path) => path,
        None => Some(repo).filter(|repo| is_archive_name(repo))?,
    };
    let path = path.strip_prefix("file://").unwrap_or(path);
    (!path.contains("://")).then(|| PathBuf::from(path))
}

impl From<sources::Error> for CommandError {
    fn from(error: sources::Error) -> Self {
        CommandError::new(exit_of(error.cause()), error.to_string())
    }
}
