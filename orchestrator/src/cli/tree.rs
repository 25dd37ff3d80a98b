//! The tree that a command is about: layers, an artifact, or a built component.

use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use outcrop_fs::layer::Layer;
use outcrop_fs::layer::cache::{LayerCache, Progress};
use outcrop_fs::layer::open::{Opener, Spec, open_all};
use outcrop_fs::sysroot::{Options, Sysroot};

use super::context::{Context, DefinitionsArguments, settings};
use super::error::{CommandError, CommandResult};
use super::project::Project;
use crate::build::workshop::{open_artifact, stack_alone};
use crate::definitions::{self, Component, Kind};
use crate::store::{Artifact, Key};

/// What to look at.
#[derive(clap::Args, Clone)]
pub struct TreeArguments {
    /// A layer, lowest first: PATH.tar[.gz|.xz|.zst|.bz2], PATH.deb, git:REPO[#REV[:SUBDIR]],
    /// dir:PATH, list:PATH, artifact:KEY, oci:PATH[:TAG][,arch=NAME]; with @/where at the end it appears there
    #[arg(long = "layer", short = 'l', value_name = "SPEC")]
    layers: Vec<String>,

    /// A built system or chunk, by its path or name in the definitions
    #[arg(long, value_name = "NAME")]
    system: Option<String>,

    #[command(flatten)]
    pub definitions: DefinitionsArguments,
}

/// Layers, and how another process finds the same ones.
pub struct Opened {
    pub layers: Vec<Arc<dyn Layer>>,
    /// Specifications, from this working directory.
    pub specs: Vec<String>,
}

/// Opens what the arguments name, lowest layer first.
pub fn open_layers(
    context: &Context,
    arguments: &TreeArguments,
) -> CommandResult<Vec<Arc<dyn Layer>>> {
    Ok(open_tree(context, arguments)?.layers)
}

/// As [`open_layers`]; a built component is named by its key from now on.
pub fn open_tree(context: &Context, arguments: &TreeArguments) -> CommandResult<Opened> {
    let mut specs = arguments.layers.clone();
    let mut layers = open_specs(context, &specs)?;
    if let Some(name) = &arguments.system {
        let artifact = find_component(context, name, &arguments.definitions)?;
        specs.push(format!("artifact:{}", artifact.info.key));
        layers.extend(stack_alone(&[artifact]).map_err(CommandError::from)?);
    }
    if layers.is_empty() {
        return Err(nothing_named());
    }
    Ok(Opened { layers, specs })
}

fn nothing_named() -> CommandError {
    CommandError::input("nothing to look at was named")
        .hint("name a layer with --layer SPEC, or a built component with --system NAME")
}

/// What the arguments name, and over it positional arguments, lowest first.
pub fn open_layers_and_targets(
    context: &Context,
    arguments: &TreeArguments,
    targets: &[String],
) -> CommandResult<Vec<Arc<dyn Layer>>> {
    let names_none = arguments.layers.is_empty() && arguments.system.is_none();
    let mut layers = match targets {
        [_, ..] if names_none => Vec::new(),
        _ => open_layers(context, arguments)?,
    };
    for target in targets {
        layers.extend(open_target_layers(context, target, &arguments.definitions)?);
    }
    Ok(layers)
}

pub fn open_specs(context: &Context, specs: &[String]) -> CommandResult<Vec<Arc<dyn Layer>>> {
    let cache = LayerCache::new(context.store.layers());
    let bar = ProgressBar::hidden();
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    let progress = |progress: Progress<'_>| {
        if bar.is_hidden() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(format!("indexing {}", progress.label));
    };
    let artifact = |key: &str| match find_artifact(context, key) {
        Ok(artifact) => {
            open_artifact(&artifact).map_err(|error| outcrop_fs::Error::Invalid(error.to_string()))
        }
        Err(error) => Err(outcrop_fs::Error::Invalid(error.message)),
    };
    // Layers that were never used before are prepared at once, as far as there are processors.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let opener = Opener { cache: &cache, progress: &progress, threads, artifact: &artifact };
    let specs = specs.iter().map(Spec::parse).collect::<Result<Vec<_>, _>>()?;
    let layers = open_all(&specs, &opener)?;
    bar.finish_and_clear();
    Ok(layers)
}

/// The artifact of a whole key, or of the only key that begins with what is given.
pub fn find_artifact(context: &Context, text: &str) -> CommandResult<Artifact> {
    let mut keys = context.store.keys()?;
    keys.retain(|key| key.as_str().starts_with(text));
    match keys.as_slice() {
        [] => Err(CommandError::input(format!("the store has no artifact {text}"))
            .hint("`outcrop store list` shows what is there")),
        [key] => match context.store.held_artifact(key)? {
            Some(artifact) => Ok(artifact),
            None => Err(CommandError::input(format!("the artifact {key} is damaged"))
                .hint("build it again")),
        },
        several => {
            let names: Vec<&str> = several.iter().take(5).map(Key::as_str).collect();
            Err(CommandError::input(format!("{text} could be any of {}", names.join(", "))))
        }
    }
}

