//! The agent: PID 1 of a guest.
//!
//! Without `outcrop.boot=` on the kernel's command line it serves the orchestrator over the
//! control channel (`docs/control-protocol.md`); with it, it is a minimal initramfs that starts the
//! init of a finished system (`docs/guests.md`).

#![deny(unsafe_code)]

mod accounting;
mod boot;
mod caller;
mod calls;
mod command_line;
mod failure;
mod forgetting;
mod job;
mod modules;
mod mounts;
mod network;
mod port;
mod session;
mod system;
mod world;

use failure::Failure;
use outcrop_guest::protocol::AGENT_MARK;
use port::Port;
use session::Session;

/// Tells builds of the agent apart in messages; compatibility is the protocol version's business.
const BUILD_ID: &str = match option_env!("OUTCROP_BUILD_ID") {
    Some(id) => id,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() {
    if std::process::id() != 1 {
        caller::run_if_called_as_compiler();
        eprintln!("{AGENT_MARK} version {BUILD_ID}: runs only as the first process of a guest");
        std::process::exit(2);
    }
    // A panic must not leave a guest that hangs: say it and restart, which ends QEMU.
    std::panic::set_hook(Box::new(|panic| {
        failure::tell(&format_args!("crashed: {panic}"));
        system::restart();
    }));
    if let Err(failure) = serve() {
        failure::tell(&failure);
    }
    system::restart();
}

/// Returns only when the guest is to end.
fn serve() -> Result<(), Failure> {
    mounts::early()?;
    let arguments = command_line::read()?;
    if let Some(device) = arguments.value("outcrop.boot") {
        modules::load(None)?;
        return boot::start_system(device, &arguments);
    }
    let modules = modules::load(arguments.value("outcrop.modules"));
    let port = match (Port::open(), modules) {
        (Ok(port), Ok(_)) => port,
        (Ok(mut port), Err(failure)) => {
            port.report(&failure);
            return Err(failure);
        }
        (Err(failure), Ok(absent)) => return Err(modules::explain(failure, &absent)),
        // Without modules there may be no port either; then the first failure is the one to tell.
        (Err(_), Err(failure)) => return Err(failure),
    };
    if arguments.flag("outcrop.linux32") {
        system::see_32_bits().map_err(|e| Failure::new(format!("cannot show 32 bits: {e}")))?;
    }
    let mut session = Session::start(port)?;
    // Its threads must not take the signals that the session waits for, so it comes after it.
    let end = calls::start().and_then(|()| session.serve());
    if let Err(failure) = &end {
        session.report(failure);
    }
    end
}
