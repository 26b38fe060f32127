//! Cutting a stream of bytes into lines, many at a time.
//!
//! Bytes are read straight into the buffer that becomes the batch; only the beginning of the next
//! line is copied over to the next one.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use crate::source::{Limits, SourceError};

/// Longest line that is kept. A longer one is no line of text.
const MAX_LINE: usize = 64 << 20;
/// Bytes per read.
const CHUNK: usize = 256 << 10;

/// Consecutive lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset of the first byte.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// Where the lines lie in `bytes`, line feeds left out.
    pub(super) lines: Vec<Line>,
    /// Offset behind the last line and its line feed.
    pub(super) next_offset: u64,
}

/// A line without its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Why lines cannot be read.
#[derive(Debug)]
pub(super) enum LineError {
    Read { offset: u64, cause: io::Error },
    TooLong { offset: u64 },
}

impl LineError {
    pub(super) fn at(self, path: &Path) -> SourceError {
        let path = path.to_owned();
        match self {
            Self::Read { offset, cause } => SourceError::Read { path, offset, cause },
            Self::TooLong { offset } => SourceError::LineTooLong { path, offset, limit: MAX_LINE },
        }
    }
}

/// Cuts a reader into lines.
pub(super) struct Lines {
    reader: Box<dyn Read + Send>,
    /// What was read but not delivered.
    rest: Vec<u8>,
    /// Offset of the first byte of `rest`.
    offset: u64,
    max_line: usize,
    skip_line_feed: bool,
    /// Came up after lines that had to be delivered first.
    failed: Option<io::Error>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Lines {
    /// Lines of `reader`, whose first byte has the given offset.
    pub(super) fn new(reader: Box<dyn Read + Send>, offset: u64) -> Self {
        Self {
            reader,
            rest: Vec::new(),
            offset,
            max_line: MAX_LINE,
            skip_line_feed: false,
            failed: None,
        }
    }

    /// Drops one line feed if it is the very next byte.
    pub(super) fn skip_line_feed(&mut self) {
        self.skip_line_feed = true;
    }

    #[cfg(test)]
    pub(super) fn with_max_line(mut self, max_line: usize) -> Self {
        self.max_line = max_line;
        self
    }

    /// The next lines; `None` at the end. With `last_is_line` bytes behind the last line feed are a
    /// line too once the end is reached.
    pub(super) fn next(
        &mut self,
        limits: Limits,
        last_is_line: bool,
    ) -> Result<Option<Piece>, LineError> {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.reserve(limits.bytes.min(MAX_LINE) + CHUNK);
        let mut lines: Vec<Line> = Vec::new();
        let mut line_start = 0;
        let mut searched = 0;
        let max_records = limits.records.max(1);
        let mut ended = false;
        loop {
            if self.skip_line_feed && !bytes.is_empty() {
                self.skip_line_feed = false;
                if bytes[0] == b'\n' {
                    bytes.remove(0);
                    self.offset += 1;
                }
            }
            for at in memchr::memchr_iter(b'\n', &bytes[searched..]) {
                let end = searched + at;
                lines.push(Line { start: line_start, len: end - line_start });
                line_start = end + 1;
                if lines.len() == max_records || line_start >= limits.bytes {
                    break;
                }
            }
            searched = bytes.len();
            let enough = lines.len() >= max_records || bytes.len() >= limits.bytes;
            let too_long = bytes.len() - line_start > self.max_line;
            if !lines.is_empty() && (enough || ended || too_long || self.failed.is_some()) {
                break;
            }
            if too_long {
                self.rest = bytes;
                return Err(LineError::TooLong { offset: self.offset });
            }
            if let Some(cause) = self.failed.take() {
                let offset = self.offset + bytes.len() as u64;
                self.rest = bytes;
                return Err(LineError::Read { offset, cause });
            }
            if ended {
                if bytes.is_empty() || !last_is_line {
                    self.rest = bytes;
                    return Ok(None);
                }
                lines.push(Line { start: 0, len: bytes.len() });
                line_start = bytes.len();
                break;
            }
            match self.read(&mut bytes) {
                Ok(read) => ended = read == 0,
                Err(cause) => self.failed = Some(cause),
            }
        }
        self.rest = bytes.split_off(line_start);
        let offset = self.offset;
        self.offset += line_start as u64;
        Ok(Some(Piece { offset, bytes, lines, next_offset: self.offset }))
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let len = bytes.len();
        bytes.resize(len + CHUNK, 0);
        let read = loop {
            match self.reader.read(&mut bytes[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        bytes.truncate(len + *read.as_ref().unwrap_or(&0));
        read
    }
}
