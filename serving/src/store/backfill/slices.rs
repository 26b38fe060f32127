//! The writer's part of the backfill: reading the rows of a slice, and committing what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use contracts::model::{Relation, column};
use pipeline::store::{self, EntityRows, StoreError, Stretch, StretchRows, Unfolded};

use super::Work;
use super::lake::LakeReader;
use crate::metric::columns_to_fold;
use crate::store::contract_state::Filled;
use crate::store::error::{failed, refused};
use crate::store::follow::job;
use crate::store::rows;
use crate::store::schema::{column_list, quoted};
use crate::store::wal::Due;
use crate::store::writer::Writer;

/// How long the lake is left alone after it could not be read.
const LAKE_PAUSE: Duration = Duration::from_secs(5);

/// Rows of one table in one slice.
const MOST_ROWS: i64 = if cfg!(test) { 10 } else { 32_768 };

impl Writer {
    /// Does one slice, or gives the rows of one to fold.
    pub(in crate::store) fn backfill_slice(&mut self) -> Result<store::Backfill, StoreError> {
        self.backfill.began = Instant::now();
        if self.backfill.is_done() {
            return Ok(store::Backfill::Nothing);
        }
        match self.wal_due() {
            Due::Nothing => {}
            // A reader in its way makes it wait for the next one; a slice does not, as no batch does.
            Due::Checkpoint if self.checkpoint().is_ok() => return Ok(store::Backfill::Done),
            Due::Checkpoint => {}
            Due::NoRoom(_) => {
                let problem = "the disk is almost full".to_owned();
                self.backfill.progress.change(|state| state.problem = Some(problem));
                return Ok(store::Backfill::Waiting);
            }
        }
        let slice = self.slice();
        slice.inspect_err(|error| {
            self.backfill.progress.change(|state| state.problem = Some(error.to_string()));
        })
    }

    fn slice(&mut self) -> Result<store::Backfill, StoreError> {
        let Some(task) = self.backfill.tasks.get(self.backfill.current) else {
            return Ok(store::Backfill::Nothing);
        };
        let (done, until) = (task.done, task.until);
        match &task.work {
            Work::Fill { relation, fill } => {
                // Rows that were given up meanwhile need no columns: the lake's are made when read.
                let given_up = match relation {
                    Filled::Family(_) => self.horizon.get().map_or(0, |trimmed| trimmed.seq),
                    Filled::Ingest | Filled::Entity(_) => 0,
                };
                let done = done.max(given_up.min(until));
                let backfill = &self.backfill;
                let job =
                    job(relation, fill, &backfill.domain, &self.tables, &backfill.definitions);
                let slice = until.min(done.saturating_add(backfill.seqs));
                let slice = self.not_too_many(&job.table.name, job.position(), done, slice)?;
                job.step(&self.conn, done, slice, || backfill.note(&self.conn, slice))?;
                self.backfill.noted(slice);
                Ok(store::Backfill::Done)
            }
            Work::Fold { entities, source } => {
                let (entities, source) = (entities.clone(), *source);
                let found = match source {
                    Some(source) => self.touched_rows(source, done, until).map(Some),
                    None => self.old_events(entities[0], done, until),
                };
                let Some((rows, slice)) = found? else { return Ok(store::Backfill::Waiting) };
                self.backfill.slice = slice;
                let left = match source {
                    Some(_) => Unfolded { after: slice, until },
                    None => Unfolded::default(),
                };
                Ok(store::Backfill::Fold(Stretch { entities, rows, left }))
            }
        }
    }

    /// Applies what a slice was folded to.
    pub(in crate::store) fn commit_slice(&mut self, rows: &[EntityRows]) -> Result<(), StoreError> {
        let slice = self.backfill.slice;
        self.replace_rows("fold old rows", rows, |writer| {
            writer.backfill.note(&writer.conn, slice)
        })?;
        self.backfill.noted(slice);
        Ok(())
    }

    /// Rows of an entity by the event that touched them last, and up to where they are all.
    fn touched_rows(
        &self,
        entity: usize,
        after: i64,
        until: i64,
    ) -> Result<(StretchRows, i64), StoreError> {
        let table = &self.tables.entities[entity];
        let slice = until.min(after.saturating_add(self.backfill.seqs));
        let slice = self.not_too_many(&table.name, column::UPDATED_SEQ, after, slice)?;
        let fields = table.schema.fields().iter();
        let fields = fields.filter(|field| field.name() != column::STATE).cloned();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let by = quoted(column::UPDATED_SEQ);
        let rows = self.select(&table.name, &schema, &by, after, slice)?;
        Ok((StretchRows::Entity(entity, rows), slice))
    }

