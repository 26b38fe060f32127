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

/// The contracts that the generator's events keep, as (file name, text): part of the program.
const DEMO: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shop_contracts.rs"));

/// Loads the contracts of the demo.
pub(crate) fn demo() -> Result<Domain, Failure> {
    let texts: Vec<(PathBuf, String)> =
        DEMO.iter().map(|&(name, text)| (PathBuf::from(name), text.to_owned())).collect();
    let mut domain = ::contracts::load(&texts).map_err(refused)?;
    domain.name = "shop".to_owned();
    Ok(domain)
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
