//! Who compiles for guests, as the user asks for it.

#![forbid(unsafe_code)]

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CompileChoice {
    /// the host where it has the kit's compiler, guests elsewhere
    #[default]
    Auto,
    /// the host, through distcc; without a compiler for it nothing is built
    Distcc,
    /// guests by themselves
    Guest,
}
