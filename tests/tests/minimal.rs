//! The main job: examples/minimal built in guests, exported in every format, and booted.

use std::path::Path;
use std::process::Command;

use outcrop_tests::{Said, Scratch, examples, guest_arch, guests_can_run, outcrop, run};

fn system() -> String {
    format!("minimal-{}", guest_arch())
}

fn of_minimal(verb: &str) -> Command {
    let mut command = outcrop();
    command.arg(verb).arg("--definitions").arg(examples().join("minimal"));
    command
}

fn export(format: &str, out: &Path) {
    let mut command = of_minimal("export");
    command.args([&system(), "--format", format, "--output"]).arg(out);
    run(&mut command).ok();
}

fn boot(image: &Path, script: &str) -> Said {
    let arch = guest_arch();
    run(outcrop().arg("boot").arg(image).args(["--arch", &arch, "--command", script]))
}

/// One test: the parts need each other, and the build takes minutes.
#[test]
fn the_minimal_system_is_built_exported_and_booted() {
    if !guests_can_run() {
        return;
    }
    run(of_minimal("build").args([&system(), "--guests", "2"])).ok();
    the_tree_is_right();
    let scratch = Scratch::new();
    let images = every_format_twice(&scratch);
    let digest = digest_of_manifest(&images);
    for image in ["squashfs", "ext4", "cpio"] {
        let image = images.join(format!("a.{image}"));
        it_lives(&image);
        every_byte_is_there(&image, &digest);
    }
}

fn the_tree_is_right() {
    let listed = run(of_minimal("ls").args([system().as_str(), "-R"])).ok().stdout;
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
    let motd = run(of_minimal("cat").args([system().as_str(), "/etc/motd"])).ok().stdout;
    assert_eq!(motd, format!("Built from source by Outcrop.\nThis is {}.\n", guest_arch()));
    let loader = format!("/etc/ld-musl-{}.path", names().musl);
    let path = run(of_minimal("cat").args([system(), loader])).ok().stdout;
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

/// What others call the guests' architecture.
struct Names {
    musl: &'static str,
    kernel: &'static str,
}

fn names() -> Names {
    let (musl, kernel) = match guest_arch().as_str() {
        "x86_64" => ("x86_64", "x86_64"),
        "armv8l64" => ("aarch64", "aarch64"),
        "armv7lhf" => ("armhf", "armv7l"),
        // No agent is there that shows 32 bits to a system that boots.
        "armv5l" => ("arm", "aarch64"),
        "x86_32" => ("i386", "i686"),
        "ppc64l" => ("powerpc64le", "ppc64le"),
        "riscv64" => ("riscv64", "riscv64"),
        "s390x" => ("s390x", "s390x"),
        other => panic!("what others call {other} is not known here"),
    };
    Names { musl, kernel }
}

/// Directories of the image that nothing is mounted on.
const CHECKED: &str = "bin etc home lib root sbin usr var";

/// The digest of what `sha256sum` is to say of all files, from the tar that the host's own tools unpack.
fn digest_of_manifest(images: &Path) -> String {
    let unpack = format!(
        "mkdir manifest; cd manifest; tar xf ../a.tar --no-same-owner; chmod -R u+rwX .
         find {CHECKED} -type f | LC_ALL=C sort | xargs sha256sum > ../sums
         test $(wc -l < ../sums) -gt 200; sha256sum < ../sums"
    );
    let said = run(Command::new("sh").args(["-ec", &unpack]).current_dir(images)).ok().stdout;
    said.split_whitespace().next().unwrap().to_owned()
}

/// Boots an image, and has every file in it read and summed up.
fn every_byte_is_there(image: &Path, digest: &str) {
    let script = format!("cd /; find {CHECKED} -type f | sort | xargs sha256sum | sha256sum");
    let said = boot(image, &script).ok().stdout;
    assert!(said.contains(digest), "{}: not {digest} but\n{said}", image.display());
}

fn it_lives(image: &Path) {
    let script = "uname -m; cat /etc/motd; readlink /bin/sh; stat -c '%a %u:%g %n' /bin/su \
                  /home/visitor/.profile; stat -c '%t:%T' /dev/console; dropbear -V; id -u";
    let said = boot(image, script).ok().stdout;
    let (is, kernel) = (format!("This is {}.", guest_arch()), format!("{}\n", names().kernel));
    for wanted in [
        is.as_str(),
        kernel.as_str(),
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
