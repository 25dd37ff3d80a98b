//! The `DEFAULTS` file: build systems and split rules, with our own where it is silent.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::model::{Chunk, SplitRule};
use super::problem::{Collector, Spot};
use super::raw::{RawDefaults, RawProduct};
use super::split;
use super::steps::{StepLists, StepName};

/// A recipe that chunks name with `build-system`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildSystem {
    pub steps: StepLists,
    /// Whether what was installed gets stripped when the chunk does not say how.
    pub strip: bool,
    /// File names (exactly, else as a suffix) in a source that tell that it uses this system.
    pub indicators: Vec<String>,
}

/// Build systems and split rules of a definitions tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    pub build_systems: BTreeMap<String, BuildSystem>,
    pub chunk_rules: Vec<SplitRule>,
    pub stratum_rules: Vec<SplitRule>,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            build_systems: built_in_systems(),
            chunk_rules: rules(CHUNK_RULES),
            stratum_rules: rules(STRATUM_RULES),
        }
    }
}

/// Most expressions of one component: each has to be compiled to be checked.
const MAX_PATTERNS: usize = 1_000;

/// The build system of a chunk that names none and is not detected.
pub const MANUAL: &str = "manual";

impl Defaults {
    /// A section that is missing or empty in the file is ours as a whole.
    pub(super) fn from_raw(raw: RawDefaults, spot: &Spot, problems: &mut Collector) -> Defaults {
        let mut defaults = Defaults::default();
        if let Some(systems) = raw.build_systems.filter(|s| !s.0.is_empty()) {
            let spot = spot.field("build-systems");
            defaults.build_systems = systems
                .0
                .into_iter()
                .map(|(name, fields)| {
                    let system = build_system(fields.0, &spot.field(&name), problems);
                    (name, system)
                })
                .collect();
        }
        let split_rules = raw.split_rules.unwrap_or_default();
        let spot = spot.field("split-rules");
        for (given, field, rules) in [
            (split_rules.chunk, "chunk", &mut defaults.chunk_rules),
            (split_rules.stratum, "stratum", &mut defaults.stratum_rules),
        ] {
            if let Some(given) = given.filter(|g| !g.is_empty()) {
                *rules = split_rules_from(given, &spot.field(field), problems);
            }
        }
        defaults
    }

    /// The build system that a chunk names and that does not exist.
    pub(super) fn unknown<'a>(&self, chunk: &'a Chunk) -> Option<&'a str> {
        let name = chunk.build_system.as_deref().filter(|name| *name != MANUAL)?;
        (!self.build_systems.contains_key(name)).then_some(name)
    }

    /// Guesses the build system from the names in a source's top directory: first by exact name,
    /// then by suffix, the systems in order of their names; else [`MANUAL`].
    pub fn detect<'a>(&'a self, names: &[&str]) -> &'a str {
        let find = |matches: fn(&str, &str) -> bool| {
            self.build_systems
                .iter()
                .find(|(_, system)| {
                    system.indicators.iter().any(|i| names.iter().any(|name| matches(name, i)))
                })
                .map(|(name, _)| name.as_str())
        };
        find(|name, indicator| name == indicator)
            .or_else(|| find(|name, indicator| name.ends_with(indicator)))
            .unwrap_or(MANUAL)
    }
}

fn build_system(
    fields: Vec<(String, Option<Vec<String>>)>,
    spot: &Spot,
    problems: &mut Collector,
) -> BuildSystem {
    let mut system = BuildSystem::default();
    for (field, values) in fields {
        match (StepName::from_field(&field), values) {
            (Some(name), values) => drop(system.steps.insert(name, values.unwrap_or_default())),
            (None, values) if field == "indicators" => {
                system.indicators = values.unwrap_or_default();
            }
            (None, _) => {
                let fields = StepName::ALL.map(StepName::field);
                let hint = super::problem::nearest(&field, fields).unwrap_or("indicators");
                problems.error_hint(
                    spot.field(&field),
                    format!("a build system has no field `{field}`"),
                    format!("did you mean `{hint}`?"),
                );
            }
        }
    }
    system.strip = system.steps.get(&StepName::Strip).is_some_and(|c| !c.is_empty());
    system
}

/// Split rules as written, their expressions checked.
pub(super) fn split_rules_from(
    products: Vec<RawProduct>,
    spot: &Spot,
    problems: &mut Collector,
) -> Vec<SplitRule> {
    let mut rules = Vec::with_capacity(products.len());
    let patterns = products.iter().map(|product| product.include.len()).sum::<usize>();
    if patterns > MAX_PATTERNS {
        let message =
            format!("there are {patterns} regular expressions; {MAX_PATTERNS} are enough");
        problems.error(spot.clone(), message);
        return rules;
    }
    for (i, product) in products.into_iter().enumerate() {
        for (j, pattern) in product.include.iter().enumerate() {
            if let Err(reason) = split::check_pattern(pattern) {
                problems.error(
                    spot.item(i).field("include").item(j),
                    format!("`{pattern}` is not a usable regular expression: {reason}"),
                );
            }
        }
        rules.push(SplitRule { artifact: product.artifact, include: product.include });
    }
    rules
}

