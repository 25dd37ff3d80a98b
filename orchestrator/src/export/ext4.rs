//! `ext4`: `mke2fs -d`, fed with the tree's tar stream (e2fsprogs 1.47.1 and newer) or reading
//! from a mount of the tree's true view.

use std::path::Path;
use std::process::Command;

use outcrop_fs::Metadata;
use outcrop_fs::capture::{MtimePolicy, Output, capture};
use sha2::{Digest, Sha256};

use super::builder::{Program, Running, command};
use super::survey::BLOCK;
use super::tarball::stream;
use super::{Error, Exporter, Job, Outcome, Result};

const MKE2FS: Program = Program { name: "mke2fs", package: "e2fsprogs" };
const DEBUGFS: Program = Program { name: "debugfs", package: "e2fsprogs" };

const FORMAT: &str = "ext4";
const MEBIBYTE: u64 = 1 << 20;

/// The first e2fsprogs whose `mke2fs -d` reads a tar.
const READS_TAR: [u32; 3] = [1, 47, 1];

/// Named, so that the result depends neither on the host's `mke2fs.conf` nor on what a newer
/// e2fsprogs turns on and an older kernel cannot mount.
const FEATURES: &str = "none,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

pub(super) struct Ext4;

impl Exporter for Ext4 {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn about(&self) -> &'static str {
        "a writable file system image (needs e2fsprogs)"
    }

    fn write(&self, job: &Job<'_>, draft: &Path) -> Result<Outcome> {
        let program = MKE2FS.find(FORMAT)?;
        let debugfs = DEBUGFS.find(FORMAT)?;
        job.survey
            .with_long_names
            .refuse("a name of more than 255 bytes, which ext4 cannot hold")?;
        job.survey
            .with_long_paths
            .refuse("a path of more than 2,000 bytes, with which mke2fs does not cope")?;
        let said = Running::run(with_argument(&program, "-V"), job, b"")?;
        let identity = match job.options.identity {
            Some(identity) => identity,
            None => digest_tree(job)?,
        };
        let plan = Plan::of(job, identity)?;
        let mut outcome = fill(job, &plan, &program, draft, takes_tar(job, &said))
            .map_err(|error| plan.explain(error))?;
        mend_root(job, &plan, &debugfs, draft)?;
        let survey = job.survey;
        let warnings = [
            survey
                .beyond_i32_mtime
                .warning("times before 1901 or after 2038, which mke2fs does not carry over"),
            survey.with_subseconds.warning("fractions of seconds that mke2fs may drop"),
        ];
        outcome.warnings.extend(warnings.into_iter().flatten());
        Ok(outcome)
    }
}

/// Makes the image with everything but the root's attributes.
fn fill(job: &Job<'_>, plan: &Plan, program: &Path, draft: &Path, as_tar: bool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if as_tar {
        let mke2fs = plan.command(program, Path::new("-"), draft);
        Running::start(mke2fs)?.feed(job, |stdin| {
            outcome = stream(job, stdin, Path::new("the pipe to mke2fs"))?;
            Ok(())
        })?;
        outcome.warnings.extend(
            job.survey.with_more_than_capabilities.warning("that mke2fs does not take from a tar"),
        );
    } else {
        from_mount(job, plan, program, draft)?;
        let lost = [
            job.survey.with_trusted_xattrs.warning("that only root can copy from a mount"),
            job.survey
                .without_owner
                .warning("the owner or group 4294967295, which a mount shows as 65534"),
        ];
        outcome.warnings.extend(lost.into_iter().flatten());
    }
    Ok(outcome)
}

/// Whether to feed `mke2fs` the tar stream. It needs no mount, but of xattrs `mke2fs` takes only
/// file capabilities from it.
fn takes_tar(job: &Job<'_>, said: &str) -> bool {
    let reads_tar = version(said).is_some_and(|version| version >= READS_TAR);
    let has_mount = job.options.with_mount.is_some() && job.options.mtime == MtimePolicy::Keep;
    reads_tar && (!has_mount || job.survey.with_more_than_capabilities.is_empty())
}

fn from_mount(job: &Job<'_>, plan: &Plan, program: &Path, draft: &Path) -> Result<()> {
    let Some(with_mount) = job.options.with_mount else {
        return Err(Error::HostLacks {
            format: FORMAT,
            program: "mke2fs 1.47.1 or newer (or a mount of the tree)".into(),
            package: "e2fsprogs",
        });
    };
    if job.options.mtime != MtimePolicy::Keep {
        return Err(Error::Invalid(
            "times cannot be changed in an ext4 image with this host's e2fsprogs; \
             export with the times as they are, or install e2fsprogs 1.47.1 or newer"
                .into(),
        ));
    }
    with_mount(&mut |directory| {
        Running::run(plan.command(program, directory, draft), job, b"").map(drop)
    })
}

/// `mke2fs` takes neither mode nor times of the root from its input.
fn mend_root(job: &Job<'_>, plan: &Plan, debugfs: &Path, draft: &Path) -> Result<()> {
    let root = job.survey.root;
    let Metadata { uid, gid, .. } = root;
    let time = root.mtime.seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32 as u32;
    let mut script =
        format!("sif <2> mode 0{:o}\nsif <2> uid {uid}\nsif <2> gid {gid}\n", root.st_mode());
    for field in ["atime", "ctime", "mtime", "crtime"] {
        script.push_str(&format!("sif <2> {field} @{time}\n"));
    }
    let mut command = command(debugfs);
    plan.fix_time(&mut command);
    command.args(["-w", "-f", "-"]).arg(draft);
    let said = Running::run(command, job, script.as_bytes())?;
    // It echoes its requests and never fails.
    let complaint = said.lines().find(|line| !line.starts_with("debugfs"));
    match complaint {
        None => Ok(()),
        Some(_) => Err(Error::Builder {
            program: DEBUGFS.name.into(),
            status: "a request failed".into(),
            output: said,
        }),
    }
}

