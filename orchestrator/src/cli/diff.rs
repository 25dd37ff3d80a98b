//! `outcrop diff`: how two trees differ.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};

use clap::ValueEnum;
use outcrop_fs::diff::{self, Aspect, Difference, Facts, kind_name};
use outcrop_fs::node::Timestamp;
use serde_json::{Map, Value, json};

use crate::output::{self, Reader};

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult, Exit};
use super::ls;
use super::printable::printable;
use super::tree;

/// Compare two artifacts, built systems or layers, without mounting them
///
/// Exit codes: 0 they are equal, 1 they differ, 2 bad usage or bad input.
///
/// Example: outcrop diff artifact:busybox.41 artifact:busybox.9c --ignore mtime
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A built component, artifact:KEY, or a layer (see `outcrop mount --help`)
    from: String,

    /// What to compare it with
    to: String,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// What is not to count; may be given several times
    #[arg(long, value_enum, value_name = "ASPECT", value_delimiter = ',')]
    ignore: Vec<Ignored>,

    #[command(flatten)]
    definitions: DefinitionsArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Ignored {
    Mode,
    Owner,
    Content,
    Xattrs,
    Mtime,
    Links,
}

impl From<Ignored> for Aspect {
    fn from(ignored: Ignored) -> Aspect {
        match ignored {
            Ignored::Mode => Aspect::Mode,
            Ignored::Owner => Aspect::Owner,
            Ignored::Content => Aspect::Content,
            Ignored::Xattrs => Aspect::Xattrs,
            Ignored::Mtime => Aspect::Mtime,
            Ignored::Links => Aspect::Links,
        }
    }
}

#[derive(Default)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let from = tree::open_target(&context, &arguments.from, &arguments.definitions)?;
    let to = tree::open_target(&context, &arguments.to, &arguments.definitions)?;
    let ignored = ignored(&arguments.ignore);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut counts = Counts::default();
    let mut written = Ok(());
    let compared = diff::diff(&from, &to, &ignored, &mut |path, difference| {
        *counts.of(difference) += 1;
        let line = match arguments.json {
            true => object(path, difference).to_string(),
            false => sentence(path, difference),
        };
        written = writeln!(out, "{line}");
        match written {
            Ok(()) => Ok(()),
            Err(_) => Err(outcrop_fs::Errno::PIPE.into()),
        }
    });
    if output::checked(written.and_then(|()| out.flush()))? == Reader::Gone {
        return counts.verdict();
    }
    compared?;
    counts.verdict()
}

/// A file of another size has another content.
fn ignored(asked: &[Ignored]) -> BTreeSet<Aspect> {
    let mut ignored: BTreeSet<Aspect> = asked.iter().copied().map(Aspect::from).collect();
    if ignored.contains(&Aspect::Content) {
        ignored.insert(Aspect::Size);
    }
    ignored
}

impl Counts {
    fn of(&mut self, difference: &Difference<'_>) -> &mut u64 {
        match difference {
            Difference::Added(_) => &mut self.added,
            Difference::Removed(_) => &mut self.removed,
            Difference::Changed { .. } => &mut self.changed,
        }
    }

    fn verdict(&self) -> CommandResult {
        let Counts { added, removed, changed } = self;
        if added + removed + changed == 0 {
            return Ok(());
        }
        let text = format!("the trees differ: {added} added, {removed} removed, {changed} changed");
        Err(CommandError::new(Exit::BuildFailed, text))
    }
}

fn sentence(path: &[u8], difference: &Difference<'_>) -> String {
    let path = String::from_utf8_lossy(path);
    let path = printable(&path);
    match difference {
        Difference::Added(_) => format!("added   {path}"),
        Difference::Removed(_) => format!("removed {path}"),
        Difference::Changed { from, to, aspects } => {
            let changes: Vec<String> =
                aspects.iter().map(|aspect| describe(*aspect, from, to)).collect();
            format!("changed {path}: {}", changes.join(", "))
        }
    }
}

