//! What all builds of one run share: store, kit, base layer, compile service, observer.

use std::path::Path;
use std::sync::Arc;

use outcrop_fs::layer::Layer;
use outcrop_fs::layer::cache::{Archive, LayerCache, Progress};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::subtree::{fold_through_links, usr_merge_links};
use outcrop_fs::layer::synthetic;
use outcrop_fs::view::LoaderView;
use tokio::sync::OnceCell;

use super::error::{BuildError, Result};
use super::event::{Event, Observer};
use super::hidden::Told;
use super::tree::GuestTree;
use crate::compile::Outside;
use crate::compile::calls::Places;
use crate::compile::calls::toolchain::{Toolchain, callers};
use crate::guest::{Accelerator, GuestOptions, Transport};
use crate::kit::{Kit, PackageLayer};
use crate::store::{Artifact, Key, Store};

/// Memory of a guest that builds, in MiB; the compilers run on the host.
pub const GUEST_MEMORY: u32 = 1024;

/// What all builds of one run share.
pub struct Workshop {
    pub store: Store,
    pub kit: Kit,
    /// The agent program of the kit's architecture.
    pub agent: std::path::PathBuf,
    pub accelerator: Accelerator,
    /// Absent where the host cannot compile for the kit.
    pub compile: Option<Outside>,
    pub observer: Arc<dyn Observer>,
    /// Parallelism of a build step (`MAKEFLAGS`).
    pub jobs: u32,
    /// Memory of a guest in MiB.
    pub memory: u32,
    /// How guests reach their sysroots.
    pub transport: Transport,
    /// What people know of artifacts that hide something of others.
    pub(super) told: Told,
    base: OnceCell<Base>,
}

/// The kit's packages as layers.
#[derive(Clone)]
struct Base {
    layers: Vec<Arc<dyn Layer>>,
    /// Top-level names that the base has as links into `usr/`.
    links: Vec<Vec<u8>>,
    /// The tree of the compilers that the host runs.
    tools: Option<Arc<LoaderView>>,
}

impl Workshop {
    pub fn new(
        store: Store,
        kit: Kit,
        agent: std::path::PathBuf,
        accelerator: Accelerator,
        compile: Option<Outside>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        // The guest has one processor, but a compile waits for the host most of the time.
        let jobs = if compile.is_some() { 3 } else { 1 };
        let base = OnceCell::new();
        let memory = GUEST_MEMORY;
        let transport = Transport::NineP;
        Workshop {
            store,
            kit,
            agent,
            accelerator,
            compile,
            observer,
            jobs,
            memory,
            transport,
            told: Told::default(),
            base,
        }
    }

    pub fn notice(&self, text: impl Into<String>) {
        self.observer.observe(Event::Notice { text: text.into() });
    }

    async fn base(&self) -> Result<&Base> {
        self.base
            .get_or_try_init(|| async {
                let cache = LayerCache::new(self.store.layers());
                let kit = self.kit.clone();
                let observer = self.observer.clone();
                let agent = self.agent.clone();
                let toolchain = match &self.compile {
                    Some(Outside::InView(toolchain)) => Some(toolchain.clone()),
                    _ => None,
                };
                blocking(move || open_base(&cache, &kit, &agent, toolchain, observer.as_ref()))
                    .await
            })
            .await
    }

    /// Keeps the console of a guest that died beside the build's log: the directory that the guest
    /// ran in goes.
    pub fn keep_console(&self, key: &Key, error: &mut BuildError) {
        let BuildError::Guest(error) = error else { return };
        error.move_console_log(|from| {
            let to = self.store.log_path(key).with_extension("console");
            match std::fs::rename(&from, &to) {
                Ok(()) => Some(to),
                Err(error) => {
                    log::warn!("cannot keep {} as {}: {error}", from.display(), to.display());
                    None
                }
            }
        });
    }

    /// The artifacts of keys that the plan has built or found.
    pub fn artifacts(&self, keys: &[Key]) -> Result<Vec<Artifact>> {
        keys.iter()
            .map(|key| {
                self.store.held_artifact(key)?.ok_or_else(|| {
                    BuildError::Invalid(format!(
                        "the artifact {key} has gone from the store; build again"
                    ))
                })
            })
            .collect()
    }

    /// The stack below a chunk's own layers: the kit's packages, then artifacts, lowest first.
    pub async fn stack(&self, artifacts: &[Artifact]) -> Result<Vec<Arc<dyn Layer>>> {
        let base = self.base().await?;
        let mut layers = base.layers.clone();
        for artifact in artifacts {
            layers.extend(fold_through_links(open_artifact(artifact)?, &base.links)?);
        }
        Ok(layers)
    }

