//! Endpoints that hand jobs on, to the stock distcc server and to servers that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::endpoint::serve;
use super::endpoint_tests::{Bench, C_SOURCE, CXX_SOURCE, answer, listen, request};
use super::equivalence::Ident;
use super::farm::{Farm, Server};
use super::job_log::JobSummary;

/// The stock server, until this is dropped.
struct StockServer {
    child: Child,
    address: String,
}

impl StockServer {
    /// `None`, with a message, where it is not installed.
    fn start() -> Option<StockServer> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let spawned = Command::new("distccd")
            .args(["--no-detach", "--daemon", "--log-file", "/dev/null", "--jobs", "4"])
            .args(["--listen", "127.0.0.1", "--allow", "127.0.0.0/8", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn();
        let Ok(child) = spawned else {
            eprintln!("skipped: there is no distcc server");
            return None;
        };
        let server = StockServer { child, address: format!("127.0.0.1:{port}") };
        let limit = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&server.address).is_err() {
            assert!(Instant::now() < limit, "distccd does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Everything goes to the server, as nothing is free here. Several slots, since a process that another
/// test is just starting holds what is locked here until it runs its program.
fn send_all_to(bench: &mut Bench, address: &str) {
    let locks = bench.directory.path().join("locks");
    fs::create_dir_all(&locks).unwrap();
    let servers: Vec<Server> = vec![format!("{address}/16").parse().unwrap()];
    bench.settings.farm = Farm { servers, local_slots: 0, locks, limit_seconds: 30 };
}

/// As if the compiler were one that lacks an update: objects must bear another name.
fn rename(bench: &mut Bench) -> Option<Ident> {
    let text = Command::new("gcc").args(["-S", "-x", "c", "-o", "-", "/dev/null"]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    let version = text.split_once("(Debian ").and_then(|(_, rest)| rest.split_once(')'));
    let Some((version, _)) = version else {
        eprintln!("skipped: gcc is not Debian's");
        return None;
    };
    let ident = Ident::of(&text, version, "12.2.0-99").unwrap();
    let tools = bench.directory.path().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("as"), ident.assembler_script("/usr/bin/as")).unwrap();
    fs::set_permissions(tools.join("as"), fs::Permissions::from_mode(0o755)).unwrap();
    bench.settings.toolchains.push(tools.clone());
    for compiler in &mut bench.settings.compilers {
        (compiler.ident, compiler.tools) = (Some(ident.clone()), Some(tools.clone()));
    }
    Some(ident)
}

fn preprocessed(bench: &Bench, command: &str, name: &str, source: &str) -> String {
    let path = bench.directory.path().join(name);
    fs::write(&path, source).unwrap();
    let mut words = command.split(' ');
    let mut cpp = Command::new(words.next().unwrap());
    cpp.args(words.filter(|word| *word != "-c" && *word != "-S")).arg("-E").arg(path);
    String::from_utf8(cpp.output().unwrap().stdout).unwrap()
}

#[test]
fn answers_are_the_same_whoever_compiles() {
    let Some(server) = StockServer::start() else { return };
    for renamed in [false, true] {
        let Some(mut bench) = Bench::new() else { return };
        let ident = if renamed { Some(rename(&mut bench).unwrap()) } else { None };
        let farm = {
            let here = std::mem::take(&mut bench.settings.farm);
            send_all_to(&mut bench, &server.address);
            std::mem::replace(&mut bench.settings.farm, here)
        };
        let mut sent = 0;
        for (command, name, source) in [
            ("gcc -O2 -Wall -fPIC -c", "a.c", C_SOURCE),
            ("gcc -O2 -g -c", "a.c", C_SOURCE),
            ("gcc -Os -S", "a.c", C_SOURCE),
            ("gcc -c -pipe", "a.c", "int f(int x) { __asm__(\"nop\"); return -x; }\n"),
            ("gcc -Wall -c", "warned.c", "static int unused(void) { return 1; }\n"),
            ("g++ -O1 -std=c++17 -ggdb3 -c", "b.cpp", CXX_SOURCE),
        ] {
            let text = preprocessed(&bench, command, name, source);
            let command = format!("{command} {name} -o out");
            let here = answer(&bench.compile(&command, &text));
            bench.settings.farm = farm.clone();
            let there = answer(&bench.compile(&command, &text));
            bench.settings.farm = Farm::default();
            sent += 1;
            let jobs = JobSummary::of(&bench.log());
            assert_eq!(jobs.elsewhere.get(&server.address), Some(&sent), "{command}: {jobs:?}");
            assert_eq!((here.0, there.0, &here.2), (0, 0, &there.2), "{command}");
            assert!(here.3 == there.3, "{command}: the objects differ ({renamed})");
            // In the server's locale, and perhaps with lines of the source.
            for said in [here.1, there.1] {
                assert_eq!(said.contains("-Wunused-function"), name == "warned.c", "{said}");
            }
            if let Some(ident) = &ident {
                let name = ident.to.as_bytes();
                assert!(there.3.windows(name.len()).any(|bytes| bytes == name), "{command}");
            }
        }
        bench.assert_clean();
    }
}

#[test]
fn a_source_that_is_wrong_is_told_of_by_the_host() {
    let Some(server) = StockServer::start() else { return };
    let Some(mut bench) = Bench::new() else { return };
    send_all_to(&mut bench, &server.address);
    let said = answer(&bench.compile("gcc -c bad.c", "# 1 \"dir/bad.c\"\nint x = ;\n"));
    assert_eq!(said.0, 1 << 8);
    assert!(said.1.contains("dir/bad.c:1:9: error"), "{}", said.1);
    assert_eq!(JobSummary::of(&bench.log()).elsewhere.len(), 0);
}

/// A server that does `what` with each connection.
fn server(what: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let what = what.clone();
            thread::spawn(move || what(connection.unwrap()));
        }
    });
    address
}

fn has_failed(bench: &Bench) -> bool {
    let farm = &bench.settings.farm;
    farm.servers.iter().any(|server| farm.has_failed(server))
}

fn hang(mut connection: TcpStream) {
    let _ = connection.read_to_end(&mut Vec::new());
}

#[test]
fn what_a_server_does_not_do_is_done_here_and_it_is_not_asked_again() {
    let Some(mut bench) = Bench::new() else { return };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let garbage = server(|mut connection| {
        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let greedy = server(|mut connection| {
        let _ = connection.write_all(b"DONE00000001STAT00000000SERRffffffff");
        hang(connection);
    });
    let cut = server(|mut connection| {
        let _ =
            connection.write_all(b"DONE00000001STAT00000000SERR00000000SOUT00000000DOTO00000009x");
    });
    for address in [closed, garbage, greedy, cut, server(hang)] {
        send_all_to(&mut bench, &address);
        bench.settings.farm.limit_seconds = 1;
        for _ in 0..2 {
            let (status, _, _, object) = answer(&bench.compile("gcc -c a.c", "int x;\n"));
            assert_eq!((status, &object[..4]), (0, &b"\x7fELF"[..]), "{address}");
        }
        assert!(has_failed(&bench), "{address} would be asked again");
    }
    let jobs = JobSummary::of(&bench.log());
    assert_eq!((jobs.compiled, jobs.elsewhere.len()), (10, 0));
    bench.assert_clean();
}

#[test]
fn a_client_that_goes_away_does_not_wait_for_a_server() {
    let Some(mut bench) = Bench::new() else { return };
    let (asked, is_asked) = mpsc::channel();
    let address = server(move |connection| {
        asked.send(()).unwrap();
        hang(connection);
    });
    send_all_to(&mut bench, &address);
    let (mut client, end) = UnixStream::pair().unwrap();
    client.write_all(&request("gcc -c a.c", "int x;\n")).unwrap();
    let settings = bench.settings.clone();
    let served =
        thread::spawn(move || serve(end.as_fd(), end.as_fd(), &settings).unwrap_err().to_string());
    is_asked.recv_timeout(Duration::from_secs(20)).expect("nobody asks the server");
    drop(client);
    let error = served.join().unwrap();
    assert!(error.contains("went away") || error.contains("connection"), "{error}");
    assert!(!has_failed(&bench), "the server is not to blame");
}

mod service {
    use super::*;
    use crate::compile::{CompileService, Unavailable};

    fn service() -> CompileService {
        let program = PathBuf::from("/usr/bin/gcc");
        CompileService::of_compilers(vec![super::super::endpoint::Compiler {
            name: "gcc".into(),
            program,
            ..Default::default()
        }])
    }

    #[test]
    fn servers_are_tried_before_they_are_used() {
        let Some(stock) = StockServer::start() else { return };
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut service = service();
        let servers = [&closed, &stock.address].map(|address| address.parse().unwrap());
        let notices = service.use_servers(servers.into(), "/tmp".into()).unwrap();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains(&closed), "{notices:?}");
        let used: Vec<String> = service.farm().servers.iter().map(ToString::to_string).collect();
        assert_eq!(used.as_slice(), std::slice::from_ref(&stock.address));
    }

    #[test]
    fn a_server_with_another_compiler_is_an_error() {
        let Some(mut other) = Bench::new() else { return };
        other.settings.compilers.clear();
        other.script_compiler("gcc", "exec /usr/bin/gcc \"$@\" -O1");
        let address = listen(other.settings.clone());
        let error = service().use_servers(vec![address.parse().unwrap()], "/tmp".into());
        let error = error.unwrap_err();
        assert!(matches!(error, Unavailable::OtherServer { .. }) && error.is_mismatch(), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
