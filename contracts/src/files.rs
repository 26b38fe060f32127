//! Contract files on disk: the only I/O of this crate.

use std::fs;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::model::Domain;
use crate::yaml::MAX_FILE_BYTES;

/// Deepest folder below the one given; also ends a circle of links.
const MAX_DEPTH: usize = 8;

/// Loads all `*.yaml` and `*.yml` files below a folder, in order of path.
///
/// # Errors
/// Everything that is wrong with the folder, its files or their contracts.
pub fn load_dir(folder: &Path) -> Result<Domain, Vec<Diagnostic>> {
    load_read(folder, &read_dir(folder)?)
}

/// Loads what [`read_dir`] read below `folder`.
///
/// # Errors
/// Everything that is wrong with the files or their contracts.
pub fn load_read(folder: &Path, texts: &[(PathBuf, String)]) -> Result<Domain, Vec<Diagnostic>> {
    let mut domain = crate::check::load(texts)?;
    // `.` and paths that end in `..` have no name of their own.
    if domain.name == "domain"
        && let Some(name) = fs::canonicalize(folder).ok().as_deref().and_then(Path::file_name)
    {
        domain.name = name.to_string_lossy().into_owned();
    }
    Ok(domain)
}

/// Reads the contract files below a folder, in order of path.
///
/// # Errors
/// A folder that is missing, not a folder or empty, and files that cannot be read as text.
pub fn read_dir(folder: &Path) -> Result<Vec<(PathBuf, String)>, Vec<Diagnostic>> {
    const HINT: &str =
        "give the folder with the contract files, as in `--contracts contracts/shop`";
    let metadata = fs::metadata(folder).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
            _ => format!("the folder cannot be read: {error}"),
        };
        vec![Diagnostic::about(folder, message, HINT)]
    })?;
    if !metadata.is_dir() {
        return Err(vec![Diagnostic::about(folder, "this is not a folder", HINT)]);
    }
    let mut found = Vec::new();
    let mut problems = Vec::new();
    collect(folder, 0, &mut found, &mut problems);
    found.sort();
    let mut texts = Vec::new();
    for path in found {
        match read(&path) {
            Ok(text) => texts.push((path, text)),
            Err(problem) => problems.push(problem),
        }
    }
    if texts.is_empty() && problems.is_empty() {
        problems.push(Diagnostic::about(
            folder,
            "the folder has no contract files (*.yaml, *.yml)",
            "add one; `agentflow contracts new` drafts one from samples",
        ));
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, problems: &mut Vec<Diagnostic>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("the folder cannot be read: {error}");
            problems.push(Diagnostic::about(folder, message, "check its permissions"));
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if depth < MAX_DEPTH && !hidden {
                collect(&path, depth + 1, found, problems);
            }
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let unreadable = |error: std::io::Error| {
        Diagnostic::about(
            path,
            format!("the file cannot be read: {error}"),
            "check its permissions",
        )
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(Diagnostic::about(
            path,
            format!("the file has {size} bytes, a contract file may have {MAX_FILE_BYTES}"),
            "split it into one file per contract, and keep data out of the folder",
        ));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        Diagnostic {
            line: line as u32 + 1,
            column: 1,
            ..Diagnostic::about(path, "this line is not UTF-8 text", "save the file as UTF-8")
        }
    })
}
