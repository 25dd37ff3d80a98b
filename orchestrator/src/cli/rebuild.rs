//! What `outcrop why TARGET` says: why components would be built.

use std::collections::HashSet;

use serde_json::json;

use super::context::Context;
use super::error::CommandResult;
use super::project::{Project, tell_fetching};
use crate::definitions::{ComponentId, Definitions};
use crate::keys::explain::{Explanation, Past, Reason, explain as explain_keys};
use crate::keys::{Change, KeyInputs, Value};
use crate::output;
use crate::store::Store;
use crate::words::counted;

/// Components that are named where many are the reason.
const NAMED: usize = 3;

/// Characters of equal text that are left around a difference.
const AROUND: usize = 20;

/// Characters of a value that are shown.
const SHOWN: usize = 100;

pub fn explain(project: &Project, json: bool) -> CommandResult {
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let (resolved, missing) = project.resolve_available(&context, &kit, &tell_fetching)?;
    let plan = project.plan(&context, &kit, &resolved)?;
    let definitions = &project.definitions;
    if plan.planned.is_empty() && missing.failures.is_empty() {
        let target = definitions.path_of(resolved.target);
        output::say(format_args!("nothing is to be built: the store has {target}"));
        return Ok(());
    }
    let to_build: HashSet<ComponentId> =
        plan.planned.iter().filter_map(|planned| definitions.find(&planned.component)).collect();
    let past = past(&context.store, project.arch.name)?;
    let found = explain_keys(definitions, &resolved.graph, &resolved.keys, &past, &to_build);
    if json {
        for explanation in &found {
            let id = explanation.component;
            let has_artifact = definitions.get(id).is_some_and(|c| c.stratum().is_none());
            let key = if has_artifact { Some(resolved.key(id)?.to_string()) } else { None };
            output::print(object(definitions, explanation, key))?;
        }
    } else {
        for line in lines(definitions, &found) {
            output::print(line)?;
        }
    }
    output::say(format_args!("{} to build, {} cached", plan.planned.len(), plan.cached));
    project.tell_missing(missing)
}

/// What the store tells of earlier artifacts for an architecture.
fn past(store: &Store, arch: &str) -> CommandResult<Past> {
    let mut past = Past::default();
    for info in store.descriptions()? {
        let info = info?;
        if info.arch != arch {
            continue;
        }
        past.add_artifact(&info.key, info.created, KeyInputs::from_texts(&info.inputs));
        for (name, inputs) in &info.strata {
            past.add_stratum(name, KeyInputs::from_texts(inputs));
        }
    }
    Ok(past)
}

fn object(
    definitions: &Definitions,
    explanation: &Explanation,
    key: Option<String>,
) -> serde_json::Value {
    let change = |change: &Change| json!({ "field": change.place(), "before": change.before, "after": change.after });
    let because = explanation.because.iter().map(|&id| definitions.path_of(id));
    json!({
        "component": definitions.path_of(explanation.component),
        "key": key,
        "to_build": explanation.to_build,
        "reason": explanation.reason.name(),
        "changes": explanation.changes.iter().map(change).collect::<Vec<_>>(),
        "because": because.collect::<Vec<_>>(),
    })
}

/// Each reason once, with the components that it holds for.
fn lines(definitions: &Definitions, explanations: &[Explanation]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let mut put = |reason: String, component: &str| match groups
        .iter_mut()
        .find(|(known, _)| *known == reason)
    {
        Some((_, components)) => components.push(component.to_owned()),
        None => groups.push((reason, vec![component.to_owned()])),
    };
    for explanation in explanations {
        let path = definitions.path_of(explanation.component);
        let is_stratum = definitions.get(explanation.component).and_then(|c| c.stratum()).is_some();
        let name = match explanation.to_build || is_stratum {
            true => path.to_owned(),
            false => format!("{path} (built already)"),
        };
        if explanation.reason == Reason::NeverBuilt {
            put("never built".to_owned(), &name);
        }
        for change in &explanation.changes {
            put(sentence(change), &name);
        }
    }
    for explanation in explanations.iter().filter(|explanation| !explanation.because.is_empty()) {
        let names: Vec<&str> =
            explanation.because.iter().map(|&id| definitions.path_of(id)).collect();
        put(
            format!("because {} changed", some_of(&names)),
            definitions.path_of(explanation.component),
        );
    }
    let mut lines = Vec::new();
    for (reason, components) in groups {
        match components.as_slice() {
            [component] => lines.push(format!("{component}: {reason}")),
            several => {
                lines.push(format!("{reason}:"));
                lines.extend(several.iter().map(|component| format!("    {component}")));
            }
        }
    }
    lines
}

fn some_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.get(..NAMED).unwrap_or(names).join(", ");
    match more {
        0 => shown,
        _ => format!("{shown} and {}", counted(more as u64, "other", "others")),
    }
}

fn sentence(change: &Change) -> String {
    let place = change.place();
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => {
            let (before, after) = apart(before, after);
            format!("{place} was {before} and is {after}")
        }
        (None, Some(value)) => format!("{place} is new{}", told(&change.field, value)),
        (Some(value), None) => format!("{place} is gone{}", told(&change.field, value)),
        (None, None) => place,
    }
}

/// What is new or gone; of a component, its path in the place is enough.
fn told(field: &[String], value: &Value) -> String {
    match field {
        [kind, _] if ["dependencies", "members", "strata"].contains(&kind.as_str()) => {
            String::new()
        }
        _ => format!(": {}", quoted(&shortened(&text_of(value)), value)),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Texts in quotation marks, as they may be empty or of several lines; digests as they are.
fn quoted(text: &str, value: &Value) -> String {
    match value {
        Value::Text(whole) if !is_digest(whole) => format!("{text:?}"),
        _ => text.to_owned(),
    }
}

/// Two values, of long texts what differs.
fn apart(before: &Value, after: &Value) -> (String, String) {
    let (old, new) = (text_of(before), text_of(after));
    let (old, new) = if is_digest(&old) && is_digest(&new) {
        (shortened(&old), shortened(&new))
    } else {
        differing(&old, &new)
    };
    (quoted(&old, before), quoted(&new, after))
}

/// Hexadecimal digits that are too many to be compared by eye, perhaps behind a name.
fn is_digest(text: &str) -> bool {
    let digits = text.rsplit('.').next().unwrap_or(text);
    digits.len() >= 40 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn shortened(text: &str) -> String {
    let digits = text.rsplit('.').next().map_or(0, str::len);
    let shown = match is_digest(text) {
        true => text.len().saturating_sub(digits).saturating_add(12),
        false => SHOWN,
    };
    let mut short: String = text.chars().take(shown).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Two texts without the most of what they begin and end with alike.
fn differing(before: &str, after: &str) -> (String, String) {
    let (old, new): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()).saturating_sub(head);
    let pairs = old.iter().rev().zip(new.iter().rev()).take(rest);
    let tail = pairs.take_while(|(a, b)| a == b).count();
    let cut = |text: &[char]| {
        if text.len() <= SHOWN {
            return text.iter().collect();
        }
        let from = head.saturating_sub(AROUND);
        let to = text.len().saturating_sub(tail.saturating_sub(AROUND));
        let middle: String = text.get(from..to).unwrap_or(&[]).iter().collect();
        let mut part = if from > 0 { String::from("…") } else { String::new() };
        part.push_str(&shortened(&middle));
        if to < text.len() && !part.ends_with('…') {
            part.push('…');
        }
        part
    };
    (cut(&old), cut(&new))
}