    /// Serves a tree to a guest whose root it becomes; `compile`: with the compile service.
    pub fn guest_options(&self, tree: &mut GuestTree, compile: bool) -> Result<GuestOptions> {
        let outside = self.compile.as_ref().filter(|_| compile);
        // This very program, also where another one has taken its name since it started.
        let program = format!("/proc/{}/exe", std::process::id());
        let mut calls = None;
        let tools = self.base.get().and_then(|base| base.tools.clone());
        if let (Some(Outside::InView(toolchain)), Some(tools)) = (outside, tools) {
            let start = |places: &Places<'_>| toolchain.serve(program.as_ref(), places);
            calls = Some(Arc::new(tree.serve_calls(tools, start)?));
        }
        let root = tree.serve(self.transport)?;
        let run = tree.run_directory();
        let initramfs = self.kit.initramfs_for(&self.agent)?;
        let mut options =
            GuestOptions::new(self.kit.architecture().qemu.clone(), self.kit.kernel(), initramfs);
        options.memory_mib = self.memory;
        options.accelerator = self.accelerator;
        options.root = root;
        options.console_log = Some(run.join("console.log"));
        if calls.is_some() {
            options.calls = calls;
            // Compilers on the host see what lies there only if it is part of the tree.
            options.temporary.retain(|(path, _)| path != "/tmp");
        }
        if let Some(Outside::Distcc(service)) = outside {
            let fault =
                |source| outcrop_fs::Error::host("cannot prepare compiling in", run, source);
            let settings = service.prepare(run).map_err(fault)?;
            options.compile = Some(service.forward(program.as_ref(), &settings));
        }
        Ok(options)
    }
}

/// Opens an artifact of the store as a layer.
pub fn open_artifact(artifact: &Artifact) -> Result<Arc<dyn Layer>> {
    let layer = IndexedLayer::open(&artifact.info.key, &artifact.tar, &artifact.index)?;
    Ok(Arc::new(layer))
}

/// Opens artifacts as layers, in their order.
pub fn open_all(artifacts: &[Artifact]) -> Result<Vec<Arc<dyn Layer>>> {
    artifacts.iter().map(open_artifact).collect()
}

/// Stacks artifacts alone, as a system's tree: real directories go through the links into `usr/`
/// that one of them has.
pub fn stack_alone(artifacts: &[Artifact]) -> Result<Vec<Arc<dyn Layer>>> {
    stack_layers(open_all(artifacts)?)
}

/// As [`stack_alone`], of layers that are open.
pub fn stack_layers(opened: Vec<Arc<dyn Layer>>) -> Result<Vec<Arc<dyn Layer>>> {
    let links = usr_merge_links(&opened)?;
    let mut layers = Vec::with_capacity(opened.len());
    for layer in opened {
        layers.extend(fold_through_links(layer, &links)?);
    }
    Ok(layers)
}

/// `toolchain`: what the host runs for guests of the kit, if anything.
fn open_base(
    cache: &LayerCache,
    kit: &Kit,
    agent: &Path,
    toolchain: Option<Toolchain>,
    observer: &dyn Observer,
) -> Result<Base> {
    let mut layers = open_packages(cache, kit, kit.packages(), observer)?;
    layers.push(Arc::new(super::synthetic::layer(kit.synthetic_nodes())?));
    let links = usr_merge_links(&layers)?;
    let tools = toolchain.map(|toolchain| {
        let mut tools = layers.clone();
        if toolchain.cross.is_some() {
            tools = open_packages(cache, kit, kit.toolchain_packages(), observer)?;
            tools.push(Arc::new(super::synthetic::layer(kit.toolchain_nodes())?));
            tools.push(Arc::new(synthetic::layer("the assembler", toolchain.nodes())?));
        }
        Ok::<_, BuildError>(Arc::new(toolchain.view(tools)?))
    });
    let tools = tools.transpose()?;
    // A tree that a failure leaves can be looked at with another choice of who compiles.
    let fault = |source| outcrop_fs::Error::host("cannot read", agent, source);
    layers.push(callers(kit, std::fs::read(agent).map_err(fault)?)?);
    Ok(Base { layers, links, tools })
}

fn open_packages(
    cache: &LayerCache,
    kit: &Kit,
    packages: Vec<PackageLayer>,
    observer: &dyn Observer,
) -> Result<Vec<Arc<dyn Layer>>> {
    let told = std::sync::atomic::AtomicBool::new(false);
    let progress = |progress: Progress<'_>| {
        if progress.done > 0 && !told.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let text = "making the kit's packages readable at random, once".to_owned();
            observer.observe(Event::Notice { text });
        }
    };
    let archives: Vec<Archive> = packages
        .into_iter()
        .map(|package| {
            let mut archive = Archive::new(package.path);
            archive.label = package.label;
            archive.digest = package.sha256;
            archive
        })
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let opened = cache.prepare_all(&archives, threads, &progress);
    let mut layers: Vec<Arc<dyn Layer>> = Vec::with_capacity(opened.len() + 2);
    for (archive, layer) in archives.iter().zip(opened) {
        layers.push(Arc::new(layer.map_err(|error| match is_damage(&error) {
            true => BuildError::Kit(kit.damaged(&format!("package {}", archive.label), error)),
            false => BuildError::FileSystem(error),
        })?));
    }
    Ok(layers)
}

/// Whether an archive is gone or not what it was, as opposed to a trouble of the host.
fn is_damage(error: &outcrop_fs::Error) -> bool {
    match error {
        outcrop_fs::Error::Malformed { .. } | outcrop_fs::Error::Invalid(_) => true,
        outcrop_fs::Error::Host { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        outcrop_fs::Error::Os(_) => false,
    }
}

/// Runs blocking work on a thread of its own.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BuildError::Worker(error.to_string())),
    }
}
