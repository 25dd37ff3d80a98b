//! The host's apt with a private state: other architectures, nothing of the system touched, no root.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{Error, Result};
use super::lock::{LockedPackage, is_sha256};
use super::sources_list::{Source, parse_deb822, parse_list};

/// apt's own downloader: the same proxies, credentials and transports as the rest of apt.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// A package that apt chose, and where it can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub package: LockedPackage,
    pub uri: String,
}

/// Where packages can be had, by their SHA-256.
pub fn uris_by_digest<'a>(
    found: impl IntoIterator<Item = &'a Resolved>,
) -> HashMap<String, String> {
    let pair = |Resolved { package, uri }: &Resolved| (package.sha256.clone(), uri.clone());
    found.into_iter().map(pair).collect()
}

/// The Debian archives of the host's configuration, or of one given source file.
pub fn host_sources(file: Option<&Path>) -> Result<Vec<Source>> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => host_source_files(),
    };
    let mut sources = Vec::new();
    for path in &files {
        let text = match fs::read_to_string(path) {
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            read => read.map_err(Error::host("cannot read", path))?,
        };
        let deb822 = path.extension().is_some_and(|extension| extension == "sources");
        let parsed = if deb822 { parse_deb822(&text) } else { parse_list(&text) };
        sources.extend(parsed.into_iter().filter(Source::is_debian));
    }
    if sources.is_empty() {
        let searched = files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::NoDebianArchive { searched });
    }
    Ok(sources)
}

fn host_source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"))
        .collect();
    parts.sort();
    files.extend(parts);
    files
}

/// An apt state of its own below one directory.
#[derive(Debug)]
pub struct PrivateApt {
    directory: PathBuf,
    /// Debian's name.
    architecture: String,
    sources: Vec<Source>,
}

impl PrivateApt {
    /// Prepares the state; nothing is downloaded yet.
    pub fn new(directory: &Path, architecture: &str, sources: Vec<Source>) -> Result<PrivateApt> {
        let root = directory.to_str().filter(|path| !path.contains(['"', '\n', '\\'])).ok_or_else(
            || Error::Malformed {
                path: directory.into(),
                problem: "apt cannot use a directory with such a name".into(),
            },
        )?;
        for part in ["lists/partial", "cache/archives/partial", "sources.list.d"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(Error::host("cannot create", path))?;
        }
        let write = |name: &str, content: &str| {
            let path = directory.join(name);
            fs::write(&path, content).map_err(Error::host("cannot write", path))
        };
        let stanzas: Vec<String> = sources.iter().map(|source| source.to_stanza("deb")).collect();
        write("sources.list.d/debian.sources", &stanzas.join("\n"))?;
        write("status", "")?;
        write("apt.conf", &configuration(root, architecture))?;
        let architecture = architecture.to_owned();
        Ok(PrivateApt { directory: directory.to_owned(), architecture, sources })
    }

