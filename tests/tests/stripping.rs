//! What a chunk installs is stripped by the host, or by the guest where the chunk looks at it after.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{Scratch, guests_can_run, outcrop, run, skip};

const INSTALL: &str = "mkdir -p \"$DESTDIR/usr/bin\"\necho 'int main(void) { return 7; }' > p.c\n\
                       gcc -g p.c -o \"$DESTDIR/usr/bin/p\"\nchmod 4755 \"$DESTDIR/usr/bin/p\"\n";

/// Names of the sections of what a chunk has installed; the program must run.
fn sections(scratch: &Scratch, definitions: &Path, name: &str) -> String {
    let target = ["--arch", "x86_64", "--definitions"];
    run(outcrop().args(["build", name]).args(target).arg(definitions)).ok();
    let mut cat = outcrop();
    cat.args(["cat", name, "/usr/bin/p", "--definitions"]).arg(definitions);
    let output = cat.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let program = scratch.file(name, output.stdout);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Command::new(&program).status().unwrap().code(), Some(7));
    run(Command::new("readelf").arg("-WS").arg(&program)).ok().stdout
}

#[test]
fn what_a_chunk_installs_is_stripped() {
    if !guests_can_run() {
        return;
    }
    if Command::new("readelf").arg("--version").output().is_err() {
        return skip("there is no readelf to look at programs with");
    }
    let scratch = Scratch::new();
    let (host, guest, never) = (fresh_name("host"), fresh_name("guest"), fresh_name("never"));
    let chunks = [&host, &guest, &never].map(|name| (name.as_str(), &[][..], INSTALL));
    let definitions = tree(&scratch, &chunks);
    for (name, more) in [(&host, ""), (&guest, "post-strip-commands: ['true']\n")] {
        let path = format!("defs/strata/all/{name}.morph");
        let text = std::fs::read_to_string(scratch.join(&path)).unwrap();
        let text = text.replace("build-system: manual", "build-system: autotools");
        scratch.file(&path, format!("{text}configure-commands: []\nbuild-commands: []\n{more}"));
    }
    for name in [&host, &guest] {
        let sections = sections(&scratch, &definitions, name);
        assert!(sections.contains(".dynsym"), "{sections}");
        assert!(!sections.contains(".symtab") && !sections.contains(".debug"), "{sections}");
        let mut ls = outcrop();
        ls.args(["ls", name, "/usr/bin/p", "--definitions"]).arg(&definitions);
        assert!(run(&mut ls).ok().stdout.starts_with("-rwsr-xr-x"));
    }
    let log = |name: &str| {
        run(outcrop().args(["log", name, "--definitions"]).arg(&definitions)).ok().stdout
    };
    assert!(log(&host).contains("stripped 1 file,"));
    assert!(!log(&guest).contains("stripped 1 file,"));
    let untouched = sections(&scratch, &definitions, &never);
    assert!(untouched.contains(".symtab") && untouched.contains(".debug_info"), "{untouched}");
}
