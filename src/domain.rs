//! Loading contracts for a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::contracts::Diagnostic;
use ::contracts::model::Domain;

use crate::failure::Failure;

/// Loads the contracts in `folder`; everything that is wrong with them is said at once.
pub(crate) fn load(folder: &Path) -> Result<Arc<Domain>, Failure> {
    ::contracts::load_dir(folder).map(Arc::new).map_err(refused)
}

/// Loads contracts that are part of the program, as (file name, text).
pub(crate) fn load_texts(files: &[(&str, &str)]) -> Result<Domain, Failure> {
    let texts: Vec<(PathBuf, String)> =
        files.iter().map(|&(name, text)| (PathBuf::from(name), text.to_owned())).collect();
    ::contracts::load(&texts).map_err(refused)
}

fn refused(findings: Vec<Diagnostic>) -> Failure {
    let place = |finding: &Diagnostic| match finding.line {
        0 => finding.file.display().to_string(),
        line => format!("{}:{line}:{}", finding.file.display(), finding.column),
    };
    Failure::inputs(
        findings
            .into_iter()
            .map(|finding| {
                (format!("{}: {}", place(&finding), finding.message), Some(finding.hint))
            })
            .collect(),
    )
}
