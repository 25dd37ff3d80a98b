//! `outcrop mount` as an ordinary user: what is shown, what is captured, and how it ends.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;
use std::time::Duration;

use outcrop_tests::small_disk::SmallDisk;
use outcrop_tests::{
    Mounted, Scratch, archives, as_user, outcrop, processes_with, run, wait_until,
};

/// `stat` of one path in a mount: type, mode, owner, group, device, mtime, links, size.
fn stat(mounted: &Mounted, path: &str) -> String {
    let said = mounted.shell(&format!("stat -c '%F %a %u %g %t:%T %Y %h %s' \"$MNT/{path}\"")).ok();
    said.stdout.trim().to_owned()
}

#[test]
fn a_tarball_shows_everything_truly() {
    let scratch = Scratch::new();
    let tar = scratch.file("all.tar", archives::everything());
    let mounted = Mounted::new(&scratch, ["--layer".as_ref(), tar.as_os_str()]);
    assert_eq!(stat(&mounted, "bin/su"), "regular file 4755 0 0 0:0 1000000000 1 10");
    assert_eq!(stat(&mounted, "foreign"), "regular file 640 12345 54321 0:0 1000000000 1 5");
    assert_eq!(
        stat(&mounted, "large-owner"),
        "regular file 600 3000000 4000000000 0:0 1000000000 1 1"
    );
    assert_eq!(stat(&mounted, "dev/console"), "character special file 620 0 5 5:1 1000000000 1 0");
    assert_eq!(stat(&mounted, "dev/vda3"), "block special file 660 0 0 fe:3 1000000000 1 0");
    assert_eq!(stat(&mounted, "pipe"), "fifo 644 0 0 0:0 1000000000 1 0");
    assert_eq!(stat(&mounted, "one"), "regular file 644 0 0 0:0 1000000000 2 6");
    assert_eq!(stat(&mounted, "sticky"), "directory 1777 0 0 0:0 1000000000 2 0");
    let times = mounted.shell("stat -c %.9Y \"$MNT/old\"").ok();
    assert_eq!(times.stdout.trim(), "-5.500000000");
    let same = mounted.shell("test \"$MNT/one\" -ef \"$MNT/two\"; readlink \"$MNT/link\"").ok();
    assert_eq!(same.stdout.trim(), "../nowhere");
    let far = mounted.shell(&format!("cat \"$MNT/{}\"", archives::long_path())).ok();
    assert_eq!(far.stdout, "far down\n");
    let xattr = mounted.shell("getfattr --only-values -n user.comment \"$MNT/old\"").ok();
    assert_eq!(xattr.stdout, "kept");
    mounted.end();
}

#[test]
fn statistics_of_a_read_only_mount_are_what_find_counts() {
    let scratch = Scratch::new();
    let low = scratch.file("low.tar", archives::everything());
    let high = scratch.file("high.tar", archives::files(&[("one", &[7; 10_000]), ("new", b"1")]));
    let mounted =
        Mounted::new(&scratch, ["-l".as_ref(), low.as_os_str(), "-l".as_ref(), high.as_os_str()]);
    let told = mounted.shell("stat -f -c '%c %d %f' \"$MNT\"").ok().stdout;
    let found = mounted.shell("find \"$MNT\" -printf '%i\\n' | sort -u | wc -l").ok().stdout;
    assert_eq!(told.trim(), format!("{} 0 0", found.trim()));
    mounted.end();
}

/// A tree as `outcrop ls` describes it, without the root, whose times a mount may change.
fn listing(spec: &std::path::Path) -> String {
    run(outcrop().args(["ls", "-R", "--json"]).arg(spec)).ok().stdout
}

#[test]
fn capturing_again_gives_an_equal_tree() {
    let scratch = Scratch::new();
    let tar = scratch.file("all.tar", archives::everything());
    let out = scratch.join("again.tar");
    let mounted = Mounted::new(
        &scratch,
        [
            "--layer".as_ref(),
            tar.as_os_str(),
            "--rw".as_ref(),
            "--capture".as_ref(),
            out.as_os_str(),
        ],
    );
    mounted.end();
    let (before, after) = (listing(&tar), listing(&out));
    assert!(before.contains("\"dev/console\"") || before.contains("/dev/console"), "{before}");
    assert_eq!(before, after);
    let pax = std::fs::read(&out).unwrap();
    let find = |text: &[u8]| pax.windows(text.len()).any(|window| window == text);
    assert!(find(b"SCHILY.xattr.user.comment=kept"));
    assert!(find(b"SCHILY.xattr.security.capability="));
    assert!(find(b"mtime=-5.5"));
}

