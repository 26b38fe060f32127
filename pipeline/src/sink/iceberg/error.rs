//! What can go wrong with the lake, and whether trying again helps.

use std::path::PathBuf;

use arrow::error::ArrowError;

use crate::store::StoreError;

/// Failure of the lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The catalog or the storage could not do it.
    #[error("{action}: {}", describe(source))]
    Catalog {
        /// Verb and object.
        action: String,
        /// What the Iceberg library said.
        source: Box<iceberg::Error>,
    },
    /// A file or folder of the lake is not usable.
    #[error("{action} `{}`", path.display())]
    Io {
        /// Verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The journal could not be read.
    #[error("read the journal for lake table `{table}`")]
    Journal {
        /// The table.
        table: String,
        /// The cause.
        source: StoreError,
    },
    /// Journal rows do not fit the table.
    #[error("prepare rows for lake table `{table}`: {message}")]
    Rows {
        /// The table.
        table: String,
        /// What does not fit.
        message: String,
    },
    /// A column has another type than the table says, and Iceberg readers could not read both.
    #[error(
        "column `{column}` of lake table `{table}` holds {stored}, the contracts say {wanted}: \
         give the field a new name, or move the lake folder away to start a new lake"
    )]
    TypeChanged {
        /// The table.
        table: String,
        /// The column, with its path.
        column: String,
        /// Type in the table.
        stored: String,
        /// Type by the contracts.
        wanted: String,
    },
    /// The table follows the journal of another data directory.
    #[error(
        "lake table `{table}` belongs to the data directory with the identity {owner}: give this one \
         a warehouse or a catalog of its own"
    )]
    Owned {
        /// The table.
        table: String,
        /// The identity that it was made under.
        owner: String,
    },
    /// The table lacks something that this program needs of it.
    #[error(
        "lake table `{table}` {problem}: it was changed by somebody else, restore it or move it away"
    )]
    Foreign {
        /// The table.
        table: String,
        /// What is wrong, as a verb phrase.
        problem: String,
    },
    /// Somebody dropped or renamed a column that the contracts still have.
    #[error(
        "column `{column}` of lake table `{table}` was dropped or renamed by somebody else: make schema \
         {schema} of the table its current one again, or give the field another name in its \
         contract, then start again; until then its events wait in the journal"
    )]
    LostColumn {
        /// The table.
        table: String,
        /// The column, with its path.
        column: String,
        /// Id of the newest schema that has it.
        schema: i32,
    },
    /// Somebody set the table back to an older snapshot.
    #[error(
        "lake table `{table}` was set back by somebody else, from position {expected} to {found}: start \
         this process again, and it writes the events after {found} anew from the journal"
    )]
    SetBack {
        /// The table.
        table: String,
        /// Position that this writer left.
        expected: i64,
        /// Position that the table has.
        found: i64,
    },
    /// Somebody else committed to the table: going on could write events twice.
    #[error(
        "lake table `{table}` was moved by another writer: expected it at position {expected}, \
         found {found}; stop the other process, then start this one again"
    )]
    Fenced {
        /// The table.
        table: String,
        /// Position that this writer left.
        expected: i64,
        /// Position that the table has.
        found: i64,
    },
    /// The table holds events that the journal does not have.
    #[error(
        "lake table `{table}` holds events up to position {position}, the journal ends at \
         {journal_end}: the lake belongs to another data directory, or the journal is an older copy; \
         `agentflow rebuild --from lake` makes the journal anew from the lake"
    )]
    AheadOfJournal {
        /// The table.
        table: String,
        /// Position of the table.
        position: i64,
        /// Last sequence number of the journal.
        journal_end: i64,
    },
    /// The settings cannot be.
    #[error("{problem}")]
    Settings {
        /// What is wrong and what to do, as a sentence.
        problem: String,
    },
    /// A catalog in Glue, in a program that is built without it.
    #[error("this program is built without AWS Glue: build it with the feature `glue`")]
    NoGlue,
    /// The lake cannot be read back.
    #[error("{problem}")]
    NoHistory {
        /// Why, as a sentence.
        problem: String,
    },
    /// The follower has been told to stop, or has ended.
    #[error("the lake follower has stopped")]
    Stopped,
    /// A flush ended without all rows in the lake.
    #[error("bring the lake up to position {position}: {message}")]
    Flush {
        /// Position asked for.
        position: i64,
        /// The errors of the tables that are behind.
        message: String,
    },
}

/// Does trying again help?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes, after a while, without anybody changing anything.
    WithBackoff,
    /// No, a person has to act first.
    Never,
}

impl LakeError {
    /// Can trying again help without anybody changing anything?
    pub fn retry(&self) -> Retry {
        match self {
            Self::Catalog { .. } | Self::Io { .. } | Self::Flush { .. } => Retry::WithBackoff,
            Self::Journal { source, .. } => match source {
                StoreError::Failed { retry, .. } if !retry => Retry::Never,
                StoreError::Corrupt(_) => Retry::Never,
                _ => Retry::WithBackoff,
            },
            Self::Rows { .. }
            | Self::TypeChanged { .. }
            | Self::Foreign { .. }
            | Self::Owned { .. }
            | Self::LostColumn { .. }
            | Self::SetBack { .. }
            | Self::Fenced { .. }
            | Self::AheadOfJournal { .. }
            | Self::Settings { .. }
            | Self::NoGlue
            | Self::NoHistory { .. }
            | Self::Stopped => Retry::Never,
        }
    }

    /// Wraps an error of the Iceberg library.
    pub(super) fn catalog(action: impl Into<String>) -> impl FnOnce(iceberg::Error) -> Self {
        let action = action.into();
        |source| Self::Catalog { action, source: Box::new(source) }
    }

    /// Wraps an Arrow error met while rows are shaped for a table.
    pub(super) fn rows(table: &str) -> impl FnOnce(ArrowError) -> Self + use<> {
        let table = table.to_owned();
        |error| Self::Rows { table, message: error.to_string() }
    }
}

/// Most characters of the library's text that are shown: a catalog may answer with a page of HTML.
const SHOWN: usize = 400;

/// Message and causes on one line; the library's own text prints a backtrace section.
fn describe(error: &iceberg::Error) -> String {
    let text = whole(error);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn whole(error: &iceberg::Error) -> String {
    let mut text = error.message().to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// An error with its causes, as one sentence. The library's errors in our words for them, which are there
/// already.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = match error.downcast_ref::<Box<iceberg::Error>>() {
            Some(error) => describe(error),
            None => error.to_string(),
        };
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_is_told_once() {
        let source = iceberg::Error::new(iceberg::ErrorKind::Unexpected, "no answer");
        let source = source.with_source(std::io::Error::other("cut off"));
        let error = LakeError::catalog("load lake table `t`")(source);
        assert_eq!(chain(&error), "load lake table `t`: no answer: cut off");
    }
}
