//! What can go wrong when a store is opened or used, in words for people.

use std::io;
use std::path::{Path, PathBuf};

use pipeline::store::StoreError;

use super::data_dir::Holder;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be created or written.
    #[error("data directory `{}` cannot be written: {source}", dir.display())]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process works on the directory.
    #[error("data directory `{}` is held by {holder}", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who holds it.
        holder: Box<Holder>,
    },
    /// A backup was being put back into the directory, and not all of it is there.
    #[error("data directory `{}` is only half restored", dir.display())]
    HalfRestored {
        /// The directory.
        dir: PathBuf,
    },
    /// The database file is something else, damaged, or of a DuckDB that is too new.
    #[error("`{}` cannot be opened as a DuckDB database: {message}", file.display())]
    NotADatabase {
        /// The file.
        file: PathBuf,
        /// What DuckDB said.
        message: String,
    },
    /// There is no store, but one that was being made from the lake.
    #[error("data directory `{}` has a store that was not made to its end", dir.display())]
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer release wrote the directory.
    #[error(
        "data directory `{}` has format {found}, this release reads formats up to {known}",
        dir.display()
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Format found.
        found: u64,
        /// Newest format that this release knows.
        known: u64,
    },
    /// The contracts changed in a way that stored rows cannot follow.
    #[error(
        "data directory `{}` was written with other contracts: {}",
        dir.display(),
        changes.join("; ")
    )]
    ContractsChanged {
        /// The directory.
        dir: PathBuf,
        /// What changed, one text for each change.
        changes: Vec<String>,
    },
    /// A process died while stored rows were brought in line with other contracts than these.
    #[error(
        "data directory `{}`: following an earlier change of the contracts was interrupted in \
         table `{table}`",
        dir.display()
    )]
    ChangeInterrupted {
        /// The directory.
        dir: PathBuf,
        /// The table that is half-way.
        table: String,
    },
    /// The file with the directory's identity holds none.
    #[error("`{}` holds no identity: {message}", file.display())]
    NoIdentity {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// No space left on the device.
    #[error("data directory `{}`: no space left on the device", dir.display())]
    DiskFull {
        /// The directory.
        dir: PathBuf,
    },
    /// A step on the way failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// The next step, when there is an obvious one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotWritable { .. } => {
                Some("choose another directory, or give this user the right to write there".into())
            }
            Self::Held { holder, .. } => Some(match holder.listen {
                Some(address) => {
                    format!("read through the running server at http://{address}, or stop it")
                }
                None => "wait until it has finished, or stop it".into(),
            }),
            Self::HalfRestored { .. } => Some(
                "run `agentflow restore` to its end, or remove the directory and restore anew"
                    .into(),
            ),
            Self::NotADatabase { .. } => {
                Some("choose another data directory; this one is left as it was".into())
            }
            Self::Unfinished { .. } => Some(
                "run `agentflow rebuild --from lake` again, which goes on with it; or remove \
                 `serving.duckdb.rebuild` to begin with an empty store"
                    .into(),
            ),
            Self::NewerFormat { .. } => {
                Some("use the release that wrote it, or a newer one".into())
            }
            Self::ContractsChanged { .. } => Some(
                "undo the change, give the changed field a new name, or start a new data directory"
                    .into(),
            ),
            Self::ChangeInterrupted { .. } => {
                Some("start once with the contracts of that change, then change them again".into())
            }
            Self::NoIdentity { .. } => Some(
                "put it back from a backup; without it the directory gets a new identity, and \
                 publishes everything once more"
                    .into(),
            ),
            Self::DiskFull { .. } => Some("free some space and start again".into()),
            Self::Store(_) => None,
        }
    }

    /// Sorts what DuckDB says when it cannot open `file`.
    pub(super) fn from_open(dir: &Path, file: &Path, error: &duckdb::Error) -> Self {
        let message = message(error);
        if is_disk_full(&message) {
            return Self::DiskFull { dir: dir.to_path_buf() };
        }
        if message.contains("Could not set lock on file") {
            let holder = super::data_dir::holder(dir).unwrap_or_default();
            return Self::Held { dir: dir.to_path_buf(), holder: Box::new(holder) };
        }
        let refused = [
            ("Permission denied", io::ErrorKind::PermissionDenied),
            ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
        ];
        for (text, kind) in refused {
            if message.contains(text) {
                let source = io::Error::new(kind, format!("{}: {text}", file.display()));
                return Self::NotWritable { dir: dir.to_path_buf(), source };
            }
        }
        Self::NotADatabase { file: file.to_path_buf(), message }
    }
}

/// Turns DuckDB's error into the pipeline's. `context` is verb and object: `commit batch`.
pub fn failed(context: impl Into<String>, error: &duckdb::Error) -> StoreError {
    let context = context.into();
    let message = message(error);
    if is_disk_full(&message) {
        return StoreError::DiskFull { context };
    }
    let retry = is_transient(&message);
    StoreError::Failed { context, message, retry }
}

/// A failure that no retry can mend.
pub(super) fn refused(context: impl Into<String>, message: impl Into<String>) -> StoreError {
    StoreError::Failed { context: context.into(), message: message.into(), retry: false }
}

/// DuckDB's own words, without the wrapper's.
pub(crate) fn message(error: &duckdb::Error) -> String {
    match error {
        duckdb::Error::DuckDBFailure(_, Some(message)) => message.trim().to_owned(),
        other => other.to_string(),
    }
}

/// A file size limit or quota is the same to us as a full disk: someone must make room. After a
/// fatal error DuckDB refuses everything until it is opened again, so room does not help then.
fn is_disk_full(message: &str) -> bool {
    !message.starts_with("FATAL Error")
        && ["No space left on device", "Disk quota exceeded", "File too large"]
            .iter()
            .any(|text| message.contains(text))
}

/// Was DuckDB stopped by the time limit of a read?
pub(crate) fn is_interrupted(error: &duckdb::Error) -> bool {
    message(error).starts_with("INTERRUPT Error")
}

/// Memory comes free again and a lost race can be run again; anything else stays as it is.
fn is_transient(message: &str) -> bool {
    ["Out of Memory Error", "TransactionContext Error: Conflict", "INTERRUPT Error"]
        .iter()
        .any(|text| message.starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duckdb_says(text: &str) -> duckdb::Error {
        duckdb::Error::DuckDBFailure(duckdb::ffi::Error::new(1), Some(text.to_owned()))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match failed("commit batch", &duckdb_says(text)) {
            StoreError::DiskFull { .. } | StoreError::DiskLow { .. } => "disk full",
            StoreError::Failed { retry: true, .. } => "retry",
            StoreError::Failed { retry: false, .. } => "give up",
            StoreError::Corrupt(_) => "corrupt",
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn duckdb_errors_are_sorted_by_what_helps() {
        check("IO Error: Could not write file \"x\": No space left on device", "disk full");
        check("IO Error: Could not write all bytes to file: Disk quota exceeded", "disk full");
        check("Out of Memory Error: failed to allocate data of size 32 KiB", "retry");
        check("TransactionContext Error: Conflict on update!", "retry");
        check("INTERRUPT Error: Interrupted!", "retry");
        check("Catalog Error: Table with name x does not exist!", "give up");
        check("FATAL Error: database has been invalidated", "give up");
        check("FATAL Error: Failed to create checkpoint: No space left on device", "give up");
    }
}
