//! Endpoints on socket pairs, and behind a TCP listener that the stock distcc client talks to.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::endpoint::{Compiler, Limits, Settings, serve};
use super::farm::Farm;
use super::job_log::JobSummary;
use super::runner;
use super::service::CompileService;

fn offered(name: String, program: PathBuf) -> Compiler {
    Compiler { name, program, ..Compiler::default() }
}

pub(super) struct Bench {
    pub directory: tempfile::TempDir,
    pub settings: Settings,
}

impl Bench {
    /// Offers the host's gcc and g++; `None`, with a message, where a test cannot run.
    pub fn new() -> Option<Bench> {
        if let Err(error) = runner::can_confine() {
            eprintln!("skipped: this kernel cannot confine a compiler: {error}");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut compilers = Vec::new();
        for (name, generic) in [("gcc", "gcc"), ("cc", "gcc"), ("g++", "g++")] {
            let program = PathBuf::from(format!("/usr/bin/{generic}"));
            if !program.exists() {
                eprintln!("skipped: there is no {}", program.display());
                return None;
            }
            for name in [name.to_owned(), format!("x86_64-linux-gnu-{name}")] {
                compilers.push(offered(name, program.clone()));
            }
        }
        let settings = Settings {
            compilers,
            toolchains: Vec::new(),
            limits: Limits { wall_seconds: 60, ..Limits::default() },
            log: directory.path().join("log"),
            scratch: directory.path().join("scratch"),
            farm: Farm::default(),
            guests_help: true,
        };
        fs::create_dir(&settings.scratch).unwrap();
        Some(Bench { directory, settings })
    }

    /// Sends bytes and gives everything that comes back.
    fn exchange(&self, request: &[u8]) -> Vec<u8> {
        let (mut client, server) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = serve(server.as_fd(), server.as_fd(), &self.settings);
            });
            // A refusal may close the connection before everything is written.
            let _ = client.write_all(request);
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            answer
        })
    }

    pub fn compile(&self, command: &str, source: &str) -> Vec<u8> {
        self.exchange(&request(command, source))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.settings.log).unwrap_or_default()
    }

    /// What the log tells once it has so many jobs: each is noted after its answer.
    pub fn jobs(&self, wanted: usize) -> JobSummary {
        let start = Instant::now();
        while self.log().lines().count() < wanted && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        JobSummary::of(&self.log())
    }

    /// A compiler of the test's own.
    pub fn script_compiler(&mut self, name: &str, script: &str) {
        let directory = self.directory.path().join(format!("bin-{name}"));
        let program = directory.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.settings.toolchains.push(directory);
        self.settings.compilers.push(offered(name.into(), program));
    }

    pub fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(&self.settings.scratch).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

pub(super) fn request(command: &str, source: &str) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut bytes = format!("DIST00000001ARGC{:08x}", words.len());
    for word in words {
        bytes += &format!("ARGV{:08x}{word}", word.len());
    }
    bytes += &format!("DOTI{:08x}{source}", source.len());
    bytes.into_bytes()
}

/// Status, stderr, stdout and object of an answer.
pub(super) fn answer(bytes: &[u8]) -> (u32, String, String, Vec<u8>) {
    let number = |at: usize| {
        let digits = std::str::from_utf8(&bytes[at..at + 8]).unwrap();
        u32::from_str_radix(digits, 16).unwrap()
    };
    assert_eq!(&bytes[..16], b"DONE00000001STAT", "{}", bytes.escape_ascii());
    let mut at = 24;
    let mut bodies = Vec::new();
    for token in ["SERR", "SOUT", "DOTO"] {
        assert_eq!(&bytes[at..at + 4], token.as_bytes());
        let length = number(at + 4) as usize;
        bodies.push(bytes[at + 12..at + 12 + length].to_vec());
        at += 12 + length;
    }
    assert_eq!(at, bytes.len());
    let text = |index: usize| String::from_utf8(bodies[index].clone()).unwrap();
    (number(16), text(0), text(1), bodies[2].clone())
}

