//! The bytes of a file as stored: their form, their number, and how many were read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::lines::Lines;
use crate::source::{Progress, SourceError};

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    /// The form that the first bytes tell.
    fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A file on disk.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    form: Form,
    len: u64,
    read: Arc<AtomicU64>,
}

impl Stored {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let open = |cause| SourceError::Open { path: path.to_owned(), cause };
        let metadata = path.metadata().map_err(open)?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a directory" } else { "a pipe or device" };
            return Err(SourceError::NotAFile { path: path.to_owned(), what });
        }
        let mut beginning = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut beginning)).map_err(open)?;
        Ok(Self {
            path: path.to_owned(),
            form: Form::of(&beginning),
            len: metadata.len(),
            read: Arc::default(),
        })
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.form != Form::Plain
    }

    /// Uncompressed bytes from the beginning.
    pub(super) fn reader(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        self.reader_at(0)
    }

    /// Uncompressed bytes; `start` counts bytes as stored.
    fn reader_at(&self, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let open = |cause| SourceError::Open { path: self.path.clone(), cause };
        let mut file = File::open(&self.path).map_err(open)?;
        file.seek(SeekFrom::Start(start)).map_err(open)?;
        self.read.store(start, Ordering::Relaxed);
        let counted = Counted { file, read: Arc::clone(&self.read) };
        Ok(match self.form {
            Form::Plain => Box::new(counted),
            Form::Gzip => {
                Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, counted)))
            }
            Form::Zstd => Box::new(zstd::Decoder::new(counted).map_err(open)?),
        })
    }

    /// The lines behind an uncompressed offset.
    pub(super) fn lines_from(&self, offset: u64) -> Result<Lines, SourceError> {
        let Some(before) = offset.checked_sub(1) else {
            return Ok(Lines::new(self.reader()?, 0));
        };
        // The last byte before the offset tells whether a line ended there: if not, a line feed
        // that was appended since ends a line that was delivered, and starts no empty one.
        let (mut reader, at) = match self.form {
            Form::Plain => (self.reader_at(before)?, before),
            Form::Gzip | Form::Zstd => {
                let mut reader = self.reader()?;
                let at = skip(&mut reader, before).map_err(|(offset, cause)| {
                    SourceError::Read { path: self.path.clone(), offset, cause }
                })?;
                (reader, at)
            }
        };
        let mut last = [0];
        let read = read_one(&mut reader, &mut last).map_err(|cause| SourceError::Read {
            path: self.path.clone(),
            offset: at,
            cause,
        })?;
        if at < before || !read {
            let len = if self.form == Form::Plain { self.len } else { at };
            return Err(SourceError::Shorter { path: self.path.clone(), len, offset });
        }
        let mut lines = Lines::new(reader, offset);
        if last != *b"\n" {
            lines.skip_line_feed();
        }
        Ok(lines)
    }

    pub(super) fn progress(&self) -> Progress {
        let done = self.read.load(Ordering::Relaxed);
        Progress { done, total: self.len.max(done) }
    }
}

/// Reads and forgets `count` bytes; returns how many there were.
fn skip(reader: &mut dyn Read, count: u64) -> Result<u64, (u64, io::Error)> {
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    while done < count {
        let want = usize::try_from(count - done).unwrap_or(usize::MAX).min(buffer.len());
        match reader.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(read) => done += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((done, error)),
        }
    }
    Ok(done)
}

/// Reads one byte; false at the end.
fn read_one(reader: &mut dyn Read, byte: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match reader.read(byte) {
            Ok(read) => return Ok(read == 1),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file that counts what was read from it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
