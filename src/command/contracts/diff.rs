//! `agentflow contracts diff`: what a change of contracts does to meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::contracts::meaning::{self, Change, Class, History, Loaded};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::shadow::{self, Shadow};
use crate::failure::Failure;
use crate::lake_args::LakeArgs;
use crate::output::{self, Output, OutputArgs};

#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when nothing is worse than what is allowed, else 1.")]
pub(super) struct Diff {
    /// Folder with the contracts as they were.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Folder with the contracts as they are to be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The worst change that is fine.
    #[arg(long, value_enum, value_name = "CLASS", default_value_t = Allow::Additive)]
    allow: Allow,
    /// Show, too, how the numbers of a data directory would move: both meanings are computed over its events,
    /// in a copy.
    #[arg(long, requires = "data")]
    shadow: bool,
    /// The data directory; no server may work on it.
    #[arg(long, value_name = "DIR", requires = "shadow")]
    data: Option<PathBuf>,
    /// Whose numbers.
    #[arg(long, value_name = "TENANT", default_value = crate::source_spec::TENANT, requires = "shadow")]
    tenant: String,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The worst change that is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Allow {
    /// Words for people only.
    Safe,
    /// More than before.
    Additive,
    /// Other numbers under the same name and version.
    Restating,
    /// Anything.
    Breaking,
}

impl Allow {
    pub(super) fn class(self) -> Class {
        match self {
            Self::Safe => Class::Safe,
            Self::Additive => Class::Additive,
            Self::Restating => Class::Restating,
            Self::Breaking => Class::Breaking,
        }
    }
}

/// The report for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// The worst class, or null when nothing changed.
    worst: Option<Class>,
    /// Is nothing worse than what is allowed?
    allowed: bool,
    /// Changes by class.
    summary: BTreeMap<&'static str, usize>,
    changes: &'a [Change],
    /// How the numbers of a data directory would move.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'a Shadow>,
}

impl Diff {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Both are told, so that one run shows everything that does not load.
        let (old, new) = match (Loaded::read(&self.old), Loaded::read(&self.new)) {
            (Ok(old), Ok(new)) => (old, new),
            (old, new) => {
                let broken = [("OLD", old.err()), ("NEW", new.err())];
                let findings = broken.into_iter().flat_map(|(which, findings)| {
                    let of = move |finding| crate::domain::finding_of(which, finding);
                    findings.into_iter().flatten().map(of)
                });
                return Err(Failure::inputs(findings.collect()));
            }
        };
        let changes = meaning::compare(&old, &new);
        let worst = meaning::worst(&changes);
        let allowed = worst.is_none_or(|worst| worst <= self.allow.class());
        let shadow = match self.data.as_deref().filter(|_| self.shadow) {
            Some(data) => {
                Some(shadow::run((&old, &new), &changes, data, &self.lake, &self.tenant)?)
            }
            None => None,
        };
        match self.output.output {
            Output::Json => output::json(&Report {
                worst,
                allowed,
                summary: summary(&changes),
                changes: &changes,
                shadow: shadow.as_ref(),
            })?,
            Output::Text => {
                output::line(&text(&changes))?;
                if let Some(shadow) = &shadow {
                    output::line(&shadow.text())?;
                }
            }
        }
        if allowed { Ok(()) } else { Err(Failure::told()) }
    }
}

/// The worst first.
const CLASSES: [Class; 4] = [Class::Breaking, Class::Restating, Class::Additive, Class::Safe];

fn summary(changes: &[Change]) -> BTreeMap<&'static str, usize> {
    let count = |class| changes.iter().filter(|change| change.class == class).count();
    CLASSES.into_iter().map(|class| (class.word(), count(class))).collect()
}

/// The changes for people, the worst first.
fn text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no change of meaning".to_owned();
    }
    let mut lines: Vec<String> = changes.iter().flat_map(of_change).collect();
    let summary = summary(changes);
    let counts = CLASSES.map(|class| format!("{} {}", summary[class.word()], class.word()));
    lines.push(counts.join(", "));
    lines.join("\n")
}

fn of_change(change: &Change) -> Vec<String> {
    let contract = &change.contract;
    let mut head = format!("{}: {} {}", change.class.word(), contract.kind, contract.name);
    if contract.version > 0 {
        head += &format!(" v{}", contract.version);
    }
    if !change.key.is_empty() {
        head += &format!(", {}", change.key);
    }
    head += &format!(": {}", change.change.replace('_', " "));
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => head += &format!(": {before} → {after}"),
        (Some(text), None) | (None, Some(text)) => head += &format!(": {text}"),
        (None, None) => {}
    }
    let mut lines = vec![head];
    // A domain that has the name of its folder is declared nowhere.
    if change.line > 0 {
        lines.push(format!("  at {}:{}", change.file.display(), change.line));
    }
    if change.class > Class::Safe {
        lines.push(format!("  why: {}", change.reason));
    }
    if !change.affects.is_empty() {
        lines.push(format!("  affects: {}", change.affects.join(", ")));
    }
    match change.history {
        Some(History::Recomputed) => lines.push("  history: computed again".to_owned()),
        Some(History::Kept) => lines.push("  history: kept as it is".to_owned()),
        None => {}
    }
    if change.class > Class::Additive {
        lines.push(format!("  instead: {}", change.hint));
    }
    lines
}
