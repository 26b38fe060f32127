//! Where records come from.
//!
//! A [`Source`] is one source partition. It blocks, and runs on a thread of its own: that thread
//! reads, decodes and validates, and hands batches over a bounded channel, so a slow store holds
//! the source back instead of filling the memory.
//!
//! What always holds: a source keeps no position of its own. The store commits
//! [`RawBatch::next_offset`] with the batch's effects, and [`Source::resume`] continues from what
//! was committed, so what a source delivered and nobody committed is delivered again.

pub mod file;
pub mod generator;
pub mod http;

use std::path::PathBuf;
use std::time::Duration;

use crate::batch::RawBatch;
use crate::store::PartitionState;

/// One source partition.
pub trait Source: Send {
    /// Stable name of the partition: positions, watermarks and counts are kept under it.
    fn partition(&self) -> &str;

    /// Sets the position: behind what the store has committed, or the beginning when it knows
    /// nothing of this partition. Called once, before the first [`Self::next`].
    fn resume(&mut self, committed: Option<&PartitionState>) -> Result<(), SourceError>;

    /// The next records: at most about `limits`, at least one, waiting up to `timeout` for the
    /// first. Never waits for a fuller batch: a lone record goes at once.
    fn next(&mut self, limits: Limits, timeout: Duration) -> Result<Next, SourceError>;

    /// How far a bounded source is.
    fn progress(&self) -> Option<Progress> {
        None
    }
}

/// Size of a batch. A single record or request that is larger still goes as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most records.
    pub records: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 65_536, bytes: 24 << 20 }
    }
}

/// What a source has.
#[derive(Debug)]
pub enum Next {
    /// Records.
    Batch(Delivery),
    /// Nothing within the timeout; more may come.
    Idle,
    /// Nothing, and nothing will come.
    End,
}

/// A batch, and who waits to hear what became of it.
#[derive(Debug)]
pub struct Delivery {
    /// The records.
    pub batch: RawBatch,
    /// To be told the outcomes once they are committed.
    pub reply: Option<http::ReplyTo>,
}

impl From<RawBatch> for Delivery {
    fn from(batch: RawBatch) -> Self {
        Self { batch, reply: None }
    }
}

/// How far a bounded source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Units done, in the source's own unit: bytes of a file, records of a generator.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open `{path}`: {cause}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The path is a directory, a pipe or something else without a beginning to come back to.
    #[error("`{path}` is {what}, not a regular file; name one file of newline-delimited JSON")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Reading failed half-way; everything before was delivered.
    #[error(
        "cannot read `{path}` past byte {offset} (of its uncompressed content): {cause}; \
         everything before that was read, run again once the file is whole"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Uncompressed bytes that were read.
        offset: u64,
        /// What the system or the decompressor said.
        cause: std::io::Error,
    },
    /// A line that is too long to keep.
    #[error(
        "line at byte {offset} of `{path}` is longer than {limit} bytes; is it text with one event a line?"
    )]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Uncompressed offset of its first byte.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// The file is not the one that was read before.
    #[error(
        "`{path}` is another file than the one that was read up to byte {offset}: \
         its beginning was {was} and is {is} (length:hash); \
         put the old file back, or give the new one another name"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
        /// Committed position.
        offset: u64,
        /// Fingerprint that was stored.
        was: String,
        /// Fingerprint of the same number of bytes now.
        is: String,
    },
    /// The file ends before the committed position.
    #[error(
        "`{path}` has {len} bytes (uncompressed), but was read up to byte {offset} before; \
         put the whole file back, or give this one another name"
    )]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Uncompressed length now.
        len: u64,
        /// Committed position.
        offset: u64,
    },
}
