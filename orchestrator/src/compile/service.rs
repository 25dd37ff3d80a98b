//! Whether the host can compile for a kit's guests, and what a guest and its QEMU are told.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::endpoint::{Compiler, Limits, Settings};
use super::equivalence::{Ident, Relation, relation};
use super::farm::{Farm, LIMIT_SECONDS, Server};
use super::probe::compiles_alike;
use super::runner;
use crate::guest::{COMPILE_ADDRESS, CompileForward};
use crate::kit::{Architecture, Kit, Lock, LockedPackage, MASQUERADE_DIRECTORY, compiler_names};

/// Compilations that a guest runs on the host at once.
const SLOTS: u16 = 8;

/// Names of files in a guest's directory: what became of each job, and programs that stand in front
/// of a compiler's parts.
pub const JOB_LOG: &str = "compile.jsonl";
const TOOLS: &str = "compile-tools";

/// Why a guest must compile by itself. The texts say what to do; who shows one says what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the kit has no versioned gcc package")]
    NoKitCompiler,
    #[error("this host has no {program} (install {package}, from the kit's Debian release)")]
    NoCompiler { program: String, package: String },
    #[error(
        "the host's {what} is {host}, the kit's is {kit} (install the kit's version of {package}, \
         or make a new kit)"
    )]
    Mismatch { what: String, host: String, kit: String, package: String },
    #[error("the host's {0} is not from Debian, and may do otherwise than the kit's")]
    NotDebians(String),
    #[error("the host's {program} does not say its version in what it compiles")]
    Nameless { program: String },
    #[error(
        "the distcc server {server} does not compile as this host's {program} does (install the \
         same package there, or leave the server out)"
    )]
    OtherServer { server: String, program: String },
    #[error(
        "this host's kernel cannot confine a compiler ({0}; Linux 5.13 or later with Landlock is \
         needed)"
    )]
    NoConfinement(String),
}

impl Unavailable {
    /// Whether the host has a compiler for the kit, but another one.
    pub fn is_mismatch(&self) -> bool {
        matches!(
            self,
            Unavailable::Mismatch { .. }
                | Unavailable::Nameless { .. }
                | Unavailable::OtherServer { .. }
        )
    }
}

/// The host's compilers for a kit, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileService {
    compilers: Vec<Compiler>,
    assembler: PathBuf,
    without_cxx: Option<Unavailable>,
    farm: Farm,
    /// Whether guests compile what the host refuses or fails at.
    pub guests_help: bool,
}

impl CompileService {
    /// Checks that objects made by the host's compiler are those that the kit's would make: same
    /// program version, same target, same Debian package of compiler and assembler.
    pub fn probe(kit: &Kit) -> Result<CompileService, Unavailable> {
        runner::can_confine().map_err(Unavailable::NoConfinement)?;
        let (lock, architecture) = (kit.lock(), kit.architecture());
        let package = lock.compiler_package().ok_or(Unavailable::NoKitCompiler)?;
        let series = package.name.trim_start_matches("gcc-");
        let gcc = checked_compiler(architecture, package)?;
        check_assembler(lock, architecture)?;
        let cxx = lock.package(&format!("g++-{series}"));
        let (cxx, without_cxx) = match cxx.map(|package| checked_compiler(architecture, package)) {
            // Those who build C alone need none.
            Some(Err(missing @ Unavailable::NoCompiler { .. })) => (None, Some(missing)),
            checked => (checked.transpose()?, None),
        };
        let compilers = compiler_names(architecture, &lock.packages)
            .into_iter()
            .filter_map(|name| {
                let offered = if name.contains("++") { cxx.as_ref()? } else { &gcc };
                Some(Compiler { name, ..offered.clone() })
            })
            .collect();
        let assembler = PathBuf::from(format!("/usr/bin/{}-as", architecture.triplet));
        let farm = Farm::default();
        Ok(CompileService { compilers, assembler, without_cxx, farm, guests_help: true })
    }

    /// What is missing for C++, where that keeps the host from compiling it.
    pub fn without_cxx(&self) -> Option<&Unavailable> {
        self.without_cxx.as_ref()
    }