#[test]
fn a_capture_is_the_same_whether_zeros_were_written_or_left_out() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty.tar", archives::files(&[]));
    let content = [vec![b'y'; 100_000], vec![0; 400_000], b"end".to_vec()].concat();
    let content = scratch.file("content", content);
    let capture = |way: &str| {
        let out = scratch.join(&format!("{way}.tar"));
        let arguments = ["-l".as_ref(), empty.as_os_str(), "--rw".as_ref(), "--mtime".as_ref()];
        let to = ["0".as_ref(), "--capture".as_ref(), out.as_os_str()];
        let mounted = Mounted::new(&scratch, arguments.into_iter().chain(to));
        let script =
            format!("cp --sparse={way} {} \"$MNT/f\"; stat -c %b \"$MNT/f\"", content.display());
        let blocks: u64 = mounted.shell(&script).ok().stdout.trim().parse().unwrap();
        mounted.end();
        (blocks, std::fs::read(&out).unwrap())
    };
    let (written, left_out) = (capture("never"), capture("always"));
    assert!(left_out.0 < written.0, "{} and {} blocks", left_out.0, written.0);
    assert!(left_out.1 == written.1);
    assert!(written.1.len() < 300_000, "{} bytes", written.1.len());
}

#[test]
fn cp_and_install_set_the_mode_and_no_acl() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty.tar", archives::files(&[]));
    let out = scratch.join("out.tar");
    let arguments = [
        "--layer".as_ref(),
        empty.as_os_str(),
        "--rw".as_ref(),
        "--capture".as_ref(),
        out.as_os_str(),
    ];
    let mounted = Mounted::new(&scratch, arguments);
    let script = "cd \"$MNT\"; echo x > plain; chmod 4754 plain; cp -p plain copied; \
                  cp -a plain kept; install -m 4711 plain installed";
    mounted.shell(script).ok();
    mounted.end();
    let listed = run(outcrop().args(["ls", "-R"]).arg(&out)).ok().stdout;
    for (name, mode) in
        [("copied", "-rwsr-xr--"), ("kept", "-rwsr-xr--"), ("installed", "-rws--x--x")]
    {
        let line = listed.lines().find(|line| line.ends_with(name)).unwrap_or(&listed);
        assert!(line.starts_with(mode), "{name}: {listed}");
    }
    let pax = std::fs::read(&out).unwrap();
    assert!(!pax.windows(9).any(|window| window == b"posix_acl"), "an ACL was kept");
}

#[test]
fn every_compression_shows_the_same_tree() {
    let scratch = Scratch::new();
    let tar = scratch.file("a.tar", archives::everything());
    let plain = listing(&tar);
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
        let packed = scratch.join(&format!("a.tar.{ending}"));
        let script = format!("{program} -q -c '{}' > '{}'", tar.display(), packed.display());
        run(as_user("sh").args(["-c", &script])).ok();
        assert_eq!(listing(&packed), plain, "{ending}");
    }
}

#[test]
fn layers_of_every_kind_merge_and_the_later_wins() {
    let scratch = Scratch::new();
    let low = scratch.file("low.tar", archives::files(&[("etc/a", b"low"), ("etc/b", b"low")]));
    let directory = scratch.directory("dir");
    std::fs::create_dir(directory.join("etc")).unwrap();
    std::fs::write(directory.join("etc/b"), "dir").unwrap();
    outcrop_tests::give_to_user(&directory.join("etc"));
    let list = scratch.file("nodes.list", "dir /dev 0755 0 0\nchar /dev/null 0666 0 0 1:3\n");
    let repo = scratch.directory("repo");
    let script = "git init -q . && mkdir src && echo 'int main;' > src/x.c && git add . \
                  && git -c user.name=n -c user.email=e commit -q -m m";
    run(as_user("sh").args(["-c", script]).current_dir(&repo)).ok();
    let specs = [
        low.display().to_string(),
        format!("dir:{}", directory.display()),
        format!("list:{}", list.display()),
        format!("git:{}#HEAD:src@/usr/src", repo.display()),
    ];
    let arguments: Vec<&str> = specs.iter().flat_map(|spec| ["--layer", spec.as_str()]).collect();
    let mounted = Mounted::new(&scratch, arguments);
    assert_eq!(mounted.shell("cat \"$MNT/etc/a\" \"$MNT/etc/b\"").ok().stdout, "lowdir");
    assert_eq!(mounted.shell("cat \"$MNT/usr/src/x.c\"").ok().stdout, "int main;\n");
    assert!(stat(&mounted, "dev/null").starts_with("character special file 666 0 0 1:3"));
    mounted.shell("! touch \"$MNT/new\" 2>/dev/null").ok();
    mounted.end();
}

