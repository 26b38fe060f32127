//! Loading contracts for a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::contracts::Diagnostic;
use ::contracts::meaning::Loaded;
use ::contracts::model::Domain;

use crate::failure::Failure;

/// Loads the contracts in `folder`; everything that is wrong with them is said at once.
pub(crate) fn load(folder: &Path) -> Result<Arc<Domain>, Failure> {
    ::contracts::load_dir(folder).map(Arc::new).map_err(refused)
}

/// The same with the places of what is in them.
pub(crate) fn load_with_places(folder: &Path) -> Result<Loaded, Failure> {
    Loaded::read(folder).map_err(refused)
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
    Failure::inputs(findings.into_iter().map(finding).collect())
}

/// A finding with its place, and its hint.
pub(crate) fn finding(finding: Diagnostic) -> (String, Option<String>) {
    let place = match finding.line {
        0 => finding.file.display().to_string(),
        line => format!("{}:{line}:{}", finding.file.display(), finding.column),
    };
    (format!("{place}: {}", finding.message), Some(finding.hint))
}

/// The same with the name of the folder's argument in front.
pub(crate) fn finding_of(which: &str, found: Diagnostic) -> (String, Option<String>) {
    let (message, hint) = finding(found);
    (format!("{which} does not load: {message}"), hint)
}
