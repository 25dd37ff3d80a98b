//! `squashfs`: `sqfstar`, fed with the tree's tar stream.

mod root_owner;

use std::fs::File;
use std::path::Path;

use outcrop_fs::Timestamp;
use outcrop_fs::capture::{CaptureOptions, MtimePolicy};

use super::builder::{Program, Running, command};
use super::tarball::stream_with;
use super::{Exporter, Job, Outcome, Result};

const SQFSTAR: Program = Program { name: "sqfstar", package: "squashfs-tools" };

pub(super) struct Squashfs;

impl Exporter for Squashfs {
    fn name(&self) -> &'static str {
        "squashfs"
    }

    fn about(&self) -> &'static str {
        "a compressed read-only file system image (needs squashfs-tools)"
    }

    fn write(&self, job: &Job<'_>, draft: &Path) -> Result<Outcome> {
        let program = SQFSTAR.find(self.name())?;
        let root = job.survey.root;
        let root_time = root.mtime.seconds.clamp(0, i64::from(u32::MAX));
        let mut sqfstar = command(&program);
        sqfstar.args(["-quiet", "-no-progress", "-reproducible", "-exit-on-error"]);
        // Beside the image's own time, later times become this one: that is none of the tree's, but
        // the clock's that sqfstar 4.5 puts on the root, ignoring -root-time.
        sqfstar.env("SOURCE_DATE_EPOCH", job.image_time().to_string());
        // The root's own entry in the stream is ignored.
        sqfstar.args(["-root-mode", &format!("{:o}", root.mode)]);
        sqfstar.args(["-root-uid", &root.uid.to_string()]);
        sqfstar.args(["-root-gid", &root.gid.to_string()]);
        sqfstar.args(["-root-time", &root_time.to_string()]);
        // Uncompressed inodes take little room, and let the root's owner be set: sqfstar 4.5 ignores it.
        sqfstar.arg("-noI");
        sqfstar.arg(draft);
        // sqfstar refuses times of whole seconds before 1970, and those that need more than 33 bits.
        let mtime = within_u32(job.options.mtime);
        let options = CaptureOptions { mtime, gnu_targets: true, ..job.capture_options() };
        let mut outcome = Outcome::default();
        Running::start(sqfstar)?.feed(job, |stdin| {
            outcome = stream_with(job, stdin, Path::new("the pipe to sqfstar"), &options)?;
            Ok(())
        })?;
        let fault =
            |source| outcrop_fs::Error::host("cannot set the root's owner in", draft, source);
        let image = File::options().read(true).write(true).open(draft).map_err(fault)?;
        let is_owned = root_owner::set(&image, root.uid, root.gid).map_err(fault)?;
        let survey = job.survey;
        let warnings = [
            survey.with_other_xattrs.warning("that squashfs cannot carry"),
            survey
                .beyond_u32_mtime
                .warning("times before 1970 or after 2106, which squashfs cannot carry"),
        ];
        outcome.warnings.extend(warnings.into_iter().flatten());
        if !is_owned {
            outcome.warnings.push(format!(
                "the root directory belongs to the exporting user: nothing else belongs to {}:{}",
                root.uid, root.gid
            ));
        }
        Ok(outcome)
    }
}

/// The policy, with times that squashfs cannot carry brought into its range.
fn within_u32(policy: MtimePolicy) -> MtimePolicy {
    let (first, last) = (Timestamp::new(0, 0), Timestamp::new(u32::MAX.into(), 0));
    let within = MtimePolicy::Within(first, last);
    match policy {
        MtimePolicy::Keep => within,
        MtimePolicy::Fixed(time) => MtimePolicy::Fixed(within.apply(time)),
        MtimePolicy::Clamp(latest) => MtimePolicy::Within(first, within.apply(latest)),
        MtimePolicy::Within(earliest, latest) => {
            MtimePolicy::Within(within.apply(earliest), within.apply(latest))
        }
    }
}
