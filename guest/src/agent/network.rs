//! A static address: a guest that may reach one service of the host needs no more.

use crate::failure::Failure;
use crate::system;
use outcrop_guest::protocol::Network;
use std::fs;
use std::path::Path;

pub fn bring_up(network: &Network) -> Result<(), Failure> {
    let interface = first_interface()?;
    let fail = |e| Failure::new(format!("cannot configure the network interface {interface}: {e}"));
    let bits = u32::MAX.checked_shl(32 - u32::from(network.prefix_length.min(32))).unwrap_or(0);
    system::set_address(&interface, network.address, bits.to_be_bytes()).map_err(fail)?;
    system::bring_up(&interface).map_err(fail)?;
    if let Some(gateway) = network.gateway {
        system::add_default_route(gateway).map_err(fail)?;
    }
    Ok(())
}

/// Programs expect 127.0.0.1 even where no network was asked for.
pub fn bring_up_loopback() -> Result<(), Failure> {
    system::bring_up("lo").map_err(|e| Failure::new(format!("cannot bring up lo: {e}")))
}

fn first_interface() -> Result<String, Failure> {
    let directory = Path::new("/sys/class/net");
    let mut names: Vec<String> = fs::read_dir(directory)
        .map_err(|e| Failure::at("cannot list", directory, e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "lo")
        .collect();
    names.sort();
    names.into_iter().next().ok_or_else(|| {
        Failure::new("a network was asked for, but the guest has no network interface")
    })
}