fn rules(table: &[(&str, &[&str])]) -> Vec<SplitRule> {
    table
        .iter()
        .map(|(artifact, include)| SplitRule {
            artifact: (*artifact).to_owned(),
            include: include.iter().map(|&pattern| pattern.to_owned()).collect(),
        })
        .collect()
}

/// The expressions are the format's (`DEFAULTS` of the published definitions); artifacts keep
/// their meaning only if everybody splits alike.
const CHUNK_RULES: &[(&str, &[&str])] = &[
    ("-bins", &["(usr/)?s?bin/.*"]),
    ("-libs", &[r"(usr/)?lib(32|64)?/lib[^/]*\.so(\.\d+)*", "(usr/)libexec/.*"]),
    (
        "-devel",
        &[
            "(usr/)?include/.*",
            r"(usr/)?lib(32|64)?/lib.*\.a",
            r"(usr/)?lib(32|64)?/lib.*\.la",
            r"(usr/)?(lib(32|64)?|share)/pkgconfig/.*\.pc",
        ],
    ),
    ("-doc", &["(usr/)?share/doc/.*", "(usr/)?share/man/.*", "(usr/)?share/info/.*"]),
    ("-locale", &["(usr/)?share/locale/.*", "(usr/)?share/i18n/.*", "(usr/)?share/zoneinfo/.*"]),
    ("-misc", &[".*"]),
];

const STRATUM_RULES: &[(&str, &[&str])] = &[
    ("-devel", &[".*-devel", ".*-debug", ".*-doc"]),
    ("-runtime", &[".*-bins", ".*-libs", ".*-locale", ".*-misc", ".*"]),
];

/// Makes a source checked out of version control configurable, as its own scripts would.
const AUTOTOOLS_CONFIGURE: &str = r#"
export NOCONFIGURE=1
for script in bootstrap bootstrap.sh autogen autogen.sh; do
    if [ -f "$script" ]; then
        ./"$script"
        break
    fi
done
[ -f configure ] || autoreconf --force --install --verbose
./configure --prefix="$PREFIX"
"#;

const CPAN_CONFIGURE: &str = r#"
perl Makefile.PL INSTALLDIRS=perl \
    INSTALLPRIVLIB="$PREFIX/lib/perl" INSTALLARCHLIB="$PREFIX/lib/perl" \
    INSTALLBIN="$PREFIX/bin" INSTALLSCRIPT="$PREFIX/bin" \
    INSTALLMAN1DIR="$PREFIX/share/man/man1" INSTALLMAN3DIR="$PREFIX/share/man/man3"
"#;

fn built_in_systems() -> BTreeMap<String, BuildSystem> {
    let make_install = r#"make DESTDIR="$DESTDIR" install"#;
    let table: [(&str, [&str; 3], &[&str]); 8] = [
        (MANUAL, ["", "", ""], &[]),
        (
            "autotools",
            [AUTOTOOLS_CONFIGURE, "make", make_install],
            &[
                "autogen",
                "autogen.sh",
                "configure",
                "configure.ac",
                "configure.in",
                "configure.in.in",
            ],
        ),
        (
            "python-distutils",
            [
                "",
                "python setup.py build",
                r#"python setup.py install --prefix "$PREFIX" --root "$DESTDIR""#,
            ],
            &["setup.py"],
        ),
        (
            "python3-distutils",
            [
                "",
                "python3 setup.py build",
                r#"python3 setup.py install --prefix "$PREFIX" --root "$DESTDIR""#,
            ],
            &[],
        ),
        (
            "module-build",
            [r#"perl Build.PL --prefix "$DESTDIR$PREFIX""#, "./Build", "./Build install"],
            &[],
        ),
        ("cpan", [CPAN_CONFIGURE, "make", make_install], &["Makefile.PL"]),
        (
            "cmake",
            [r#"cmake -DCMAKE_INSTALL_PREFIX="$PREFIX" ."#, "make", make_install],
            &["CMakeLists.txt"],
        ),
        (
            "qmake",
            ["qmake -makefile", "make", r#"make INSTALL_ROOT="$DESTDIR" install"#],
            &[".pro"],
        ),
    ];
    let mut systems: BTreeMap<String, BuildSystem> = table
        .into_iter()
        .map(|(name, commands, indicators)| {
            let steps = [StepName::Configure, StepName::Build, StepName::Install]
                .into_iter()
                .zip(commands)
                .map(|(step, command)| {
                    let command = command.trim();
                    let list = if command.is_empty() { vec![] } else { vec![command.to_owned()] };
                    (step, list)
                })
                .collect();
            let indicators = indicators.iter().map(|&i| i.to_owned()).collect();
            (name.to_owned(), BuildSystem { steps, strip: name != MANUAL, indicators })
        })
        .collect();
    if let Some(manual) = systems.get_mut(MANUAL) {
        manual.steps.insert(StepName::Strip, Vec::new());
    }
    systems
}
