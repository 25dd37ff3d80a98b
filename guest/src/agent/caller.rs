//! In the place of a compiler: hands the call to the host, and is whatever the compiler was.
//!
//! The agent's program stands under the compilers' names. It runs the guest's own compiler where the
//! host does not take the call.

use crate::calls::no_answer;
use crate::system;
use outcrop_guest::protocol::compile::{Answer, Call, Request};
use outcrop_guest::protocol::{COMPILE_PORT_NAME, Deframer, Outcome, Stream};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::thread;

/// The agent's own name, under which it is no compiler.
const OWN_NAME: &str = "outcrop-agent";

/// Variables that a compiler, its driver or what they start reads (gcc's manual, "Environment
/// Variables Affecting GCC", and those of locale and time).
const VARIABLES: [&str; 20] = [
    "C_INCLUDE_PATH",
    "COLUMNS",
    "COMPILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "DEPENDENCIES_OUTPUT",
    "GCC_COLORS",
    "GCC_COMPARE_DEBUG",
    "GCC_EXEC_PREFIX",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LD_RUN_PATH",
    "LIBRARY_PATH",
    "OBJC_INCLUDE_PATH",
    "SOURCE_DATE_EPOCH",
    "SUNPRO_DEPENDENCIES",
    "TMPDIR",
    "TZ",
];

/// Returns only where this was called by its own name.
pub fn run_if_called_as_compiler() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    let Some(name) = name.filter(|name| *name != OWN_NAME) else { return };
    match ask(&arguments).unwrap_or_else(|error| no_answer(&error.to_string())) {
        Outcome::Exited(status) => exit(i32::try_from(status).unwrap_or(1)),
        Outcome::Signalled(signal) => system::die_of(i32::try_from(signal).unwrap_or(0)),
        Outcome::TimedOut => system::die_of(libc::SIGKILL),
        Outcome::NotStarted(_) => run_own(name, &arguments),
    }
}

fn ask(arguments: &[OsString]) -> io::Result<Outcome> {
    let address = SocketAddr::from_abstract_name(COMPILE_PORT_NAME)?;
    let mut stream = UnixStream::connect_addr(&address)?;
    let reads_input = arguments.iter().any(|argument| argument == "-");
    let variable = |name: &&str| {
        let value = std::env::var_os(name)?;
        Some((name.as_bytes().to_vec(), value.into_vec()))
    };
    let call = Call {
        arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        directory: std::env::current_dir()?.into_os_string().into_vec(),
        environment: VARIABLES.iter().filter_map(variable).collect(),
        umask: system::umask(),
        reads_input,
        ..Call::default()
    };
    send(&mut stream, &Request::Start { id: 0, call })?;
    if reads_input {
        let mut stream = stream.try_clone()?;
        // Ends with the process; the answer does not wait for input that nobody reads.
        thread::Builder::new().spawn(move || send_input(&mut stream))?;
    }
    listen(&mut stream)
}

fn send(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)
}

fn send_input(stream: &mut UnixStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = io::stdin().read(&mut buffer)?;
        let data = buffer.get(..count).unwrap_or_default().to_vec();
        send(stream, &Request::Input { id: 0, data })?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// Says what the job says until it ends.
fn listen(stream: &mut UnixStream) -> io::Result<Outcome> {
    let mut deframer = Deframer::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        while let Some(frame) = deframer.next_frame().map_err(io::Error::other)? {
            match Answer::decode(&frame).map_err(io::Error::other)? {
                // Nobody may listen; then the compiler would not learn of it either.
                Answer::Output { stream: Stream::Output, data, .. } => {
                    let _ = io::stdout().write_all(&data).and_then(|()| io::stdout().flush());
                }
                Answer::Output { stream: Stream::Error, data, .. } => {
                    let _ = io::stderr().write_all(&data);
                }
                Answer::Changed { .. } => {}
                Answer::End { outcome, .. } => return Ok(outcome),
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => deframer.push(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Becomes the guest's own compiler: the next one of that name in `PATH`.
fn run_own(name: &OsStr, arguments: &[OsString]) -> ! {
    let own = std::env::current_exe().ok();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(name));
    let is_other = |candidate: &Path| {
        let real = candidate.canonicalize().ok();
        real.is_some() && real != own
    };
    for candidate in candidates.filter(|candidate| is_other(candidate)) {
        // By its path: it computes the places of its parts from its own name, and would look that up in
        // `PATH`, where this program comes first.
        let mut command = Command::new(&candidate);
        let error = command.args(arguments.iter().skip(1)).exec();
        if error.kind() != io::ErrorKind::PermissionDenied {
            eprintln!("{}: {error}", candidate.display());
            exit(126);
        }
    }
    eprintln!("{}: there is no such compiler in this guest", name.to_string_lossy());
    exit(127);
}
