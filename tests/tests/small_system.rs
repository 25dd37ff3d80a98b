//! A system of one chunk, which takes shell and C library from the kit: assembly, integration,
//! export and boot in a minute. The real thing is in `minimal.rs`.

use std::path::Path;
use std::process::Command;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{Scratch, guests_can_run, outcrop, run};

/// Installs a shell, what it needs, a few tools, and an init that gives a shell on the console.
const INSTALL: &str = r#"cd "$DESTDIR"
mkdir -p bin sbin etc dev proc sys tmp run lib64 lib/x86_64-linux-gnu
cp /usr/bin/dash bin/sh
cp /usr/bin/cat /usr/bin/stat /usr/bin/ls bin/
for program in bin/*; do
  ldd "$program" | sed -n 's/.*=> \([^ ]*\) .*/\1/p' | while read -r library; do
    cp -L "$library" lib/x86_64-linux-gnu/
  done
done
cp -L /lib64/ld-linux-x86-64.so.2 lib64/
printf '#!/bin/sh\nexec </dev/console >/dev/console 2>&1\nwhile :; do /bin/sh -i; done\n' > sbin/init
chmod 0755 sbin/init
cp bin/cat bin/suid-cat
chmod 4711 bin/suid-cat
echo first > etc/changed
echo theirs > etc/theirs
chown 1234:5678 etc/theirs
"#;

fn definitions(scratch: &Scratch, chunk: &str) -> std::path::PathBuf {
    let directory = tree(scratch, &[(chunk, &[], INSTALL)]);
    let path = format!("defs/strata/all/{chunk}.morph");
    let mut text = std::fs::read_to_string(scratch.join(&path)).unwrap();
    text += &format!(
        "devices:\n- {{type: c, filename: /dev/console, permissions: '0600', major: 5, minor: 1, uid: 0, gid: 0}}\n\
         - {{type: c, filename: /dev/null, permissions: '0666', major: 1, minor: 3, uid: 0, gid: 0}}\n\
         system-integration:\n  {chunk}-misc:\n    00-first:\n    - echo \"and $MORPH_ARCH\" >> /etc/changed\n    - echo made > /etc/created\n"
    );
    scratch.file(&path, text);
    scratch.file(
        "defs/systems/small.morph",
        "name: small\nkind: system\narch: x86_64\nstrata:\n- morph: strata/all.morph\n",
    );
    directory
}

fn command(verb: &str, definitions: &Path) -> Command {
    let mut command = outcrop();
    command.arg(verb).arg("--definitions").arg(definitions);
    command
}

#[test]
fn a_small_system_is_assembled_exported_and_booted() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let definitions = definitions(&scratch, &fresh_name("small"));
    run(command("build", &definitions).arg("systems/small")).ok();
    let cat = |path: &str| run(command("cat", &definitions).args(["small", path])).ok().stdout;
    assert_eq!(cat("/etc/changed"), "first\nand x86_64\n");
    assert_eq!(cat("/etc/created"), "made\n");
    let listed = run(command("ls", &definitions).args(["small", "-R"])).ok().stdout;
    assert!(!listed.contains("/usr/bin/gcc"), "{listed}");
    for format in ["squashfs", "ext4", "cpio"] {
        let image = scratch.join(&format!("small.{format}"));
        let mut export = command("export", &definitions);
        run(export.args(["small", "--format", format, "--output"]).arg(&image)).ok();
        let script = "cat /etc/changed; stat -c '%a %u:%g' /bin/suid-cat /etc/theirs; \
                      stat -c '%t:%T' /dev/null";
        let said = run(outcrop().arg("boot").arg(&image).args(["--command", script])).ok().stdout;
        for wanted in ["and x86_64", "4711 0:0", "644 1234:5678", "1:3"] {
            assert!(said.contains(wanted), "{format}: {wanted} is not in\n{said}");
        }
        run(outcrop().arg("boot").arg(&image).args(["--command", "exit 3"]))
            .fails(1)
            .says("exit status 3");
    }
    let no_image = scratch.join("small.tar.zst");
    let mut export = command("export", &definitions);
    run(export.args(["small", "--format", "tar.zst", "--output"]).arg(&no_image)).ok();
    run(outcrop().arg("boot").arg(&no_image).args(["--command", "true"]))
        .fails(2)
        .says("neither a squashfs nor an ext4 image nor a cpio archive");
}

#[test]
fn the_tree_of_a_failed_assembly_is_kept() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let chunk = fresh_name("small");
    let definitions = definitions(&scratch, &chunk);
    let path = format!("defs/strata/all/{chunk}.morph");
    let text = std::fs::read_to_string(scratch.join(&path)).unwrap();
    let script = "    01-fails:\n    - echo > /etc/theirs; echo half > /etc/half; exit 9\n";
    scratch.file(&path, text + script);
    run(command("build", &definitions).arg("systems/small")).fails(1).says("exit status 9");
    let look = [
        "--failed",
        "systems/small",
        "--command",
        "cat /etc/changed /etc/half /etc/theirs; ls /etc",
    ];
    let seen = run(command("shell", &definitions).args(look)).ok().stdout;
    assert_eq!(seen, "first\nand x86_64\nhalf\n\nchanged\ncreated\nhalf\ntheirs\n");
    run(command("cat", &definitions).args(["systems/small", "/etc/changed"])).fails(2);
}

