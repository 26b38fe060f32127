//! What ids stand for, as far as it was asked.

use std::collections::HashMap;
use std::time::Instant;

use crate::decode::WriterSchema;

use super::MISSING_FOR;

/// Entries of either kind. Past that all are forgotten: asking again costs little, and no registry
/// of people has that many schemas in use at once.
const MOST: usize = 10_000;

/// What ids stand for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// For ever: an id never changes its meaning.
    known: HashMap<u32, WriterSchema>,
    /// Ids that the registry did not have, and when it said so.
    missing: HashMap<u32, (Instant, WriterSchema)>,
}

impl Cache {
    pub(super) fn get(&self, id: u32) -> Option<WriterSchema> {
        if let Some(known) = self.known.get(&id) {
            return Some(known.clone());
        }
        let (at, missing) = self.missing.get(&id)?;
        (at.elapsed() < MISSING_FOR).then(|| missing.clone())
    }

    pub(super) fn put(&mut self, id: u32, schema: WriterSchema) {
        if matches!(schema, WriterSchema::Unknown { .. }) {
            if self.missing.len() >= MOST {
                self.missing.clear();
            }
            self.missing.insert(id, (Instant::now(), schema));
            return;
        }
        self.missing.remove(&id);
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(id, schema);
    }

    /// Number of ids whose meaning is known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
