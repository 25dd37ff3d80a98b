//! Takes what a guest needs out of Debian's kernel package: the kernel, its configuration and a
//! cpio archive of modules.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use super::architecture::ModuleRoots;
use super::cpio::{Entry, Owner, Writer};
use super::deb;
use super::error::{Error, Result};
use super::modinfo;
use super::modules::Inventory;

/// Where the initramfs keeps modules, relative to its root.
pub const MODULE_DIRECTORY: &str = "lib/modules";
/// Absolute paths of the modules in load order, one a line, relative to the initramfs's root.
pub const MODULE_LIST: &str = "lib/modules/outcrop.list";

/// More than any kernel or module has; a limit for what is held in memory.
const LARGEST_FILE: u64 = 1 << 28;

/// What was taken out of a kernel package.
#[derive(Debug)]
pub struct Kernel {
    pub vmlinuz: Vec<u8>,
    pub config: Vec<u8>,
    /// Uncompressed modules in load order, by file name.
    pub modules: Vec<(String, Vec<u8>)>,
}

/// Reads the package twice as a stream: once for what the modules say of themselves, once for the
/// modules that are needed.
pub fn extract(package: &str, deb_path: &Path, roots: &ModuleRoots) -> Result<Kernel> {
    let mut inventory = Inventory::default();
    let (mut vmlinuz, mut config) = (None, None);
    for_each_file(package, deb_path, |path, read| {
        if path.starts_with("boot/vmlinu") {
            vmlinuz = Some(read()?);
        } else if path.starts_with("boot/config-") {
            config = Some(read()?);
        } else if path.ends_with("/modules.builtin") {
            inventory.add_builtin(&String::from_utf8_lossy(&read()?));
        } else if modinfo::name_of_path(path).is_some() {
            let module = decompress(path, read()?)?;
            inventory.add(path, modinfo::parse(&module).map_err(io::Error::other)?);
        }
        Ok(())
    })?;
    let vmlinuz = vmlinuz.ok_or_else(|| Error::package(package, "it has no boot/vmlinuz-*"))?;
    if inventory.is_empty() {
        return Err(Error::package(package, "it has no kernel modules"));
    }
    let order = inventory.load_order(&roots.required, &roots.optional).map_err(|missing| {
        Error::MissingModule {
            package: package.to_owned(),
            module: missing.module,
            needed_by: missing.needed_by,
        }
    })?;
    let mut found = BTreeMap::new();
    for_each_file(package, deb_path, |path, read| {
        if order.iter().any(|wanted| wanted == path) {
            found.insert(path.to_owned(), decompress(path, read()?)?);
        }
        Ok(())
    })?;
    let modules = order
        .iter()
        .filter_map(|path| {
            let module = found.remove(path)?;
            Some((format!("{}.ko", modinfo::name_of_path(path)?), module))
        })
        .collect();
    Ok(Kernel { vmlinuz, config: config.unwrap_or_default(), modules })
}

impl Kernel {
    /// Writes the modules and their list as a cpio archive. Order and bytes are the same each time.
    pub fn write_modules(&self, output: impl Write) -> io::Result<()> {
        let mut writer = Writer::new(output);
        for directory in ["lib", MODULE_DIRECTORY] {
            writer.add(directory.as_bytes(), Entry::Directory, Owner::root(0o755))?;
        }
        let mut list = String::new();
        for (name, content) in &self.modules {
            let path = format!("{MODULE_DIRECTORY}/{name}");
            list.push_str(&format!("/{path}\n"));
            writer.add(path.as_bytes(), Entry::File(content), Owner::root(0o644))?;
        }
        let list = Entry::File(list.as_bytes());
        writer.add(MODULE_LIST.as_bytes(), list, Owner::root(0o644))?;
        writer.finish()?.flush()
    }
}

/// Calls `visit` with each regular file's path (no leading `./`) and a way to read it.
fn for_each_file(
    package: &str,
    deb_path: &Path,
    mut visit: impl FnMut(&str, &mut dyn FnMut() -> io::Result<Vec<u8>>) -> io::Result<()>,
) -> Result<()> {
    let mut contents = deb::open(deb_path)?;
    let entries = contents.entries().map_err(|e| Error::package(package, e))?;
    for entry in entries {
        let mut entry = entry.map_err(|e| Error::package(package, e))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./");
        let size = entry.size();
        let mut read = || {
            if size > LARGEST_FILE {
                return Err(io::Error::other("the file is absurdly large"));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            Ok(content)
        };
        visit(path, &mut read).map_err(|e| Error::package(package, format!("{path}: {e}")))?;
    }
    Ok(())
}

fn decompress(path: &str, content: Vec<u8>) -> io::Result<Vec<u8>> {
    let decoder: Box<dyn Read> = match path.rsplit('.').next() {
        Some("xz") => Box::new(liblzma::read::XzDecoder::new_multi_decoder(&content[..])),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(&content[..])),
        Some("zst") => Box::new(zstd::Decoder::new(&content[..])?),
        _ => return Ok(content),
    };
    let mut plain = Vec::new();
    decoder.take(LARGEST_FILE).read_to_end(&mut plain)?;
    Ok(plain)
}
