//! Setting up what guests need on this host: the agent, the accelerator, the compile service.

use std::sync::Arc;

use crate::build::event::Observer;
use crate::build::workshop::Workshop;
use crate::compile::CompileService;
use crate::guest::{Accelerator, GuestOptions, KvmVerdict, probe_kvm};
use crate::kit::{Kit, find_agent};

use super::context::Context;
use super::error::{CommandError, CommandResult};

/// Which accelerator the kit's guests use; probed once for each host and kit, and then remembered.
pub async fn accelerator(context: &Context, kit: &Kit) -> CommandResult<KvmVerdict> {
    let agent = find_agent(&kit.architecture().name)?;
    let initramfs = kit.initramfs_for(&agent)?;
    let options = GuestOptions::new(kit.architecture().qemu.clone(), kit.kernel(), initramfs);
    Ok(probe_kvm(&options, kit.id(), &context.store.root().join("kits").join("kvm.toml")).await)
}

/// Everything that builds of a kit share.
pub async fn workshop(
    context: &Context,
    kit: Kit,
    observer: Arc<dyn Observer>,
    memory: Option<u32>,
) -> CommandResult<Workshop> {
    kit.check()?;
    let agent = find_agent(&kit.architecture().name)?;
    let verdict = accelerator(context, &kit).await?;
    let compile = CompileService::probe(&kit);
    let mut notices = Vec::new();
    if verdict.accelerator == Accelerator::Tcg {
        notices.push(format!("guests are emulated (TCG): {}", verdict.reason));
    }
    let compile = match compile {
        Ok(service) => Some(service),
        Err(unavailable) => {
            notices.push(format!("guests compile by themselves, which is slower: {unavailable}"));
            None
        }
    };
    let mut workshop =
        Workshop::new(context.store.clone(), kit, agent, verdict.accelerator, compile, observer);
    if let Some(memory) = memory {
        workshop.memory = memory;
    }
    for notice in notices {
        workshop.notice(notice);
    }
    Ok(workshop)
}

impl From<crate::guest::GuestError> for CommandError {
    fn from(error: crate::guest::GuestError) -> Self {
        CommandError::build(error.to_string())
    }
}
