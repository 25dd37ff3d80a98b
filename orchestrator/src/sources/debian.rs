//! Debian source packages, through the host's apt with a private state. See `docs/sources.md`.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::apt::{self, SourceFile, SourceFiles, SourcePackage};
use super::archive::{self, Member, Members};
use super::command::Program;
use super::download::adopt;
use super::error::{Context, Error, Result};
use super::spec::{DebianSpec, Sha256Digest};
use super::{Progress, ResolvedSource, Session, mirror, patches};

const APT: Program =
    Program { name: "apt-get", purpose: "get Debian source packages", package: "apt" };
const APT_CACHE: Program =
    Program { name: "apt-cache", purpose: "find Debian source packages", package: "apt" };

/// Where the host keeps its lists.
const HOST_LISTS: &str = "/etc/apt";

/// Resolves a source package, downloading and importing it on first use.
pub(super) fn resolve(session: &Session<'_>, spec: &DebianSpec) -> Result<ResolvedSource> {
    let what = format!("debian:{} {}", spec.name, spec.version);
    let name = mirror_name(&spec.name, &spec.version, spec.patches);
    let place = session.store.mirrors().join(&name);
    if let Some(found) = imported(&place, spec, &what)? {
        return Ok(found);
    }
    let _lock = session.store.lock_name(&format!("mirror-{name}"))?;
    if let Some(found) = imported(&place, spec, &what)? {
        return Ok(found);
    }
    if session.offline {
        return Err(Error::Offline { what });
    }
    let (package, files) = download(session, spec, &what)?;
    mirror::import(session, &place, &what, |repo| import(session, repo, spec, &package, &files))
}

/// Finds the package and brings its files into the store. The lock on apt ends here: an import
/// does not keep others from downloading.
fn download(
    session: &Session<'_>,
    spec: &DebianSpec,
    what: &str,
) -> Result<(SourcePackage, SourceFiles)> {
    let apt = PrivateApt::open(session)?;
    let package = apt.find(session, spec)?;
    let files = package.classify().ok_or_else(|| {
        Error::Invalid(format!("{what}: the archive's index names no source archive for it."))
    })?;
    if let Some(wanted) = &spec.sha256
        && wanted != &files.main.sha256
    {
        return Err(Error::Checksum {
            what: format!("{what} ({})", files.main.name),
            found: files.main.sha256.to_string(),
            wanted: wanted.to_string(),
        });
    }
    apt.download(session, spec, &package, &files)?;
    Ok((package, files))
}

/// The mirror of a version: what a file name should not have is escaped.
pub(super) fn mirror_name(name: &str, version: &str, patched: bool) -> String {
    let mut mirror = format!("debian_{name}_");
    for c in version.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-') {
            mirror.push(c);
        } else {
            mirror.push_str(&format!("%{:02x}", u32::from(c)));
        }
    }
    if patched {
        mirror.push_str("%patched");
    }
    mirror
}