    /// Lets distcc servers take what this host has no processor for. `locks`: a directory that all
    /// guests share. Gives a sentence for each server that does not answer, and is left out.
    ///
    /// # Errors
    /// A server that makes other objects from the same source.
    pub fn use_servers(
        &mut self,
        servers: Vec<Server>,
        locks: PathBuf,
    ) -> Result<Vec<String>, Unavailable> {
        let mut programs: Vec<&Compiler> = self.compilers.iter().collect();
        programs.sort_by(|a, b| a.program.cmp(&b.program));
        programs.dedup_by(|a, b| a.program == b.program);
        let (mut usable, mut notices) = (Vec::new(), Vec::new());
        for server in servers {
            let mut answers = true;
            for compiler in &programs {
                match compiles_alike(&server, compiler) {
                    Ok(true) => {}
                    Ok(false) => {
                        let program = compiler.program.display().to_string();
                        return Err(Unavailable::OtherServer {
                            server: server.to_string(),
                            program,
                        });
                    }
                    Err(reason) => {
                        notices.push(format!("the distcc server {server} is not used: {reason}"));
                        answers = false;
                        break;
                    }
                }
            }
            if answers {
                usable.push(server);
            }
        }
        let local_slots = std::thread::available_parallelism().map_or(1, usize::from);
        let local_slots = u16::try_from(local_slots).unwrap_or(u16::MAX);
        self.farm = Farm { servers: usable, local_slots, locks, limit_seconds: LIMIT_SECONDS };
        Ok(notices)
    }

    #[cfg(test)]
    pub(super) fn of_compilers(compilers: Vec<Compiler>) -> CompileService {
        let assembler = "/usr/bin/as".into();
        let farm = Farm::default();
        CompileService { compilers, assembler, without_cxx: None, farm, guests_help: true }
    }

    /// Who else compiles.
    pub fn farm(&self) -> &Farm {
        &self.farm
    }

    /// The compilers that a guest may use, by every name that the kit has for them.
    pub fn compilers(&self) -> &[Compiler] {
        &self.compilers
    }

    /// What every command in the guest finds in its environment. `PATH` is not here: put
    /// [`Self::path_prefix`] in front of the guest's.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("DISTCC_HOSTS", hosts()),
            // Memory of the guest: times must be by its own clock, or the back-off never ends.
            ("DISTCC_DIR", "/dev/shm".into()),
            // What is refused, or fails on the host, is compiled in the guest, quietly: configure reads
            // warnings as failures.
            ("DISTCC_FALLBACK", u8::from(self.guests_help).to_string()),
            ("DISTCC_LOG", "/dev/null".into()),
            // Seconds without the host after a refusal. With 0, distcc 3.4 asks again for ever.
            ("DISTCC_BACKOFF_PERIOD", "1".into()),
            ("DISTCC_PAUSE_TIME_MSEC", "10".into()),
            ("DISTCC_IO_TIMEOUT", "1800".into()),
        ];
        if !self.guests_help {
            // Any value does.
            variables.push(("DISTCC_SKIP_LOCAL_RETRY", "1".into()));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The directory where compilers' names are the distcc client's.
    pub fn path_prefix(&self) -> String {
        format!("/{MASQUERADE_DIRECTORY}")
    }

    /// Writes what the endpoints of one guest are told into `directory`, which must outlive the
    /// guest; gives the settings file. Jobs' files and the log are in the same directory.
    pub fn prepare(&self, directory: &Path) -> io::Result<PathBuf> {
        let mut compilers = self.compilers.clone();
        let mut toolchains = Vec::new();
        for compiler in &mut compilers {
            let Some(ident) = &compiler.ident else { continue };
            let tools = directory.join(TOOLS);
            if toolchains.is_empty() {
                std::fs::create_dir_all(&tools)?;
                let script = ident.assembler_script(&self.assembler.display().to_string());
                write_program(&tools.join("as"), &script)?;
                toolchains.push(tools.clone());
            }
            compiler.tools = Some(tools);
        }
        let settings = Settings {
            compilers,
            toolchains,
            limits: Limits::default(),
            log: directory.join(JOB_LOG),
            scratch: directory.to_owned(),
            farm: self.farm.clone(),
            guests_help: self.guests_help,
        };
        let path = directory.join("compile.json");
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&serde_json::to_vec(&settings)?)?;
        Ok(path)
    }

    /// What QEMU runs for each connection of a guest. `program` is this executable.
    pub fn forward(&self, program: &Path, settings: &Path) -> CompileForward {
        let command = vec![program.into(), "compile-endpoint".into(), settings.into()];
        CompileForward { command }
    }

    /// Adds what the distcc client needs to a command's environment, and puts it in front of the
    /// compilers.
    pub fn extend_environment(&self, variables: &mut BTreeMap<String, String>) {
        variables.extend(self.environment());
        let path = variables.entry("PATH".to_owned()).or_default();
        *path = format!("{}:{path}", self.path_prefix());
    }
}

