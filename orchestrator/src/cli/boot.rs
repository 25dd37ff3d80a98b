//! `outcrop boot`: run what was built.

use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use outcrop_fs::archive::compression::Compression;

use crate::config::GUEST_MEMORY;
use crate::export::Format;
use crate::guest::{
    BootOptions, Disk, boot_command, boot_interactive, check_machine, has_terminal,
};
use crate::kit::{Kit, Kits, cpio, find_agent};
use crate::output;

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::guests;
use super::interrupt::run_interruptible;
use super::project::Project;
use super::tree;

/// Boot a built system, or an exported image, in QEMU
///
/// The kernel is the kit's. An image is recognised by its content: squashfs, ext4, or a cpio
/// archive, which becomes the initramfs. What the system writes is thrown away. At an interactive
/// console Ctrl-] ends the machine. An image does not say what it is for: `--arch` does, where it is
/// for another machine than this one.
///
/// Example: outcrop boot minimal.squashfs --arch armv8l64 --command 'uname -a'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A built system of the definitions, or the path of an image
    target: String,

    #[command(flatten)]
    definitions: DefinitionsArguments,

    /// Run this on the system's console and end the machine; exit status 0 or 1 as the command's
    #[arg(long, short, value_name = "CMD")]
    command: Option<String>,

    /// Memory in MiB
    #[arg(long, default_value_t = 512, value_name = "MIB",
        value_parser = RangedU64ValueParser::<u32>::new()
            .range(u64::from(*GUEST_MEMORY.start())..=u64::from(*GUEST_MEMORY.end())))]
    memory: u32,

    /// Mount the system's disk for writing
    #[arg(long)]
    writable: bool,

    /// Seconds that the system and the command may take
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    time_limit: u64,

    /// Show what the console says while a command is run
    #[arg(long)]
    console: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let path = Path::new(&arguments.target);
    if !path.is_file() {
        check_component(arguments)?;
    }
    if arguments.command.is_none() && !has_terminal() {
        return Err(CommandError::input("there is no terminal for the system's console")
            .hint("`--command CMD` runs a command without one"));
    }
    let context = Context::open()?;
    let arch = arguments.definitions.arch.as_deref().unwrap_or(std::env::consts::ARCH);
    let kit = Kits::new(context.store.kits()).current(arch)?;
    context.store.hold(kit.directory())?;
    let run = context.run_directory()?;
    let image = if path.is_file() {
        path.to_owned()
    } else {
        let image = run.path().join("system.squashfs");
        let sysroot = tree::open_target(&context, &arguments.target, &arguments.definitions)?;
        super::export::write(&context, Arc::new(sysroot), Format::Squashfs, &image, None)?;
        image
    };
    let limit = Duration::from_secs(arguments.time_limit);
    run_interruptible(async {
        let options = options(&context, arguments, &kit, &image).await?;
        match &arguments.command {
            None => {
                output::say("booting; Ctrl-] ends the machine");
                boot_interactive(&options).await.map_err(CommandError::from)
            }
            Some(command) => scripted(&options, command, limit, arguments.console).await,
        }
        .map_err(|error| of_other_machine(error, arch))
    })
}

/// What the agent and the kernel say where a program is for another processor (ENOEXEC).
const OTHER_MACHINE: [&str; 2] = ["Exec format error", "(error -8)"];

fn of_other_machine(error: CommandError, arch: &str) -> CommandError {
    if !OTHER_MACHINE.iter().any(|said| error.message.contains(said)) {
        return error;
    }
    error.hint(format!("it was booted as one for {arch}; `--arch` says what it is for"))
}

/// Whoever meant an image is told first that there is none, whatever the definitions are like.
fn check_component(arguments: &Arguments) -> CommandResult {
    let target = &arguments.target;
    if !tree::is_component_name(target, &arguments.definitions)? {
        return Ok(());
    }
    Project::of(target, &arguments.definitions).map(drop).map_err(|mut error| {
        error.message = format!(
            "there is no image {target}, and it cannot be taken for a component: {}",
            error.message
        );
        error
    })
}

