//! What is wrong with a contract, where, and what to do about it.
//!
//! Every finding has a place and a hint. The loader collects them in a [`Report`] and goes on, so
//! that one run shows everything; [`Diagnostic`] is the public, resolved form.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A finding in a contract file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was given to the loader.
    pub file: PathBuf,
    /// Line, from 1; 0 for a finding about the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 as the line.
    pub column: u32,
    /// How bad it is.
    pub severity: DiagnosticSeverity,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// The next step.
    pub hint: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiagnosticSeverity {
    /// The domain cannot be loaded.
    Error,
}

impl fmt::Display for DiagnosticSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("error"),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}\nhint: {}", self.message, self.hint)
    }
}

impl Diagnostic {
    /// A finding about a whole file or folder; its line and column are 0.
    pub(crate) fn about(path: &Path, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            file: path.to_path_buf(),
            line: 0,
            column: 0,
            severity: DiagnosticSeverity::Error,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A place in one of the files being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// Index of the file.
    pub(crate) file: u32,
    /// Line, from 1; 0 for a finding about the whole file.
    pub(crate) line: u32,
    /// Column in characters, from 1; 0 as the line.
    pub(crate) column: u32,
}

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    items: Vec<(Position, String, String)>,
}

impl Report {
    /// Notes an error and how to mend it.
    pub(crate) fn error(
        &mut self,
        at: Position,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.items.push((at, message.into(), hint.into()));
    }

    /// Has nothing been found?
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How much has been found; comparing two counts tells whether a step went well.
    pub(crate) fn count(&self) -> usize {
        self.items.len()
    }

    /// The findings in order of place, each once.
    pub(crate) fn into_diagnostics(mut self, files: &[PathBuf]) -> Vec<Diagnostic> {
        self.items.sort();
        self.items.dedup();
        self.items
            .into_iter()
            .map(|(at, message, hint)| Diagnostic {
                file: files.get(at.file as usize).cloned().unwrap_or_default(),
                line: at.line,
                column: at.column,
                severity: DiagnosticSeverity::Error,
                message,
                hint,
            })
            .collect()
    }
}

/// The candidate that a person most likely meant, if one is close.
pub(crate) fn closest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let text: Vec<char> = text.chars().take(64).collect();
    let limit = 1 + text.len() / 4;
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&text, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?" when something is close, else what is there to choose from.
pub fn suggest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(best) = closest(text, candidates.clone()) {
        return format!("did you mean `{best}`?");
    }
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return format!("there are no {what}");
    }
    let more = all.len().saturating_sub(12);
    all.truncate(12);
    let listed = all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match more {
        0 => format!("{what}: {listed}"),
        more => format!("{what}: {listed} and {more} more"),
    }
}

/// Edit distance with swaps of neighbours counted as one edit.
fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut best =
                (last[j + 1] + 1).min(row[j] + 1).min(last[j] + usize::from(a[i] != b[j]));
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(closest(text, candidates.iter().copied()), expected);
    }

    #[test]
    fn a_typo_finds_the_word_it_was_meant_to_be() {
        check("dedupe", &["dedup", "key", "rules"], Some("dedup"));
        check("verison", &["name", "version"], Some("version"));
        check("windws", &["windows", "where"], Some("windows"));
        check("zzz", &["windows", "where"], None);
        check("", &["key"], None);
    }

    #[test]
    fn a_diagnostic_reads_as_two_lines() {
        let mut report = Report::default();
        let at = Position { file: 0, line: 12, column: 7 };
        report.error(at, "unknown key `dedupe`", "did you mean `dedup`?");
        let all = report.into_diagnostics(&[PathBuf::from("contracts/x.yaml")]);
        assert_eq!(
            all[0].to_string(),
            "error: contracts/x.yaml:12:7: unknown key `dedupe`\nhint: did you mean `dedup`?"
        );
    }
}
