//! Small definitions for tests: chunks without sources, so that a guest is all that they cost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Scratch;

/// A name that no earlier run has built: the store remembers everything.
pub fn fresh_name(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{:x}-{}-{number}", now.as_millis(), std::process::id())
}

/// A definitions tree with one stratum of chunks, each a name, the names it needs, and the script
/// that installs it. Chunks are written in order, so a need must stand earlier. Guests use the
/// transport that `OUTCROP_TEST_TRANSPORT` names, if it does.
pub fn tree(scratch: &Scratch, chunks: &[(&str, &[&str], &str)]) -> PathBuf {
    scratch.file("defs/VERSION", "version: 8\n");
    if let Ok(transport) = std::env::var("OUTCROP_TEST_TRANSPORT") {
        scratch.file("defs/outcrop.toml", format!("transport = \"{transport}\"\n"));
    }
    let mut stratum = String::from("name: all\nkind: stratum\nchunks:\n");
    for (name, needs, script) in chunks {
        stratum += &format!("- name: {name}\n  morph: strata/all/{name}.morph\n");
        if !needs.is_empty() {
            stratum += &format!("  build-depends: [{}]\n", needs.join(", "));
        }
        let mut chunk = format!("name: {name}\nkind: chunk\nbuild-system: manual\n");
        chunk += "install-commands:\n- |\n";
        for line in script.lines() {
            chunk += &format!("  {line}\n");
        }
        let path = format!("defs/strata/all/{name}.morph");
        scratch.directory_of(&path);
        scratch.file(&path, chunk);
    }
    scratch.file("defs/strata/all.morph", stratum);
    scratch.join("defs")
}

/// A definitions tree with one chunk whose source is a plain tar, and the script that installs it.
pub fn sourced(scratch: &Scratch, name: &str, archive: &Path, script: &str) -> PathBuf {
    let definitions = tree(scratch, &[(name, &[], script)]);
    let said = crate::run(Command::new("sha256sum").arg(archive)).ok();
    let digest = said.stdout.split(' ').next().unwrap_or_default();
    scratch.file(
        "defs/strata/all.morph",
        format!(
            "name: all\nkind: stratum\nchunks:\n- name: {name}\n  morph: strata/all/{name}.morph\n  \
             repo: 'tar:{}'\n  sha256: '{digest}'\n",
            archive.display()
        ),
    );
    definitions
}