#[test]
fn what_is_written_is_captured_and_layers_stay() {
    let scratch = Scratch::new();
    let tar = scratch.file("base.tar", archives::files(&[("keep", b"keep"), ("gone", b"gone")]));
    let before = std::fs::read(&tar).unwrap();
    let out = scratch.join("out.tar");
    let mounted = Mounted::new(
        &scratch,
        [
            "--layer".as_ref(),
            tar.as_os_str(),
            "--rw".as_ref(),
            "--capture".as_ref(),
            out.as_os_str(),
        ],
    );
    mounted
        .shell("cd \"$MNT\"; rm gone; echo new > new; mkdir d; ln new d/hard; ln -s new soft; chmod 0600 keep; mkfifo p")
        .ok();
    mounted.end();
    assert_eq!(std::fs::read(&tar).unwrap(), before);
    let listed = run(Command::new("tar").arg("-tvf").arg(&out)).ok().stdout;
    for wanted in ["-rw-------", "keep", "soft -> new", "link to", "prw-"] {
        assert!(listed.contains(wanted), "{wanted} in {listed}");
    }
    assert!(!listed.contains("gone"), "{listed}");
}

#[test]
fn a_signal_and_fusermount_both_end_the_server() {
    for end in ["TERM", "INT", "unmount"] {
        let scratch = Scratch::new();
        let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
        let mounted = Mounted::new(&scratch, ["--layer".as_ref(), tar.as_os_str()]);
        let mountpoint = mounted.mountpoint.display().to_string();
        assert!(!processes_with(&mountpoint).is_empty());
        if end == "unmount" {
            run(as_user("fusermount3").args(["-u", &mountpoint])).ok();
        } else {
            run(as_user("pkill").args([&format!("-{end}"), "-f", &mountpoint])).ok();
        }
        wait_until("the server's end", Duration::from_secs(20), || {
            processes_with(&mountpoint).is_empty()
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&mountpoint), "{end} left a mount");
    }
}

