//! Finished systems, booted from images.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outcrop::guest::{Accelerator, BootOptions, Disk, GuestError, boot_command};

use crate::kit::{Kit, append_file};

/// On a disk the agent has mounted both already; an initramfs system does it itself.
const INITTAB: &str = "::sysinit:/bin/mount -t proc proc /proc\n\
                       ::sysinit:/bin/mount -t devtmpfs dev /dev\n\
                       ::askfirst:/bin/sh\n";

/// A directory with a system of one busybox.
fn system(kit: &Kit, root: &Path) {
    for directory in ["bin", "sbin", "etc", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(&kit.busybox, root.join("bin/busybox")).unwrap();
    for applet in ["sh", "mount", "echo", "cat", "printf", "grep", "touch"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    fs::write(root.join("etc/inittab"), INITTAB).unwrap();
    fs::write(root.join("etc/motto"), "it lives\n").unwrap();
}

fn options(kit: &Kit, disk: Option<PathBuf>) -> BootOptions {
    BootOptions {
        recipe: kit.recipe(),
        kernel: kit.kernel(),
        initramfs: kit.initramfs(),
        init: None,
        disk: disk.map(|image| Disk { image, format: "raw".into() }),
        writable: false,
        memory_mib: 256,
        accelerator: Accelerator::Tcg,
        console_log: None,
        start_limit: Duration::from_secs(120),
    }
}

fn tool(name: &str, arguments: &[&str]) -> bool {
    match Command::new(name).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            eprintln!("SKIPPED in part: {name} is not installed");
            false
        }
    }
}

async fn lives(options: &BootOptions, root_type: &str) {
    let command = b"cat /etc/motto; grep ' / ' /proc/mounts; echo error >&2; exit 5";
    let limit = Duration::from_secs(60);
    let result = boot_command(options, command, limit, |_| {}).await.unwrap();
    let text = String::from_utf8(result.output).unwrap();
    eprintln!("{root_type}: a shell after {:.1} s", result.boot_time.as_secs_f64());
    assert!(text.contains("it lives\n") && text.contains("error\n"), "{text}");
    assert!(text.contains(&format!(" / {root_type} ")), "{text}");
    assert_eq!(result.status, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_boot_from_every_kind_of_image() {
    let Some(kit) = Kit::find() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    system(&kit, &root);
    let root_name = root.to_str().unwrap();

    let squashfs = scratch.path().join("a,b.squashfs");
    if tool("mksquashfs", &[root_name, squashfs.to_str().unwrap(), "-all-root", "-quiet"]) {
        lives(&options(&kit, Some(squashfs)), "squashfs").await;
    }

    let ext4 = scratch.path().join("ext4");
    if tool("mke2fs", &["-q", "-t", "ext4", "-d", root_name, ext4.to_str().unwrap(), "16M"]) {
        let before = fs::read(&ext4).unwrap();
        let mut writable = options(&kit, Some(ext4.clone()));
        writable.writable = true;
        let touch = b"touch /etc/new && cat /etc/new && echo $((40+2))";
        let result = boot_command(&writable, touch, Duration::from_secs(60), |_| {}).await.unwrap();
        assert_eq!((result.output.as_slice(), result.status), (&b"42\n"[..], 0));
        assert!(fs::read(&ext4).unwrap() == before, "the image was changed");
        lives(&options(&kit, Some(ext4)), "ext4").await;
    }

    let mut initramfs = options(&kit, None);
    initramfs.initramfs = cpio(&root, scratch.path());
    lives(&initramfs, "rootfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_a_system_says_so() {
    let Some(kit) = Kit::find() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let error = boot_command(&options(&kit, Some(image)), b"true", Duration::from_secs(60), |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&error, GuestError::AgentDied { reason, .. } if reason.contains("no file system")),
        "{error}"
    );
}

/// The system as an initramfs: the trees are tiny, so everything is a file.
fn cpio(root: &Path, scratch: &Path) -> PathBuf {
    let mut list = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(root)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let names = Command::new("find").current_dir(root).output().unwrap().stdout;
    list.stdin.take().unwrap().write_all(&names).unwrap();
    let mut image = list.wait_with_output().unwrap().stdout;
    // What the kernel runs first is a file of its own here, not a link to busybox.
    append_file(&mut image, "init", b"#!/bin/sh\nexec /sbin/init\n");
    let path = scratch.join("system.cpio");
    fs::write(&path, image).unwrap();
    path
}
