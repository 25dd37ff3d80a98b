//! `outcrop ls`: list a tree without mounting it.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::node::{Attributes, Kind};
use outcrop_fs::sysroot::Sysroot;
use serde_json::{Map, Value, json};

use crate::output::{self, Reader};

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::printable::printable;
use super::tree;

/// List what is in an artifact, a built system or a layer, without mounting it
///
/// Example: outcrop ls minimal-x86_64 /bin --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A built component, artifact:KEY, or a layer (see `outcrop mount --help`)
    target: String,

    /// Where in the tree
    #[arg(default_value = "/")]
    path: String,

    /// List everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    definitions: DefinitionsArguments,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let sysroot = tree::open_target(&context, &arguments.target, &arguments.definitions)?;
    let start = sysroot
        .resolve(arguments.path.as_bytes())
        .map_err(|error| CommandError::input(format!("{}: {error}", arguments.path)))?;
    let stdout = std::io::stdout().lock();
    let mut out = BufWriter::new(stdout);
    let base = arguments.path.trim_end_matches('/').as_bytes().to_vec();
    let result = if start.meta.kind.is_directory() {
        list(&sysroot, &mut out, arguments, start, base)
    } else {
        show(&sysroot, &mut out, arguments.json, &start, &base)
    };
    result?;
    output::checked(out.flush())?;
    Ok(())
}

fn list(
    sysroot: &Sysroot,
    out: &mut impl Write,
    arguments: &Arguments,
    start: Attributes,
    base: Vec<u8>,
) -> CommandResult {
    let mut pending = vec![(start, base)];
    while let Some((directory, path)) = pending.pop() {
        let mut below = Vec::new();
        for (name, ino) in children(sysroot, directory.ino)? {
            let attributes = sysroot.attributes(ino)?;
            let path = [path.as_slice(), b"/", &name].concat();
            show(sysroot, out, arguments.json, &attributes, &path)?;
            if attributes.meta.kind.is_directory() {
                below.push((attributes, path));
            }
        }
        if arguments.recursive {
            pending.extend(below.into_iter().rev());
        }
    }
    Ok(())
}

fn children(sysroot: &Sysroot, directory: u64) -> CommandResult<Vec<(Vec<u8>, u64)>> {
    let mut found = Vec::new();
    sysroot.read_directory(directory, 0, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            found.push((entry.name.to_vec(), entry.ino));
        }
        ControlFlow::Continue(())
    })?;
    found.sort();
    Ok(found)
}

fn show(
    sysroot: &Sysroot,
    out: &mut impl Write,
    json: bool,
    attributes: &Attributes,
    path: &[u8],
) -> CommandResult {
    let meta = &attributes.meta;
    let path = String::from_utf8_lossy(path);
    let target = match meta.kind {
        Kind::Symlink => Some(sysroot.read_link(attributes.ino)?),
        _ => None,
    };
    let written = if json {
        let mut line = members(attributes, target.as_deref());
        line.insert("path".to_owned(), path.into());
        let line = Value::Object(line);
        writeln!(out, "{line}")
    } else {
        let size = match meta.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                format!("{},{}", device.major, device.minor)
            }
            _ => meta.size.to_string(),
        };
        let arrow =
            |target: Vec<u8>| format!(" -> {}", printable(&String::from_utf8_lossy(&target)));
        let arrow = target.map(arrow).unwrap_or_default();
        let path = printable(&path);
        writeln!(
            out,
            "{}{} {:3} {:>5} {:>5} {size:>10} {path}{arrow}",
            letter(meta.kind),
            permissions(meta.mode),
            attributes.nlink,
            meta.uid,
            meta.gid
        )
    };
    match output::checked(written)? {
        Reader::Listens => Ok(()),
        Reader::Gone => std::process::exit(0),
    }
}

/// A node as JSON has it (docs/operations.md), but for its path.
pub fn members(attributes: &Attributes, target: Option<&[u8]>) -> Map<String, Value> {
    let meta = &attributes.meta;
    let device = meta.kind.device();
    let members = [
        ("type", json!(letter(meta.kind).to_string())),
        ("mode", json!(format!("{:04o}", meta.mode))),
        ("uid", json!(meta.uid)),
        ("gid", json!(meta.gid)),
        ("size", json!(meta.size)),
        ("links", json!(attributes.nlink)),
        ("mtime", json!(meta.mtime.seconds)),
        ("target", json!(target.map(String::from_utf8_lossy))),
        ("device", json!([device.major, device.minor])),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::CharDevice(_) => 'c',
        Kind::BlockDevice(_) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    }
}

fn permissions(mode: u16) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = (mode >> shift) & 7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        });
    }
    text
}