#[test]
fn a_job_gives_an_object_and_a_bad_source_gives_messages() {
    let Some(bench) = Bench::new() else { return };
    let (status, _, _, object) = answer(&bench.compile("gcc -O2 -c a.c -o a.o", "int x = 1;\n"));
    assert_eq!((status, &object[..4]), (0, &b"\x7fELF"[..]));
    let source = "# 1 \"dir/bad.c\"\nint x = ;\n";
    let (status, stderr, _, object) = answer(&bench.compile("gcc -c bad.c", source));
    assert_eq!(status, 1 << 8);
    assert!(stderr.contains("dir/bad.c:1:9: error"), "{stderr}");
    assert!(object.is_empty());
    let (status, _, _, text) = answer(&bench.compile("gcc -S a.c -o a.s", "int x = 1;\n"));
    assert_eq!(status, 0);
    assert!(String::from_utf8(text).unwrap().contains(".globl\tx"));
    bench.assert_clean();
}

#[test]
fn refusals_answer_nothing_and_are_logged() {
    let Some(bench) = Bench::new() else { return };
    for (command, reason) in [
        ("gcc -c a.c -wrapper sh", "-wrapper"),
        ("gcc -c a.c -fplugin=/tmp/x.so", "-fplugin"),
        ("gcc -c a.c -march=native", "-march=native"),
        ("/bin/sh -c a.c", "/bin/sh"),
        ("rustc -c a.c", "rustc"),
        ("gcc a.c -o a", "neither -c nor -S"),
    ] {
        assert_eq!(bench.compile(command, "int x;\n"), b"", "{command}");
        assert!(bench.log().contains(reason), "{reason} is not in {}", bench.log());
    }
    bench.assert_clean();
}

#[test]
fn truncated_and_garbage_requests_close_the_connection() {
    let Some(bench) = Bench::new() else { return };
    let whole = request("gcc -c a.c", "int x;\n");
    for end in [0, 3, 12, 20, 30, whole.len() - 1] {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&whole[..end]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(serve(server.as_fd(), server.as_fd(), &bench.settings).is_err());
    }
    assert_eq!(bench.exchange(b"GET / HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(bench.exchange(&[0xff; 4096]), b"");
    bench.assert_clean();
}

#[test]
fn a_source_cannot_take_the_host_s_files_with_it() {
    let Some(bench) = Bench::new() else { return };
    let secret = bench.directory.path().join("secret");
    fs::write(&secret, "the host's own").unwrap();
    let source = format!("__asm__(\".inc\" \"bin \\\"{}\\\"\");\n", secret.display());
    let (status, stderr, _, object) = answer(&bench.compile("gcc -c a.c", &source));
    assert!(status != 0 && object.is_empty(), "{status}, {} bytes", object.len());
    assert!(!stderr.contains("the host's own"), "{stderr}");
    assert!(bench.log().contains("failed on the host"), "{}", bench.log());
    bench.assert_clean();
}

/// The path means nothing on the host; or, worse, something else.
#[test]
fn a_source_whose_assembly_takes_in_files_is_left_to_the_guest() {
    let Some(bench) = Bench::new() else { return };
    for statement in
        [".incbin \\\"blob\\\"", ".incbin \\\"/usr/bin/env\\\"", ".include \\\"x.s\\\""]
    {
        let source = format!("__asm__(\"{statement}\");\n");
        assert_eq!(bench.compile("gcc -c a.c", &source), b"", "{statement}");
    }
    assert_eq!(bench.log().matches("reads a file").count(), 3, "{}", bench.log());
    // Assembly alone is no reason.
    let (status, ..) = answer(&bench.compile("gcc -c a.c", "__asm__(\"nop\");\n"));
    assert_eq!(status, 0);
    bench.assert_clean();
}

#[test]
fn a_slow_a_crashing_and_a_hungry_compiler_end_without_an_answer() {
    let Some(mut bench) = Bench::new() else { return };
    bench.settings.limits.wall_seconds = 1;
    bench.script_compiler("slow", "sleep 1000 & wait");
    bench.script_compiler("killed", "kill -9 $$");
    bench.script_compiler("hungry", "exec dd if=/usr/bin/perl of=output bs=1M");
    bench.settings.limits.output_bytes = 1 << 20;
    assert_eq!(bench.compile("slow -c a.c", "int x;\n"), b"");
    assert!(bench.log().contains("too long"), "{}", bench.log());
    assert_eq!(bench.compile("killed -c a.c", "int x;\n"), b"");
    assert!(bench.log().contains("killed"), "{}", bench.log());
    assert_eq!(bench.compile("hungry -c a.c", "int x;\n"), b"");
    assert!(bench.log().contains("too large"), "{}", bench.log());
    bench.assert_clean();
}

#[test]
fn a_client_that_goes_away_takes_its_compiler_with_it() {
    let Some(mut bench) = Bench::new() else { return };
    bench.script_compiler("gone", "sleep 1000 & wait");
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(&request("gone -c a.c", "int x;\n")).unwrap();
    let settings = bench.settings.clone();
    let served = std::thread::spawn(move || {
        serve(server.as_fd(), server.as_fd(), &settings).unwrap_err().to_string()
    });
    while !served.is_finished() && fs::read_dir(&bench.settings.scratch).unwrap().next().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    let error = served.join().unwrap();
    assert!(error.contains("went away") || error.contains("connection"), "{error}");
    bench.assert_clean();
}

/// A listener on the loopback interface that serves every connection: only tests have one.
pub(super) fn listen(settings: Settings) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, settings): (TcpStream, _) = (connection.unwrap(), settings.clone());
            std::thread::spawn(move || {
                let _ = serve(connection.as_fd(), connection.as_fd(), &settings);
            });
        }
    });
    address
}