#[test]
fn a_mount_that_is_in_use_is_left_alone() {
    let scratch = Scratch::new();
    let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
    let mounted = Mounted::new(&scratch, ["--layer".as_ref(), tar.as_os_str()]);
    let mut user = as_user("sh")
        .args(["-c", "exec < \"$0\"; echo; exec sleep 1000"])
        .arg(mounted.mountpoint.join("f"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0];
    std::io::Read::read_exact(user.stdout.as_mut().unwrap(), &mut line).unwrap();
    let said = run(outcrop().arg("unmount").arg(&mounted.mountpoint)).fails(1);
    assert!(said.stderr.contains("close what uses it"), "{}", said.stderr);
    mounted.shell("cat \"$MNT/f\"").ok();
    user.kill().unwrap();
    user.wait().unwrap();
    mounted.end();
}

#[test]
fn unmounting_by_another_path_waits_for_the_capture_too() {
    for other in ["../mnt", "alias"] {
        let scratch = Scratch::new();
        let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
        let out = scratch.join("out.tar");
        let here = scratch.directory("here");
        std::os::unix::fs::symlink("../mnt", here.join("alias")).unwrap();
        let mut mount = outcrop();
        mount.args(["mount", "--background", "--rw", "--layer"]).arg(&tar).arg("--capture");
        run(mount.arg(&out).arg(scratch.directory("mnt"))).ok();
        run(outcrop().current_dir(&here).args(["unmount", other])).ok();
        assert!(out.is_file(), "{other}: it ended before the capture");
    }
}

#[test]
fn the_mount_of_a_killed_server_is_recognised_and_cleaned() {
    let scratch = Scratch::new();
    let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
    let mounted = Mounted::new(&scratch, ["--layer".as_ref(), tar.as_os_str()]);
    let mountpoint = mounted.mountpoint.display().to_string();
    run(as_user("pkill").args(["-KILL", "-f", &mountpoint])).ok();
    wait_until("the server's end", Duration::from_secs(20), || {
        processes_with(&mountpoint).is_empty()
    });
    mounted.shell("! cat \"$MNT/f\" 2>/dev/null").ok();
    let again = Mounted::new(&scratch, ["--layer".as_ref(), tar.as_os_str()]);
    assert_eq!(again.shell("cat \"$MNT/f\"").ok().stdout, "1");
    again.end();
    std::mem::forget(mounted);
}

#[test]
fn a_capture_that_a_killed_server_owed_is_told_of() {
    let scratch = Scratch::new();
    let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
    let out = scratch.join("out.tar");
    let mountpoint = scratch.directory("owed");
    let kill = || {
        let mut mount = outcrop();
        mount.args(["mount", "--background", "--rw", "--layer"]).arg(&tar);
        let said = run(mount.arg("--capture").arg(&out).arg(&mountpoint)).ok();
        let place = mountpoint.display().to_string();
        run(as_user("pkill").args(["-KILL", "-f", &place])).ok();
        wait_until("the server's end", Duration::from_secs(20), || {
            processes_with(&place).is_empty()
        });
        said
    };
    kill();
    run(outcrop().arg("unmount").arg(&mountpoint)).fails(1).says("nothing was captured");
    assert!(!kill().stderr.contains("captured"), "it is told once");
    assert!(kill().stderr.contains("nothing was captured"), "told by the next mount there");
    run(outcrop().arg("unmount").arg(&mountpoint)).fails(1).says("nothing was captured");
    assert!(!out.exists());
}

#[test]
fn a_damaged_index_is_made_anew() {
    let scratch = Scratch::new();
    let store = scratch.directory("store");
    let tar = scratch.file("a.tar", archives::everything());
    let list = || {
        let mut command = outcrop();
        command.env("OUTCROP_HOME", &store).args(["ls", "-R"]).arg(&tar);
        run(&mut command).ok()
    };
    let before = list();
    assert!(!before.stderr.contains("anew"), "{}", before.stderr);
    let layers = store.join("layers");
    let mut spoiled = 0;
    for entry in std::fs::read_dir(&layers).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "index") {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            // Root may write where the mode forbids it; the owner is kept.
            std::fs::write(entry.path(), bytes).unwrap();
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 1);
    let after = list();
    assert_eq!(before.stdout, after.stdout);
    assert!(after.stderr.contains("anew"), "{}", after.stderr);
}

/// The command in a hint that finishes a capture, without `outcrop`: `capture NAME OUT`.
fn offered(stderr: &str) -> Vec<String> {
    let (_, command) = stderr.split_once("with: outcrop ").expect("the hint has a command");
    command.lines().next().unwrap().split(' ').map(str::to_owned).collect()
}

#[test]
fn a_capture_that_finds_its_disk_full_loses_nothing() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(&scratch, "64k") else {
        outcrop_tests::skip("mounting a small file system needs root");
        return;
    };
    scratch.file("base.tar", archives::everything());
    let store = scratch.directory("store");
    let out = disk.place.join("out.tar");
    let in_store = |arguments: &[&str]| {
        let mut command = outcrop();
        command.args(arguments).env("OUTCROP_HOME", &store);
        run(command.current_dir(scratch.path()))
    };
    let mountpoint = scratch.directory("mnt").display().to_string();
    let out_text = out.display().to_string();
    // The layer is named from the directory in which the command runs.
    let mount = ["mount", "--background", "--rw", "--capture", &out_text, "-l", "base.tar"];
    in_store(&[&mount[..], &[&mountpoint]].concat()).ok();
    let script = "cd \"$MNT\"; head -c 200000 /dev/urandom > random; sha256sum random; \
                  rm old; mv bin usr; echo more >> one; mkdir -p a/b; ln random a/b/again; mv foreign a/b";
    let mut command = as_user("sh");
    command.args(["-ec", script]).env("MNT", &mountpoint);
    let sum = run(&mut command).ok().stdout;
    let said = in_store(&["unmount", &mountpoint]).fails(1).says("No space left").says("is kept");
    assert_eq!(
        std::fs::read_dir(&disk.place).unwrap().count(),
        0,
        "nothing is left on the full disk"
    );
    let command = offered(&said.stderr);
    assert_eq!((command[0].as_str(), &command[2]), ("capture", &out_text));
    // It is still full.
    in_store(&["capture", &command[1], &out_text]).fails(1).says("No space left");
    in_store(&["capture", "mount-0", &out_text]).fails(2).says(&command[1]);
    let elsewhere = scratch.join("elsewhere.tar").display().to_string();
    in_store(&["capture", &command[1], &elsewhere]).ok();
    assert_eq!(std::fs::read_dir(store.join("kept")).unwrap().count(), 0);
    let listed = in_store(&["ls", "-R", &elsewhere]).ok().stdout;
    let paths: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for (path, is_there) in [
        ("/old", false),
        ("/bin", false),
        ("/usr/su", true),
        ("/a/b/again", true),
        ("/a/b/foreign", true),
        ("/dev/console", true),
    ] {
        assert_eq!(paths.contains(&path), is_there, "{path} in {listed}");
    }
    let sha256sum = format!("cat {elsewhere} | tar -xO a/b/again | sha256sum");
    let found = run(as_user("sh").args(["-c", &sha256sum])).ok().stdout;
    assert_eq!(found.split(' ').next(), sum.split(' ').next());
    assert_eq!(in_store(&["cat", &elsewhere, "/one"]).ok().stdout, "twice\nmore\n");
}

