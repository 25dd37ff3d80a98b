//! Real guests under emulation.
//!
//! `OUTCROP_TEST_KIT` names a directory with `vmlinuz` and `initramfs` (the agent as `/init`), and
//! perhaps a static `busybox`; otherwise the host's is taken if it is static. Without them the
//! tests say that they were skipped.

// A panic is how a test fails; clippy.toml says so for test functions, but not for their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;
mod system;
mod virtiofs;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Kit, Sysroot};
use outcrop::guest::{
    Accelerator, COMPILE_ADDRESS, Command, CompileForward, Exit, Guest, GuestError, GuestOptions,
    Outcome, Stream, TerminalEvent, probe_kvm,
};

const PATH: (&str, &str) = ("PATH", "/bin");

fn script(text: &str) -> Command {
    Command::script(text).env(PATH.0, PATH.1)
}

async fn run(guest: &mut Guest, command: &Command) -> (Exit, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let exit = guest
        .run(command, |stream, bytes| match stream {
            Stream::Output => output.extend_from_slice(bytes),
            Stream::Error => errors.extend_from_slice(bytes),
        })
        .await
        .unwrap();
    (exit, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

async fn output(guest: &mut Guest, text: &str) -> String {
    let (exit, output, errors) = run(guest, &script(text)).await;
    assert!(exit.success(), "{exit}: {errors}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_the_sysroot_and_their_writes_arrive() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    commands(kit.options(&sysroot)).await;
    let work = sysroot.path().join("work");
    assert_eq!(std::fs::read(work.join("file")).unwrap(), b"here\n");
    assert_eq!(std::fs::metadata(work.join("big")).unwrap().len(), 20 << 20);
    for mount_point in MOUNT_POINTS {
        assert!(!sysroot.path().join(mount_point).exists(), "{mount_point} was left behind");
    }
}

const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "sys", "tmp", "run"];

/// Everything that needs no guest of its own, in one: a start costs seconds.
async fn commands(options: GuestOptions) {
    let mut guest = Guest::start(options).await.unwrap();
    eprintln!("{} {:?}", guest.kernel_release(), guest.timings());

    status_and_streams(&mut guest).await;
    environment_and_identity(&mut guest).await;
    devices_and_mounts(&mut guest).await;
    input(&mut guest).await;
    limits_and_strays(&mut guest).await;
    a_cancelled_command_does_not_go_on(&mut guest).await;
    a_lot_of_output_arrives_whole(&mut guest).await;
    terminal(&mut guest).await;

    output(&mut guest, "mkdir /work; dd if=/dev/zero of=/work/big bs=1M count=20 2>/dev/null")
        .await;
    output(&mut guest, "echo here > /work/file; chmod 4711 /work/file; sleep 1000 &").await;
    guest.shut_down().await.unwrap();
}

async fn status_and_streams(guest: &mut Guest) {
    let (exit, output, errors) = run(guest, &script("echo out; echo err >&2; exit 7")).await;
    assert_eq!(exit.outcome, Outcome::Exited(7));
    assert_eq!((output.as_str(), errors.as_str()), ("out\n", "err\n"));

    let (exit, output, _) = run(guest, &script("echo before; false; echo after")).await;
    assert_eq!((exit.outcome, output.as_str()), (Outcome::Exited(1), "before\n"));

    let (exit, ..) = run(guest, &script("kill -SEGV $$")).await;
    assert_eq!(exit.outcome, Outcome::Signalled(11));

    let (exit, output, _) =
        run(guest, &Command::arguments(["printf", "%s|", "a b", "'\"$x"]).env(PATH.0, PATH.1))
            .await;
    assert_eq!((exit.success(), output.as_str()), (true, "a b|'\"$x|"));

    let (exit, ..) = run(guest, &Command::arguments(["/no/such/program"])).await;
    assert!(exit.to_string().contains("cannot run /no/such/program"), "{exit}");
    let (exit, ..) = run(guest, &script("true").directory("/missing")).await;
    assert!(exit.to_string().contains("/missing"), "{exit}");
    let (exit, ..) = run(guest, &script("true").env("A=B", "x")).await;
    assert!(exit.to_string().contains("A=B"), "{exit}");
}

async fn environment_and_identity(guest: &mut Guest) {
    let command = Command::arguments(["/bin/env"]).env("ONE", "1 2\n3");
    let (_, output, _) = run(guest, &command).await;
    assert_eq!(output, "ONE=1 2\n3\n");

    let mut command = script("id -u; id -g; id -G; pwd").directory("/bin");
    (command.uid, command.gid) = (1234, 5678);
    let (_, output, _) = run(guest, &command).await;
    assert_eq!(output, "1234\n5678\n5678\n/bin\n");

    let clock: i64 = self::output(guest, "date +%s").await.trim().parse().unwrap();
    let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let host = i64::try_from(host.as_secs()).unwrap();
    assert!((host - 60..=host).contains(&clock), "guest {clock}, host {host}");
    assert_eq!(self::output(guest, "hostname").await, "outcrop\n");
}

async fn devices_and_mounts(guest: &mut Guest) {
    let text = output(
        guest,
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c
         echo fd > /dev/stdout; echo t > /tmp/x; stat -c %a /tmp /dev/shm /run
         test -c /dev/tty; test -r /proc/self/status; test -d /sys/class; ls /dev/pts",
    )
    .await;
    assert_eq!(text, "3\n5\nfd\n1777\n1777\n755\nptmx\n");
    // Only the loopback: nothing else was asked for.
    assert_eq!(output(guest, "ls /sys/class/net; ping -c 1 127.0.0.1 > /dev/null").await, "lo\n");
}

async fn input(guest: &mut Guest) {
    let (_, output, _) = run(guest, &script("cat; echo end")).await;
    assert_eq!(output, "end\n");
    // Several times the window, and every byte value.
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let mut echoed = Vec::new();
    let command = script("cat").input(bytes.clone());
    guest.run(&command, |_, piece| echoed.extend_from_slice(piece)).await.unwrap();
    assert!(echoed == bytes, "{} bytes of {}", echoed.len(), bytes.len());
    // A command that reads nothing must not stop the host.
    let (exit, ..) = run(guest, &script("exit 4").input(bytes)).await;
    assert_eq!(exit.outcome, Outcome::Exited(4));
}

async fn limits_and_strays(guest: &mut Guest) {
    let limit = Duration::from_millis(300);
    let (exit, output, _) =
        run(guest, &script("echo started; sleep 1000 & sleep 1000").time_limit(limit)).await;
    assert_eq!((exit.outcome.clone(), output.as_str()), (Outcome::TimedOut, "started\n"));
    assert!(exit.duration >= limit);
    // One process in the same group and one that has left it, both holding the output open.
    let (exit, ..) = run(guest, &script("sleep 1000 & setsid sleep 1000 & exit 0")).await;
    assert!(exit.success());
    let left = self::output(guest, "ps | grep -c '[s]leep 1000' || true").await;
    assert_eq!(left, "0\n");
}

async fn a_cancelled_command_does_not_go_on(guest: &mut Guest) {
    let command = script("while :; do echo more >> /tmp/cancelled; echo x; sleep 0.05; done");
    let seen = Arc::new(tokio::sync::Notify::new());
    let signal = Arc::clone(&seen);
    tokio::select! {
        _ = guest.run(&command, |_, _| signal.notify_one()) => panic!("it never ends"),
        () = seen.notified() => {}
    }
    let text =
        output(guest, "a=$(wc -l < /tmp/cancelled); sleep 0.3; wc -l < /tmp/cancelled; echo $a");
    let text = text.await;
    let (first, second) = text.trim().split_once('\n').unwrap();
    assert_eq!(first, second);
}

async fn a_lot_of_output_arrives_whole(guest: &mut Guest) {
    let mut count = 0;
    let command = script("dd if=/dev/zero bs=1M count=16 2>/dev/null");
    let started = std::time::Instant::now();
    guest.run(&command, |_, bytes| count += bytes.len()).await.unwrap();
    eprintln!("output: {:.0} MB/s", 16.8 / started.elapsed().as_secs_f64());
    assert_eq!(count, 16 << 20);
}

async fn terminal(guest: &mut Guest) {
    let (sender, events) = tokio::sync::mpsc::channel(4);
    let shown = Arc::new(Mutex::new(String::new()));
    let screen = Arc::clone(&shown);
    let typist = tokio::spawn(async move {
        let appears = async |what: &str| {
            while !shown.lock().unwrap().contains(what) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        appears("# ").await;
        let typed = |text: &str| TerminalEvent::Typed(text.into());
        sender.send(typed("tty; stty size; echo sum $((40+2))\r")).await.unwrap();
        appears("sum 42").await;
        sender.send(TerminalEvent::Resized { rows: 11, columns: 99 }).await.unwrap();
        sender.send(typed("stty size\r")).await.unwrap();
        appears("11 99").await;
        sender.send(typed("sleep 1000\r")).await.unwrap();
        appears("sleep 1000").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        sender.send(typed("\x03")).await.unwrap();
        sender.send(typed("exit 9\r")).await.unwrap();
        let shown = shown.lock().unwrap().clone();
        (shown, sender)
    });
    let command = Command::arguments(["/bin/sh", "-i"]).env(PATH.0, PATH.1).env("PS1", "# ");
    let exit = guest
        .run_on_terminal(&command, (24, 80), events, |bytes| {
            screen.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        })
        .await
        .unwrap();
    let (shown, _sender) = typist.await.unwrap();
    assert_eq!(exit.outcome, Outcome::Exited(9), "{shown}");
    assert!(shown.contains("/dev/pts/0") && shown.contains("24 80"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compile_service_is_all_that_a_guest_can_reach() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    let mut options = kit.options(&sysroot);
    // A service whose answer needs the connection's input, and an argument that needs quoting.
    let service = "read line; echo \"$0: $line\"";
    let command = ["/bin/sh", "-c", service, "it's, here"].map(Into::into).to_vec();
    options.compile = Some(CompileForward { command });
    let mut guest = Guest::start(options).await.unwrap();
    let ([a, b, c, d], port) = COMPILE_ADDRESS;
    let call = format!("echo hello | nc -w 20 {a}.{b}.{c}.{d} {port}");
    // Twice: each connection is a new process.
    assert_eq!(output(&mut guest, &call).await, "it's, here: hello\n");
    assert_eq!(output(&mut guest, &call).await, "it's, here: hello\n");
    // 10.0.2.2 would be the host.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (exit, ..) = run(&mut guest, &script(&format!("echo x | nc -w 2 10.0.2.2 {port}"))).await;
    assert!(!exit.success());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    guest.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_in_a_guest_is_named() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);

    let mut guest = Guest::start(kit.options(&sysroot)).await.unwrap();
    let error = guest.run(&script("echo c > /proc/sysrq-trigger"), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, GuestError::KernelPanicked { .. }), "{error}");
    assert!(error.to_string().contains("sysrq"), "{error}");

    // Root in the guest may write to the agent's own code.
    let mut guest = Guest::start(kit.options(&sysroot)).await.unwrap();
    let destroy = "start=$(grep r-xp /proc/1/maps | head -n 1 | cut -d - -f 1)
                   head -c 400000 /dev/zero | \
                   dd of=/proc/1/mem bs=4096 seek=$((0x$start / 4096)) conv=notrunc";
    let error = guest.run(&script(destroy), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, GuestError::AgentDied { .. }), "{error}");

    let mut guest = Guest::start(kit.options(&sysroot)).await.unwrap();
    let qemu = rustix::process::Pid::from_raw(guest.process_id().unwrap() as i32).unwrap();
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        rustix::process::kill_process(qemu, rustix::process::Signal::KILL).unwrap();
    });
    let error = guest.run(&script("sleep 1000"), |_, _| {}).await.unwrap_err();
    killer.await.unwrap();
    assert!(
        matches!(&error, GuestError::QemuEnded { status, .. } if status.contains("9")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hangs_is_noticed() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    let mut options = kit.options(&sysroot);
    options.limits.answer = Duration::from_secs(1);
    let mut guest = Guest::start(options).await.unwrap();
    let qemu = rustix::process::Pid::from_raw(guest.process_id().unwrap() as i32).unwrap();
    rustix::process::kill_process(qemu, rustix::process::Signal::STOP).unwrap();
    let error = guest.run(&script("true"), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, GuestError::Unresponsive { .. }), "{error}");
    drop(guest);
    while std::path::Path::new(&format!("/proc/{}", qemu.as_raw_nonzero())).exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whatever the host has, the verdict must be one that a guest then starts with.
#[tokio::test(flavor = "multi_thread")]
async fn kvm_is_probed_and_not_trusted() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    let mut options = kit.options(&sysroot);
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("kvm.json");
    let verdict = probe_kvm(&options, "kit", &cache).await;
    eprintln!("{:?} {}", verdict.accelerator, verdict.reason);
    assert_eq!(verdict.accelerator == Accelerator::Kvm, verdict.reason.is_empty());
    options.accelerator = verdict.accelerator;
    let mut guest = Guest::start(options.clone()).await.unwrap();
    assert_eq!(output(&mut guest, "echo up").await, "up\n");
    let again = probe_kvm(&options, "kit", &cache).await;
    assert_eq!((again.accelerator, again.fresh), (verdict.accelerator, false));
}

/// Not a test by itself: what the next test runs on a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn person() {
    if std::env::var_os("OUTCROP_TEST_PERSON").is_none() {
        return;
    }
    let kit = Kit::find().unwrap();
    let sysroot = Sysroot::new(&kit);
    let mut guest = Guest::start(kit.options(&sysroot)).await.unwrap();
    let shell = Command::arguments(["/bin/sh", "-i"]).env(PATH.0, PATH.1).env("PS1", "ready> ");
    let exit = guest.shell_interactive(&shell).await.unwrap();
    println!("it ended with {exit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_use_a_shell_in_a_guest() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if Kit::find().is_none() {
        return;
    }
    // script(1) gives it a terminal.
    let this = std::env::current_exe().unwrap();
    let command = format!("'{}' --exact person --nocapture; stty -a", this.display());
    let mut script = tokio::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("OUTCROP_TEST_PERSON", "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = String::new();
    let mut typed = 0;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = screen.read(&mut buffer).await {
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if typed == 0 && shown.contains("ready> ") {
            keyboard.write_all(b"echo sum $((40+2)); exit 6\r").await.unwrap();
            typed = 1;
        }
    }
    assert!(shown.contains("sum 42\r\n"), "{shown}");
    assert!(shown.contains("it ended with exit status 6"), "{shown}");
    // The terminal is as it was.
    assert!(shown.contains(" icanon") && shown.contains(" echo "), "{shown}");
}

#[test]
fn a_guest_may_move_between_threads() {
    fn may_move<T: Send>() {}
    may_move::<Guest>();
    may_move::<GuestError>();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_work_says_why() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);

    let mut options = kit.options(&sysroot);
    options.kernel = "/nonexistent/vmlinuz".into();
    let error = start_error(options).await;
    assert!(error.to_string().contains("/nonexistent/vmlinuz"), "{error}");

    let mut options = kit.options(&sysroot);
    options.recipe.binary = "qemu-system-none".into();
    let error = start_error(options).await;
    assert!(matches!(error, GuestError::QemuMissing { .. }), "{error}");

    let mut options = kit.options(&sysroot);
    options.recipe.machine = "no-such-machine".into();
    let error = start_error(options).await;
    assert!(error.to_string().contains("unsupported machine type"), "{error}");

    // The kernel finds no init in a file that is no archive.
    let mut options = kit.options(&sysroot);
    let garbage = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(garbage.path(), vec![0x55; 10_000]).unwrap();
    options.initramfs = garbage.path().into();
    let error = start_error(options).await;
    assert!(matches!(error, GuestError::KernelPanicked { .. }), "{error}");

    let mut options = kit.options(&sysroot);
    options.temporary.push(("/tmp".into(), "no-such-option=1".into()));
    let error = start_error(options).await;
    assert!(matches!(&error, GuestError::Agent(text) if text.contains("/tmp")), "{error}");

    a_damaged_initramfs_is_told_by_the_missing_module(&kit, &sysroot).await;

    let mut options = kit.options(&sysroot);
    options.limits.start = Duration::from_millis(300);
    let error = start_error(options).await;
    assert!(matches!(error, GuestError::StartTimeout { .. }), "{error}");
}

