//! The command line: one file per command.

mod boot;
mod build;
mod capture;
mod cat;
mod check;
mod compile_endpoint;
mod completions;
mod context;
mod diff;
mod doctor;
pub mod error;
mod export;
mod graph;
mod guests;
mod interrupt;
mod kept;
mod key;
mod kit;
mod log;
mod ls;
mod man;
mod mount;
mod overlaps;
mod printable;
mod project;
mod rebuild;
mod room;
mod shell;
mod size;
mod source;
mod status;
mod store;
mod tree;
mod unmount;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use error::{CommandResult, Exit};

/// Build whole operating systems natively in QEMU guests, without root.
///
/// Exit codes: 0 done, 1 the build failed, 2 bad usage or bad input, 3 the host lacks something
/// (`outcrop doctor` says what), 130 interrupted.
#[derive(Parser)]
#[command(name = "outcrop", version, max_term_width = 100)]
struct Arguments {
    /// Say more: -v for what is done, -vv for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Mount(mount::Arguments),
    Unmount(unmount::Arguments),
    Capture(capture::Arguments),
    Build(build::Arguments),
    Export(export::Arguments),
    Boot(boot::Arguments),
    Shell(shell::Arguments),
    Ls(ls::Arguments),
    Cat(cat::Arguments),
    Diff(diff::Arguments),
    Overlaps(overlaps::Arguments),
    Check(check::Arguments),
    Graph(graph::Arguments),
    Why(why::Arguments),
    Status(status::Arguments),
    Key(key::Arguments),
    Log(log::Arguments),
    #[command(subcommand)]
    Kit(kit::Command),
    #[command(subcommand)]
    Source(source::Command),
    #[command(subcommand)]
    Store(store::Command),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    #[command(hide = true)]
    CompileEndpoint(compile_endpoint::Arguments),
    #[command(hide = true)]
    CompileCalls(compile_endpoint::Arguments),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return tell(&told),
    };
    if let Command::CompileEndpoint(arguments) = &arguments.command {
        return compile_endpoint::run(arguments);
    }
    if let Command::CompileCalls(arguments) = &arguments.command {
        return compile_endpoint::run_calls(arguments);
    }
    start_logging(arguments.verbose);
    raise_file_limit();
    interrupt::exit_on_signals();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::leave_time_for_signals(error.exit);
            if error.exit != Exit::Interrupted || !error.message.is_empty() {
                output::say(&error);
            }
            ExitCode::from(error.exit as u8)
        }
    }
}

/// What is wrong with the arguments, or the help or version that they ask for.
fn tell(told: &clap::Error) -> ExitCode {
    let printed = output::checked(told.print());
    match printed {
        Err(error) if !told.use_stderr() => {
            output::say(&error);
            ExitCode::from(Exit::BuildFailed as u8)
        }
        _ if told.use_stderr() => ExitCode::from(Exit::BadInput as u8),
        _ => ExitCode::SUCCESS,
    }
}

fn run(command: Command) -> CommandResult {
    match command {
        Command::Mount(arguments) => mount::run(&arguments),
        Command::Unmount(arguments) => unmount::run(&arguments),
        Command::Capture(arguments) => capture::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Boot(arguments) => boot::run(&arguments),
        Command::Shell(arguments) => shell::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Cat(arguments) => cat::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Overlaps(arguments) => overlaps::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Graph(arguments) => graph::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Kit(command) => kit::run(&command),
        Command::Source(command) => source::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        // Served before this: it has no errors for people.
        Command::CompileEndpoint(_) | Command::CompileCalls(_) => Ok(()),
    }
}

/// Open files that a large system needs, several times over: each layer and each thing that is held
/// in the store is one. Not as many as the host allows: some programs close them one by one.
const OPEN_FILES: u64 = 65_536;

/// Raises the soft limit, which is 1024 on many hosts for the sake of `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(errno) = setrlimit(Resource::Nofile, raised) {
            ::log::debug!("cannot raise the number of open files: {errno}");
        }
    }
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // fuser warns that it cannot unmount what somebody else has unmounted, which is how mounts end.
    let filter = format!("{level},fuser::session=error");
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("OUTCROP_LOG", filter))
        .format_target(false)
        .format_timestamp(None)
        .init();
}
use crate::output;
