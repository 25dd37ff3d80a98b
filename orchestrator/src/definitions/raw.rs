//! The shapes of definition files as written, before references are resolved.
//!
//! One struct serves the files of all four kinds: which fields belong to which kind is
//! [`RawFile::foreign_fields`]'s to say, so that a file is parsed once.

#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::model::Kind;
use super::steps::StepName;

/// A mapping in the order of the file; a key that stands twice is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OrderedVisitor<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = Vec::new();
                let mut names = std::collections::HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if !names.insert(key.clone()) {
                        let message = format!("the key `{key}` stands twice in this mapping");
                        return Err(serde::de::Error::custom(message));
                    }
                    entries.push((key, value));
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(OrderedVisitor(PhantomData))
    }
}

/// A deployment parameter as YAML 1.1 sees it: scripts expect what Python made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// `KEY:` with nothing after it; `None` in a script's environment.
    Null,
    /// Unquoted true, false, yes, no, on, off; `True` or `False` in a script's environment.
    Boolean(bool),
    /// Anything else that is one scalar, numbers included, as it was written.
    Text(String),
    List(Vec<Parameter>),
    Map(Vec<(String, Parameter)>),
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParameterVisitor;
        impl<'de> Visitor<'de> for ParameterVisitor {
            type Value = Parameter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter's value")
            }

            fn visit_unit<E>(self) -> Result<Parameter, E> {
                Ok(Parameter::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Parameter, E> {
                Ok(Parameter::Boolean(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parameter, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Parameter::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameter, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Parameter::Map(entries))
            }
        }
        deserializer.deserialize_any(ParameterVisitor)
    }
}

/// Script → commands.
pub(super) type RawScripts = Ordered<Option<Vec<String>>>;

/// A file of any kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a mapping")]
pub(super) struct RawFile {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub description: Option<String>,

    pub build_system: Option<String>,
    pub max_jobs: Option<u32>,
    pub system_integration: Option<Ordered<Option<RawScripts>>>,
    pub devices: Option<Vec<RawDevice>>,
    pub pre_bootstrap_commands: Option<Vec<String>>,
    pub bootstrap_commands: Option<Vec<String>>,
    pub post_bootstrap_commands: Option<Vec<String>>,
    pub pre_configure_commands: Option<Vec<String>>,
    pub configure_commands: Option<Vec<String>>,
    pub post_configure_commands: Option<Vec<String>>,
    pub pre_build_commands: Option<Vec<String>>,
    pub build_commands: Option<Vec<String>>,
    pub post_build_commands: Option<Vec<String>>,
    pub pre_test_commands: Option<Vec<String>>,
    pub test_commands: Option<Vec<String>>,
    pub post_test_commands: Option<Vec<String>>,
    pub pre_install_commands: Option<Vec<String>>,
    pub install_commands: Option<Vec<String>>,
    pub post_install_commands: Option<Vec<String>>,
    pub pre_strip_commands: Option<Vec<String>>,
    pub strip_commands: Option<Vec<String>>,
    pub post_strip_commands: Option<Vec<String>>,

    pub products: Option<Vec<RawProduct>>,

    pub build_depends: Option<Vec<RawStratumDependency>>,
    pub chunks: Option<Vec<RawEntry>>,

    pub arch: Option<String>,
    pub strata: Option<Vec<RawSystemStratum>>,
    pub configuration_extensions: Option<Vec<String>>,

    pub systems: Option<Vec<RawClusterSystem>>,
}

/// `devices` of a chunk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawDevice {
    #[serde(rename = "type")]
    pub kind: String,
    pub filename: String,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub permissions: String,
    pub uid: u32,
    pub gid: u32,
}

/// `products` of a chunk or stratum, and the lists of `split-rules` in `DEFAULTS`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawProduct {
    pub artifact: String,
    pub include: Vec<String>,
}

/// `build-depends` of a stratum.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `morph`")]
pub(super) struct RawStratumDependency {
    /// Old definitions name the stratum too; it says nothing that `morph` does not.
    #[serde(rename = "name")]
    pub _name: Option<String>,
    pub morph: String,
}

