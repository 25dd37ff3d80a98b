//! Setting up what guests need on this host: the agent, the accelerator, the compile service.

use std::sync::Arc;

use crate::build::event::Observer;
use crate::build::workshop::Workshop;
use crate::compile::calls::can_confine;
use crate::compile::calls::toolchain::Toolchain;
use crate::compile::{CompileChoice, CompileService, Outside, Server, Unavailable};
use crate::config::Config;
use crate::guest::{
    Accelerator, GuestError, GuestOptions, KvmVerdict, Transport, TransportChoice, check_machine,
    probe_kvm, probe_virtiofs,
};
use crate::kit::{Kit, find_agent};

use super::context::Context;
use super::error::{CommandError, CommandResult};

/// Which accelerator the kit's guests use; probed once for each host and kit, and then remembered.
pub async fn accelerator(context: &Context, kit: &Kit) -> CommandResult<KvmVerdict> {
    if !kit.architecture().is_native() {
        return Ok(KvmVerdict::foreign(&kit.architecture().name));
    }
    let agent = find_agent(&kit.architecture().name)?;
    let initramfs = kit.initramfs_for(&agent)?;
    let options = GuestOptions::new(kit.architecture().qemu.clone(), kit.kernel(), initramfs);
    Ok(probe_kvm(&options, kit.id(), &context.store.root().join("kits").join("kvm.toml")).await)
}

/// What the user wants of guests.
pub struct GuestWishes {
    /// MiB.
    memory: Option<u32>,
    transport: TransportChoice,
    compile: CompileChoice,
    servers: Vec<Server>,
}

impl GuestWishes {
    /// The command line wins over the configuration.
    pub fn new(
        config: &Config,
        transport: Option<TransportChoice>,
        compile: Option<CompileChoice>,
    ) -> Self {
        let transport = transport.or(config.transport).unwrap_or_default();
        let compile = compile.or(config.compile).unwrap_or_default();
        let servers = config.distcc_servers.clone().unwrap_or_default();
        GuestWishes { memory: config.memory, transport, compile, servers }
    }
}

/// Whether guests of the kit can use virtiofs here; if not, why, as one sentence.
pub async fn virtiofs(kit: &Kit) -> Result<(), String> {
    // FUSE has no byte order of its own: a guest speaks in its processor's.
    if kit.architecture().big_endian {
        let name = &kit.architecture().name;
        return Err(format!("guests of {name} speak it in big-endian byte order"));
    }
    let kernel_has_it = kit.has_virtiofs().map_err(|error| error.to_string())?;
    probe_virtiofs(&kit.architecture().qemu, kernel_has_it).await
}

/// The transport to use, and what the user is to be told of it.
async fn transport(
    kit: &Kit,
    choice: TransportChoice,
) -> CommandResult<(Transport, Option<String>)> {
    match choice {
        TransportChoice::NineP => Ok((Transport::NineP, None)),
        _ => choose(choice, virtiofs(kit).await),
    }
}

/// `virtiofs`: whether it can be used.
fn choose(
    choice: TransportChoice,
    virtiofs: Result<(), String>,
) -> CommandResult<(Transport, Option<String>)> {
    match (virtiofs, choice) {
        (_, TransportChoice::NineP) => Ok((Transport::NineP, None)),
        (Ok(()), _) => Ok((Transport::Virtiofs, None)),
        (Err(reason), TransportChoice::Virtiofs) => {
            Err(CommandError::host(format!("virtiofs cannot be used: {reason}"))
                .hint("--transport 9p works without it, more slowly"))
        }
        (Err(reason), TransportChoice::Auto) => {
            let notice = format!("guests reach their files over 9p, which is slower: {reason}");
            Ok((Transport::NineP, Some(notice)))
        }
    }
}

/// Who compiles, and what the user is to be told of it.
///
/// # Errors
/// The host has another compiler than the kit: that is not to go unnoticed.
fn compiles<S>(
    choice: CompileChoice,
    probe: impl FnOnce() -> Result<S, Unavailable>,
) -> CommandResult<(Option<S>, Option<String>)> {
    if choice == CompileChoice::Guest {
        return Ok((None, None));
    }
    match probe() {
        Ok(service) => Ok((Some(service), None)),
        Err(unavailable) if unavailable.is_mismatch() || choice.needs_host() => {
            Err(CommandError::host(format!("the host cannot compile for guests: {unavailable}"))
                .hint("--compile guest builds without it, many times slower"))
        }
        Err(unavailable) => {
            let notice = format!("guests compile by themselves, which is slower: {unavailable}");
            Ok((None, Some(notice)))
        }
    }
}

