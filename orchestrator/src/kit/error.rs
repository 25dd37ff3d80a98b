//! What can go wrong with a kit, in sentences for a person.

#![forbid(unsafe_code)]

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A kit could not be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no kit can be made for architecture {name}; there are kits for: {known}")]
    UnknownArchitecture { name: String, known: String },

    #[error(
        "there is no kit for {architecture}; make one with `outcrop kit create --arch {architecture}`"
    )]
    NoKit { architecture: String },

    #[error("{doing} {}: {source}", path.display())]
    Host {
        /// What was attempted, as a phrase: "cannot read".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("{}: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },

    #[error(
        "no signed Debian archive is configured on this host ({searched}); add one to \
         /etc/apt/sources.list.d, or name a sources file with --sources"
    )]
    NoDebianArchive { searched: String },

    #[error(
        "cannot run {program}: {source}; a kit is made with apt, install it or take the kit from a host that has it"
    )]
    NoApt {
        program: String,
        #[source]
        source: std::io::Error,
    },

    #[error(
        "the package indexes for {architecture} cannot be fetched ({message}); try again later, or \
         name a file with other archives with --sources"
    )]
    Indexes { architecture: String, message: String },

    #[error(
        "the configured archives have no packages for {architecture}; name a file with archives \
         that have them with --sources (docs/kits.md shows one)"
    )]
    ForeignArchive { architecture: String },

    #[error("{program} failed while {doing} ({status}): {message}")]
    Apt { program: &'static str, doing: &'static str, status: String, message: String },

    #[error(
        "package {package}: the SHA-256 of the downloaded file is {actual} instead of \
         {expected}; the file was removed, try again or use another mirror"
    )]
    Checksum { package: String, expected: String, actual: String },

    #[error(
        "package {package} {version} with SHA-256 {sha256} is neither in the store nor in the \
         configured archives; the archives may have dropped it since the lock file was written"
    )]
    Unobtainable { package: String, version: String, sha256: String },

    #[error("package {package} has no module {module}, which a guest needs{}", needed_by.as_ref().map(|by| format!(" (for {by})")).unwrap_or_default())]
    MissingModule { package: String, module: String, needed_by: Option<String> },

    #[error("the kit for {architecture} is damaged: {part}: {problem}; {remedy}")]
    Damaged { architecture: String, part: String, problem: String, remedy: String },

    #[error("package {package}: {problem}")]
    Package { package: String, problem: String },

    #[error(
        "the lock file was written for another recipe of the {architecture} kit (recipe {theirs}, \
         this program has {ours}), so the same kit cannot be made again; use the program that \
         wrote it, or make a new kit without --lock"
    )]
    OtherRecipe { architecture: String, theirs: String, ours: String },

    #[error(
        "the agent {} speaks {its} of the control protocol, this program version {ours}; \
         `scripts/build {architecture}` makes it anew", path.display()
    )]
    AgentVersion { path: PathBuf, architecture: String, its: String, ours: u32 },

    #[error(
        "the guest agent for {architecture} was not found (looked at: {searched}); build it or set \
         OUTCROP_AGENT_DIR"
    )]
    NoAgent { architecture: String, searched: String },
}

impl Error {
    /// Whether the command line or a file that it names is wrong, as opposed to the host.
    pub fn is_input(&self) -> bool {
        matches!(self, Error::UnknownArchitecture { .. } | Error::OtherRecipe { .. })
    }

    pub(crate) fn host(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Host { doing, path, source }
    }

    pub(crate) fn package(package: impl Into<String>, problem: impl ToString) -> Self {
        Error::Package { package: package.into(), problem: problem.to_string() }
    }
}
