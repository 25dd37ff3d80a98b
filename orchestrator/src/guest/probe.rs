//! What this host's QEMU can do: whether it has a kit's machine, and whether KVM works with the kit.
//! `/dev/kvm` may exist and yet hang a stock kernel, so the only test that counts is to boot one.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::GuestError;
use super::machine::{Guest, GuestOptions};
use super::recipe::{Accelerator, QemuRecipe};

/// A kernel that runs at all under KVM is up in a second or two.
const LIMIT: Duration = Duration::from_secs(15);

/// Whether QEMU is there, and knows the machine that it is to be.
pub async fn check_machine(recipe: &QemuRecipe) -> Result<(), GuestError> {
    let mut qemu = tokio::process::Command::new(&recipe.binary);
    qemu.args(["-machine", "help"]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = qemu
        .output()
        .await
        .map_err(|source| GuestError::QemuMissing { program: recipe.binary.clone(), source })?;
    let machine = recipe.machine.split(',').next().unwrap_or_default();
    let listed = String::from_utf8_lossy(&output.stdout);
    if listed.lines().any(|line| line.split_whitespace().next() == Some(machine)) {
        return Ok(());
    }
    Err(GuestError::NoMachine {
        program: recipe.binary.clone(),
        machine: machine.to_owned(),
        package: recipe.package.clone(),
    })
}

/// The result of a probe, and what it is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmVerdict {
    pub accelerator: Accelerator,
    /// One sentence for the user: why KVM is not used. Empty if it is.
    pub reason: String,
    /// Whether this was found out just now, so that the user is to be told.
    #[serde(skip)]
    pub fresh: bool,
    host: String,
    kit: String,
}

impl KvmVerdict {
    /// Of guests of another architecture than the host's, which no KVM runs.
    pub fn foreign(architecture: &str) -> Self {
        KvmVerdict {
            accelerator: Accelerator::Tcg,
            reason: format!("this machine's processor is not {architecture}"),
            fresh: false,
            host: String::new(),
            kit: String::new(),
        }
    }
}

/// Boots `options` once with KVM, unless `cache` already knows the answer for this boot of this
/// host and for the kit `kit_id`. Never fails: without a working KVM the answer is
/// [`Accelerator::Tcg`].
pub async fn probe_kvm(options: &GuestOptions, kit_id: &str, cache: &Path) -> KvmVerdict {
    let host = host_identity();
    if let Some(known) = read_cache(cache)
        && known.host == host
        && known.kit == kit_id
    {
        return known;
    }
    let (accelerator, reason) = match try_kvm(options).await {
        Ok(()) => (Accelerator::Kvm, String::new()),
        Err(reason) => (Accelerator::Tcg, format!("KVM is not used: {reason}")),
    };
    let verdict = KvmVerdict { accelerator, reason, fresh: true, host, kit: kit_id.into() };
    write_cache(cache, &verdict);
    verdict
}

async fn try_kvm(options: &GuestOptions) -> Result<(), String> {
    let device = Path::new("/dev/kvm");
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(|error| format!("{} cannot be opened ({error})", device.display()))?;
    let mut options = options.clone();
    options.accelerator = Accelerator::Kvm;
    options.root = super::Root::None;
    options.compile = None;
    options.console_log = None;
    options.limits.start = LIMIT;
    match Guest::start(options).await {
        Ok(guest) => {
            drop(guest);
            Ok(())
        }
        Err(GuestError::StartTimeout { limit, .. }) => {
            Err(format!("a guest did not start within {} s with it", limit.as_secs()))
        }
        // The console's last lines belong into a log, not into a sentence.
        Err(error) => {
            log::debug!("{error}");
            let text = error.to_string();
            Err(text.lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// Changes with every boot of the host, and so with its kernel and modules.
fn host_identity() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Anything unreadable means: not known.
fn read_cache(path: &Path) -> Option<KvmVerdict> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Only saves time: a failure is not worth more than a log line.
fn write_cache(path: &Path, verdict: &KvmVerdict) {
    let directory = path.parent().unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, verdict)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    if let Err(error) = written() {
        log::debug!("cannot write {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::QemuRecipe;

    /// A kit that cannot boot, so that every real probe fails.
    fn broken() -> GuestOptions {
        let recipe = QemuRecipe {
            binary: "qemu-system-none".into(),
            package: "qemu-system-x86".into(),
            machine: "none".into(),
            cpu: "none".into(),
            console: "none".into(),
            kernel_arguments: Vec::new(),
        };
        GuestOptions::new(recipe, "/nonexistent/kernel", "/nonexistent/initramfs")
    }

    #[tokio::test]
    async fn a_qemu_that_does_not_list_the_machine_is_told() {
        let checked = |binary: &str, machine: &str| {
            let recipe =
                QemuRecipe { binary: binary.into(), machine: machine.into(), ..broken().recipe };
            async move { check_machine(&recipe).await }
        };
        // A program that lists its own arguments.
        assert!(checked("echo", "-machine,usb=off").await.is_ok());
        let error = checked("echo", "virt").await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("echo has no machine type virt") && said.contains("qemu-system-x86"));
        let error = checked("qemu-system-none", "virt").await.unwrap_err();
        assert!(matches!(error, GuestError::QemuMissing { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_verdict_is_kept_for_this_host_and_kit_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("kvm.json");

        let first = probe_kvm(&broken(), "kit-1", &cache).await;
        assert_eq!((first.accelerator, first.fresh), (Accelerator::Tcg, true));
        assert!(first.reason.starts_with("KVM is not used: "), "{}", first.reason);
        assert!(!first.reason.contains('\n'));

        // As if the kit worked: what the file says is believed, without a probe.
        let works = KvmVerdict { accelerator: Accelerator::Kvm, ..first };
        write_cache(&cache, &works);
        let second = probe_kvm(&broken(), "kit-1", &cache).await;
        assert_eq!((second.accelerator, second.fresh), (Accelerator::Kvm, false));

        let other_kit = probe_kvm(&broken(), "kit-2", &cache).await;
        assert_eq!((other_kit.accelerator, other_kit.fresh), (Accelerator::Tcg, true));

        write_cache(&cache, &KvmVerdict { host: "another boot".into(), ..works });
        assert!(probe_kvm(&broken(), "kit-1", &cache).await.fresh);

        std::fs::write(&cache, "not JSON").unwrap();
        assert!(probe_kvm(&broken(), "kit-1", &cache).await.fresh);
    }
}