/// Runs the stock client as a guest would; `None`, with a message, where it is not installed.
fn distcc(address: &str, directory: &Path, fallback: bool, command: &str) -> Option<Output> {
    let mut environment = CompileService::of_compilers(Vec::new()).environment();
    environment.push(("DISTCC_FALLBACK".into(), u8::from(fallback).to_string()));
    distcc_with(address, directory, command, &environment)
}

fn distcc_with(
    address: &str,
    directory: &Path,
    command: &str,
    environment: &[(String, String)],
) -> Option<Output> {
    // A client that cannot get rid of a job must not hang the tests.
    let result = Command::new("timeout")
        .args(["60", "distcc"])
        .args(command.split(' '))
        .current_dir(directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("DISTCC_HOSTS", format!("{address}/8"))
        .env("DISTCC_DIR", directory)
        .env("LC_ALL", "C")
        .output();
    let output = result.unwrap();
    if output.status.code() == Some(127) {
        eprintln!("skipped: there is no distcc client");
        return None;
    }
    Some(output)
}

pub(super) const C_SOURCE: &str = "#include <stdio.h>\n#include <string.h>\n\
    int count(const char *s) { int n = 0; while (*s) n += strlen(s++) & 1; return n; }\n\
    int main(void) { printf(\"%d\\n\", count(\"abc\")); return 0; }\n";
pub(super) const CXX_SOURCE: &str = "#include <map>\n#include <string>\n\
    std::map<std::string, int> table;\nnamespace { int hidden() { return 7; } }\n\
    int lookup(const std::string &key) { return table.at(key) + hidden(); }\n";

#[test]
fn the_stock_client_gets_the_objects_that_the_compiler_makes_locally() {
    let Some(bench) = Bench::new() else { return };
    let work = bench.directory.path();
    fs::write(work.join("a.c"), C_SOURCE).unwrap();
    fs::write(work.join("b.cpp"), CXX_SOURCE).unwrap();
    let address = listen(bench.settings.clone());
    for command in ["gcc -O2 -Wall -fPIC -c a.c", "g++ -O1 -std=c++17 -c b.cpp"] {
        let remote = format!("{command} -o remote.o");
        let Some(output) = distcc(&address, work, false, &remote) else { return };
        assert!(output.status.success(), "{output:?}");
        let mut words = command.split(' ');
        let local = Command::new(words.next().unwrap())
            .args(words)
            .args(["-o", "local.o"])
            .current_dir(work)
            .status();
        assert!(local.unwrap().success());
        let read = |name: &str| fs::read(work.join(name)).unwrap();
        assert!(read("remote.o") == read("local.o"), "{command}: the objects differ");
    }
    let jobs = bench.jobs(2);
    assert_eq!((jobs.sent, jobs.compiled), (2, 2), "{}", bench.log());
    bench.assert_clean();
}

#[test]
fn the_stock_client_compiles_by_itself_what_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let work = bench.directory.path();
    fs::write(work.join("a.c"), C_SOURCE).unwrap();
    let address = listen(bench.settings.clone());
    let refused = "gcc -fstack-usage -c a.c -o a.o";
    let Some(output) = distcc(&address, work, true, refused) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(work.join("a.su").exists(), "the guest's own compiler writes the side file");
    assert!(bench.log().contains("-fstack-usage"));

    // The host is out of use for the back-off period after a refusal.
    std::thread::sleep(Duration::from_secs(2));
    assert!(!distcc(&address, work, false, refused).unwrap().status.success());
    std::thread::sleep(Duration::from_secs(2));
    let output = distcc(&address, work, false, "gcc -c a.c -o a.o").unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_error_in_a_source_is_told_once_and_leaves_the_host_in_use() {
    let Some(bench) = Bench::new() else { return };
    let work = bench.directory.path();
    fs::write(work.join("a.c"), C_SOURCE).unwrap();
    fs::write(work.join("bad.c"), "int x = ;\n").unwrap();
    let address = listen(bench.settings.clone());
    let bad = "gcc -c bad.c -o bad.o";
    let Some(output) = distcc(&address, work, true, bad) else { return };
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("bad.c:1:9: error").count(), 1, "{said}");
    assert!(!said.contains("distcc"), "{said}");
    // No back-off: this one must reach the host.
    let output = distcc(&address, work, false, "gcc -c a.c -o a.o").unwrap();
    assert!(output.status.success(), "{output:?}");
    let jobs = bench.jobs(2);
    assert_eq!((jobs.sent, jobs.compiled), (2, 1), "{}", bench.log());
}

