//! `outcrop kit`: what guests need below the definitions.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::kit::{CreateOptions, Kits, Lock, Progress};
use crate::output;
use crate::words::counted;

use super::context::Context;
use super::error::{CommandError, CommandResult};

/// Make and list kits: kernel, initramfs and base layer of a guest
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a kit from Debian packages, through this host's apt configuration
    ///
    /// Needs no root: apt works in a private state directory. Every package is verified by its
    /// SHA-256, and kit.lock says which ones they are.
    ///
    /// Example: outcrop kit create --arch x86_64
    #[command(verbatim_doc_comment)]
    Create(Create),
    /// List the kits of the store
    ///
    /// Example: outcrop kit list
    #[command(verbatim_doc_comment)]
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the lock file of an architecture's current kit
    ///
    /// Example: outcrop kit show x86_64 > kit.lock
    #[command(verbatim_doc_comment)]
    Show {
        /// Baserock name of the architecture
        #[arg(default_value = std::env::consts::ARCH)]
        arch: String,
    },
}

#[derive(clap::Args)]
pub struct Create {
    /// Baserock name of the architecture
    #[arg(long, default_value = std::env::consts::ARCH)]
    arch: String,

    /// Make exactly the kit of this lock file again
    #[arg(long, value_name = "kit.lock")]
    lock: Option<PathBuf>,

    /// Take Debian archives from this file instead of the host's apt configuration
    #[arg(long, value_name = "FILE")]
    sources: Option<PathBuf>,

    /// Do nothing if the architecture has a whole kit, and make a damaged one whole again
    #[arg(long)]
    if_missing: bool,

    /// As --if-missing, but replace a kit that a program with another recipe made, too
    #[arg(long, conflicts_with_all = ["if_missing", "lock"])]
    if_outdated: bool,
}

pub fn run(command: &Command) -> CommandResult {
    let context = Context::open()?;
    let kits = Kits::new(context.store.kits());
    match command {
        Command::Create(arguments) => create(&kits, arguments),
        Command::List { json } => list(&kits, *json),
        Command::Show { arch } => {
            let kit = kits.current(arch)?;
            output::write(kit.lock().render().as_bytes())?;
            Ok(())
        }
    }
}

fn create(kits: &Kits, arguments: &Create) -> CommandResult {
    let mut damaged = None;
    if (arguments.if_missing || arguments.if_outdated)
        && let Ok(present) = kits.current(&arguments.arch)
    {
        let outdated = present.is_outdated();
        match present.check() {
            Ok(()) if outdated && arguments.if_outdated => {}
            Ok(()) if !present.lacks_toolchain() => return Ok(()),
            Ok(()) => {}
            Err(error) => log::warn!("{error}"),
        }
        if !outdated {
            damaged = Some(present.lock().clone());
        }
    }
    let lock = match &arguments.lock {
        None => damaged,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CommandError::input(format!("cannot read {}: {error}", path.display()))
            })?;
            let parsed = Lock::parse(&text)
                .map_err(|problem| CommandError::input(format!("{}: {problem}", path.display())))?;
            Some(parsed)
        }
    };
    let options = CreateOptions { lock, sources: arguments.sources.clone() };
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    let kit = kits.create(&arguments.arch, &options, &mut |progress| show(&bar, &progress))?;
    bar.finish_and_clear();
    let packages = counted(kit.packages().len() as u64, "package", "packages");
    output::say(format_args!("{packages}, kernel {}", kit.lock().kernel.version));
    output::print(format_args!("{} {}", kit.architecture().name, kit.id()))?;
    Ok(())
}

fn show(bar: &ProgressBar, progress: &Progress) {
    match progress {
        Progress::FetchingIndexes => bar.set_message("fetching package indexes"),
        Progress::Resolving => bar.set_message("resolving packages"),
        Progress::Downloading(download) => {
            bar.set_length(download.total);
            bar.set_position(download.done);
            bar.set_message("downloading packages");
        }
        Progress::ReadingKernel => bar.set_message("reading the kernel"),
    }
}

fn list(kits: &Kits, json: bool) -> CommandResult {
    for kit in kits.list()? {
        let architecture = &kit.architecture().name;
        let current = kits.current(architecture).is_ok_and(|current| current.id() == kit.id());
        if json {
            let line = serde_json::json!({
                "architecture": architecture, "id": kit.id(), "current": current,
                "packages": kit.packages().len(), "kernel": kit.lock().kernel.version,
                "outdated": kit.is_outdated(),
            });
            output::print(&line)?;
        } else {
            let mark = if current { "*" } else { " " };
            let kernel = &kit.lock().kernel.version;
            let age =
                if kit.is_outdated() { ", made by a program with another recipe" } else { "" };
            output::print(format_args!(
                "{mark} {architecture} {} kernel {kernel}{age}",
                kit.short_id()
            ))?;
        }
    }
    Ok(())
}