/// An address that exists only in a guest's user network.
fn hosts() -> String {
    let ([a, b, c, d], port) = COMPILE_ADDRESS;
    format!("{a}.{b}.{c}.{d}:{port}/{SLOTS}")
}

/// The host's program that does what a compiler package of the kit does; it has no name yet.
fn checked_compiler(
    architecture: &Architecture,
    package: &LockedPackage,
) -> Result<Compiler, Unavailable> {
    let triplet = &architecture.triplet;
    let program = PathBuf::from(format!("/usr/bin/{triplet}-{}", package.name));
    let host_package = if architecture.is_native() {
        package.name.clone()
    } else {
        architecture.cross_package(&package.name)
    };
    let ask = |option: &str| output_of(&program, &[option]);
    let version = ask("-dumpfullversion").ok_or_else(|| Unavailable::NoCompiler {
        program: program.display().to_string(),
        package: host_package.clone(),
    })?;
    let mismatch = |what: &str, host: String, kit: &str| Unavailable::Mismatch {
        what: format!("{host_package} {what}").trim_end().to_owned(),
        host,
        kit: kit.to_owned(),
        package: host_package.clone(),
    };
    let upstream = upstream_version(&package.version);
    if version != upstream {
        return Err(mismatch("version", version, upstream));
    }
    match ask("-dumpmachine") {
        Some(target) if target == *triplet => {}
        target => return Err(mismatch("target", target.unwrap_or_default(), triplet)),
    }
    let mut compiler = Compiler { program, ..Compiler::default() };
    // Other distributions' compilers of the same version have other defaults.
    let installed = installed_version(&host_package)
        .ok_or_else(|| Unavailable::NotDebians(host_package.clone()))?;
    match relation(&package.version, &installed, &architecture.name) {
        Relation::Same => {}
        Relation::Different => return Err(mismatch("", installed, &package.version)),
        Relation::Updated { versions: (from, to), differs } => {
            let assembly = output_of(&compiler.program, &["-S", "-x", "c", "-o", "-", "/dev/null"])
                .unwrap_or_default();
            let ident = Ident::of(&assembly, &from, &to).ok_or_else(|| Unavailable::Nameless {
                program: compiler.program.display().to_string(),
            })?;
            compiler.ident = Some(ident);
            compiler.differs = differs;
        }
    }
    Ok(compiler)
}

/// Debian's assemblers for an architecture are one package, native or not.
fn check_assembler(lock: &Lock, architecture: &Architecture) -> Result<(), Unavailable> {
    let name = architecture.cross_package("binutils");
    let Some(package) = lock.package(&name) else { return Ok(()) };
    let installed =
        installed_version(&name).ok_or_else(|| Unavailable::NotDebians(name.clone()))?;
    if installed == package.version {
        return Ok(());
    }
    Err(Unavailable::Mismatch {
        what: format!("package {name}"),
        host: installed,
        kit: package.version.clone(),
        package: name,
    })
}

fn installed_version(package: &str) -> Option<String> {
    output_of("dpkg-query".as_ref(), &["--show", "--showformat=${Version}", package])
        .filter(|version| !version.is_empty())
}

fn write_program(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// `4:12.2.0-14+deb12u1` is Debian's packaging of 12.2.0.
fn upstream_version(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let end = version.find(['-', '+', '~']).unwrap_or(version.len());
    version.get(..end).unwrap_or(version)
}

fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_versions() {
        assert_eq!(upstream_version("12.2.0-14+deb12u1"), "12.2.0");
        assert_eq!(upstream_version("4:14.2.0+ds-1"), "14.2.0");
        assert_eq!(upstream_version("2.40"), "2.40");
    }
}