fn describe(aspect: Aspect, from: &Facts, to: &Facts) -> String {
    let (a, b) = (&from.attributes.meta, &to.attributes.meta);
    match aspect {
        Aspect::Type => format!("{} -> {}", kind_name(a.kind), kind_name(b.kind)),
        Aspect::Mode => format!("mode {:04o} -> {:04o}", a.mode, b.mode),
        Aspect::Owner => format!("owner {}:{} -> {}:{}", a.uid, a.gid, b.uid, b.gid),
        Aspect::Size => format!("size {} -> {}", a.size, b.size),
        Aspect::Content => "content".to_owned(),
        Aspect::Target => format!("target {} -> {}", target(from), target(to)),
        Aspect::Device => {
            let (a, b) = (a.kind.device(), b.kind.device());
            format!("device {}:{} -> {}:{}", a.major, a.minor, b.major, b.minor)
        }
        Aspect::Xattrs => format!("xattrs {}", xattrs(from, to).join(" ")),
        Aspect::Mtime => format!("mtime {} -> {}", time(a.mtime), time(b.mtime)),
        Aspect::Links if from.attributes.nlink == to.attributes.nlink => "other links".to_owned(),
        Aspect::Links => format!("links {} -> {}", from.attributes.nlink, to.attributes.nlink),
    }
}

fn target(facts: &Facts) -> String {
    let target = String::from_utf8_lossy(facts.target.as_deref().unwrap_or_default());
    printable(&target).into_owned()
}

/// Names of the xattrs that differ.
fn xattrs(from: &Facts, to: &Facts) -> Vec<String> {
    let names: BTreeSet<&Vec<u8>> = from.xattrs.keys().chain(to.xattrs.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.xattrs.get(*name) != to.xattrs.get(*name))
        .map(|name| printable(&String::from_utf8_lossy(name)).into_owned())
        .collect()
}

/// Seconds since 1970, with as many decimals as there are.
fn time(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) = (nanoseconds.abs() / 1_000_000_000, nanoseconds.abs() % 1_000_000_000);
    match rest {
        0 => format!("{sign}{seconds}"),
        rest => format!("{sign}{seconds}.{rest:09}").trim_end_matches('0').to_owned(),
    }
}

fn object(path: &[u8], difference: &Difference<'_>) -> Value {
    let path = String::from_utf8_lossy(path);
    let (change, from, to) = match difference {
        Difference::Added(to) => ("added", None, Some(*to)),
        Difference::Removed(from) => ("removed", Some(*from), None),
        Difference::Changed { from, to, .. } => ("changed", Some(*from), Some(*to)),
    };
    let mut object = json!({
        "path": path,
        "change": change,
        "from": from.map(facts),
        "to": to.map(facts),
    });
    if let (Difference::Changed { aspects, from, to }, Value::Object(members)) =
        (difference, &mut object)
    {
        let aspects: Vec<&str> = aspects.iter().map(|aspect| word(*aspect)).collect();
        members.insert("aspects".to_owned(), json!(aspects));
        members.insert("xattrs".to_owned(), json!(xattrs(from, to)));
    }
    object
}

fn facts(facts: &Facts) -> Value {
    let mut members: Map<String, Value> = ls::members(&facts.attributes, facts.target.as_deref());
    members.insert("nanoseconds".to_owned(), json!(facts.attributes.meta.mtime.nanoseconds));
    let digest = facts.digest.map(|digest| crate::store::hex(&digest));
    members.insert("sha256".to_owned(), json!(digest));
    Value::Object(members)
}

const fn word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Type => "type",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Size => "size",
        Aspect::Content => "content",
        Aspect::Target => "target",
        Aspect::Device => "device",
        Aspect::Xattrs => "xattrs",
        Aspect::Mtime => "mtime",
        Aspect::Links => "links",
    }
}