/// The artifact that the definitions, as they are now, stand for.
pub fn find_component(
    context: &Context,
    name: &str,
    definitions: &DefinitionsArguments,
) -> CommandResult<Artifact> {
    let project = Project::of(name, definitions)?;
    let kind = project.definitions.get(project.target()?).map(Component::kind);
    if let Some(kind @ (Kind::Stratum | Kind::Cluster)) = kind {
        let message = format!("{name} is a {}, which has no artifact of its own", kind.name());
        return Err(
            CommandError::input(message).hint("name one of its parts; `outcrop graph` shows them")
        );
    }
    let kit = project.kit(context)?;
    let resolved = project.resolve(context, &kit, &|_| true)?;
    let key = resolved.key(resolved.target)?;
    context.store.held_artifact(&key)?.ok_or_else(|| {
        CommandError::input(format!("{name} is not built (its key is {key})"))
            .hint(format!("build it with: {}", build_command(name, definitions)))
    })
}

/// How the same component is built.
fn build_command(name: &str, arguments: &DefinitionsArguments) -> String {
    let mut command = format!("outcrop build {name}");
    if arguments.definitions != Path::new(".") {
        command += &format!(" --definitions {}", arguments.definitions.display());
    }
    if let Some(arch) = &arguments.arch {
        command += &format!(" --arch {arch}");
    }
    command += &arguments.sources.tracking_option();
    if arguments.compat {
        command += " --compat";
    }
    command
}

/// The tree of a positional argument: a built component, an artifact's key, or a layer.
pub fn open_target(
    context: &Context,
    target: &str,
    definitions: &DefinitionsArguments,
) -> CommandResult<Sysroot> {
    let layers = open_target_layers(context, target, definitions)?;
    Ok(Sysroot::new(layers, Options::default())?)
}

/// Whether a positional argument can only be a component.
pub fn is_component_name(target: &str, definitions: &DefinitionsArguments) -> CommandResult<bool> {
    Ok(!target.starts_with("artifact:") && !is_layer(target, definitions)?)
}

fn open_target_layers(
    context: &Context,
    target: &str,
    definitions: &DefinitionsArguments,
) -> CommandResult<Vec<Arc<dyn Layer>>> {
    if let Some(key) = target.strip_prefix("artifact:") {
        return stack_alone(&[find_artifact(context, key)?]).map_err(CommandError::from);
    }
    if is_layer(target, definitions)? {
        return open_specs(context, &[target.to_owned()]);
    }
    let artifact = find_component(context, target, definitions)?;
    stack_alone(&[artifact]).map_err(CommandError::from)
}

const SCHEMES: [&str; 5] = ["git:", "dir:", "list:", "tar:", "oci:"];
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".deb"];

/// Definitions are named without a colon, and their files end in `.morph`; everything that exists
/// as a file or directory or has a scheme is a layer.
fn is_layer(target: &str, definitions: &DefinitionsArguments) -> CommandResult<bool> {
    let path = target.split_once("@/").map_or(target, |(path, _)| path);
    // Also where it does not exist: that is then what is to be said.
    let is_archive = ARCHIVES.iter().any(|ending| path.ends_with(ending));
    if is_archive || SCHEMES.iter().any(|scheme| target.starts_with(scheme)) {
        return Ok(true);
    }
    let place = Path::new(path);
    let is_definition = place.extension().is_some_and(|extension| extension == "morph");
    if place.is_file() && !is_definition {
        return Ok(true);
    }
    if !place.is_dir() {
        return Ok(false);
    }
    let is_plain_path = path.starts_with(['.', '/']) || path.ends_with('/');
    if !is_plain_path && is_component(path, definitions) {
        let hint = format!(
            "write ./{path} for the directory, or artifact:KEY for the component \
             (`outcrop key {path}` prints its key)"
        );
        let text = format!("{path} is a directory, and a component of the definitions too");
        return Err(CommandError::input(text).hint(hint));
    }
    Ok(true)
}

/// Whether definitions know the name; no tree is searched for them that does not look like some.
fn is_component(name: &str, arguments: &DefinitionsArguments) -> bool {
    arguments.definitions.join("VERSION").is_file()
        && settings(arguments).is_ok_and(|(_, reading)| {
            definitions::load::load(&arguments.definitions, reading)
                .is_ok_and(|loaded| loaded.select(name).is_ok())
        })
}

#[cfg(test)]
mod tests {
    use super::super::context::SourceArguments;
    use super::*;

    #[test]
    fn the_command_that_builds_has_what_it_was_asked_with() {
        let command = |definitions: &str, arch: Option<&str>| {
            let arch = arch.map(str::to_owned);
            let sources = SourceArguments::default();
            let definitions = definitions.into();
            let compat = false;
            build_command("um", &DefinitionsArguments { definitions, arch, compat, sources })
        };
        assert_eq!(command(".", None), "outcrop build um");
        assert_eq!(command("d2", None), "outcrop build um --definitions d2");
        assert_eq!(
            command("d2", Some("x86_64")),
            "outcrop build um --definitions d2 --arch x86_64"
        );
    }
}
