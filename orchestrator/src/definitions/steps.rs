//! Build steps: their order, their defaults, and what a chunk's effective steps are.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use super::defaults::BuildSystem;

/// One of the 18 step lists, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepName {
    PreBootstrap,
    Bootstrap,
    PostBootstrap,
    PreConfigure,
    Configure,
    PostConfigure,
    PreBuild,
    Build,
    PostBuild,
    PreTest,
    Test,
    PostTest,
    PreInstall,
    Install,
    PostInstall,
    PreStrip,
    Strip,
    PostStrip,
}

impl StepName {
    /// All steps in the order in which they run.
    pub const ALL: [StepName; 18] = [
        StepName::PreBootstrap,
        StepName::Bootstrap,
        StepName::PostBootstrap,
        StepName::PreConfigure,
        StepName::Configure,
        StepName::PostConfigure,
        StepName::PreBuild,
        StepName::Build,
        StepName::PostBuild,
        StepName::PreTest,
        StepName::Test,
        StepName::PostTest,
        StepName::PreInstall,
        StepName::Install,
        StepName::PostInstall,
        StepName::PreStrip,
        StepName::Strip,
        StepName::PostStrip,
    ];

    /// The field of a definition: `pre-configure-commands`.
    pub fn field(self) -> &'static str {
        match self {
            StepName::PreBootstrap => "pre-bootstrap-commands",
            StepName::Bootstrap => "bootstrap-commands",
            StepName::PostBootstrap => "post-bootstrap-commands",
            StepName::PreConfigure => "pre-configure-commands",
            StepName::Configure => "configure-commands",
            StepName::PostConfigure => "post-configure-commands",
            StepName::PreBuild => "pre-build-commands",
            StepName::Build => "build-commands",
            StepName::PostBuild => "post-build-commands",
            StepName::PreTest => "pre-test-commands",
            StepName::Test => "test-commands",
            StepName::PostTest => "post-test-commands",
            StepName::PreInstall => "pre-install-commands",
            StepName::Install => "install-commands",
            StepName::PostInstall => "post-install-commands",
            StepName::PreStrip => "pre-strip-commands",
            StepName::Strip => "strip-commands",
            StepName::PostStrip => "post-strip-commands",
        }
    }

    /// For people and logs: `pre-configure`.
    pub fn label(self) -> &'static str {
        self.field().strip_suffix("-commands").unwrap_or(self.field())
    }

    pub fn from_field(field: &str) -> Option<Self> {
        StepName::ALL.into_iter().find(|name| name.field() == field)
    }

    /// Whether `MAKEFLAGS` is set: in pre-build, build and post-build only.
    pub fn is_build(self) -> bool {
        matches!(self, StepName::PreBuild | StepName::Build | StepName::PostBuild)
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Step lists as written: a present list, even an empty one, replaces a default.
pub type StepLists = BTreeMap<StepName, Vec<String>>;

/// A step that has something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: StepName,
    /// Each is run as its own `sh -c -e`, in the source directory.
    pub commands: Vec<String>,
}

/// What is done to build a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Steps with at least one command, in running order.
    pub steps: Vec<Step>,
    /// Strip what was installed, without running a command in the guest: set when the build
    /// system strips and the chunk has no `strip-commands` of its own.
    pub strip_in_process: bool,
}

impl Plan {
    /// The chunk's own lists over the build system's.
    pub fn new(own: &StepLists, build_system: &BuildSystem) -> Plan {
        let strip_in_process = build_system.strip && !own.contains_key(&StepName::Strip);
        let steps = StepName::ALL
            .into_iter()
            .filter(|name| !(strip_in_process && *name == StepName::Strip))
            .filter_map(|name| {
                let commands = own.get(&name).or_else(|| build_system.steps.get(&name))?;
                (!commands.is_empty()).then(|| Step { name, commands: commands.clone() })
            })
            .collect();
        Plan { steps, strip_in_process }
    }
}
