//! Outcrop over virtiofs: layers served to one guest by a process of their own, in the way in which
//! `outcrop build` serves them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Instant;

use outcrop_fs::layer::cache::LayerCache;
use outcrop_fs::layer::open::{Opener, Spec, open_all};
use outcrop_fs::sysroot::{Options, Policy, Sysroot, Zone};
use outcrop_fs::transport::{Caching, VirtiofsServer};
use outcrop_tests::shared_store;

use crate::bench::{Bench, remove};
use crate::measure::Result;

#[derive(clap::Subcommand)]
pub enum Serve {
    /// Serve layers over virtiofs until the standard input ends
    ServeVirtiofs { socket: PathBuf, spool: PathBuf, cache: PathBuf, layers: Vec<OsString> },
}

pub fn run(Serve::ServeVirtiofs { socket, spool, cache, layers }: &Serve) -> Result<()> {
    let cache = LayerCache::new(cache.clone());
    let artifact = |key: &str| Err(outcrop_fs::Error::Invalid(format!("{key} is not a file")));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let opener = Opener { cache: &cache, progress: &|_| {}, threads, artifact: &artifact };
    let specs = layers.iter().map(Spec::parse).collect::<outcrop_fs::Result<Vec<_>>>()?;
    let layers = open_all(&specs, &opener)?;
    let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
    let options = Options { zones, spool_directory: Some(spool.clone()) };
    let sysroot = Arc::new(Sysroot::new(layers, options)?);
    let server = VirtiofsServer::start(sysroot, socket, Caching::immutable())?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}

/// The process that serves; it ends with this value.
pub struct Served {
    pub socket: PathBuf,
    /// Seconds from its start until a guest could connect.
    pub took: f64,
    child: Child,
}

impl Served {
    pub fn start(bench: &Bench, layers: &[PathBuf]) -> Result<Served> {
        let spool = bench.fresh("spool")?;
        let socket = bench.scratch.join("virtiofs.socket");
        remove(&socket)?;
        let mut command = bench.helper()?;
        command.arg("serve-virtiofs").arg(&socket).arg(&spool).arg(shared_store().join("layers"));
        command.args(layers).stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let took = start.elapsed().as_secs_f64();
        if line.trim() != "ready" {
            return Err("the layers could not be served over virtiofs".into());
        }
        Ok(Served { socket, took, child })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