#[test]
fn changes_that_fill_the_stores_own_disk_are_kept() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(&scratch, "12m") else {
        outcrop_tests::skip("mounting a small file system needs root");
        return;
    };
    let tar = scratch.file("base.tar", archives::files(&[("f", b"1")]));
    let out = disk.place.join("out.tar");
    let mountpoint = scratch.directory("mnt");
    let in_store = || {
        let mut command = outcrop();
        command.env("OUTCROP_HOME", disk.place.join("store"));
        command
    };
    let mut command = in_store();
    command.args(["mount", "--background", "--rw", "--capture"]).arg(&out);
    run(command.arg("-l").arg(&tar).arg(&mountpoint)).ok();
    let script = "cd \"$MNT\"; mkdir d; for n in $(seq 200); do echo $n > d/$n; done; \
                  cat /dev/urandom > noise 2>/dev/null || true; wc -c < noise";
    let mut command = as_user("sh");
    let written = run(command.args(["-ec", script]).env("MNT", &mountpoint)).ok().stdout;
    assert!(written.trim().parse::<u64>().unwrap() > 1 << 20, "{written}");
    let said = run(in_store().arg("unmount").arg(&mountpoint)).fails(1).says("is kept");
    let command = offered(&said.stderr);
    run(in_store().args(&command)).fails(1).says("No space left");
    disk.resize("64m");
    run(in_store().args(&command)).ok();
    let said = run(in_store().arg("cat").arg(&out).arg("/d/200")).ok();
    assert_eq!(said.stdout, "200\n");
    let listed = run(in_store().args(["ls", "--json"]).arg(&out).arg("/noise")).ok().stdout;
    assert!(listed.contains(&format!("\"size\":{}", written.trim())), "{listed}");
}

#[test]
fn a_zone_that_the_tree_does_not_have_is_told_before_the_unmount() {
    let scratch = Scratch::new();
    let tar = scratch.file("base.tar", archives::files(&[("f", b"1")]));
    let out = scratch.join("out.tar");
    let mountpoint = scratch.directory("mnt");
    let mount = |zone: &str| {
        let mut command = outcrop();
        command.args(["mount", "--background", "--rw", "--zone", zone, "--capture"]).arg(&out);
        run(command.arg("-l").arg(&tar).arg(&mountpoint))
    };
    mount("/f/below").fails(2).says("cannot capture /f/below");
    mount("/nix/store").ok().says("the tree has no /nix/store yet");
    let script = "cd \"$MNT\"; mkdir -p nix/store; echo new > nix/store/new";
    run(as_user("sh").args(["-ec", script]).env("MNT", &mountpoint)).ok();
    run(outcrop().arg("unmount").arg(&mountpoint)).ok();
    assert_eq!(run(outcrop().arg("cat").arg(&out).arg("/new")).ok().stdout, "new\n");
    mount("/nix/stroe").ok();
    run(as_user("sh").args(["-ec", script]).env("MNT", &mountpoint)).ok();
    let said = run(outcrop().arg("unmount").arg(&mountpoint)).fails(1);
    let said = said.says("/nix/stroe").says("is kept");
    let mut finish = outcrop();
    finish.args(offered(&said.stderr)).args(["--zone", "/nix/store"]);
    std::fs::remove_file(&out).unwrap();
    run(&mut finish).ok();
    assert_eq!(run(outcrop().arg("cat").arg(&out).arg("/new")).ok().stdout, "new\n");
}