#[test]
fn a_client_that_must_not_compile_is_told_why_its_job_is_refused() {
    let Some(mut bench) = Bench::new() else { return };
    bench.settings.guests_help = false;
    let mut service = CompileService::of_compilers(Vec::new());
    service.guests_help = false;
    let work = bench.directory.path();
    fs::write(work.join("a.c"), C_SOURCE).unwrap();
    fs::write(work.join("bad.c"), "int x = ;\n").unwrap();
    fs::write(work.join("incbin.c"), "__asm__(\".incbin \\\"/etc/passwd\\\"\");\n").unwrap();
    let address = listen(bench.settings.clone());
    let compile = |command: &str| distcc_with(&address, work, command, &service.environment());
    let refused = "outcrop: the host does not compile this: ";
    for (command, why) in [
        ("gcc -fstack-usage -c a.c -o a.o", refused.to_owned()),
        ("gcc -c incbin.c -o a.o", format!("{refused}an assembler statement reads a file")),
        ("gcc -c bad.c -o a.o", "bad.c:1:9: error".to_owned()),
    ] {
        let Some(output) = compile(command) else { return };
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.matches(&why).count(), 1, "{command}: {said}");
        assert!(!work.join("a.o").exists() && !work.join("a.su").exists(), "{command}");
        // No back-off: what is not refused still reaches the host.
        let output = compile("gcc -c a.c -o good.o").unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let jobs = bench.jobs(6);
    assert_eq!((jobs.sent, jobs.compiled), (6, 3), "{}", bench.log());
    bench.assert_clean();
}

/// Comments and macros are gone when the host compiles, and warnings depend on them.
#[test]
fn what_fails_on_the_host_alone_is_compiled_by_the_client() {
    let Some(mut bench) = Bench::new() else { return };
    let work = bench.directory.path().to_owned();
    fs::write(work.join("comment.c"), COMMENT_SOURCE).unwrap();
    fs::write(work.join("macro.c"), MACRO_SOURCE).unwrap();
    fs::write(work.join("large.c"), C_SOURCE).unwrap();
    for (source, memory_bytes) in [("comment", 4 << 30), ("macro", 4 << 30), ("large", 32 << 20)] {
        bench.settings.limits.memory_bytes = memory_bytes;
        // Another address each time: the last one is not asked for a second.
        let address = listen(bench.settings.clone());
        let command = format!("gcc -O2 -Wall -Wextra -Werror -c {source}.c -o {source}.o");
        let Some(output) = distcc(&address, &work, true, &command) else { return };
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
        assert!(work.join(source).with_extension("o").exists());
    }
    let jobs = bench.jobs(3);
    assert_eq!((jobs.sent, jobs.compiled), (3, 0), "{}", bench.log());
    assert_eq!(jobs.refused["failed on the host"], 3);
    bench.assert_clean();
}

const COMMENT_SOURCE: &str = "int f(int a) { switch (a) { case 1: a++; /* fall through */ case 2: \
    a++; } return a; }\n";
const MACRO_SOURCE: &str = "#include <stddef.h>\n#define NONNULL(p) ((p) != NULL)\n\
    int f(void) { char a[4]; return NONNULL(a); }\n";
