//! How QEMU is started for one architecture.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// The `[qemu]` part of an architecture's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuRecipe {
    /// The program, looked up in `PATH`: `qemu-system-x86_64`.
    pub binary: String,
    /// The Debian package that has the program.
    pub package: String,
    /// The argument of `-M`.
    pub machine: String,
    /// The argument of `-cpu` without hardware virtualisation.
    pub cpu: String,
    /// The guest's name for its first serial line: `ttyS0`.
    pub console: String,
    /// More words for the kernel's command line than all architectures have.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
}

impl QemuRecipe {
    /// What the names of virtio devices end in: `microvm` and mainframes have no PCI bus.
    pub(super) fn device_suffix(&self) -> &'static str {
        match self.machine.split(',').next() {
            Some("microvm") => "device",
            Some("s390-ccw-virtio") => "ccw",
            _ => "pci",
        }
    }

    /// The kernel's driver of the bus that virtio devices are on, where it is a module.
    pub fn bus_module(&self) -> Option<&'static str> {
        match self.device_suffix() {
            // CONFIG_S390_GUEST is no module.
            "ccw" => None,
            "device" => Some("virtio_mmio"),
            _ => Some("virtio_pci"),
        }
    }

    pub(super) fn virtiofs_device(&self) -> String {
        format!("vhost-user-fs-{}", self.device_suffix())
    }
}

/// What carries out the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// QEMU's own translator: works everywhere, slowly.
    Tcg,
    /// The host kernel's virtualisation. Must have been probed: see [`super::probe_kvm`].
    Kvm,
}