    /// Old events for an entity and up to where they are all; `None` when they are on their way.
    fn old_events(
        &mut self,
        entity: usize,
        after: i64,
        until: i64,
    ) -> Result<Option<(StretchRows, i64)>, StoreError> {
        let domain = Arc::clone(&self.backfill.domain);
        let contract = &domain.entities[entity];
        let mut families: Vec<usize> = contract
            .inputs
            .iter()
            .filter_map(|input| match input.relation {
                Relation::Family(family) => Some(family),
                _ => None,
            })
            .collect();
        families.dedup();
        let mut slice = until.min(after.saturating_add(self.backfill.seqs));
        let trimmed = self.horizon.get().filter(|trimmed| after < trimmed.seq);
        let Some(trimmed) = trimmed else {
            let mut found = Vec::new();
            for family in &families {
                let table = &self.tables.families[*family].name;
                slice = self.not_too_many(table, column::SEQ, after, slice)?;
            }
            for family in families {
                let table = &self.tables.families[family];
                let columns = columns_to_fold(contract, family);
                let fields = table.schema.fields().iter();
                let fields = fields.filter(|field| columns.contains(field.name().as_str()));
                let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
                let rows = self.select(&table.name, &schema, column::SEQ, after, slice)?;
                found.push((family, rows));
            }
            return Ok(Some((StretchRows::Events(found), slice)));
        };
        slice = slice.min(trimmed.seq);
        if self.backfill.lake_pause.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        if self.backfill.lake.is_none() {
            let Some(archive) = self.archive() else {
                return self.lake_problem("there is no lake here".to_owned());
            };
            let started = LakeReader::start(archive);
            let started = started.map_err(|e| refused("start a thread", e.to_string()))?;
            self.backfill.lake = Some(started);
        }
        let Some(lake) = &mut self.backfill.lake else { return Ok(None) };
        match lake.take(&trimmed, &families, after) {
            Ok(None) => Ok(None),
            Ok(Some(old)) => {
                let slice = slice.min(old.until);
                Ok(Some((StretchRows::Events(old.within(after, slice)), slice)))
            }
            Err(error) => self.lake_problem(error.to_string()),
        }
    }

    /// The lake cannot be read: it is tried again later.
    fn lake_problem<T>(&mut self, problem: String) -> Result<Option<T>, StoreError> {
        tracing::warn!(problem, "the backfill waits for what the journal has given up");
        self.backfill.lake = None;
        self.backfill.lake_pause = Some(Instant::now() + LAKE_PAUSE);
        self.backfill.progress.change(|state| state.problem = Some(problem));
        Ok(None)
    }

    /// The end of a slice that has no more than [`MOST_ROWS`] rows of the table, unless one position
    /// has more: positions may be empty for a long time, and then they are not.
    fn not_too_many(
        &self,
        table: &str,
        by: &str,
        after: i64,
        until: i64,
    ) -> Result<i64, StoreError> {
        if until - after <= MOST_ROWS {
            return Ok(until);
        }
        let (by, table) = (quoted(by.trim_matches('"')), quoted(table));
        let sql = format!(
            "select min(place) from (select {by} as place from {table} where {by} > {after} and {by} <= {until} \
             order by place limit 1 offset {MOST_ROWS})"
        );
        let end: Option<i64> = self
            .conn
            .query_row(&sql, [], |row| row.get(0))
            .map_err(|e| failed("see how many old rows there are", &e))?;
        Ok(end.unwrap_or(until))
    }

    fn select(
        &self,
        table: &str,
        schema: &SchemaRef,
        by: &str,
        after: i64,
        until: i64,
    ) -> Result<RecordBatch, StoreError> {
        // The bounds stand in the text because DuckDB skips row groups by constants.
        let sql = format!(
            "select {} from {} where {by} > {after} and {by} <= {until}",
            column_list(schema),
            quoted(table)
        );
        rows::query_once(&self.conn, &sql, [], schema)
            .map_err(|e| failed(format!("read old rows of `{table}`"), &e))
    }
}