    /// Fetches the signed indexes, and makes sure that they are Debian's.
    pub fn update(&self) -> Result<()> {
        let fetched = self.run("apt-get", "fetching the package indexes", &["-qq", "update"]);
        fetched.map_err(|error| match error {
            Error::Apt { message, .. } => {
                Error::Indexes { architecture: self.architecture.clone(), message }
            }
            error => error,
        })?;
        let index = format!("_binary-{}_Packages", self.architecture);
        let mut has_packages = false;
        let lists = self.directory.join("lists");
        let entries = fs::read_dir(&lists).map_err(Error::host("cannot read", &lists))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let release = path.to_str().is_some_and(|path| path.ends_with("Release"));
            if release && !is_from_debian(&path)? {
                return Err(Error::Malformed {
                    path,
                    problem: "the archive is not Debian's (its Release file has another Origin)"
                        .into(),
                });
            }
            has_packages |= path.to_str().is_some_and(|path| path.contains(&index));
        }
        if !has_packages {
            return Err(Error::ForeignArchive { architecture: self.architecture.clone() });
        }
        Ok(())
    }

    /// Resolves packages and all that they depend on.
    pub fn resolve(&self, packages: &[String]) -> Result<Vec<Resolved>> {
        let mut arguments =
            vec!["-qq", "install", "--yes", "--no-install-recommends", "--print-uris"];
        arguments.extend(packages.iter().map(String::as_str));
        let output = self.run("apt-get", "resolving packages", &arguments)?;
        self.describe(parse_uris(&output))
    }

    /// The one package that a metapackage's dependencies name with this prefix and a digit.
    pub fn versioned_dependency(&self, metapackage: &str, prefix: &str) -> Result<Resolved> {
        let what = "looking up a package";
        let shown = self.run("apt-cache", what, &["--no-all-versions", "show", metapackage])?;
        let name = parse_stanzas(&shown)
            .iter()
            .filter_map(|stanza| stanza.get("Depends"))
            .flat_map(|depends| depends.split([',', '|']))
            .filter_map(|dependency| dependency.split_whitespace().next())
            .find(|name| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
            .map(str::to_owned)
            .ok_or_else(|| {
                Error::package(metapackage, format!("it depends on no package {prefix}VERSION"))
            })?;
        let output =
            self.run("apt-get", "resolving packages", &["-qq", "download", "--print-uris", &name])?;
        self.describe(parse_uris(&output))?
            .into_iter()
            .next()
            .ok_or_else(|| Error::package(name, "apt knows no archive that has it"))
    }

    /// Places where a locked package may be had, best first.
    pub fn uris_of(&self, package: &LockedPackage) -> Vec<String> {
        let bases = self.sources.iter().flat_map(|source| &source.uris);
        let mut uris: Vec<String> = bases
            .map(|base| {
                let file = package.file.replace('%', "%25").replace('+', "%2b");
                format!("{}/{file}", base.trim_end_matches('/'))
            })
            .collect();
        uris.dedup();
        uris
    }

    /// Downloads files. Contents are not checked here, and what cannot be had is simply absent
    /// afterwards; apt's words about it are returned.
    pub fn download(&self, files: &[(String, PathBuf)]) -> Result<String> {
        let mut command = self.command(APT_HELPER);
        command.arg("download-file");
        for (uri, target) in files {
            // An empty third argument is an unknown checksum: we check ourselves.
            command.arg(uri).arg(target).arg("");
        }
        let output = command
            .output()
            .map_err(|source| Error::NoApt { program: APT_HELPER.into(), source })?;
        Ok(apt_message(&output.stderr))
    }

    /// Completes names and URIs with what the signed index says.
    fn describe(&self, listed: Vec<Listed>) -> Result<Vec<Resolved>> {
        let wanted: Vec<String> =
            listed.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let mut arguments = vec!["show"];
        arguments.extend(wanted.iter().map(String::as_str));
        let output = self.run("apt-cache", "reading checksums from the index", &arguments)?;
        let stanzas = parse_stanzas(&output);
        listed.into_iter().map(|package| complete(package, &stanzas)).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.directory.join("apt.conf"));
        command.env("LC_ALL", "C").env_remove("APT_CONFIG").stdin(Stdio::null());
        command
    }

    fn run(
        &self,
        program: &'static str,
        doing: &'static str,
        arguments: &[&str],
    ) -> Result<String> {
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .map_err(|source| Error::NoApt { program: program.into(), source })?;
        if !output.status.success() {
            let message = apt_message(&output.stderr);
            return Err(Error::Apt { program, doing, status: output.status.to_string(), message });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Read after the host's own configuration, so that proxies and credentials stay as they are.
fn configuration(root: &str, architecture: &str) -> String {
    let mut text = String::from(
        "#clear APT::Architectures;\n#clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
         APT::Update::Error-Mode \"any\";\nAcquire::Retries \"3\";\n\
         APT::Install-Recommends \"0\";\nAPT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"0\";\n\
         Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n",
    );
    let _ = write!(
        text,
        "APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
         Dir::State \"{root}\";\nDir::State::Lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
         Dir::Etc::SourceParts \"{root}/sources.list.d\";\n"
    );
    text
}

fn is_from_debian(release: &Path) -> Result<bool> {
    let text = fs::read(release).map_err(Error::host("cannot read", release))?;
    Ok(String::from_utf8_lossy(&text).lines().any(|line| line.trim() == "Origin: Debian"))
}

/// The lines of apt's standard error that say what is wrong.
fn apt_message(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("E: ").or_else(|| line.strip_prefix("Err:")))
        .collect();
    if lines.is_empty() { text.trim().to_owned() } else { lines.join("; ") }
}

/// A package as `--print-uris` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    version: String,
    architecture: String,
    uri: String,
}

/// Parses lines of `'URI' NAME_VERSION_ARCH.deb SIZE CHECKSUM`; other lines are apt's chatter.
fn parse_uris(output: &str) -> Vec<Listed> {
    output.lines().filter_map(parse_uri).collect()
}

