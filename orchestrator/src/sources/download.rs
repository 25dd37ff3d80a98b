//! Downloads by the host's curl, verified before they get their name.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::command::Program;
use super::error::{Context, Error, Result};
use super::spec::Sha256Digest;
use super::url::Url;
use super::{Progress, Session};
use crate::store;

const CURL: Program = Program { name: "curl", purpose: "download archives", package: "curl" };

/// curl's exit status when a server cannot resume (its manual, "RANGE ERROR", and a bad resume).
const CANNOT_RESUME: [i32; 2] = [33, 36];

/// The file with this content in the store, downloaded if it is not there yet.
pub(super) fn fetch(session: &Session<'_>, url: &Url, sha256: &Sha256Digest) -> Result<PathBuf> {
    let place = session.store.sources().join(sha256.as_str());
    if session.store.hold(&place)? {
        return Ok(place);
    }
    let _lock = session.store.lock_name(&format!("download-{sha256}"))?;
    if session.store.hold(&place)? {
        return Ok(place);
    }
    if session.offline {
        return Err(Error::Offline { what: url.to_string() });
    }
    session.log(format!("downloading {url}"));
    let part = session.store.sources().join(format!("{sha256}.part"));
    let resumed = part.exists();
    let first =
        download(session, url, &part).and_then(|()| verify(&part, &url.to_string(), sha256));
    match first {
        Ok(()) => {}
        // What an earlier run left may have been of another file: once more from the start.
        Err(Error::Checksum { .. }) if resumed => {
            download(session, url, &part)?;
            verify(&part, &url.to_string(), sha256)?;
        }
        Err(error) => return Err(error),
    }
    publish(&part, &place)?;
    session.store.hold(&place)?;
    Ok(place)
}

fn download(session: &Session<'_>, url: &Url, part: &Path) -> Result<()> {
    let shown = url.to_string();
    let address = Address::write(session, url)?;
    let run = |resume: bool| {
        let mut command = CURL.command();
        command.args(["--fail", "--location", "--silent", "--show-error", "--globoff"]);
        command.args(["--proto", "=http,https", "--proto-redir", "=http,https"]);
        command.args(["--retry", "3", "--connect-timeout", "30"]);
        command.args(["--speed-limit", "1", "--speed-time", "60"]);
        if resume {
            command.args(["--continue-at", "-"]);
        }
        command.arg("--output").arg(part).arg("--config").arg(&address.0);
        CURL.output(command, &shown, &mut || {
            let bytes = fs::metadata(part).map_or(0, |meta| meta.len());
            session.tell(Progress::Downloading { what: &shown, bytes })
        })
    };
    let mut output = run(part.exists())?;
    if output.status.code().is_some_and(|code| CANNOT_RESUME.contains(&code)) {
        output = run(false)?;
    }
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: CURL.name,
        status: output.status.to_string(),
        what: shown,
        said: super::command::tail(&output.stderr),
    })
}

/// A URL in a file for curl: everybody on the machine can read the arguments of a process.
struct Address(PathBuf);

impl Address {
    fn write(session: &Session<'_>, url: &Url) -> Result<Address> {
        let address = Address(session.store.temporary_path());
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        // curl's manual, "--config": within quotes a backslash stands before these two.
        let quoted = url.whole().replace('\\', r"\\").replace('"', "\\\"");
        let quoted: String = quoted.chars().filter(|c| !c.is_control()).collect();
        let text = format!("url = \"{quoted}\"\n");
        options
            .open(&address.0)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .context("cannot write", &address.0)?;
        Ok(address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        // Where that fails the next command tidies up.
        let _ = fs::remove_file(&self.0);
    }
}

/// Compares a file's SHA-256; a file with the wrong one is removed.
fn verify(path: &Path, what: &str, wanted: &Sha256Digest) -> Result<()> {
    let found = digest_of(path)?;
    if found == wanted.as_str() {
        return Ok(());
    }
    fs::remove_file(path).context("cannot remove", path)?;
    Err(Error::Checksum { what: what.to_owned(), found, wanted: wanted.to_string() })
}

/// Moves a file whose SHA-256 is right to its name in the store.
pub(super) fn adopt(
    session: &Session<'_>,
    path: &Path,
    what: &str,
    sha256: &Sha256Digest,
) -> Result<PathBuf> {
    verify(path, what, sha256)?;
    let place = session.store.sources().join(sha256.as_str());
    publish(path, &place)?;
    session.store.hold(&place)?;
    Ok(place)
}

fn publish(path: &Path, place: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).context("cannot sync", path)?;
    fs::rename(path, place).context("cannot rename", path)
}

/// SHA-256 of a file, 64 hex digits.
pub fn digest_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).context("cannot open", path)?;
    store::sha256(&mut file).context("cannot read", path)
}