#[test]
fn a_capture_that_could_not_be_written_is_refused_before_anything_is_mounted() {
    let scratch = Scratch::new();
    let tar = scratch.file("base.tar", archives::files(&[("f", b"1")]));
    let closed = scratch.directory("closed");
    run(as_user("chmod").arg("0555").arg(&closed)).ok();
    let mountpoint = scratch.directory("mnt");
    for (out, problem) in [
        ("missing/out.tar", "missing does not exist"),
        ("closed/out.tar", "closed may not be written to"),
        ("base.tar/out.tar", "base.tar is not a directory"),
        ("mnt", "it is a directory"),
    ] {
        for way in [&["--background"][..], &[]] {
            let mut command = outcrop();
            command.arg("mount").args(way).args(["--rw", "--capture"]).arg(scratch.join(out));
            let said = run(command.arg("-l").arg(&tar).arg(&mountpoint)).fails(2);
            said.says("cannot write the capture to").says(problem).says("hint: ");
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(&mountpoint.display().to_string()), "{out} was mounted");
        }
    }
    assert_eq!(std::fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn a_capture_whose_directory_is_gone_is_kept() {
    let scratch = Scratch::new();
    let tar = scratch.file("base.tar", archives::files(&[("f", b"1")]));
    let directory = scratch.directory("gone");
    let out = directory.join("out.tar");
    let mountpoint = scratch.directory("mnt");
    let mut command = outcrop();
    command.args(["mount", "--background", "--rw", "--zone", "/sub", "--capture"]).arg(&out);
    run(command.arg("-l").arg(&tar).arg(&mountpoint)).ok();
    let script = format!("mkdir {0}/sub; echo kept > {0}/sub/new", mountpoint.display());
    run(as_user("sh").args(["-ec", &script])).ok();
    std::fs::remove_dir(&directory).unwrap();
    let said = run(outcrop().arg("unmount").arg(&mountpoint)).fails(1).says("is kept");
    let mut command = offered(&said.stderr);
    // The layer changes meanwhile, and comes back.
    let good = std::fs::read(&tar).unwrap();
    let time = std::fs::metadata(&tar).unwrap().modified().unwrap();
    std::fs::write(&tar, archives::files(&[("f", b"other")])).unwrap();
    command[2] = scratch.join("out.tar").display().to_string();
    run(outcrop().args(&command)).fails(2).says("base.tar").says("not what it was");
    std::fs::write(&tar, good).unwrap();
    std::fs::File::options().write(true).open(&tar).unwrap().set_modified(time).unwrap();
    run(outcrop().args(&command)).ok();
    let said = run(outcrop().args(["cat", &command[2], "/new"])).ok();
    assert_eq!(said.stdout, "kept\n");
    run(outcrop().args(&command)).fails(2);
}

#[test]
fn a_directory_that_is_a_layer_is_shown_as_it_is_now() {
    for below in [None, Some(archives::files(&[("below", b"1")]))] {
        let scratch = Scratch::new();
        let live = scratch.directory("live");
        scratch.file("live/changed", "one");
        scratch.file("live/removed", "one");
        scratch.file("live/replaced", "one");
        let mut arguments = Vec::new();
        if let Some(tar) = below {
            arguments.extend(["--layer".into(), scratch.file("a.tar", tar).into_os_string()]);
        }
        let layer = format!("dir:{}", live.display());
        arguments.extend(["--layer".into(), layer.into()]);
        let mounted = Mounted::new(&scratch, arguments);
        let look =
            "cd \"$MNT\"; ls | grep -v below; cat changed replaced; ! cat removed added 2>&1";
        mounted.shell("cd \"$MNT\"; cat changed removed replaced; ! cat added; ls -l").ok();
        scratch.file("live/changed", "twotwo");
        scratch.file("live/added", "new");
        scratch.file("other", "2");
        std::fs::rename(scratch.join("other"), live.join("replaced")).unwrap();
        std::fs::remove_file(live.join("removed")).unwrap();
        let seen = mounted.shell(look).ok().stdout;
        let expected =
            "added\nchanged\nreplaced\ntwotwo2cat: removed: No such file or directory\nnew";
        assert_eq!(seen, expected);
        mounted.end();
    }
}
