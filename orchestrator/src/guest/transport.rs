//! How a guest reaches its sysroot, and what this host and kit can do.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::recipe::QemuRecipe;

/// QEMU only has to look into its own lists.
const LIMIT: Duration = Duration::from_secs(30);

/// The module of the guest's kernel.
pub const VIRTIOFS_MODULE: &str = "virtiofs";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Our own process answers the guest's kernel.
    Virtiofs,
    /// QEMU's 9p server on a FUSE mount of the mapped view.
    NineP,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Virtiofs => "virtiofs",
            Transport::NineP => "9p",
        })
    }
}

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TransportChoice {
    /// virtiofs where it works, 9p elsewhere
    #[default]
    Auto,
    Virtiofs,
    #[serde(rename = "9p")]
    #[value(name = "9p")]
    NineP,
}

/// Whether this host can serve guests over virtiofs; `kernel_has_it` says whether the kit can.
///
/// # Errors
/// One sentence for the user: what is missing.
pub async fn probe_virtiofs(recipe: &QemuRecipe, kernel_has_it: bool) -> Result<(), String> {
    if !kernel_has_it {
        return Err(format!("the kit's kernel has no {VIRTIOFS_MODULE}"));
    }
    memfd_create("outcrop-probe", MemfdFlags::CLOEXEC)
        .map_err(|errno| format!("this host cannot make shared memory (memfd_create: {errno})"))?;
    let device = recipe.virtiofs_device();
    let mut qemu = tokio::process::Command::new(&recipe.binary);
    qemu.args(["-nodefaults", "-no-user-config", "-machine", "none", "-device"])
        .arg(format!("{device},help"))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let without = || format!("{} has no device {device}", recipe.binary);
    match tokio::time::timeout(LIMIT, qemu.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(_)) => Err(without()),
        Ok(Err(error)) => Err(format!("{} cannot be run ({error})", recipe.binary)),
        Err(_) => Err(format!("{} did not list its devices", recipe.binary)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(binary: &str) -> QemuRecipe {
        QemuRecipe {
            binary: binary.into(),
            package: "qemu-system-x86".into(),
            machine: "pc".into(),
            cpu: "max".into(),
            console: "ttyS0".into(),
            kernel_arguments: Vec::new(),
        }
    }

    #[tokio::test]
    async fn whatever_is_missing_is_named() {
        let missing = |binary, module| async move {
            probe_virtiofs(&recipe(binary), module).await.unwrap_err()
        };
        assert!(missing("true", false).await.contains("kernel has no virtiofs"));
        assert!(missing("false", true).await.contains("no device vhost-user-fs-pci"));
        assert!(missing("qemu-system-none", true).await.contains("cannot be run"));
        assert_eq!(probe_virtiofs(&recipe("true"), true).await, Ok(()));
    }

    #[test]
    fn the_choice_is_spelt_as_on_the_command_line() {
        #[derive(Deserialize)]
        struct File {
            transport: TransportChoice,
        }
        for (text, choice) in [
            ("auto", TransportChoice::Auto),
            ("virtiofs", TransportChoice::Virtiofs),
            ("9p", TransportChoice::NineP),
        ] {
            let file: File = toml::from_str(&format!("transport = \"{text}\"")).unwrap();
            assert_eq!(file.transport, choice);
            assert_eq!(<TransportChoice as clap::ValueEnum>::from_str(text, false), Ok(choice));
        }
    }
}
