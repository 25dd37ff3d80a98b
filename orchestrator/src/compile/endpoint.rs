//! One connection of a guest's distcc client, served on two file descriptors.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::equivalence::Ident;
use super::farm::{Answer, Farm, RemoteJob, Server};
use super::job_log::{HOST, JobRecord};
use super::options;
use super::protocol::{
    ProtocolError, RequestHead, read_body, read_request_head, write_packet, write_response_head,
};
use super::runner::{self, Job, Outcome, STDERR, STDOUT};
use super::source;
use crate::process::usage;

/// A compiler that the host offers: `name` is what a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compiler {
    pub name: String,
    /// Absolute path of the host's program.
    pub program: PathBuf,
    /// What it must call itself in objects, where that is not its own name.
    #[serde(default)]
    pub ident: Option<Ident>,
    /// Jobs whose options or sources say one of these words are refused: there it differs from the
    /// guest's compiler.
    #[serde(default)]
    pub differs: Vec<String>,
    /// A directory with a program that stands in front of the assembler, for the other name.
    #[serde(default)]
    pub tools: Option<PathBuf>,
}

/// Bounds of one compilation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub cpu_seconds: u64,
    /// From the connection's beginning to its end.
    pub wall_seconds: u64,
    /// Address space of each of the compiler's processes.
    pub memory_bytes: u64,
    /// Preprocessed source, object and messages, each.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_seconds: 1200,
            wall_seconds: 1500,
            memory_bytes: 4 << 30,
            output_bytes: 1 << 30,
        }
    }
}

/// What an endpoint is told, as a JSON file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub compilers: Vec<Compiler>,
    /// Directories outside `/usr` that compilers may read and execute: their own.
    pub toolchains: Vec<PathBuf>,
    pub limits: Limits,
    /// A [`JobRecord`] is appended for each job.
    pub log: PathBuf,
    /// Each job has a directory of its own in it for as long as it runs.
    pub scratch: PathBuf,
    /// Others who compile.
    #[serde(default)]
    pub farm: Farm,
    /// Whether the client compiles what is refused; if not, a refusal is an answer that says why.
    pub guests_help: bool,
}

