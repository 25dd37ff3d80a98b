//! `outcrop doctor`: what this host can do, and how to mend it.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use outcrop_fs::transport::fusermount;

use crate::compile::CompileService;
use crate::compile::calls::can_confine;
use crate::compile::calls::toolchain::Toolchain;
use crate::export::find_program;
use crate::guest::{Accelerator, GuestError, check_machine};
use crate::kit::{Architecture, Kit, Kits, find_agent};
use crate::output;

use super::context::Context;
use super::error::{CommandError, CommandResult};
use super::guests;
use super::interrupt::runtime;

/// Check everything that mounting, building and exporting need
///
/// Exit code 3 if something is missing that building cannot do without.
///
/// Example: outcrop doctor
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Baserock name of the architecture to build for
    #[arg(long, default_value = std::env::consts::ARCH)]
    arch: String,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing works without it.
    Must,
    /// Slower, or one format fewer.
    May,
}

struct Finding {
    what: String,
    need: Need,
    problem: Option<String>,
    remedy: String,
}

impl Finding {
    fn new(what: impl Into<String>, need: Need, result: Result<(), String>, remedy: &str) -> Self {
        Finding { what: what.into(), need, problem: result.err(), remedy: remedy.to_owned() }
    }
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let architecture = Architecture::by_name(&arguments.arch)?;
    let mut findings = host();
    findings.extend(for_building(&architecture));
    let mut missing = 0;
    for finding in &findings {
        if finding.problem.is_some() && finding.need == Need::Must {
            missing += 1;
        }
        show(finding, arguments.json)?;
    }
    if missing == 0 {
        return Ok(());
    }
    let things = if missing == 1 { "1 thing is" } else { &format!("{missing} things are") };
    Err(CommandError::host(format!("{things} missing")))
}

fn show(finding: &Finding, json: bool) -> CommandResult {
    if json {
        let line = serde_json::json!({
            "check": finding.what, "ok": finding.problem.is_none(), "problem": finding.problem,
            "required": finding.need == Need::Must,
            "remedy": finding.problem.is_some().then_some(&finding.remedy),
        });
        output::print(&line)?;
        return Ok(());
    }
    match &finding.problem {
        None => output::print(format_args!("ok       {}", finding.what))?,
        Some(problem) => {
            let mark = if finding.need == Need::Must { "MISSING" } else { "missing" };
            output::print(format_args!("{mark}  {}: {problem}", finding.what))?;
            output::print(format_args!("         {}", finding.remedy))?;
        }
    }
    Ok(())
}

fn host() -> Vec<Finding> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = device.map(drop).map_err(|error| error.to_string());
    vec![
        Finding::new(
            "/dev/fuse can be opened",
            Need::Must,
            device,
            "load the module with `modprobe fuse`; without udev also `chmod 666 /dev/fuse`",
        ),
        program("fusermount3", fusermount(), "-V", Need::Must, "apt install fuse3"),
        builder("sqfstar", "-version", "for squashfs: apt install squashfs-tools"),
        builder("mke2fs", "-V", "for ext4: apt install e2fsprogs"),
        on_path("apt-get", Need::May, "kits and debian: sources come through apt"),
        on_path("curl", Need::May, "for archives by URL: apt install curl"),
    ]
}

fn for_building(architecture: &Architecture) -> Vec<Finding> {
    let qemu =
        runtime().and_then(|runtime| match runtime.block_on(check_machine(&architecture.qemu)) {
            Err(GuestError::QemuMissing { .. }) => Err(CommandError::host("not installed")),
            result => result.map_err(CommandError::from),
        });
    let agent = find_agent(&architecture.name).map(drop).map_err(|error| error.to_string());
    let has_agent = agent.is_ok();
    let mut findings = vec![
        Finding::new(
            &architecture.qemu.binary,
            Need::Must,
            qemu.map_err(|error| error.message),
            &format!("apt install {}", architecture.qemu.package),
        ),
        Finding::new(
            "the agent",
            Need::Must,
            agent,
            &format!(
                "scripts/setup {0} && scripts/build {0} makes it beside the program",
                architecture.name
            ),
        ),
    ];
    match Context::open() {
        Ok(context) => findings.extend(with_kit(&context, &architecture.name, has_agent)),
        Err(error) => findings.push(Finding::new(
            "the store",
            Need::Must,
            Err(error.message),
            "set OUTCROP_HOME to a directory that you can write to",
        )),
    }
    findings
}