async fn a_damaged_initramfs_is_told_by_the_missing_module(kit: &Kit, sysroot: &Sysroot) {
    let mut options = kit.options(sysroot);
    options.initramfs = kit.initramfs_with_list(|list| format!("{list}lib/modules/missing.ko\n"));
    let error = start_error(options).await.to_string();
    assert!(error.contains("lib/modules/missing.ko"), "{error}");
    assert!(error.contains("outcrop kit create"), "{error}");

    // Without its line the module looks like one that is built in.
    let mut options = kit.options(sysroot);
    options.initramfs = kit.initramfs_with_list(|list| {
        let lines = list.lines().filter(|line| !line.contains("virtio_console"));
        lines.map(|line| format!("{line}\n")).collect()
    });
    let error = start_error(options).await.to_string();
    assert!(error.contains("the kernel module virtio_console is neither built in"), "{error}");
    assert!(error.contains("outcrop kit create"), "{error}");

    let mut options = kit.options(sysroot);
    options.initramfs = kit.initramfs_with_list(|list| {
        let lines = list.lines().filter(|line| !line.ends_with("/9p.ko"));
        lines.map(|line| format!("{line}\n")).collect()
    });
    let error = start_error(options).await.to_string();
    assert!(error.contains("the kernel module 9p is neither built in"), "{error}");
    assert!(error.contains("cannot mount root as 9p"), "{error}");
    assert!(error.contains("outcrop kit create"), "{error}");
}

async fn start_error(options: outcrop::guest::GuestOptions) -> GuestError {
    match Guest::start(options).await {
        Ok(_) => panic!("the guest started"),
        Err(error) => error,
    }
}
