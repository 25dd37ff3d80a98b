//! The packaging's patches of a Debian source package, applied with the host's `patch`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use git2::Repository;

use super::Session;
use super::archive::{self, Member, Members};
use super::command::Program;
use super::error::{Context, Error, Result};

const PATCH: Program =
    Program { name: "patch", purpose: "apply Debian's patches", package: "patch" };

/// More than any package's patches have, uncompressed.
const MOST_BYTES: u64 = 256 << 20;

/// One patch: its name, how many leading names to strip, its text.
struct Patch {
    name: String,
    strip: u32,
    text: Vec<u8>,
}

/// Applies what the packaging (`.debian.tar.*` or `.diff.gz`) changes outside `debian/`.
pub(super) fn apply(
    session: &Session<'_>,
    repo: &Repository,
    members: Members,
    packaging: &Path,
    what: &str,
) -> Result<Members> {
    let patches = read_patches(packaging, what)?;
    if patches.is_empty() {
        return Ok(members);
    }
    let place = session.store.temporary_path();
    let done = apply_in(session, repo, &members, &patches, &place, what);
    crate::store::remove_tree(&place)?;
    done
}

fn apply_in(
    session: &Session<'_>,
    repo: &Repository,
    members: &Members,
    patches: &[Patch],
    place: &Path,
    what: &str,
) -> Result<Members> {
    let (tree, file) = (place.join("tree"), place.join("patch"));
    fs::create_dir(place).context("cannot make the directory", place)?;
    check_out(repo, members, &tree)?;
    for patch in patches {
        session.log(format!("{what}: applying {}", patch.name));
        fs::write(&file, &patch.text).context("cannot write", &file)?;
        let mut command = PATCH.command();
        // As dpkg-source does: without fuzz, without questions, nothing left behind.
        command.args(["--batch", "--forward", "--unified", "--fuzz=0", "--remove-empty-files"]);
        command.args(["--no-backup-if-mismatch", "--version-control=never", "--reject-file=-"]);
        command.arg(format!("--strip={}", patch.strip));
        command.arg("--directory").arg(&tree).arg("--input").arg(&file);
        let label = format!("{what}, {}", patch.name);
        PATCH.run(command, &label, &mut || true)?;
    }
    let mut patched = check_in(repo, &tree)?;
    if !members.contains_key(b"debian".as_slice()) {
        patched.remove(b"debian".as_slice());
    }
    Ok(patched)
}

fn read_patches(packaging: &Path, what: &str) -> Result<Vec<Patch>> {
    let file = File::open(packaging).context("cannot open", packaging)?;
    let mut reader = BufReader::new(file);
    let stream = archive::decompress(&mut reader).context("cannot read", packaging)?;
    let mut limited = stream.take(MOST_BYTES);
    let mut start = Vec::new();
    limited.by_ref().take(512).read_to_end(&mut start).context("cannot read", packaging)?;
    let whole = io::Cursor::new(start.clone()).chain(limited);
    // A tar has its magic at byte 257; the diff of format 1.0 is plain text.
    if start.get(257..262) != Some(b"ustar") {
        let mut whole = whole;
        let mut text = Vec::new();
        whole.read_to_end(&mut text).context("cannot read", packaging)?;
        return Ok(vec![Patch { name: "diff.gz".to_owned(), strip: 1, text }]);
    }
    let files = read_texts(whole).context("cannot read", packaging)?;
    let Some(series) = files.get("series") else { return Ok(Vec::new()) };
    parse_series(&String::from_utf8_lossy(series))
        .into_iter()
        .map(|(name, strip)| match files.get(&name) {
            Some(text) => Ok(Patch { name, strip, text: text.clone() }),
            None => Err(Error::Invalid(format!(
                "{what}: debian/patches/series names {name}, which is not in the package."
            ))),
        })
        .collect()
}

/// Files below `debian/patches/`, by their path there.
fn read_texts(reader: impl Read) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = path.trim_start_matches("./").strip_prefix("debian/patches/") else {
            continue;
        };
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        files.insert(name.to_owned(), text);
    }
    Ok(files)
}

/// Names and strip levels of a quilt series.
pub(super) fn parse_series(text: &str) -> Vec<(String, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
            let name = words.next()?.to_owned();
            let strip = words.find_map(|word| word.strip_prefix("-p")?.parse().ok()).unwrap_or(1);
            Some((name, strip))
        })
        .collect()
}

fn check_out(repo: &Repository, members: &Members, place: &Path) -> Result<()> {
    fs::create_dir(place).context("cannot make the directory", place)?;
    for (name, member) in members {
        let path = place.join(std::ffi::OsStr::from_bytes(name));
        match member {
            Member::Directory(below) => check_out(repo, below, &path)?,
            Member::Blob(oid, mode) => {
                let blob = repo.find_blob(*oid).context("cannot read", &path)?;
                if *mode == 0o120000 {
                    let target = std::ffi::OsStr::from_bytes(blob.content());
                    symlink(target, &path).context("cannot make the symlink", &path)?;
                } else {
                    fs::write(&path, blob.content()).context("cannot write", &path)?;
                    let mode = fs::Permissions::from_mode(*mode as u32 & 0o777);
                    fs::set_permissions(&path, mode).context("cannot change", &path)?;
                }
            }
        }
    }
    Ok(())
}

fn check_in(repo: &Repository, place: &Path) -> Result<Members> {
    let mut members = Members::new();
    for item in fs::read_dir(place).context("cannot read", place)? {
        let item = item.context("cannot read", place)?;
        let path = item.path();
        let meta = item.metadata().context("cannot examine", &path)?;
        let member = if meta.is_dir() {
            Member::Directory(check_in(repo, &path)?)
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).context("cannot read", &path)?;
            let oid = repo.blob(target.as_os_str().as_bytes()).context("cannot import", &path)?;
            Member::Blob(oid, 0o120000)
        } else {
            let data = fs::read(&path).context("cannot read", &path)?;
            let executable = meta.permissions().mode() & 0o100 != 0;
            let oid = repo.blob(&data).context("cannot import", &path)?;
            Member::Blob(oid, if executable { 0o100755 } else { 0o100644 })
        };
        members.insert(item.file_name().as_bytes().to_vec(), member);
    }
    Ok(members)
}
