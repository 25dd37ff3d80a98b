//! `outcrop cat`: a file's content, without mounting anything.

use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::node::Kind;

use crate::output::{self, Reader};

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::tree;

/// Print a file of an artifact, a built system or a layer
///
/// Example: outcrop cat minimal-x86_64 /etc/inittab --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A built component, artifact:KEY, or a layer (see `outcrop mount --help`)
    target: String,

    /// Absolute path of the file; symlinks are not followed
    path: String,

    #[command(flatten)]
    definitions: DefinitionsArguments,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let sysroot = tree::open_target(&context, &arguments.target, &arguments.definitions)?;
    let path = &arguments.path;
    let found = sysroot
        .resolve(path.as_bytes())
        .map_err(|error| CommandError::input(format!("{path}: {error}")))?;
    match found.meta.kind {
        Kind::File => {}
        Kind::Symlink => {
            let target = sysroot.read_link(found.ino)?;
            let target = String::from_utf8_lossy(&target);
            return Err(CommandError::input(format!("{path} is a symlink to {target}")));
        }
        _ => return Err(CommandError::input(format!("{path} is not a file"))),
    }
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let count = sysroot.read(found.ino, offset, &mut buffer)?;
        let Some(piece) = buffer.get(..count) else { break };
        if piece.is_empty() {
            break;
        }
        offset += count as u64;
        if output::write(piece)? == Reader::Gone {
            break;
        }
    }
    Ok(())
}