/// What was imported before, if its orig archive is the one that is asked for.
fn imported(place: &Path, spec: &DebianSpec, what: &str) -> Result<Option<ResolvedSource>> {
    let Some(found) = mirror::imported(place)? else { return Ok(None) };
    if let Some(wanted) = &spec.sha256 {
        let repo = Repository::open_bare(place).context("cannot open the mirror", place)?;
        let commit = repo.find_commit(found.commit).context("cannot read", place)?;
        let main = archive::checksum_of(&commit);
        if main.as_deref() != Some(wanted.as_str()) {
            return Err(Error::Checksum {
                what: what.to_owned(),
                found: main.unwrap_or_else(|| "unknown".to_owned()),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(Some(found))
}

fn import(
    session: &Session<'_>,
    repo: &Repository,
    spec: &DebianSpec,
    package: &SourcePackage,
    files: &SourceFiles,
) -> Result<Oid> {
    let what = format!("debian:{} {}", spec.name, spec.version);
    let mut checksums = Vec::new();
    let mut newest = 0;
    let mut read = |file: &SourceFile| -> Result<Members> {
        let content = archive::read(session, repo, &stored(session, file))?;
        if content.sha256 != file.sha256.as_str() {
            return Err(Error::Checksum {
                what: file.name.clone(),
                found: content.sha256,
                wanted: file.sha256.to_string(),
            });
        }
        newest = newest.max(content.newest);
        checksums.push(content.sha256);
        Ok(archive::strip(content.members))
    };
    let mut members = read(&files.main)?;
    for (directory, file) in &files.components {
        let below = read(file)?;
        members.insert(directory.clone().into_bytes(), Member::Directory(below));
    }
    if spec.patches {
        match &files.packaging {
            Some(file) => {
                let place = stored(session, file);
                if file.name.contains(".tar.") {
                    let content = archive::read(session, repo, &place)?;
                    newest = newest.max(content.newest);
                }
                checksums.push(file.sha256.to_string());
                members = patches::apply(session, repo, members, &place, &what)?;
            }
            None => log::info!("{what} has format {} and no patches", package.format),
        }
    }
    let description = archive::Description {
        subject: "Import",
        seconds: newest,
        checksums: &checksums,
        parent: None,
    };
    archive::commit(repo, &members, &description, &what)
}

fn stored(session: &Session<'_>, file: &SourceFile) -> PathBuf {
    session.store.sources().join(file.sha256.as_str())
}

/// apt with its state in the store. Holds a lock: apt itself runs without one.
struct PrivateApt {
    configuration: PathBuf,
    lists: PathBuf,
    _lock: crate::store::FileLock,
}

impl PrivateApt {
    fn open(session: &Session<'_>) -> Result<PrivateApt> {
        let lock = session.store.lock_name("apt")?;
        let directory = session.store.sources().join("apt");
        let parts = directory.join("parts");
        for needed in
            [&parts, &directory.join("lists/partial"), &directory.join("cache/archives/partial")]
        {
            fs::create_dir_all(needed).context("cannot make the directory", needed)?;
        }
        let (lines, stanzas) = host_sources(Path::new(HOST_LISTS))?;
        if lines.is_empty() && stanzas.is_empty() {
            return Err(Error::Invalid(format!(
                "Debian source packages need an archive, but {HOST_LISTS}/sources.list and \
                 sources.list.d name none."
            )));
        }
        let configuration = directory.join("apt.conf");
        for (path, text) in [
            (parts.join("host.list"), lines.join("\n") + "\n"),
            (parts.join("host.sources"), stanzas.join("\n")),
            (directory.join("status"), String::new()),
            (configuration.clone(), apt::configuration(&directory)?),
        ] {
            crate::store::write_beside(&path, text.as_bytes())?;
        }
        Ok(PrivateApt { configuration, lists: directory.join("lists"), _lock: lock })
    }

    fn command(&self, program: Program) -> std::process::Command {
        let mut command = program.command();
        // A configuration named by the environment is the host's business, and stays.
        command.arg("-c").arg(&self.configuration);
        command
    }

    /// The package of the wanted version; the index is fetched if that version is not in it.
    fn find(&self, session: &Session<'_>, spec: &DebianSpec) -> Result<SourcePackage> {
        let mut known =
            if self.has_index()? { self.show(session, &spec.name)? } else { Vec::new() };
        let mut update = Ok(());
        if !known.iter().any(|package| package.version == spec.version) {
            update = self.update(session);
            if let Err(error @ (Error::Cancelled | Error::Missing { .. })) = update {
                return Err(error);
            }
            known = self.show(session, &spec.name)?;
        }
        if let Some(package) = known.iter().find(|package| package.version == spec.version) {
            return Ok(package.clone());
        }
        // Pinned by content: another packaging of the same upstream archive will do.
        let same = spec.sha256.as_ref().filter(|_| !spec.patches).and_then(|wanted| {
            known.iter().find(|package| {
                package.classify().is_some_and(|files| files.main.sha256 == *wanted)
            })
        });
        if let Some(package) = same {
            let (name, version) = (&spec.name, &package.version);
            log::info!("debian:{name} {} is gone; {version} has the same archive", spec.version);
            return Ok(package.clone());
        }
        // What apt said about a failed update explains a missing version best.
        update?;
        let versions: Vec<&str> = known.iter().map(|package| package.version.as_str()).collect();
        Err(Error::Invalid(if versions.is_empty() {
            format!("debian:{}: the host's apt archives have no such source package.", spec.name)
        } else {
            format!(
                "debian:{0}: version {1} is not in the host's apt archives; there is {2}. \
                 Change `ref` to it, or add an archive that has {1}.",
                spec.name,
                spec.version,
                versions.join(", ")
            )
        }))
    }

    fn has_index(&self) -> Result<bool> {
        let items = fs::read_dir(&self.lists).context("cannot read", &self.lists)?;
        Ok(items.flatten().any(|item| item.file_name().to_string_lossy().contains("_Sources")))
    }

    fn update(&self, session: &Session<'_>) -> Result<()> {
        session.log("fetching the index of Debian source packages".to_owned());
        let mut command = self.command(APT);
        command.args(["-q", "update"]);
        let what = "the index of source packages";
        APT.run(command, what, &mut || session.tell(Progress::Refreshing { what })).map(drop)
    }

    fn show(&self, session: &Session<'_>, name: &str) -> Result<Vec<SourcePackage>> {
        let mut command = self.command(APT_CACHE);
        command.args(["showsrc", "--only-source", name]);
        let what = "the index of source packages";
        let output =
            APT_CACHE.output(command, name, &mut || session.tell(Progress::Refreshing { what }))?;
        // A package that is not there is an error for apt-cache, and an empty list here.
        Ok(apt::parse_showsrc(&String::from_utf8_lossy(&output.stdout), name))
    }

    /// Brings the files that an import needs into the store, each checked against the index.
    fn download(
        &self,
        session: &Session<'_>,
        spec: &DebianSpec,
        package: &SourcePackage,
        files: &SourceFiles,
    ) -> Result<()> {
        let mut needed = vec![&files.main];
        needed.extend(files.components.iter().map(|(_, file)| file));
        needed.extend(files.packaging.as_ref().filter(|_| spec.patches));
        if needed.iter().all(|file| stored(session, file).exists()) {
            return Ok(());
        }
        session.log(format!("downloading debian:{} {}", spec.name, package.version));
        let place = session.store.temporary_path();
        fs::create_dir(&place).context("cannot make the directory", &place)?;
        let done = self.download_to(session, spec, package, &place, &needed);
        crate::store::remove_tree(&place)?;
        done
    }

    fn download_to(
        &self,
        session: &Session<'_>,
        spec: &DebianSpec,
        package: &SourcePackage,
        place: &Path,
        needed: &[&SourceFile],
    ) -> Result<()> {
        let what = format!("{}={}", spec.name, package.version);
        let mut command = self.command(APT);
        command.current_dir(place);
        command.args(["-q", "source", "--download-only", "--only-source", &what]);
        APT.run(command, &what, &mut || {
            let bytes = crate::store::disk_usage(place);
            session.tell(Progress::Downloading { what: &what, bytes })
        })?;
        for file in needed {
            let sha256: &Sha256Digest = &file.sha256;
            adopt(session, &place.join(&file.name), &file.name, sha256)?;
        }
        Ok(())
    }
}

/// Source entries from the host's lists: one-line ones and stanzas.
fn host_sources(etc: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(items) = fs::read_dir(etc.join("sources.list.d")) {
        let mut more: Vec<PathBuf> = items.flatten().map(|item| item.path()).collect();
        more.sort();
        files.extend(more);
    }
    let (mut lines, mut stanzas) = (Vec::new(), Vec::new());
    for path in files {
        // A list that this user may not read may not stand in the way of the others.
        let Ok(text) = fs::read_to_string(&path) else {
            log::debug!("{} cannot be read", path.display());
            continue;
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => lines.extend(apt::one_line_sources(&text)),
            Some("sources") => stanzas.extend(apt::deb822_sources(&text)),
            _ => {}
        }
    }
    Ok((lines, stanzas))
}