/// Why a job was not served. The connection is closed without an answer, upon which the client
/// compiles by itself, if it may.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("compiler {0} is not offered")]
    Compiler(String),
    #[error("{0}")]
    Command(options::Refusal),
    #[error("the guest's compiler has an update that concerns {0}")]
    Differs(String),
    #[error("an assembler statement reads a file, which only the guest has")]
    ReadsFiles,
    #[error("the source asks for columns, which only the guest's text has")]
    AsksForColumns,
    #[error("the compiler was stopped: {0}")]
    Stopped(&'static str),
    #[error("{doing}: {source}")]
    Host {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Refused {
    /// A client whose preprocessor fails has connected already and hangs up: nothing to report.
    fn is_hang_up(&self) -> bool {
        matches!(self, Refused::Protocol(ProtocolError::Connection(error))
            if error.kind() == io::ErrorKind::UnexpectedEof)
    }
}

/// `outcrop compile-endpoint SETTINGS`: serves the connection on standard input and output.
pub fn main(settings: &Path) -> ExitCode {
    let settings: Settings = match fs::read(settings)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
    {
        Ok(settings) => settings,
        Err(error) => {
            crate::output::say(format_args!("cannot read {}: {error}", settings.display()));
            return ExitCode::from(2);
        }
    };
    match serve(io::stdin().as_fd(), io::stdout().as_fd(), &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves one job. A refusal is logged before it is returned; nothing was answered then, unless
/// the connection itself failed in mid-answer.
pub fn serve(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    settings: &Settings,
) -> Result<(), Refused> {
    let before = usage::used_by_us().unwrap_or_default();
    let result = serve_job(input, output, settings);
    if let (Err(refused), false) = (&result, settings.guests_help)
        && !refused.is_hang_up()
    {
        // A client that is gone needs no answer.
        let _ = refuse(output, refused);
    }
    let cpu_seconds = usage::used_by_us().unwrap_or_default() - before;
    let record = match &result {
        Ok(done) => JobRecord {
            seconds: done.took.as_secs_f64(),
            cpu_seconds,
            by: done.by.clone(),
            // The client's answer to a failure is to try by itself.
            refused: done.by.is_none().then(|| "failed on the host".to_owned()),
        },
        Err(refused) if refused.is_hang_up() => return result.map(drop),
        Err(refused) => {
            let refused = Some(refused.to_string());
            JobRecord { seconds: 0.0, cpu_seconds, by: None, refused }
        }
    };
    // Without a log there is nobody to tell.
    let _ = record.append(&settings.log);
    result.map(drop)
}

/// A job that may be compiled, with its source in a directory of its own.
struct Accepted<'a> {
    settings: &'a Settings,
    compiler: &'a Compiler,
    command: options::Command,
    directory: tempfile::TempDir,
    client: BorrowedFd<'a>,
    deadline: Instant,
}

/// How long the compiler ran, a client connecting before it preprocesses; and where, if it succeeded.
struct Done {
    took: Duration,
    by: Option<String>,
}

fn serve_job(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    settings: &Settings,
) -> Result<Done, Refused> {
    let job = accept(input, settings)?;
    let begun = Instant::now();
    let place = settings.farm.place();
    let by = match place.server {
        Some(server) if job.compile_elsewhere(server)? => server.to_string(),
        _ => HOST.to_owned(),
    };
    let status = if by == HOST { job.compile_here()? } else { 0 };
    let took = begun.elapsed();
    if let (0, true, Some(ident)) = (status, job.command.assembly, &job.compiler.ident) {
        let object = job.path(OBJECT);
        fs::read(&object)
            .and_then(|text| fs::write(&object, ident.replace(&text)))
            .map_err(host("cannot rewrite the assembly"))?;
    }
    respond(output, job.deadline, job.directory.path(), status)
        .map_err(host("cannot answer the client"))?;
    Ok(Done { took, by: (status == 0).then_some(by) })
}

fn host(doing: &'static str) -> impl Fn(io::Error) -> Refused {
    move |source| Refused::Host { doing, source }
}

/// Answers with a failure, for a client that must not compile by itself.
fn refuse(output: BorrowedFd<'_>, refused: &Refused) -> io::Result<()> {
    let said = format!("outcrop: the host does not compile this: {refused}\n");
    let deadline = Instant::now() + REFUSAL_LIMIT;
    let mut writer = BufWriter::new(Connection { peer: output, deadline, client: None });
    write_response_head(&mut writer, EXITED_WITH_1)?;
    let length = u32::try_from(said.len()).map_err(io::Error::other)?;
    write_packet(&mut writer, "SERR", length, &mut said.as_bytes())?;
    for token in ["SOUT", "DOTO"] {
        write_packet(&mut writer, token, 0, &mut io::empty())?;
    }
    writer.flush()
}

/// What a client may take to read why its job is refused.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);

/// As wait(2) says it.
const EXITED_WITH_1: u32 = 1 << 8;

/// Reads a request and its source, and checks both.
fn accept<'a>(input: BorrowedFd<'a>, settings: &'a Settings) -> Result<Accepted<'a>, Refused> {
    let deadline = Instant::now() + Duration::from_secs(settings.limits.wall_seconds);
    let mut reader =
        io::BufReader::with_capacity(1 << 16, Connection { peer: input, deadline, client: None });
    let head = read_request_head(&mut reader)?;
    let accepted = check(&head, settings, input, deadline);
    if accepted.is_err() && !settings.guests_help {
        // It listens for an answer only after it has sent everything.
        read_body(&mut reader, head.source_size, &mut io::sink())?;
    }
    let job = accepted?;
    let path = job.source();
    let mut file = File::create(&path).map_err(host("cannot create the input"))?;
    read_body(&mut reader, head.source_size, &mut file)?;
    drop(file);
    if source::reads_files(&path).map_err(host("cannot read the input"))? {
        return Err(Refused::ReadsFiles);
    }
    if source::asks_for_columns(&path).map_err(host("cannot read the input"))? {
        return Err(Refused::AsksForColumns);
    }
    let differs = &job.compiler.differs;
    if source::says_one_of(&path, differs).map_err(host("cannot read the input"))? {
        return Err(Refused::Differs(differs.join(", ")));
    }
    Ok(job)
}

/// Checks a request, and makes a directory for its source.
fn check<'a>(
    head: &RequestHead,
    settings: &'a Settings,
    client: BorrowedFd<'a>,
    deadline: Instant,
) -> Result<Accepted<'a>, Refused> {
    if u64::from(head.source_size) > settings.limits.output_bytes {
        return Err(Refused::Command("the source is too large".into()));
    }
    let mut command = options::check(&head.arguments).map_err(Refused::Command)?;
    let compiler = settings
        .compilers
        .iter()
        .find(|offered| offered.name == command.compiler)
        .ok_or_else(|| Refused::Compiler(command.compiler.escape_default().to_string()))?;
    let differs = |argument: &&OsString| {
        let text = argument.to_string_lossy();
        // What is switched off cannot differ.
        !text.starts_with("-fno-") && compiler.differs.iter().any(|word| text.contains(word))
    };
    if let Some(option) = command.arguments.iter().find(differs) {
        return Err(Refused::Differs(option.to_string_lossy().into_owned()));
    }
    // The program in front of the assembler wants a file.
    command.arguments.retain(|argument| argument != "-pipe");

    let directory = tempfile::Builder::new()
        .prefix("compile-")
        .tempdir_in(&settings.scratch)
        .map_err(host("cannot create a directory"))?;
    Ok(Accepted { settings, compiler, command, directory, client, deadline })
}

impl Accepted<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn source_name(&self) -> String {
        format!("input.{}", self.command.extension)
    }

    fn source(&self) -> PathBuf {
        self.path(&self.source_name())
    }

    /// Gives the wait status.
    fn compile_here(&self) -> Result<u32, Refused> {
        match self.run(&self.source_name())? {
            Outcome::Stopped(reason) => Err(Refused::Stopped(reason)),
            Outcome::Exited(status) => Ok(status),
        }
    }

    fn run(&self, source: &str) -> Result<Outcome, Refused> {
        let mut arguments = self.command.arguments.clone();
        arguments.extend([OsString::from(source), "-o".into(), OBJECT.into()]);
        let job = Job {
            program: &self.compiler.program,
            arguments: &arguments,
            directory: self.directory.path(),
            tools: self.compiler.tools.as_deref(),
            toolchains: &self.settings.toolchains,
            limits: &self.settings.limits,
        };
        runner::run(&job, self.client).map_err(host("cannot run the compiler"))
    }

    /// Whether a server did it. What fails there is done here, so that nothing depends on the server.
    fn compile_elsewhere(&self, server: &Server) -> Result<bool, Refused> {
        // A server's compiler gives objects its own name: then only its assembly is of use.
        let assembles_here = self.compiler.ident.is_some() && !self.command.assembly;
        let mut arguments = self.command.arguments.clone();
        if assembles_here {
            arguments.retain(|argument| argument != "-c");
            arguments.push("-S".into());
        }
        let limit = Duration::from_secs(self.settings.farm.limit_seconds);
        let job = RemoteJob {
            compiler: self.compiler.program.file_name().unwrap_or_default(),
            arguments: &arguments,
            source: &self.source(),
            extension: self.command.extension,
            deadline: self.deadline.min(Instant::now() + limit),
            client: Some(self.client),
            most: self.settings.limits.output_bytes,
        };
        let answer = Answer {
            output: &self.path(if assembles_here { ASSEMBLY } else { OBJECT }),
            stdout: &self.path(STDOUT),
            stderr: &self.path(STDERR),
        };
        match server.compile(&job, &answer) {
            Ok(true) if assembles_here => self.assemble(),
            Ok(succeeded) => Ok(succeeded),
            Err(error) => {
                if !error.is_abandoned() {
                    self.settings.farm.note_failure(server);
                }
                Ok(false)
            }
        }
    }

    /// Whether the assembly of a server became the object. Its messages come before the assembler's.
    fn assemble(&self) -> Result<bool, Refused> {
        let messages = self.path(STDERR);
        let mut said = fs::read(&messages).map_err(host("cannot read the messages"))?;
        let outcome = self.run(ASSEMBLY)?;
        said.extend(fs::read(&messages).map_err(host("cannot read the messages"))?);
        fs::write(&messages, said).map_err(host("cannot write the messages"))?;
        Ok(outcome == Outcome::Exited(0))
    }
}

/// Assembly that a server made.
const ASSEMBLY: &str = "assembly.s";

const OBJECT: &str = "output";

fn respond(
    output: BorrowedFd<'_>,
    deadline: Instant,
    directory: &Path,
    status: u32,
) -> io::Result<()> {
    let mut writer =
        BufWriter::with_capacity(1 << 16, Connection { peer: output, deadline, client: None });
    write_response_head(&mut writer, status)?;
    for (token, name) in [("SERR", STDERR), ("SOUT", STDOUT), ("DOTO", OBJECT)] {
        if token == "DOTO" && status != 0 {
            write_packet(&mut writer, token, 0, &mut io::empty())?;
            continue;
        }
        let mut file = File::open(directory.join(name))?;
        let length = u32::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        write_packet(&mut writer, token, length, &mut file)?;
    }
    writer.flush()
}
