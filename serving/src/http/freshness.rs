//! How fresh each metric is, for `/v1/health` and `/metrics`.

use contracts::model::{Metric, Relation, column};
use pipeline::store::{StoreError, data_through};

use super::state::AppState;
use crate::metric::quote;

/// How fresh one metric is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MetricFreshness {
    /// Its name.
    pub(super) name: String,
    /// Every active source partition has delivered its events up to this event time, µs; the same
    /// as in the metric's answers.
    pub(super) data_through: Option<i64>,
    /// Newest event time (for metrics over `ingest`: arrival) in what it stands on, µs.
    pub(super) last_event_at: Option<i64>,
    /// When a commit last touched what it stands on, µs; `None` before the first of this process.
    pub(super) applied_at: Option<i64>,
}

/// Metrics in the version that answers.
pub(super) fn answering(state: &AppState) -> impl Iterator<Item = &Metric> {
    state.domain.metrics.iter().filter(|metric| {
        let answers = state.cache.engine().answering(&metric.name);
        answers.is_some_and(|answers| answers.index == metric.index)
    })
}

/// How fresh each metric is at `now` (µs); blocks.
pub(super) fn of_metrics(state: &AppState, now: i64) -> Result<Vec<MetricFreshness>, StoreError> {
    let partitions = state.readers.partitions()?;
    let partitions = partitions.iter().map(|partition| (partition.watermark, partition.updated_at));
    let data_through = data_through(partitions, now);
    answering(state)
        .map(|metric| {
            let graph = &state.domain.graph;
            let relations = graph.relations_of.get(metric.index).map_or(&[][..], Vec::as_slice);
            let mut fresh = MetricFreshness {
                name: metric.name.clone(),
                data_through,
                last_event_at: None,
                applied_at: None,
            };
            for relation in relations {
                let touch = state.pipeline.touch(*relation);
                fresh.applied_at = fresh.applied_at.max(touch.applied_at);
                let newest = match touch.newest {
                    None => newest(state, *relation)?,
                    known => known,
                };
                fresh.last_event_at = fresh.last_event_at.max(newest);
            }
            Ok(fresh)
        })
        .collect()
}

/// The newest time in the stored rows of a relation. Asked once: then commits tell it.
fn newest(state: &AppState, relation: Relation) -> Result<Option<i64>, StoreError> {
    let (table, time) = match relation {
        Relation::Family(family) => (state.domain.families[family].table(), column::TIME),
        Relation::Ingest => {
            (contracts::model::ingest::TABLE.to_owned(), contracts::model::ingest::ARRIVED_AT)
        }
        // What moves an entity stands among the relations below it.
        Relation::Entity(_) => return Ok(None),
    };
    let sql = format!("select epoch_us(max({})) from {}", quote(time), quote(&table));
    let stored = state.readers.with("find the newest event", |conn| {
        conn.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))
    })?;
    // What the journal has given up was there, too.
    let trimmed = state.readers.trimmed();
    let stored = stored.max(trimmed.and_then(|trimmed| match relation {
        Relation::Ingest => trimmed.latest_arrived_at,
        _ => trimmed.families.get(&table).map(|family| family.latest),
    }));
    if let Some(stored) = stored {
        state.pipeline.found(relation, stored);
    }
    Ok(stored)
}
