//! `outcrop shell`: a guest shell in the sysroot of a component.

use crate::build::BuildError;
use crate::build::plan::Work;
use crate::build::progress::for_stderr;
use crate::build::shell::{Errand, in_chunk, in_system};
use crate::compile::CompileChoice;
use crate::guest::{TransportChoice, has_terminal};

use super::context::{Context, TargetArguments};
use super::error::{CommandError, CommandResult};
use super::guests::{self, GuestWishes};
use super::interrupt::run_interruptible;
use super::project::{Project, tell_fetching};

/// Open a shell in a guest whose root is the sysroot of a component
///
/// For a chunk that is what it is built in: kit, dependencies and source, before the first step.
/// For a system it is the system. With --failed it is the whole tree as the last failed build left
/// it. Nothing that is changed is kept.
///
/// Example: outcrop shell zlib --definitions examples/minimal
/// Example: outcrop shell --failed busybox --definitions examples/minimal --command 'ls -l'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// The tree as the last failed build left it
    #[arg(long)]
    failed: bool,

    /// How the guest reaches its sysroot
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Option<TransportChoice>,

    /// Who compiles
    #[arg(long, value_enum, value_name = "WHO")]
    compile: Option<CompileChoice>,

    /// Run this instead of an interactive shell; the command's exit status is passed on as 0 or 1
    #[arg(long, short, value_name = "CMD")]
    command: Option<String>,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    if arguments.command.is_none() && !has_terminal() {
        return Err(CommandError::input("there is no terminal for an interactive shell")
            .hint("`--command CMD` runs a command without one"));
    }
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let resolved = project.resolve(&context, &kit, &tell_fetching)?;
    let work = project.job(&context, &kit, &resolved)?;
    let errand = match &arguments.command {
        Some(script) => Errand::Script(script.clone()),
        None => Errand::Interactive,
    };
    let wishes = GuestWishes::new(&project.config, arguments.transport, arguments.compile);
    let exit = run_interruptible(async {
        let workshop = guests::workshop(&context, kit, for_stderr(), wishes).await?;
        let exit = match &work {
            Work::Chunk(job) => in_chunk(&workshop, job, arguments.failed, &errand).await,
            Work::System(job) => in_system(&workshop, job, arguments.failed, &errand).await,
        };
        exit.map_err(|mut error| {
            if let BuildError::Guest(error) = &mut error {
                // It lay in the directory that has gone with the guest.
                error.move_console_log(|_| None);
            }
            CommandError::from(error)
        })
    })?;
    if arguments.command.is_some() && !exit.success() {
        return Err(CommandError::build(format!("the command ended with {exit}")));
    }
    Ok(())
}
