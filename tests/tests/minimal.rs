//! The main job: examples/minimal built in guests, exported in every format, and booted.

use std::path::Path;
use std::process::Command;

use outcrop_tests::{Said, Scratch, examples, guests_can_run, outcrop, run};

const SYSTEM: &str = "minimal-x86_64";

fn of_minimal(verb: &str) -> Command {
    let mut command = outcrop();
    command.arg(verb).arg("--definitions").arg(examples().join("minimal"));
    command
}

fn export(format: &str, out: &Path) {
    let mut command = of_minimal("export");
    command.args([SYSTEM, "--format", format, "--output"]).arg(out);
    run(&mut command).ok();
}

fn boot(image: &Path, script: &str) -> Said {
    run(outcrop().arg("boot").arg(image).args(["--command", script]))
}

/// One test: the parts need each other, and the build takes minutes.
#[test]
fn the_minimal_system_is_built_exported_and_booted() {
    if !guests_can_run() {
        return;
    }
    run(of_minimal("build").args([SYSTEM, "--guests", "2"])).ok();
    the_tree_is_right();
    let scratch = Scratch::new();
    let images = every_format_twice(&scratch);
    for image in ["squashfs", "ext4", "cpio"] {
        it_lives(&images.join(format!("a.{image}")));
    }
}

fn the_tree_is_right() {
    let listed = run(of_minimal("ls").args([SYSTEM, "-R"])).ok().stdout;
    let line = |path: &str| -> Vec<&str> {
        listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields.get(5) == Some(&path))
            .unwrap_or_else(|| panic!("{path} is not in\n{listed}"))
    };
    assert_eq!(line("/bin/su")[..4], ["-rwsr-xr-x", "1", "0", "0"]);
    assert_eq!(line("/home/visitor/.profile")[..4], ["-rw-r-----", "1", "1000", "1000"]);
    assert_eq!(line("/dev/console")[4], "5,1");
    assert!(line("/dev/vda")[0].starts_with('b'));
    // What integration changed, and what it created.
    let motd = run(of_minimal("cat").args([SYSTEM, "/etc/motd"])).ok().stdout;
    assert_eq!(motd, "Built from source by Outcrop.\nThis is x86_64.\n");
    let path = run(of_minimal("cat").args([SYSTEM, "/etc/ld-musl-x86_64.path"])).ok().stdout;
    assert!(path.contains("/usr/musl/lib"), "{path}");
    // Nothing of the kit, and none of the guest's mount points' content.
    assert!(!listed.contains("/usr/bin/gcc"), "{listed}");
    assert!(!listed.contains("/proc/"), "{listed}");
}

/// Exports in every format, each twice; returns the directory of the first.
fn every_format_twice(scratch: &Scratch) -> std::path::PathBuf {
    let directory = scratch.directory("images");
    for format in ["tar", "tar.zst", "cpio", "squashfs", "ext4"] {
        let (first, second) =
            (directory.join(format!("a.{format}")), directory.join(format!("b.{format}")));
        export(format, &first);
        export(format, &second);
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "{format}");
        std::fs::remove_file(second).unwrap();
    }
    let tar = directory.join("a.tar");
    let listed = run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar)).ok().stdout;
    for wanted in ["-rwsr-xr-x 0/0", "-rw-r----- 1000/1000", "crw------- 0/0"] {
        assert!(listed.contains(wanted), "{wanted} is not in\n{listed}");
    }
    let image = directory.join("a.squashfs");
    let listed = run(Command::new("unsquashfs").arg("-lln").arg(&image)).ok().stdout;
    for wanted in ["-rwsr-xr-x 0/0", "-rw-r----- 1000/1000", "crw------- 0/0"] {
        assert!(listed.contains(wanted), "{wanted} is not in\n{listed}");
    }
    directory
}

fn it_lives(image: &Path) {
    let script = "cat /etc/motd; readlink /bin/sh; stat -c '%a %u:%g %n' /bin/su \
                  /home/visitor/.profile; stat -c '%t:%T' /dev/console; dropbear -V; id -u";
    let said = boot(image, script).ok().stdout;
    for wanted in [
        "This is x86_64.",
        "busybox",
        "4755 0:0 /bin/su",
        "640 1000:1000 /home/visitor/.profile",
        "5:1",
        "Dropbear v2022.83",
    ] {
        assert!(said.contains(wanted), "{}: {wanted} is not in\n{said}", image.display());
    }
    // The exit status of the command is passed on.
    boot(image, "exit 3").fails(1).says("exit status 3");
}