/// An item of a stratum's `chunks`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a mapping")]
pub(super) struct RawEntry {
    pub name: Option<String>,
    pub morph: Option<String>,
    pub repo: Option<String>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub unpetrify_ref: Option<String>,
    pub sha: Option<String>,
    pub sha256: Option<String>,
    pub patches: Option<bool>,
    pub submodules: Option<Ordered<RawSubmodule>>,
    pub build_depends: Option<Vec<String>>,
    pub build_mode: Option<String>,
    pub prefix: Option<String>,
    pub build_system: Option<String>,
    pub artifacts: Option<Ordered<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawSubmodule {
    pub url: String,
    pub submodules: Option<Ordered<RawSubmodule>>,
}

/// An item of a system's `strata`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawSystemStratum {
    /// A label for people.
    #[serde(rename = "name")]
    pub _name: Option<String>,
    pub morph: Option<String>,
    pub artifacts: Option<Vec<String>>,
}

/// An item of a cluster's `systems` or of an entry's `subsystems`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a mapping")]
pub(super) struct RawClusterSystem {
    /// A label for people; YBD checks nothing here.
    #[serde(rename = "name")]
    pub _name: Option<String>,
    pub morph: String,
    pub deploy: Option<Ordered<Option<Ordered<Parameter>>>>,
    pub deploy_defaults: Option<Ordered<Parameter>>,
    pub subsystems: Option<Vec<RawClusterSystem>>,
}

/// The `DEFAULTS` file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a mapping")]
pub(super) struct RawDefaults {
    pub build_systems: Option<Ordered<Ordered<Option<Vec<String>>>>>,
    pub split_rules: Option<RawSplitRules>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawSplitRules {
    pub chunk: Option<Vec<RawProduct>>,
    pub stratum: Option<Vec<RawProduct>>,
}

/// The `VERSION` file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawVersion {
    pub version: Option<String>,
}

impl RawFile {
    /// The step lists that the file has, empty ones included, taken out of it.
    pub fn take_steps(&mut self) -> Vec<(StepName, Vec<String>)> {
        StepName::ALL
            .into_iter()
            .filter_map(|name| self.step_slot(name).take().map(|commands| (name, commands)))
            .collect()
    }

    fn step_slot(&mut self, name: StepName) -> &mut Option<Vec<String>> {
        match name {
            StepName::PreBootstrap => &mut self.pre_bootstrap_commands,
            StepName::Bootstrap => &mut self.bootstrap_commands,
            StepName::PostBootstrap => &mut self.post_bootstrap_commands,
            StepName::PreConfigure => &mut self.pre_configure_commands,
            StepName::Configure => &mut self.configure_commands,
            StepName::PostConfigure => &mut self.post_configure_commands,
            StepName::PreBuild => &mut self.pre_build_commands,
            StepName::Build => &mut self.build_commands,
            StepName::PostBuild => &mut self.post_build_commands,
            StepName::PreTest => &mut self.pre_test_commands,
            StepName::Test => &mut self.test_commands,
            StepName::PostTest => &mut self.post_test_commands,
            StepName::PreInstall => &mut self.pre_install_commands,
            StepName::Install => &mut self.install_commands,
            StepName::PostInstall => &mut self.post_install_commands,
            StepName::PreStrip => &mut self.pre_strip_commands,
            StepName::Strip => &mut self.strip_commands,
            StepName::PostStrip => &mut self.post_strip_commands,
        }
    }

    /// Fields that are present and mean nothing in a file of `kind`, step lists aside.
    pub fn foreign_fields(&self, kind: Kind) -> impl Iterator<Item = &'static str> {
        use Kind::{Chunk, Cluster, Stratum, System};
        let fields: [(&'static str, bool, &[Kind]); 11] = [
            ("build-system", self.build_system.is_some(), &[Chunk]),
            ("max-jobs", self.max_jobs.is_some(), &[Chunk]),
            ("system-integration", self.system_integration.is_some(), &[Chunk]),
            ("devices", self.devices.is_some(), &[Chunk]),
            ("products", self.products.is_some(), &[Chunk, Stratum]),
            ("build-depends", self.build_depends.is_some(), &[Stratum]),
            ("chunks", self.chunks.is_some(), &[Stratum]),
            ("arch", self.arch.is_some(), &[System]),
            ("strata", self.strata.is_some(), &[System]),
            ("configuration-extensions", self.configuration_extensions.is_some(), &[System]),
            ("systems", self.systems.is_some(), &[Cluster]),
        ];
        fields
            .into_iter()
            .filter(move |(_, present, kinds)| *present && !kinds.contains(&kind))
            .map(|(name, _, _)| name)
    }
}
