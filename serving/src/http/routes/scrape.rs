//! `GET /metrics`: counters for Prometheus, and every metric whose contract says `gauge: true` for the
//! tenant whose key the scraper shows.

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use contracts::model::Metric;
use pipeline::source::kafka::{KafkaProbe, partition_name};
use pipeline::store::Journal;

use super::health::{self, Health};
use crate::http::error::ApiError;
use crate::http::freshness;
use crate::http::state::{AppState, Caller};
use crate::http::time;
use crate::question::{MetricQuestion, Value};
use crate::telemetry::{
    Gauges, JOURNAL_COMPLETE_AFTER, JOURNAL_OLDEST_POSITION, JOURNAL_POSITION,
    JOURNAL_TRIMMED_EVENTS, LAKE_LAG_EVENTS, LAKE_LAG_SECONDS, METRIC_STATE_BUILDING,
    METRIC_STATE_GROUPS, METRIC_STATE_PIECE_BYTES, METRIC_STATE_WHOLE,
};

/// Counters and gauges in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The Prometheus text format.", body = String,
        content_type = "text/plain")),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Option<Extension<Caller>>,
) -> Result<Response, ApiError> {
    let text = state
        .blocking(move |state| {
            let gauges = gauges(state, caller.as_deref());
            state.telemetry.render(&gauges).map_err(|error| ApiError::internal(error.to_string()))
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// What the store, the lake and the metrics say now. What cannot be read is left out: a scrape
/// that fails as a whole would hide everything else.
fn gauges(state: &AppState, caller: Option<&Caller>) -> Gauges {
    let gauges = Gauges::new();
    let now = time::now();
    if let Ok(last_seq) = state.readers.last_seq() {
        gauges.set(JOURNAL_POSITION, last_seq as f64);
    }
    if let Some(trimmed) = state.readers.trimmed() {
        gauges.set(JOURNAL_OLDEST_POSITION, (trimmed.seq + 1) as f64);
        gauges.set(JOURNAL_TRIMMED_EVENTS, trimmed.events as f64);
        if let Some(at) = trimmed.latest_event_time {
            gauges.set(JOURNAL_COMPLETE_AFTER, at as f64 / 1e6);
        }
    }
    for (outcome, reasons) in state.readers.counts_by_reason().unwrap_or_default() {
        for (reason, count) in reasons {
            gauges.records(&outcome, &reason, count);
        }
    }
    for partition in state.readers.partitions().unwrap_or_default() {
        gauges.partition(&partition);
    }
    for source in state.kafka.iter().map(KafkaProbe::status) {
        for partition in &source.partitions {
            let name = partition_name(&partition.topic, partition.partition);
            gauges.kafka_partition(&name, partition);
        }
        let freshness = source.canary.and_then(|canary| canary.freshness(now));
        if let Some(freshness) = freshness {
            gauges.canary(&source.brokers, freshness);
        }
    }
    for metric in freshness::of_metrics(state, now).unwrap_or_default() {
        let age = metric.applied_at.map(|at| now.saturating_sub(at).max(0));
        gauges.metric_freshness(&metric.name, metric.data_through, metric.last_event_at, age);
    }
    if let Some(lake) = state.lake.as_ref().map(|view| view.status()) {
        gauges.set(LAKE_LAG_EVENTS, lake.lag_events as f64);
        gauges.set(LAKE_LAG_SECONDS, lake.lag_seconds);
        for table in &lake.tables {
            gauges.lake_table(&table.name, table.position, table.rows);
        }
    }
    let kept = state.readers.state().size();
    gauges.set(METRIC_STATE_WHOLE, kept.whole as f64);
    gauges.set(METRIC_STATE_BUILDING, (kept.all - kept.whole) as f64);
    gauges.set(METRIC_STATE_GROUPS, kept.groups as f64);
    gauges.set(METRIC_STATE_PIECE_BYTES, state.readers.state().bytes_of_pieces() as f64);
    let backfilling = state.readers.backfilling();
    for metric in &state.domain.metrics {
        if let Some(progress) = backfilling.metric(metric.index) {
            gauges.backfill("metric", &metric.name, metric.version, progress);
        }
    }
    for entity in &state.domain.entities {
        if let Some(progress) = backfilling.entity(entity.index) {
            gauges.backfill("entity", &entity.name, entity.version, progress);
        }
    }
    gauges.cache(&state.cache.stats());
    gauges.streams(&state.streams.stats());
    for component in health::components(state, now) {
        gauges.component(component.name, component.status == Health::Healthy);
    }
    let is_whole = |metric: &Metric| backfilling.metric(metric.index).is_none();
    // Numbers of a tenant are for those who have a key of it.
    let Some(caller) = caller else { return gauges };
    let is_shown = |metric: &&Metric| {
        metric.gauge && is_whole(metric) && caller.sees_metric(&state.domain, metric)
    };
    for metric in freshness::answering(state).filter(is_shown) {
        values(state, caller, metric, &gauges);
    }
    gauges
}

fn values(state: &AppState, caller: &Caller, metric: &Metric, gauges: &Gauges) {
    for window in &metric.windows {
        let question = MetricQuestion {
            metric: metric.name.clone(),
            version: Some(metric.version),
            tenant: caller.tenant.to_string(),
            window: Some(window.text.clone()),
            ..Default::default()
        };
        match state.cache.read(&question) {
            Ok(answer) => {
                // Prometheus knows doubles only; the exact value is under `/v1/metrics`.
                if let Some(value) = answer.value.as_ref().and_then(Value::as_f64) {
                    gauges.metric(&metric.name, &window.text, value);
                }
            }
            Err(error) => {
                tracing::warn!(metric = metric.name, window = window.text, %error, "no gauge");
            }
        }
    }
}
