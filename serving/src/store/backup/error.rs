//! What can go wrong with a backup, in words for people.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a backup was not made, or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder is not usable.
    #[error("{action} `{}`", path.display())]
    Io {
        /// Verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space left on the device.
    #[error("write `{}`: no space left on the device", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A file that the lake's tables name is gone: maintenance removed it while we copied.
    #[error("`{}` went away while the lake was copied", path.display())]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint came between: what was copied are parts of two states.
    #[error("the store did not hold still while it was copied: {0}")]
    Changed(String),
    /// The folder holds something else.
    #[error("`{}` is not a folder of backups: it holds `{found}`", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another process makes a backup there.
    #[error("another process makes a backup in `{}`", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// No backup was finished there.
    #[error("there is no finished backup in `{}`", dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// The manifest cannot be understood.
    #[error("`{}` is no manifest of a backup: {message}", file.display())]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file of the backup is not what the manifest says.
    #[error("`{}` of the backup {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong, as a verb phrase.
        problem: String,
    },
    /// The directory to restore to is in use.
    #[error("`{}` is not empty: it holds `{found}`", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Somebody asked for the end.
    #[error("stopped before the end")]
    Stopped,
}

impl BackupError {
    /// For `map_err`: what was done to which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DiskFull { path }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// The next step, when there is an obvious one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DiskFull { .. } => {
                Some("free some space and run it again: what was copied is not copied again")
            }
            Self::Changed(_) => Some(
                "make the backup at a quieter time, or to a faster disk; the lake's files are not \
                 copied again",
            ),
            Self::Vanished { .. } => Some("run it again: what was copied is not copied again"),
            Self::NotOurs { .. } => Some("give a new or empty folder, or that of earlier backups"),
            Self::Busy { .. } => Some("wait until it has finished, or stop it"),
            Self::Unfinished { .. } => {
                Some("run `agentflow backup` to its end first; it goes on where it was")
            }
            Self::Manifest { .. } | Self::Damaged { .. } => Some(
                "use another copy of the backup; nothing was put in the place of a data directory",
            ),
            Self::NotEmpty { .. } => Some("restore to a new or empty directory"),
            Self::Stopped => Some("run it again: what was copied is not copied again"),
            Self::Io { .. } => None,
        }
    }
}
