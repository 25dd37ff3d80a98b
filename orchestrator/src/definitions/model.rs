//! What definitions mean: components with resolved references.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

pub use super::raw::Parameter;
use super::steps::StepLists;

/// Index of a component in its [`super::Definitions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId(pub(super) u32);

impl ComponentId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Chunk,
    Stratum,
    System,
    Cluster,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chunk => "chunk",
            Kind::Stratum => "stratum",
            Kind::System => "system",
            Kind::Cluster => "cluster",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Chunk, Kind::Stratum, Kind::System, Kind::Cluster]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A chunk, stratum, system or cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Identity: path of its file without `.morph`, or `<stratum>/<name>` for a chunk without one.
    pub path: String,
    pub name: String,
    pub description: Option<String>,
    /// The file that describes it first, for messages.
    pub file: String,
    pub detail: Detail,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    Chunk(Box<Chunk>),
    Stratum(Stratum),
    System(System),
    Cluster(Cluster),
}

impl Component {
    pub fn kind(&self) -> Kind {
        match &self.detail {
            Detail::Chunk(_) => Kind::Chunk,
            Detail::Stratum(_) => Kind::Stratum,
            Detail::System(_) => Kind::System,
            Detail::Cluster(_) => Kind::Cluster,
        }
    }

    pub fn chunk(&self) -> Option<&Chunk> {
        match &self.detail {
            Detail::Chunk(chunk) => Some(chunk),
            _ => None,
        }
    }

    pub fn stratum(&self) -> Option<&Stratum> {
        match &self.detail {
            Detail::Stratum(stratum) => Some(stratum),
            _ => None,
        }
    }

    pub fn system(&self) -> Option<&System> {
        match &self.detail {
            Detail::System(system) => Some(system),
            _ => None,
        }
    }
}

/// How a chunk is staged and what it sees; modes do not see each other unless named directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum BuildMode {
    /// Built with the tools below the definitions; invisible outside its stratum.
    Bootstrap,
    /// Built before there is a libc (an addition of the Aboriginal line of work).
    Prelibc,
    #[default]
    Staging,
    /// A historical value without behaviour of its own.
    Test,
}

impl BuildMode {
    pub const ALL: [BuildMode; 4] =
        [BuildMode::Bootstrap, BuildMode::Prelibc, BuildMode::Staging, BuildMode::Test];

    pub fn name(self) -> &'static str {
        match self {
            BuildMode::Bootstrap => "bootstrap",
            BuildMode::Prelibc => "prelibc",
            BuildMode::Staging => "staging",
            BuildMode::Test => "test",
        }
    }

    pub fn from_name(name: &str) -> Option<BuildMode> {
        BuildMode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Install prefix of a chunk that names none.
pub const DEFAULT_PREFIX: &str = "/usr";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// `None`: built in an empty directory.
    pub source: Option<Source>,
    /// As written; see [`super::Definitions::build_system`].
    pub build_system: Option<String>,
    /// Its build system is to be detected in any version of the format, as YBD did.
    pub detected: bool,
    pub build_mode: BuildMode,
    /// As written; see [`Chunk::prefix`].
    pub prefix: Option<String>,
    pub max_jobs: Option<u32>,
    pub steps: StepLists,
    /// Strata of its strata's `build-depends`, then its own siblings, without repetition.
    pub build_depends: Vec<ComponentId>,
    /// Split rules tried before the defaults.
    pub products: Vec<SplitRule>,
    /// Artifact → script → commands, run once when a system is assembled.
    pub integration: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    pub devices: Vec<Device>,
}

impl Chunk {
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }
}

/// Where a chunk's source comes from, as written: aliases are not applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    pub repo: String,
    /// `ref`: a commit normally; the version for `debian:` sources; absent for archives.
    pub reference: Option<String>,
    /// The branch or tag that `ref` was taken from.
    pub unpetrify_ref: Option<String>,
    /// A commit that overrides `ref` for building: 40 (SHA-1) hexadecimal digits.
    pub sha: Option<String>,
    /// Checksum of an archive: 64 hexadecimal digits, lower case.
    pub sha256: Option<String>,
    /// Apply the patches that a Debian source package carries.
    pub patches: bool,
    /// Replacement for the URLs in `.gitmodules`, by path.
    pub submodules: BTreeMap<String, Submodule>,
}

impl Source {
    /// What is built: `sha` if there is one, else `ref`.
    pub fn revision(&self) -> Option<&str> {
        self.sha.as_deref().or(self.reference.as_deref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Submodule {
    pub url: String,
    pub submodules: BTreeMap<String, Submodule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    Character,
    Block,
    Fifo,
}

impl DeviceKind {
    /// As in mknod(1).
    pub fn letter(self) -> &'static str {
        match self {
            DeviceKind::Character => "c",
            DeviceKind::Block => "b",
            DeviceKind::Fifo => "p",
        }
    }

    pub fn from_letter(letter: &str) -> Option<DeviceKind> {
        [DeviceKind::Character, DeviceKind::Block, DeviceKind::Fifo]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

/// A node made in the install tree after all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub kind: DeviceKind,
    /// Absolute path in the final system.
    pub filename: String,
    /// 0 for a fifo.
    pub major: u32,
    /// 0 for a fifo.
    pub minor: u32,
    /// The 12 permission bits.
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
}

/// Sends paths (of a chunk) or chunk artifacts (of a stratum) to an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRule {
    /// A leading `-` stands for the component's name.
    pub artifact: String,
    /// Regular expressions, each matching a whole path.
    pub include: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stratum {
    pub build_depends: Vec<ComponentId>,
    /// In the order of the file.
    pub members: Vec<Member>,
    pub products: Vec<SplitRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub chunk: ComponentId,
    /// Chunk artifact → stratum artifact, before the rules.
    pub artifacts: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    pub arch: String,
    pub strata: Vec<SystemStratum>,
    /// Names of deployment scripts, in order.
    pub configuration_extensions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemStratum {
    pub stratum: ComponentId,
    /// The stratum artifacts that the system takes; `None`: all.
    pub artifacts: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    pub systems: Vec<ClusterSystem>,
}

/// A system to deploy, with the systems deployed into it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSystem {
    pub system: ComponentId,
    pub deployments: Vec<Deployment>,
    pub subsystems: Vec<ClusterSystem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub label: String,
    /// With the entry's `deploy-defaults` filled in.
    pub parameters: BTreeMap<String, Parameter>,
}

impl Cluster {
    /// Every system of the cluster, subsystems included, with repetitions.
    pub fn all_systems(&self) -> Vec<ComponentId> {
        let mut found = Vec::new();
        let mut queue: Vec<&ClusterSystem> = self.systems.iter().rev().collect();
        while let Some(entry) = queue.pop() {
            found.push(entry.system);
            queue.extend(entry.subsystems.iter().rev());
        }
        found
    }
}