fn parse_uri(line: &str) -> Option<Listed> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once('\'')?;
    let file = rest.split_whitespace().next()?.strip_suffix(".deb")?;
    let mut parts = file.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Listed {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        architecture: architecture.to_owned(),
        uri: uri.to_owned(),
    })
}

type Stanza<'a> = HashMap<&'a str, &'a str>;

/// Parses a Packages file's stanzas; continuation lines (descriptions) are dropped.
fn parse_stanzas(text: &str) -> Vec<Stanza<'_>> {
    let mut stanzas = vec![Stanza::new()];
    for line in text.lines() {
        if line.is_empty() {
            stanzas.push(Stanza::new());
        } else if let (false, Some((name, value)), Some(stanza)) =
            (line.starts_with([' ', '\t']), line.split_once(':'), stanzas.last_mut())
        {
            stanza.insert(name, value.trim());
        }
    }
    stanzas
}

fn complete(listed: Listed, stanzas: &[Stanza<'_>]) -> Result<Resolved> {
    let Listed { name, version, architecture, uri } = listed;
    let is = |stanza: &Stanza<'_>, field: &str, value: &str| {
        stanza.get(field).is_some_and(|found| *found == value)
    };
    let stanza = stanzas
        .iter()
        .find(|stanza| {
            is(stanza, "Package", &name)
                && is(stanza, "Version", &version)
                && is(stanza, "Architecture", &architecture)
        })
        .ok_or_else(|| Error::package(&name, "the package index does not describe it"))?;
    let field = |field: &str| {
        stanza
            .get(field)
            .map(|value| (*value).to_owned())
            .ok_or_else(|| Error::package(&name, format!("the package index has no {field}")))
    };
    let (sha256, size, file) = (field("SHA256")?, field("Size")?, field("Filename")?);
    if !is_sha256(&sha256) {
        return Err(Error::package(&name, "the package index has no usable SHA256"));
    }
    let size = size.parse().map_err(|_| Error::package(&name, "its size is not a number"))?;
    let file = file.trim_start_matches("./").to_owned();
    let package = LockedPackage { name, version, architecture, sha256, size, file };
    Ok(Resolved { package, uri })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URIS: &str = "Reading package lists...\n\
        'http://example.org/debian/pool/main/b/bison/bison_3.8.2%2bdfsg-1%2bb1_amd64.deb' \
        bison_2%3a3.8.2+dfsg-1+b1_amd64.deb 1174528 MD5Sum:00\n";

    #[test]
    fn uris_and_index_make_a_locked_package() {
        let listed = parse_uris(URIS);
        let sha256 = "ab".repeat(32);
        let shown = format!(
            "Package: bison\nVersion: 2:3.8.2+dfsg-1\nArchitecture: amd64\n\n\
             Package: bison\nVersion: 2:3.8.2+dfsg-1+b1\nArchitecture: amd64\n\
             Description: x\n Package: not-this\nSize: 1174528\nSHA256: {sha256}\n\
             Filename: ./pool/main/b/bison.deb\n"
        );
        let resolved = complete(listed[0].clone(), &parse_stanzas(&shown)).unwrap();
        assert_eq!(resolved.package.version, "2:3.8.2+dfsg-1+b1");
        assert_eq!(resolved.package.sha256, sha256);
        assert_eq!(resolved.package.size, 1174528);
        assert_eq!(resolved.package.file, "pool/main/b/bison.deb");
    }

    #[test]
    fn a_package_without_a_sha256_is_refused() {
        let listed = parse_uris(URIS).remove(0);
        let shown = "Package: bison\nVersion: 2:3.8.2+dfsg-1+b1\nArchitecture: amd64\n\
            Size: 1\nSHA256: nonsense\nFilename: f\n";
        let message = complete(listed, &parse_stanzas(shown)).unwrap_err().to_string();
        assert!(message.contains("bison") && message.contains("SHA256"), "{message}");
    }

    #[test]
    fn apt_s_errors_are_kept_and_its_warnings_are_not() {
        let stderr = b"W: careful\nE: Unable to locate package nonesuch\n";
        assert_eq!(apt_message(stderr), "Unable to locate package nonesuch");
    }

    proptest! {
        #[test]
        fn parsers_accept_any_text(text in "(?s)[ -~\n'_:.]{0,300}") {
            parse_uris(&text);
            parse_stanzas(&text);
        }
    }
}