fn with_kit(context: &Context, arch: &str, has_agent: bool) -> Vec<Finding> {
    let store = format!("the store {}", context.store.root().display());
    let mut findings = vec![Finding::new(store, Need::Must, Ok(()), "")];
    let kit = match Kits::new(context.store.kits()).current(arch) {
        Ok(kit) => kit,
        Err(error) => {
            let remedy = format!("outcrop kit create --arch {arch}");
            findings.push(Finding::new("a kit", Need::Must, Err(error.to_string()), &remedy));
            return findings;
        }
    };
    findings.push(whole_kit(&kit));
    if has_agent {
        findings.extend(in_guests(context, &kit));
    }
    findings.extend(compilers(&kit));
    findings
}

fn compilers(kit: &Kit) -> Vec<Finding> {
    const REMEDY: &str = "guests compile by themselves without it, many times slower; the compiler \
                          comes from the Debian release that the kit is of (`scripts/setup ARCH` \
                          installs Debian 12's)";
    let (c, cxx) = match CompileService::probe(kit) {
        Ok(service) => (Ok(()), service.without_cxx().map(ToString::to_string)),
        Err(error) => (Err(error.to_string()), None),
    };
    let mut findings = vec![Finding::new("the host compiles for guests", Need::May, c, REMEDY)];
    findings.push(in_views(kit));
    if let Some(missing) = cxx {
        let what = "the host compiles C++ for guests";
        findings.push(Finding::new(what, Need::May, Err(missing), REMEDY));
    }
    findings
}

fn in_views(kit: &Kit) -> Finding {
    const WHAT: &str = "the host runs compilers in guests' views";
    if let Err(why) = Toolchain::of(kit) {
        let remedy = "guests preprocess what they compile without it, some times slower";
        return Finding::new(WHAT, Need::May, Err(why), remedy);
    }
    let program = format!("/proc/{}/exe", std::process::id());
    Finding::new(
        WHAT,
        Need::May,
        can_confine(program.as_ref()),
        "allow user namespaces to ordinary users: sysctl kernel.unprivileged_userns_clone=1, \
         and kernel.apparmor_restrict_unprivileged_userns=0 where there is such a setting",
    )
}

/// What only a guest can tell.
fn in_guests(context: &Context, kit: &Kit) -> Vec<Finding> {
    let verdict = runtime()
        .and_then(|runtime| runtime.block_on(guests::accelerator(context, kit)))
        .map_err(|error| error.message)
        .and_then(|verdict| match verdict.accelerator {
            Accelerator::Kvm => Ok(()),
            Accelerator::Tcg => Err(verdict.reason),
        });
    let acceleration = Finding::new(
        "hardware acceleration (KVM)",
        Need::May,
        verdict,
        match kit.architecture().is_native() {
            true => {
                "guests are emulated without it, which is slower; who may open /dev/kvm has it, if QEMU can \
                 use it there (kits/kvm.toml in the store has what it said; without that file it is tried \
                 again)"
            }
            false => "guests of another architecture are always emulated",
        },
    );
    let virtiofs = runtime()
        .map_err(|error| error.message)
        .and_then(|runtime| runtime.block_on(guests::virtiofs(kit)));
    let transport = Finding::new(
        "guests reach their files over virtiofs",
        Need::May,
        virtiofs,
        "builds use 9p without it, which is slower; QEMU 7.2 and newer have the device",
    );
    vec![acceleration, transport]
}

/// Whether a build would take the kit.
fn whole_kit(kit: &Kit) -> Finding {
    let remedy = format!("outcrop kit create --arch {} --if-missing", kit.architecture().name);
    let result = kit.check().map_err(|error| error.to_string());
    Finding::new(format!("kit {}", kit.short_id()), Need::Must, result, &remedy)
}

/// A program that makes images, looked for as exports look for it.
fn builder(name: &str, argument: &str, remedy: &str) -> Finding {
    program(name, find_program(name), argument, Need::May, remedy)
}

fn on_path(name: &str, need: Need, remedy: &str) -> Finding {
    program(name, Some(name.into()), "--version", need, remedy)
}

fn program(name: &str, file: Option<PathBuf>, argument: &str, need: Need, remedy: &str) -> Finding {
    let runs = file.is_some_and(|file| {
        Command::new(file)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    });
    let result = if runs { Ok(()) } else { Err("not installed".to_owned()) };
    Finding::new(name, need, result, remedy)
}