/// What a chunk installs besides: of each kind something that a running system does without.
const MORE: &str = r#"mkdir -p usr/include/deep usr/share/doc/it usr/share/it usr/lib empty/inside
echo header > usr/include/deep/it.h
ln usr/include/deep/it.h usr/share/it/template.h
echo page > usr/share/doc/it/page
echo archive > usr/lib/libit.a
echo library > usr/lib/libit.so.1
"#;

#[test]
fn a_system_has_what_it_selects_and_nothing_else() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (chunk, spare) = (fresh_name("part"), fresh_name("spare"));
    let install = format!("{INSTALL}{MORE}");
    let only_header =
        "mkdir -p \"$DESTDIR/usr/include\"; echo > \"$DESTDIR/usr/include/spare.h\"\n";
    let definitions = tree(&scratch, &[(&chunk, &[], &install), (&spare, &[], only_header)]);
    let path = format!("defs/strata/all/{chunk}.morph");
    let text = std::fs::read_to_string(scratch.join(&path)).unwrap();
    let integration = format!(
        "system-integration:\n  {chunk}-misc:\n    00-look:\n    - ls -d /usr/* > /etc/seen\n"
    );
    scratch.file(&path, text + &integration);
    let system = "name: part\nkind: system\narch: x86_64\nstrata:\n- morph: strata/all.morph\n";
    scratch.file("defs/systems/part.morph", system);
    scratch.file("defs/systems/less.morph", {
        system.replace("part", "less") + "  artifacts: [all-runtime]\n"
    });
    let listed = |system: &str| {
        run(command("build", &definitions).arg(format!("systems/{system}"))).ok();
        let path = format!("systems/{system}");
        let listed = run(command("ls", &definitions).args([&path, "-R", "--json"])).ok().stdout;
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
    };
    let names = |listed: &[serde_json::Value]| -> Vec<String> {
        listed.iter().map(|node| node["path"].as_str().unwrap().to_owned()).collect()
    };
    let (all, less) = (listed("part"), listed("less"));
    let gone = [
        "/usr/include",
        "/usr/include/deep",
        "/usr/include/deep/it.h",
        "/usr/include/spare.h",
        "/usr/lib/libit.a",
        "/usr/share/doc",
        "/usr/share/doc/it",
        "/usr/share/doc/it/page",
    ];
    let expected: Vec<String> =
        names(&all).into_iter().filter(|path| !gone.contains(&path.as_str())).collect();
    assert_eq!(names(&less), expected);
    assert_eq!(names(&all).len(), expected.len() + gone.len());
    let template = less.iter().find(|node| node["path"] == "/usr/share/it/template.h").unwrap();
    assert_eq!(template["links"], 1);
    let cat =
        |path: &str| run(command("cat", &definitions).args(["systems/less", path])).ok().stdout;
    assert_eq!(cat("/usr/share/it/template.h"), "header\n");
    assert_eq!(cat("/etc/seen"), "/usr/lib\n/usr/share\n");
}

#[test]
fn what_artifacts_hide_of_each_other_is_told() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (low, high) = (fresh_name("low"), fresh_name("high"));
    let top = fresh_name("top");
    let needs = [low.as_str(), high.as_str()];
    let commands = |own: &str| {
        format!("cd \"$DESTDIR\"; mkdir etc; echo 1 > etc/same; echo {own} > etc/own; {own}\n")
    };
    let of_low = commands("mkdir etc/hidden");
    let of_high = commands("touch etc/hidden");
    let chunks = [
        (low.as_str(), &[][..], of_low.as_str()),
        (high.as_str(), &needs[..1], of_high.as_str()),
        (top.as_str(), &needs[..], "mkdir \"$DESTDIR/srv\"\n"),
    ];
    let definitions = tree(&scratch, &chunks);
    scratch.directory_of("defs/systems/both.morph");
    scratch.file(
        "defs/systems/both.morph",
        "name: both\nkind: system\narch: x86_64\nstrata:\n- morph: strata/all.morph\n",
    );
    let said = run(command("build", &definitions).arg("systems/both")).ok();
    // The first who sees it tells it, and only once.
    for path in ["/etc/hidden: the file of", "/etc/own: the file of"] {
        let told: Vec<_> = said.stderr.lines().filter(|line| line.contains(path)).collect();
        assert_eq!(told.len(), 1, "{}", said.stderr);
        assert!(told[0].contains(&format!("{top}: {path} {high}.")), "{}", said.stderr);
        for target in [format!("strata/all/{top}"), "systems/both".to_owned()] {
            let log = run(command("log", &definitions).arg(&target)).ok().stdout;
            assert_eq!(log.matches(&format!("# {path}")).count(), 1, "{target}: {log}");
        }
    }
    assert!(!said.stderr.contains("/etc/same"), "{}", said.stderr);
}
