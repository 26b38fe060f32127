//! Where records come from.
//!
//! A [`Source`] delivers the records of one source partition, or of several that come and go (a
//! member of a consumer group). It blocks, and runs on a thread of its own: that thread reads,
//! decodes and validates, and hands batches over a bounded channel, so a slow store holds the
//! source back instead of filling the memory. A batch is always of one partition.
//!
//! What always holds: a source keeps no position of its own. The store commits
//! [`RawBatch::next_offset`] with the batch's effects, and [`Source::resume`] continues from what
//! was committed, so what a source delivered and nobody committed is delivered again.

pub mod file;
pub mod generator;
pub mod http;
pub mod kafka;

use std::path::PathBuf;
use std::time::Duration;

use crate::batch::RawBatch;
use crate::decode::GaveUp;
use crate::positions::Positions;

/// Delivers records.
pub trait Source: Send {
    /// What it is called in messages. A source of one partition has that partition's name.
    fn name(&self) -> &str;

    /// Sets the position: behind what the store has committed, or the beginning when it knows
    /// nothing of a partition. Called once, before the first [`Self::next`]; a source whose
    /// partitions come later keeps the handle and looks each of them up then.
    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError>;

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

impl Limits {
    /// Where batches start to grow from: committed within some 50 ms, so that a process that is
    /// killed soon has got somewhere.
    const FIRST: Self = Self { records: 4_096, bytes: 1536 << 10 };

    /// The first batch of a source that may deliver up to `self`.
    pub(crate) fn first(self) -> Self {
        self.at_most(Self::FIRST)
    }

    /// The limits of the batch after `delivered`, which had the limits `now`: twice as large while
    /// batches are full, because then more is waiting and a commit costs less per record.
    pub(crate) fn after(self, now: Self, delivered: &RawBatch) -> Self {
        let is_full = delivered.records.len() >= now.records
            || delivered.bytes.len() >= now.bytes - now.bytes / 8;
        if is_full {
            self.at_most(Self { records: now.records * 2, bytes: now.bytes * 2 })
        } else {
            self.first()
        }
    }

    fn at_most(self, other: Self) -> Self {
        Self { records: self.records.min(other.records), bytes: self.bytes.min(other.bytes) }
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
    /// Kafka cannot be read.
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaError),
    /// Records in Avro whose schema could not be had for too long.
    #[error("records cannot be read: {0}")]
    Schemas(#[from] GaveUp),
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::batch::{Attached, RawBatch, RawRecord};

    fn delivered(records: usize, bytes: usize) -> RawBatch {
        let record = RawRecord {
            start: 0,
            len: 0,
            offset: 0,
            arrived_at: 0,
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        };
        RawBatch {
            partition: "p".into(),
            source: "test",
            bytes: vec![0; bytes],
            records: vec![record; records],
            next_offset: 0,
            fingerprint: None,
            format: Default::default(),
            claim: None,
        }
    }

    #[test]
    fn batches_grow_while_they_are_full_and_start_again_when_not() {
        let most = Limits { records: 10_000, bytes: 24 << 20 };
        let first = most.first();
        assert_eq!(first.records, 4_096);
        let second = most.after(first, &delivered(4_096, 0));
        assert_eq!(second.records, 8_192);
        assert_eq!(most.after(second, &delivered(8_192, 0)).records, 10_000);
        assert_eq!(most.after(second, &delivered(8_191, 0)), first);
        let by_bytes = most.after(first, &delivered(10, first.bytes - 100));
        assert_eq!(by_bytes.bytes, 2 * first.bytes);
    }

    #[test]
    fn a_small_limit_holds_from_the_first_batch_on() {
        let most = Limits { records: 7, bytes: 100 };
        assert_eq!(most.first(), most);
        assert_eq!(most.after(most, &delivered(7, 0)), most);
    }
}
