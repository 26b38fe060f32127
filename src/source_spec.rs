//! `--from`: where events come from, as text.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use pipeline::source::Source;
use pipeline::source::file::{AtEnd, FileOptions, FileSource};

use crate::failure::{Failure, chain};

/// The tenant of records that name none.
pub(crate) const TENANT: &str = "default";

/// A source as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceSpec {
    /// `file:PATH`: newline-delimited JSON, plain or compressed with gzip or zstd.
    File(PathBuf),
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(format!("`{text}` names no source; write file:PATH")),
        }
    }
}

impl SourceSpec {
    /// Opens the source. Records count as arrived at `now` (µs).
    pub(crate) fn open(&self, at_end: AtEnd, now: i64) -> Result<Box<dyn Source>, Failure> {
        match self {
            Self::File(path) => {
                let options = FileOptions {
                    path: path.clone(),
                    tenant: Arc::from(TENANT),
                    arrived_at: now,
                    at_end,
                };
                let source =
                    FileSource::open(options).map_err(|error| Failure::input(chain(&error)))?;
                Ok(Box::new(source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let expected = expected.map(|path| SourceSpec::File(path.into()));
        assert_eq!(text.parse::<SourceSpec>().ok(), expected, "{text}");
    }

    #[test]
    fn a_file_is_named_by_its_path() {
        check("file:events.ndjson", Some("events.ndjson"));
        check("file:/data/a:b.gz", Some("/data/a:b.gz"));
        check("file:", None);
        check("events.ndjson", None);
        check("ftp:events", None);
    }
}
