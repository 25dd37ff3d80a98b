//! Who compiles for guests, as the user asks for it.

#![forbid(unsafe_code)]

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CompileChoice {
    /// host where it can be, else distcc where the host has the compiler, else guest
    #[default]
    Auto,
    /// the host, through distcc; without a compiler for it nothing is built
    Distcc,
    /// as distcc, and a job that the host refuses fails
    DistccOnly,
    /// the host, which does all of a compiler's work in the guest's own view
    Host,
    /// guests by themselves
    Guest,
}

impl CompileChoice {
    /// Whether nothing is to be built without the host's compilers.
    pub fn needs_host(self) -> bool {
        matches!(self, CompileChoice::Distcc | CompileChoice::DistccOnly | CompileChoice::Host)
    }
}