async fn options(
    context: &Context,
    arguments: &Arguments,
    kit: &Kit,
    image: &Path,
) -> CommandResult<BootOptions> {
    check_machine(&kit.architecture().qemu).await?;
    let accelerator = guests::accelerator(context, kit).await?.accelerator;
    let kind = recognise(image)?;
    let (initramfs, disk, init) = match kind {
        Image::Disk => {
            let agent = find_agent(&kit.architecture().name)?;
            (
                kit.initramfs_for(&agent)?,
                Some(Disk { image: image.to_owned(), format: "raw".to_owned() }),
                None,
            )
        }
        Image::Initramfs => {
            // A system exported as cpio starts as it does from a disk.
            let init = (!has_init(image)?).then(|| "/sbin/init".to_owned());
            (image.to_owned(), None, init)
        }
    };
    Ok(BootOptions {
        recipe: kit.architecture().qemu.clone(),
        kernel: kit.kernel(),
        initramfs,
        disk,
        init,
        writable: arguments.writable,
        memory_mib: arguments.memory,
        accelerator,
        console_log: None,
        start_limit: Duration::from_secs(arguments.time_limit),
    })
}

async fn scripted(
    options: &BootOptions,
    command: &str,
    limit: Duration,
    console: bool,
) -> CommandResult {
    let show = |bytes: &[u8]| {
        if console {
            let _ = std::io::stderr().write_all(bytes);
        }
    };
    let result = boot_command(options, command.as_bytes(), limit, show).await?;
    let _ = std::io::stdout().write_all(&result.output);
    let _ = std::io::stdout().flush();
    output::say(format_args!(
        "a shell answered {:.1} s after power-on",
        result.boot_time.as_secs_f64()
    ));
    if result.status == 0 {
        return Ok(());
    }
    Err(CommandError::build(format!("the command ended with exit status {}", result.status)))
}

enum Image {
    Disk,
    Initramfs,
}

/// Offset and value of ext2/3/4's magic number in its superblock (kernel documentation,
/// filesystems/ext4/super.rst).
const EXT4_MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);

fn recognise(path: &Path) -> CommandResult<Image> {
    let read = |offset: u64, length: usize| -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let fault = |error| CommandError::input(format!("cannot read {}: {error}", path.display()));
    let start = read(0, 4).map_err(fault)?;
    let at_superblock = read(EXT4_MAGIC.0, 2).map_err(fault)?;
    if start.starts_with(b"hsqs") || at_superblock == EXT4_MAGIC.1 {
        return Ok(Image::Disk);
    }
    let mut archive_start = Vec::new();
    let (_, archive) = decompressed(path).map_err(fault)?;
    // What cannot be decompressed is no archive, whatever it is.
    let _ = archive.take(6).read_to_end(&mut archive_start);
    if archive_start == b"070701" {
        return Ok(Image::Initramfs);
    }
    Err(CommandError::input(format!(
        "{} is neither a squashfs nor an ext4 image nor a cpio archive",
        path.display()
    ))
    .hint("`outcrop export --format squashfs|ext4|cpio` makes one"))
}

/// An archive's bytes, and how they were compressed: of what Linux decompresses, what we know.
fn decompressed(path: &Path) -> std::io::Result<(Compression, Box<dyn Read + Send>)> {
    let mut reader = std::io::BufReader::new(File::open(path)?);
    let compression = match reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    Ok((compression, compression.decode(reader)?))
}

/// Whether a cpio archive has `/init`, which the kernel starts first. Only what is gzipped or plain
/// can be told; for the rest the kernel's own default holds.
fn has_init(path: &Path) -> CommandResult<bool> {
    let fault = |error| CommandError::input(format!("cannot read {}: {error}", path.display()));
    let (compression, archive) = decompressed(path).map_err(fault)?;
    Ok(compression == Compression::Zstd || cpio::contains(archive, b"init").unwrap_or(true))
}
