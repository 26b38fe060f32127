//! The database file and its log, copied as one state of the store.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::BackupError;
use super::copy::{self, Copied, Step};
use crate::store::database;

/// The three blocks at the start of a database file, two of which name its last checkpoints. They are
/// written at its first opening and by checkpoints, and by nothing else.
const HEAD: usize = 3 * 4_096;

/// Copies of the database file and of the log up to a commit, not yet on the disk.
#[derive(Debug)]
pub struct StoreCopy {
    /// Names in a data directory, with what was copied.
    pub files: Vec<(String, Copied)>,
    partial: Vec<(PathBuf, PathBuf)>,
}

/// Bytes that [`store`] copies: the whole database file, and so much of the log.
pub fn store_bytes(dir: &Path, log_bytes: u64) -> u64 {
    let file = database::file(dir);
    std::fs::metadata(file).map_or(0, |meta| meta.len()).saturating_add(log_bytes)
}

/// Length of the log of a data directory that nobody works on.
pub fn log_bytes(dir: &Path) -> u64 {
    let log = database::log_of(&database::file(dir));
    std::fs::metadata(log).map_or(0, |meta| meta.len())
}

/// Copies the store of `dir` as of the commit that ended its log at `log_bytes` into the folder `into`.
///
/// Whoever calls it asked for that length before, and asks afterwards whether the lease still holds;
/// [`StoreCopy::finish`] then keeps the copy.
pub fn store(
    dir: &Path,
    into: &Path,
    log_bytes: u64,
    step: &mut Step<'_>,
) -> Result<StoreCopy, BackupError> {
    let database = database::file(dir);
    let log = database::log_of(&database);
    let read_head = || head(&database).map_err(BackupError::io("read", &database));
    let before = read_head()?;
    let mut copy = StoreCopy { files: Vec::new(), partial: Vec::new() };
    // After a checkpoint there is no log until the next commit.
    let sources = if log_bytes > 0 { vec![(&log, Some(log_bytes))] } else { Vec::new() };
    for (from, length) in sources.into_iter().chain([(&database, None)]) {
        // A file that grows while it is read is read up to where it was.
        let length = match length {
            Some(length) => length,
            None => {
                let meta = std::fs::metadata(from).map_err(BackupError::io("read", from))?;
                meta.len()
            }
        };
        let name = from.file_name().unwrap_or_default();
        let to = into.join(name);
        let (copied, partial) = match copy::partial(from, &to, Some(length), step) {
            // Only a checkpoint takes a log away.
            Err(BackupError::Vanished { .. }) => return Err(folded()),
            copied => copied?,
        };
        if copied.bytes != length {
            return Err(folded());
        }
        copy.files.push((name.to_string_lossy().into_owned(), copied));
        copy.partial.push((partial, to));
    }
    if read_head()? != before {
        return Err(folded());
    }
    Ok(copy)
}

impl StoreCopy {
    /// Brings the copy to the disk; nothing needs to be held back any more.
    pub fn finish(self) -> Result<Vec<(String, Copied)>, BackupError> {
        for (partial, to) in &self.partial {
            copy::finish(partial, to)?;
        }
        Ok(self.files)
    }
}

fn folded() -> BackupError {
    BackupError::Changed("its log was folded into the database file".to_owned())
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    match File::open(file)?.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Vec::new()),
        result => result.map(|()| head),
    }
}
