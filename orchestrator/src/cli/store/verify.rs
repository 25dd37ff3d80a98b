//! `outcrop store verify`: reading everything again, and taking away what is damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::kit::{Kit, Kits};
use crate::output;
use crate::store::{Item, Part, Verdict};
use crate::words::counted;

use super::super::context::Context;
use super::super::error::{CommandError, CommandResult};

/// An artifact, a layer or a download: its part and name.
type Thing = (Part, String);

/// A kit, and its packages that are damaged or missing.
struct DamagedKit {
    kit: Kit,
    packages: Vec<PathBuf>,
}

pub fn run(context: &Context, remove: bool) -> CommandResult {
    let mut written = Ok(());
    // What is damaged counts even if nobody can be told about it here.
    let mut tell = |line: String| {
        if written.is_ok() {
            written = output::print(line);
        }
    };
    let things = verify_things(context, &mut tell)?;
    let (kits, unreadable) = verify_kits(context, &mut tell)?;
    let mut errors = Vec::new();
    if !things.is_empty() {
        errors.push(match remove {
            true => remove_things(context, &things)?,
            false => damaged_things(&things),
        });
    }
    let fates = if remove { remove_packages(context, &kits)? } else { BTreeMap::new() };
    errors.extend(kits.iter().map(|kit| damaged_kit(kit, &fates)));
    errors.extend(unreadable.iter().map(|directory| unreadable_kit(directory)));
    all_of(errors).map_or(Ok(()), Err)?;
    Ok(written?)
}

fn verify_things(context: &Context, tell: &mut dyn FnMut(String)) -> CommandResult<Vec<Thing>> {
    let mut damaged = Vec::new();
    context.store.verify_all(|part, name, verdict| {
        let shown = match part {
            Part::Artifacts => name.to_owned(),
            part => format!("{}/{name}", part.directory()),
        };
        tell(match verdict {
            Verdict::Good => format!("{shown} good"),
            Verdict::Absent => format!("{shown} absent"),
            Verdict::Damaged(why) => {
                damaged.push((part, name.to_owned()));
                format!("{shown} damaged: {why}")
            }
        });
    })?;
    Ok(damaged)
}

/// The kits that lack packages, and the directories of those that cannot even be opened.
fn verify_kits(
    context: &Context,
    tell: &mut dyn FnMut(String),
) -> CommandResult<(Vec<DamagedKit>, Vec<PathBuf>)> {
    let (mut damaged, mut unreadable) = (Vec::new(), Vec::new());
    for (directory, kit) in Kits::new(context.store.kits()).each()? {
        let mut packages = Vec::new();
        let kit = match kit {
            Ok(kit) => kit,
            Err(error) => {
                let name = directory.file_name().unwrap_or_default().to_string_lossy();
                tell(format!("kits/{name} damaged: {error}"));
                unreadable.push(directory);
                continue;
            }
        };
        kit.verify_packages(|label, path, problem| match problem {
            None => tell(format!("kits/{label} good")),
            Some(problem) => {
                tell(format!("kits/{label} damaged: {problem}"));
                packages.push(path.to_owned());
            }
        });
        if !packages.is_empty() {
            damaged.push(DamagedKit { kit, packages });
        }
    }
    Ok((damaged, unreadable))
}

fn unreadable_kit(directory: &Path) -> CommandError {
    let place = directory.display();
    CommandError::build(format!("the kit in {place} cannot be used"))
        .hint(format!("remove {place}, and make a kit with: outcrop kit create"))
}

fn count_things(things: &[Thing]) -> String {
    counted(things.len() as u64, "thing is damaged", "things are damaged")
}

fn damaged_things(things: &[Thing]) -> CommandError {
    CommandError::build(count_things(things))
        .hint("take it away with: outcrop store verify --remove; the next build makes it again")
}

fn remove_things(context: &Context, things: &[Thing]) -> CommandResult<CommandError> {
    let mut left = 0usize;
    for (part, name) in things {
        if !context.store.remove_damaged(*part, name)? {
            left = left.saturating_add(1);
        }
    }
    let things = count_things(things);
    Ok(CommandError::build(match left {
        0 => format!("{things} and removed"),
        left => format!("{things}, {left} of them in use and not removed"),
    }))
}

/// Takes away the damaged packages of all kits, unless somebody uses a kit that has them: whether
/// each that was there is gone.
fn remove_packages(
    context: &Context,
    kits: &[DamagedKit],
) -> CommandResult<BTreeMap<PathBuf, bool>> {
    // Several kits may share a package.
    let mut users: BTreeMap<&PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for DamagedKit { kit, packages } in kits {
        for package in packages {
            users.entry(package).or_default().push(kit.directory().to_owned());
        }
    }
    let maker = Kits::new(context.store.kits()).maker_lock();
    let mut fates = BTreeMap::new();
    for (path, claims) in users {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (paths, maker) = (vec![path.clone()], Some(maker.clone()));
        // One that is missing leaves nothing to take away.
        let Some(item) = Item::new(Part::Kits, name, paths, path.clone(), maker) else { continue };
        fates.insert(path.clone(), context.store.remove_unused(&Item { claims, ..item })?);
    }
    Ok(fates)
}

fn damaged_kit(damaged: &DamagedKit, fates: &BTreeMap<PathBuf, bool>) -> CommandError {
    let DamagedKit { kit, packages } = damaged;
    let with_fate = |removed: bool| {
        packages.iter().filter(|path| fates.get(*path).is_some_and(|fate| *fate == removed)).count()
    };
    let name = &kit.architecture().name;
    let mut message = format!(
        "{} of kit {name} {} cannot be used",
        counted(packages.len() as u64, "package", "packages"),
        kit.short_id()
    );
    for (count, fate) in
        [(with_fate(true), "removed"), (with_fate(false), "in use and not removed")]
    {
        if count > 0 {
            message.push_str(&format!(", {count} {fate}"));
        }
    }
    CommandError::build(message).hint(kit.remedy())
}

/// Several errors as one.
fn all_of(errors: Vec<CommandError>) -> Option<CommandError> {
    errors.into_iter().reduce(|mut all, next| {
        all.message = format!("{}; {}", all.message, next.message);
        all.hint = match (all.hint, next.hint) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        all
    })
}
