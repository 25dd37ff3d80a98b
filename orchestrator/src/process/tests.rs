use super::*;

fn shell(script: &str) -> Launch {
    let mut launch = Launch::new("/bin/sh");
    launch.command().args(["-c", script]);
    launch
}

/// Whether the process is there and is not just a zombie.
fn alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

async fn vanishes(id: u32) {
    while alive(id) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn first_number(process: &Supervised) -> u32 {
    loop {
        if let Some((line, _)) = process.tail().text().split_once('\n') {
            return line.parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_of_both_streams_is_captured_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut launch = shell("echo one; echo two >&2; exit 3");
    launch.log_to(&path);
    let mut process = launch.spawn().await.unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(3));
    let text = process.tail().text();
    assert!(text.contains("one\n") && text.contains("two\n"), "{text}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}

#[tokio::test]
async fn only_the_end_of_long_output_is_kept() {
    let mut process = shell("yes | head -c 200000; echo end").spawn().await.unwrap();
    process.wait().await.unwrap();
    let text = process.tail().text();
    assert_eq!(text.len(), TAIL);
    assert!(text.ends_with("end\n"));
}

#[tokio::test]
async fn dropping_kills_grandchildren_too() {
    let process = shell("sleep 1000 & echo $!; wait").spawn().await.unwrap();
    let grandchild = first_number(&process).await;
    let child = process.id().unwrap();
    assert!(alive(grandchild));
    drop(process);
    vanishes(grandchild).await;
    vanishes(child).await;
}

#[tokio::test]
async fn a_child_that_ignores_the_request_to_end_is_killed() {
    use std::os::unix::process::ExitStatusExt;
    let mut process =
        shell("trap '' TERM; echo 1; while :; do sleep 0.01; done").spawn().await.unwrap();
    first_number(&process).await;
    let status = process.stop(Duration::from_millis(50)).await.unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[tokio::test]
async fn a_child_outlives_the_runtime_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Handle::current();
    let asked =
        thread::spawn(move || runtime.block_on(shell("echo $$; sleep 0.3; echo done").spawn()));
    let mut process = tokio::task::spawn_blocking(|| asked.join().unwrap().unwrap()).await.unwrap();
    assert!(process.wait().await.unwrap().success());
    assert!(process.tail().text().ends_with("done\n"));
}

#[tokio::test]
async fn only_named_descriptors_reach_the_child() {
    let (mut mine, theirs) = std::io::pipe().unwrap();
    let number = theirs.as_raw_fd();
    let mut launch = shell(&format!("echo hello > /proc/self/fd/{number}; ls /proc/$$/fd"));
    launch.inherit(theirs.into());
    let mut process = launch.spawn().await.unwrap();
    process.wait().await.unwrap();
    let mut text = String::new();
    // Reads to the end: the parent keeps no copy of the other side.
    io::Read::read_to_string(&mut mine, &mut text).unwrap();
    assert_eq!(text, "hello\n");
    let listed = process.tail().text();
    assert!(listed.lines().any(|fd| fd == number.to_string()), "{listed}");
    assert!(!listed.lines().any(|fd| fd == mine.as_raw_fd().to_string()), "{listed}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_an_error() {
    let error = Launch::new("/nonexistent/program").spawn().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// Not a test by itself: the orchestrator that the next test kills.
#[tokio::test]
async fn victim() {
    let Some(path) = std::env::var_os("OUTCROP_TEST_VICTIM") else { return };
    let process = shell("sleep 1000").spawn().await.unwrap();
    std::fs::write(path, process.id().unwrap().to_string()).unwrap();
    tokio::time::sleep(Duration::from_secs(1000)).await;
}

#[tokio::test]
async fn killing_the_orchestrator_kills_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("child");
    let mut orchestrator = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::tests::victim"])
        .env("OUTCROP_TEST_VICTIM", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = loop {
        match std::fs::read_to_string(&path).unwrap_or_default().parse() {
            Ok(child) => break child,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(alive(child));
    orchestrator.kill().unwrap();
    orchestrator.wait().unwrap();
    vanishes(child).await;
}

fn number_in(path: &Path) -> u32 {
    loop {
        match std::fs::read_to_string(path).unwrap_or_default().trim().parse() {
            Ok(number) => return number,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn wait_for_end(id: u32) {
    while alive(id) {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn blocking_code_gets_the_status_and_both_streams() {
    let mut launch = shell("cat; echo error >&2; exit 3");
    launch.pipe_input();
    let mut output = launch.merge_output().unwrap();
    let mut child = launch.start().unwrap();
    child.take_input().unwrap().write_all(b"fed\n").unwrap();
    let status = child.wait(&mut || true).unwrap().unwrap();
    assert_eq!(status.code(), Some(3));
    let mut text = String::new();
    io::Read::read_to_string(&mut output, &mut text).unwrap();
    assert_eq!(text, "fed\nerror\n");
}

#[test]
fn a_blocking_child_takes_its_grandchildren_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grandchild");
    let text = format!("sleep 1000 & echo $! > {}; ", path.display());
    for rest in ["wait", "exit 0"] {
        std::fs::write(&path, "").unwrap();
        let mut child = shell(&format!("{text}{rest}")).start().unwrap();
        let grandchild = number_in(&path);
        let status = child.wait(&mut || rest == "exit 0").unwrap();
        assert_eq!(status.is_some(), rest == "exit 0", "only a refusal to go on gives no status");
        wait_for_end(grandchild);
    }
    std::fs::write(&path, "").unwrap();
    let child = shell(&format!("{text}wait")).start().unwrap();
    let grandchild = number_in(&path);
    drop(child);
    wait_for_end(grandchild);
}

#[test]
fn a_blocking_child_outlives_the_thread_that_asked_for_it() {
    let asked = thread::spawn(|| shell("sleep 0.3; exit 5").start().unwrap());
    let mut child = asked.join().unwrap();
    assert_eq!(child.wait(&mut || true).unwrap().unwrap().code(), Some(5));
}

#[tokio::test]
async fn a_descriptor_that_is_not_handed_over_stays_here() {
    let file = tempfile::tempfile().unwrap();
    // Without the mark that std gives everything.
    let unmarked = rustix::io::dup(&file).unwrap();
    let handed = rustix::io::fcntl_dupfd_cloexec(&file, 0).unwrap();
    let (unmarked_number, handed_number) = (unmarked.as_raw_fd(), handed.as_raw_fd());
    let mut launch = shell(&format!(
        "test -e /proc/self/fd/{unmarked_number} && echo leaked
         test -e /proc/self/fd/{handed_number} && echo handed"
    ));
    launch.inherit(handed);
    let mut process = launch.spawn().await.unwrap();
    process.wait().await.unwrap();
    assert_eq!(process.tail().text(), "handed\n");
}
