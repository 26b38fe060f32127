//! How a file is recognised: `<n>:<hash>` over its first `n` bytes as stored, at most 64 KiB.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::source::SourceError;

const MOST: u64 = 64 << 10;

/// The fingerprint over the first `len` bytes, or over as many as there are up to 64 KiB.
pub(super) fn of_file(path: &Path, len: Option<u64>) -> Result<String, SourceError> {
    let mut beginning = Vec::new();
    let most = len.unwrap_or(MOST).min(MOST);
    let file =
        File::open(path).map_err(|cause| SourceError::Open { path: path.to_owned(), cause })?;
    file.take(most).read_to_end(&mut beginning).map_err(|cause| SourceError::Read {
        path: path.to_owned(),
        offset: 0,
        cause,
    })?;
    Ok(format!("{}:{:032x}", beginning.len(), xxh3_128(&beginning)))
}

/// Number of bytes that a fingerprint is over.
pub(super) fn length(fingerprint: &str) -> Option<u64> {
    fingerprint.split_once(':')?.0.parse().ok()
}
