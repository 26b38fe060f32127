//! Newline-delimited records in a file: plain, gzip or zstd, told apart by their first bytes.
//!
//! The partition is `file:<canonical path>`, a position is an offset in the uncompressed content,
//! and the fingerprint is a hash over the beginning of the file as stored: a file that grew goes on
//! where it stopped, one that was replaced is refused.
//!
//! What always holds: a record is the bytes between two line feeds, unchanged; the last line of a
//! bounded run is a record even without one. What could be read is delivered before an error is.
//! Start at [`FileSource::open`].

mod fingerprint;
mod lines;
mod stored;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Attached, RawBatch, RawRecord};
use crate::positions::Positions;

use super::{Limits, Next, Progress, Source, SourceError};
use lines::{Lines, Piece};
use stored::Stored;

/// What to read and how.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// The file.
    pub path: PathBuf,
    /// Tenant of its records.
    pub tenant: Arc<str>,
    /// Arrival time of its records, µs: the start of the run.
    pub arrived_at: i64,
    /// What to do at the end.
    pub at_end: AtEnd,
}

/// What to do at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// The run is over; a last line without line feed is a record.
    #[default]
    Stop,
    /// Wait for more; a last line without line feed is waited for. Compressed files are read once:
    /// their end is the end.
    Follow,
}

/// A file as a source.
#[derive(Debug)]
pub struct FileSource {
    options: FileOptions,
    partition: Arc<str>,
    fingerprint: String,
    lines: Lines,
    stored: Stored,
}

impl FileSource {
    /// Opens the file and looks at its beginning.
    pub fn open(options: FileOptions) -> Result<Self, SourceError> {
        let stored = Stored::open(&options.path)?;
        let fingerprint = fingerprint::of_file(&options.path, None)?;
        let canonical = options.path.canonicalize().unwrap_or_else(|_| options.path.clone());
        let partition = format!("file:{}", canonical.display()).into();
        let lines = Lines::new(stored.reader()?, 0);
        Ok(Self { options, partition, fingerprint, lines, stored })
    }

    fn path(&self) -> &Path {
        &self.options.path
    }

    fn follows(&self) -> bool {
        self.options.at_end == AtEnd::Follow && !self.stored.is_compressed()
    }

    fn batch(&self, piece: Piece) -> RawBatch {
        let records = piece.lines.iter().map(|line| RawRecord {
            start: line.start,
            len: line.len,
            offset: piece.offset + line.start as u64,
            arrived_at: self.options.arrived_at,
            tenant: Arc::clone(&self.options.tenant),
            tenant_fixed: false,
            attached: Attached::default(),
        });
        RawBatch {
            partition: Arc::clone(&self.partition),
            source: "file",
            records: records.collect(),
            next_offset: piece.next_offset,
            fingerprint: Some(self.fingerprint.clone()),
            format: Default::default(),
            claim: None,
            bytes: piece.bytes,
        }
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.partition
    }

    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError> {
        let Some(state) = committed.get(&self.partition) else {
            return Ok(());
        };
        if let Some(was) = &state.fingerprint {
            let is = fingerprint::of_file(self.path(), fingerprint::length(was))?;
            if is != *was {
                return Err(SourceError::Replaced {
                    path: self.path().to_owned(),
                    offset: state.next_offset,
                    was: was.clone(),
                    is,
                });
            }
        }
        self.lines = self.stored.lines_from(state.next_offset)?;
        Ok(())
    }

    fn next(&mut self, limits: Limits, timeout: Duration) -> Result<Next, SourceError> {
        let follows = self.follows();
        match self.lines.next(limits, !follows) {
            Ok(Some(piece)) => Ok(Next::Batch(self.batch(piece).into())),
            Ok(None) if follows => {
                std::thread::sleep(timeout);
                Ok(Next::Idle)
            }
            Ok(None) => Ok(Next::End),
            Err(error) => Err(error.at(self.path())),
        }
    }

    fn progress(&self) -> Option<Progress> {
        Some(self.stored.progress())
    }
}

#[cfg(test)]
mod tests;