/// The kit's own compilers, to be run by this host in guests' views.
fn in_view(kit: &Kit, transport: Transport) -> CommandResult<Toolchain> {
    let why = match (Toolchain::of(kit), transport) {
        (Err(why), _) => why,
        (Ok(_), Transport::NineP) => "it needs virtiofs".to_owned(),
        (Ok(toolchain), Transport::Virtiofs) => {
            let program = format!("/proc/{}/exe", std::process::id());
            match can_confine(program.as_ref()) {
                Ok(()) => return Ok(toolchain),
                Err(why) => why,
            }
        }
    };
    Err(CommandError::host(format!("the host cannot compile in guests' views: {why}"))
        .hint("--compile distcc has the host compile what guests preprocess, some times slower"))
}

/// Everything that builds of a kit share.
pub async fn workshop(
    context: &Context,
    kit: Kit,
    observer: Arc<dyn Observer>,
    wishes: GuestWishes,
) -> CommandResult<Workshop> {
    kit.check()?;
    check_machine(&kit.architecture().qemu).await?;
    let agent = find_agent(&kit.architecture().name)?;
    let verdict = accelerator(context, &kit).await?;
    let mut notices = Vec::new();
    let (transport, notice) = transport(&kit, wishes.transport).await?;
    notices.extend(notice);
    let toolchain = match wishes.compile {
        CompileChoice::Host => Some(in_view(&kit, transport)?),
        // Whoever names other machines wants them to compile.
        CompileChoice::Auto if wishes.servers.is_empty() => match in_view(&kit, transport) {
            Ok(toolchain) => Some(toolchain),
            Err(error) => {
                // Of 9p it was told already that it is slower.
                let told = (transport == Transport::Virtiofs).then(|| error.message.clone());
                notices.extend(told);
                None
            }
        },
        _ => None,
    };
    let by_distcc = || {
        let mut service = CompileService::probe(&kit)?;
        if let Some(why) = service.without_cxx() {
            if wishes.compile.needs_host() {
                return Err(why.clone());
            }
            notices.push(format!("guests compile C++ by themselves, which is slower: {why}"));
        }
        let locks = context.store.root().join("locks");
        notices.extend(service.use_servers(wishes.servers, locks)?);
        service.guests_help = wishes.compile != CompileChoice::DistccOnly;
        Ok(service)
    };
    let (compile, compile_notice) = match toolchain {
        Some(toolchain) => (Some(Outside::InView(toolchain)), None),
        None => {
            let (service, notice) = compiles(wishes.compile, by_distcc)?;
            (service.map(Outside::Distcc), notice)
        }
    };
    if verdict.accelerator == Accelerator::Tcg {
        notices.push(format!("guests are emulated (TCG): {}", verdict.reason));
    }
    notices.extend(compile_notice);
    let mut workshop =
        Workshop::new(context.store.clone(), kit, agent, verdict.accelerator, compile, observer);
    workshop.transport = transport;
    if let Some(memory) = wishes.memory {
        workshop.memory = memory;
    }
    for notice in notices {
        workshop.notice(notice);
    }
    Ok(workshop)
}

impl From<GuestError> for CommandError {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::QemuMissing { .. } | GuestError::NoMachine { .. } => {
                CommandError::host(error.to_string())
            }
            error => CommandError::build(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_compiler_is_told_and_another_one_is_an_error() {
        let missing = || Unavailable::NoCompiler { program: "p".into(), package: "k".into() };
        let other = || Unavailable::Nameless { program: "p".into() };
        let asked = |choice, answer: Result<(), Unavailable>| compiles(choice, || answer).ok();
        assert_eq!(asked(CompileChoice::Auto, Ok(())), Some((Some(()), None)));
        let (service, notice) = asked(CompileChoice::Auto, Err(missing())).unwrap();
        assert!(service.is_none() && notice.unwrap().contains("install k"));
        assert_eq!(asked(CompileChoice::Guest, Err(other())), Some((None, None)));
        assert_eq!(asked(CompileChoice::Auto, Err(other())), None);
        assert_eq!(asked(CompileChoice::Distcc, Err(missing())), None);
    }

    #[test]
    fn without_virtiofs_9p_is_taken_and_said_so_unless_virtiofs_was_asked_for() {
        let chosen = |choice, works: bool| {
            choose(choice, works.then_some(()).ok_or_else(|| "no device".to_owned()))
        };
        for (choice, works, expected) in [
            (TransportChoice::Auto, true, Transport::Virtiofs),
            (TransportChoice::Virtiofs, true, Transport::Virtiofs),
            (TransportChoice::NineP, true, Transport::NineP),
            (TransportChoice::NineP, false, Transport::NineP),
        ] {
            let (transport, notice) = chosen(choice, works).ok().unwrap();
            assert_eq!((transport, notice), (expected, None), "{choice:?}");
        }
        let (transport, notice) = chosen(TransportChoice::Auto, false).ok().unwrap();
        assert_eq!(transport, Transport::NineP);
        assert!(notice.unwrap().contains("no device"));
        let refused = chosen(TransportChoice::Virtiofs, false).err().unwrap();
        assert!(refused.message.contains("no device"));
    }
}
