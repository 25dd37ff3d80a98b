//! Guests: QEMU processes, the channel to the agent inside, and the booting of finished systems.
//!
//! ```text
//! GuestOptions ─► command line ─► QEMU ─► AgentHello ─► Setup ─► Run… ─► Unmount ─► end
//! ```
//!
//! The conversation is specified in `docs/control-protocol.md`, the rest in `docs/guests.md`.

mod boot;
mod command;
mod command_line;
mod error;
mod feed;
mod kernel;
mod launch;
mod link;
mod machine;
mod probe;
mod recipe;
mod serial;
mod terminal;
mod transport;

pub use boot::{BootOptions, BootOutput, boot_command, boot_interactive};
pub use command::{Command, Exit};
pub use command_line::{
    COMPILE_ADDRESS, CompileForward, Disk, MachineOptions, Root, SecurityModel, command_line,
};
pub use error::{GuestError, LastWords};
pub use kernel::{KernelError, extract_kernel};
pub use machine::{Guest, GuestOptions, Limits, Timings};
pub use outcrop_guest::protocol::{Outcome, Program, Stream};
pub use probe::{KvmVerdict, check_machine, probe_kvm};
pub use recipe::{Accelerator, QemuRecipe};
pub use terminal::{TerminalEvent, has_terminal};
pub use transport::{Transport, TransportChoice, VIRTIOFS_MODULE, probe_virtiofs};
