//! What a topic is fed with: rows of the journal, in its order.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::Domain;

use super::config::Content;
use super::dead_letter::DeadLetters;
use super::error::PublishError;
use super::event::{EventFamily, Events};
use super::record::Record;
use crate::encode::event::WrongColumns;
use crate::source::Limits;
use crate::store::{Journal, StoreError};

/// Reads the journal for one topic.
pub(super) struct Feed {
    journal: Arc<dyn Journal>,
    topic: String,
    source: Source,
}

enum Source {
    DeadLetters,
    Events(Vec<EventFamily>),
}

/// Rows that were read.
pub(super) struct Rows {
    /// Batches with the index of their family (0 for dead letters).
    batches: Vec<(usize, RecordBatch)>,
    /// Every row up to here was read: the position once all of them are published.
    pub(super) reached: i64,
}

impl Rows {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(|(_, batch)| batch.num_rows()).sum()
    }
}

impl Feed {
    pub(super) fn new(
        content: Content,
        topic: &str,
        journal: Arc<dyn Journal>,
        domain: &Domain,
    ) -> Self {
        let families = || domain.families.iter().map(|family| EventFamily::new(domain, family));
        let source = match content {
            Content::DeadLetters => Source::DeadLetters,
            Content::ValidatedEvents => Source::Events(families().collect()),
        };
        Self { journal, topic: topic.to_owned(), source }
    }

    fn failed(&self, source: StoreError) -> PublishError {
        PublishError::Journal { topic: self.topic.clone(), source }
    }

    fn wrong(&self, source: WrongColumns) -> PublishError {
        PublishError::Rows { topic: self.topic.clone(), source }
    }

    /// The last position that there is. `known`: one that is known to be there, or 0.
    pub(super) fn end(&self, known: i64) -> Result<i64, PublishError> {
        match self.source {
            Source::DeadLetters => self.journal.last_dead_letter(known),
            Source::Events(_) => self.journal.last_seq(),
        }
        .map_err(|error| self.failed(error))
    }

    /// Rows behind `after` and not beyond `until`, about as many as `limits` allow.
    pub(super) fn read(
        &self,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<Rows, PublishError> {
        // Positions are dense, so a stretch of `n` of them holds at most `n` rows, over all families
        // together, and no row of it can be missed.
        let length = i64::try_from(limits.records).unwrap_or(i64::MAX);
        let mut until = until.min(after.saturating_add(length));
        let mut batches = Vec::new();
        match &self.source {
            Source::DeadLetters => {
                let found = self.journal.dead_letters(after, i64::MAX, limits);
                let found = found.map_err(|error| self.failed(error))?;
                batches.extend(found.into_iter().map(|batch| (0, batch)));
                // Letters may have been taken out of the store; then these lie further on.
                let last = batches.last().map(|(_, batch)| DeadLetters::last(batch)).transpose();
                let last = last.map_err(|error| self.wrong(error))?;
                return Ok(Rows { batches, reached: last.unwrap_or(until) });
            }
            Source::Events(families) => {
                for family in 0..families.len() {
                    let found = self.journal.rows(family, after, until, limits);
                    let found = found.map_err(|error| self.failed(error))?;
                    until = until.min(found.reached);
                    batches.extend(found.batches.into_iter().map(|batch| (family, batch)));
                }
            }
        }
        // Of families that were read before one with large rows there may be some beyond.
        for (_, batch) in &mut batches {
            let within = Events::until(batch, until).map_err(|error| self.wrong(error))?;
            *batch = batch.slice(0, within);
        }
        Ok(Rows { batches, reached: until })
    }

    /// Hands all rows on as records, ascending by position. A record is no longer than `longest`
    /// bytes where something can be left out of it.
    pub(super) fn each(
        &self,
        rows: &Rows,
        longest: usize,
        mut take: impl FnMut(Record<'_>) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        match &self.source {
            Source::DeadLetters => {
                for (_, batch) in &rows.batches {
                    let letters = DeadLetters::new(batch).map_err(|error| self.wrong(error))?;
                    for row in 0..batch.num_rows() {
                        take(letters.record(row, longest))?;
                    }
                }
            }
            Source::Events(families) => {
                let events = rows
                    .batches
                    .iter()
                    .map(|(family, batch)| Events::new(&families[*family], batch))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| self.wrong(error))?;
                let mut order: Vec<(i64, usize, usize)> = Vec::with_capacity(rows.len());
                for (at, events) in events.iter().enumerate() {
                    let seqs = events.seqs.iter().enumerate();
                    order.extend(seqs.map(|(row, seq)| (*seq, at, row)));
                }
                // Runs that ascend already: a stable sort merges them.
                order.sort();
                let mut value = Vec::new();
                for (_, at, row) in order {
                    take(events[at].record(row, &mut value))?;
                }
            }
        }
        Ok(())
    }

    /// The mark of the row at `position`; `None` when the journal does not have it.
    pub(super) fn mark(&self, position: i64) -> Result<Option<String>, PublishError> {
        let mut mark = None;
        // For dead letters the next one is read where this one is gone.
        let rows = self.read(position - 1, position, Limits { records: 1, bytes: 0 })?;
        self.each(&rows, 0, |record| {
            if record.position == position {
                mark = Some(record.mark.to_string());
            }
            Ok(())
        })?;
        Ok(mark)
    }
}
