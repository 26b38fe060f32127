//! `moved_by` against the derived graph. That each edge has an example which walks it is checked
//! where examples are run: `agentflow contracts test`.

use std::collections::BTreeSet;

use crate::check::names::Names;
use crate::diagnostic::{Report, suggest};
use crate::raw::metric as raw;

/// A declared edge that differs from the derived ones is an error that shows both differences.
pub(crate) fn check(
    raw: &raw::Metric,
    derived: &BTreeSet<String>,
    names: &Names,
    report: &mut Report,
) {
    let declared: BTreeSet<String> = raw.moved_by.0.iter().map(|t| t.value.clone()).collect();
    if declared == *derived {
        return;
    }
    let list =
        |names: Vec<&String>| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let missing: Vec<&String> = derived.difference(&declared).collect();
    let extra: Vec<&String> = declared.difference(derived).collect();
    let at = raw
        .moved_by
        .0
        .iter()
        .find(|t| !derived.contains(&t.value))
        .or(raw.moved_by.0.first())
        .map_or(raw.at, |t| t.at);
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", list(missing)));
    }
    if !extra.is_empty() {
        parts.push(format!("extra {}", list(extra.clone())));
    }
    let unknown = extra.iter().find(|n| !names.event_types.contains_key(**n) && **n != "ingest");
    let all: Vec<&String> = derived.iter().collect();
    let plain: Vec<&str> = all.iter().map(|n| n.as_str()).collect();
    let hint = match unknown {
        Some(name) => suggest(name, derived.iter().map(String::as_str), "this metric is moved by"),
        None => format!("write `moved_by: [{}]`", plain.join(", ")),
    };
    report.error(at, format!("`moved_by` differs from the graph: {}", parts.join("; ")), hint);
}