/// What an image will be, decided from the tree alone.
struct Plan {
    bytes: u64,
    /// MiB that it takes where no size is asked for.
    enough: u64,
    inodes: u64,
    /// 0: no journal.
    journal_mebibytes: u64,
    uuid: String,
    hash_seed: String,
    time: u32,
}

impl Plan {
    fn of(job: &Job<'_>, identity: [u8; 32]) -> Result<Plan> {
        // The eleven reserved inodes, and room for what a running system creates.
        let inodes = job.survey.nodes.saturating_add(job.survey.nodes / 4).saturating_add(1024);
        let content = job.survey.data_blocks.saturating_mul(BLOCK);
        let tables = inodes.saturating_mul(256);
        let used = content.saturating_add(tables);
        let journal_mebibytes = match job.options.size.unwrap_or(used) / MEBIBYTE {
            0..16 if job.options.size.is_some() => 0,
            0..256 => 4,
            256..4096 => 16,
            _ => 64,
        };
        // A quarter to write into; bitmaps and spare group descriptors; the journal.
        let groups = used / (128 * MEBIBYTE) + 2;
        let enough = used
            .saturating_add(used / 4)
            .saturating_add(groups.saturating_add(journal_mebibytes + 8).saturating_mul(MEBIBYTE));
        let bytes = job.options.size.unwrap_or(enough);
        let bytes = bytes.checked_next_multiple_of(MEBIBYTE).ok_or_else(|| {
            Error::Invalid(format!("{bytes} bytes are more than a file system image can have"))
        })?;
        Ok(Plan {
            bytes,
            enough: enough.div_ceil(MEBIBYTE),
            inodes,
            journal_mebibytes,
            uuid: uuid(&identity, b"ext4 file system"),
            hash_seed: uuid(&identity, b"ext4 directory hash"),
            time: job.image_time(),
        })
    }

    /// `mke2fs` and `debugfs` stamp what they touch with this time instead of the clock's.
    fn fix_time(&self, command: &mut Command) {
        // The first is what 1.47.0 knows, the second what came with 1.47.1.
        command.env("E2FSPROGS_FAKE_TIME", self.time.to_string());
        command.env("SOURCE_DATE_EPOCH", self.time.to_string());
    }

    /// What `mke2fs` says of an image without room does not tell what to do.
    fn explain(&self, error: Error) -> Error {
        let asked = self.bytes / MEBIBYTE;
        match error {
            Error::Builder { output, .. } if asked < self.enough => Error::Invalid(format!(
                "the tree does not fit into {asked} MiB: leave the size out, or make it {}:\n{output}",
                self.enough
            )),
            error => error,
        }
    }

    fn command(&self, program: &Path, input: &Path, draft: &Path) -> Command {
        let mut command = command(program);
        self.fix_time(&mut command);
        // A file that does not exist: the built-in defaults, not this host's.
        command.env("MKE2FS_CONFIG", draft.with_extension("conf"));
        command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"]);
        command.args(["-O", FEATURES, "-e", "continue", "-U", &self.uuid]);
        if self.journal_mebibytes > 0 {
            command.args(["-O", "has_journal", "-J", &format!("size={}", self.journal_mebibytes)]);
        }
        command.args(["-N", &self.inodes.to_string()]);
        let seed = &self.hash_seed;
        command.args(["-E", &format!("hash_seed={seed},nodiscard,lazy_itable_init=1")]);
        command.arg("-d").arg(input).arg(draft);
        command.arg(format!("{}k", self.bytes / 1024));
        command
    }
}

/// The SHA-256 of the tree's tar stream, by reading all of it.
fn digest_tree(job: &Job<'_>) -> Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let output = Output { writer: &mut digest, name: Path::new("nowhere") };
    capture(job.tree, job.root, output, &job.capture_options())?;
    Ok(digest.finalize().into())
}

/// A UUID of version 8 (RFC 9562: the maker's own derivation).
fn uuid(identity: &[u8; 32], purpose: &[u8]) -> String {
    let digest = Sha256::new().chain_update(purpose).chain_update(identity).finalize();
    let mut number = [0; 16];
    for (slot, byte) in number.iter_mut().zip(digest) {
        *slot = byte;
    }
    let mut number = u128::from_be_bytes(number);
    number = number & !(0xf << 76) | 0x8 << 76;
    number = number & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{number:032x}");
    let mut text = String::new();
    for (position, digit) in hex.chars().enumerate() {
        if matches!(position, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// "mke2fs 1.47.0 (5-Feb-2023)" and what follows it.
fn version(said: &str) -> Option<[u32; 3]> {
    let word = said.split_whitespace().skip_while(|word| *word != "mke2fs").nth(1)?;
    let mut numbers = word.split('.').map(|number| {
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some([major, minor, numbers.next().flatten().unwrap_or(0)])
}

fn with_argument(program: &Path, argument: &str) -> Command {
    let mut command = command(program);
    command.arg(argument);
    command
}
