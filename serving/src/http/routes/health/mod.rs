//! `GET /v1/health`, `/health/live`, `/health/ready`.
//!
//! `/v1/health` always answers 200 and says how each component is; the worst one is the whole's
//! status. `/health/ready` answers 503 until reads and writes work. `/health/live` asks nothing:
//! as long as it answers, the process lives.

mod kafka;
mod topics;

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pipeline::outcome::Counts;
use pipeline::sink::iceberg::{LakeStatus, TableStatus};
use pipeline::sink::kafka::PublisherProbe;
use pipeline::source::kafka::KafkaProbe;
use pipeline::store::{Journal, PartitionState, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use kafka::KafkaBody;
use topics::TopicBody;

use crate::http::error::ApiError;
use crate::http::freshness::{self, MetricFreshness};
use crate::http::ledger;
use crate::http::monitor::{PipelineMonitor, PipelineState};
use crate::http::query::Parameters;
use crate::http::reload::ContractsStatus;
use crate::http::state::{AppState, HttpOptions};
use crate::http::time::{self, Time, seconds_between};
use crate::store::{Backfilling, Trimmed};

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct HealthBody {
    /// The worst of the components.
    status: Health,
    /// When they were asked.
    checked_at: Time,
    /// `pipeline`, `serving`, `duckdb_pool`, `freshness`, `quality`, and `backfill`, `contracts`, `lake`, `kafka`, `canary`, `topics` and
    /// `schema_registry` where there is one.
    components: Vec<Component>,
    /// How fresh each metric is.
    metrics: Vec<MetricHealth>,
}

/// How fresh a metric is.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MetricHealth {
    /// Name of the metric.
    name: String,
    /// Every active source partition has delivered its events up to this event time.
    data_through: Option<Time>,
    /// Newest event time in what the metric stands on; for a metric over `ingest` the newest
    /// arrival.
    last_event_at: Option<Time>,
    /// Seconds since then.
    age_seconds: Option<f64>,
    /// When a commit last touched what the metric stands on; null before the first one since the
    /// server's start.
    applied_at: Option<Time>,
}

impl MetricHealth {
    fn new(fresh: MetricFreshness, now: i64) -> Self {
        Self {
            name: fresh.name,
            data_through: fresh.data_through.map(Time),
            last_event_at: fresh.last_event_at.map(Time),
            age_seconds: fresh.last_event_at.map(|at| seconds_between(at, now).max(0.0)),
            applied_at: fresh.applied_at.map(Time),
        }
    }
}

/// How something is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Health {
    /// All is well.
    Healthy,
    /// It works, but less well than it should.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// One component.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Component {
    /// Name.
    pub(in super::super) name: &'static str,
    /// How it is.
    pub(in super::super) status: Health,
    /// Why, when it is not healthy.
    message: String,
    /// What was asked.
    source: &'static str,
    /// Figures behind the status.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    metrics: serde_json::Map<String, serde_json::Value>,
    /// Of the component `kafka`: one entry per source that reads Kafka.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kafka: Vec<KafkaBody>,
    /// Of the component `topics`: one entry per topic that is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<TopicBody>,
}

impl Component {
    fn new(name: &'static str, source: &'static str) -> Self {
        let metrics = serde_json::Map::new();
        Self {
            name,
            status: Health::Healthy,
            message: String::new(),
            source,
            metrics,
            kafka: Vec::new(),
            topics: Vec::new(),
        }
    }

    fn status(mut self, status: Health, message: impl Into<String>) -> Self {
        self.status = status;
        self.message = message.into();
        self
    }

    fn figure(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.metrics.insert(name.to_owned(), value.into());
        self
    }
}

/// How each component is.
#[utoipa::path(
    get,
    path = "/v1/health",
    tag = "health",
    responses((status = 200, description = "How each component is.", body = HealthBody)),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Json<HealthBody>, ApiError> {
    parameters.only(&[])?;
    let checked_at = time::now();
    let (components, metrics) = state
        .blocking(move |state| {
            // A store that does not answer is told by its components.
            let metrics = freshness::of_metrics(state, checked_at).unwrap_or_default();
            Ok::<_, ApiError>((components(state, checked_at), metrics))
        })
        .await?;
    let status = components.iter().map(|component| component.status).max();
    Ok(Json(HealthBody {
        status: status.unwrap_or(Health::Healthy),
        checked_at: Time(checked_at),
        components,
        metrics: metrics.into_iter().map(|fresh| MetricHealth::new(fresh, checked_at)).collect(),
    }))
}

/// Asks every component; blocks.
pub(super) fn components(state: &AppState, now: i64) -> Vec<Component> {
    let started = Instant::now();
    let last_seq = state.readers.last_seq();
    let mut components = vec![
        pipeline(&state.pipeline, now),
        serving(&last_seq, started.elapsed(), state.readers.trimmed().as_deref()),
        pool(state.readers.busy()),
        watermarks(state.readers.partitions(), now, &state.options),
        quality(ledger::counts_since(&state.readers, now - HOUR)),
    ];
    components.extend(backfill(state.readers.backfilling()));
    components.extend(state.contracts.as_ref().map(|live| contracts(&live.status(), now)));
    components.extend(state.lake.as_ref().map(|view| lake(&view.status(), now)));
    if !state.kafka.is_empty() {
        let sources: Vec<_> = state.kafka.iter().map(KafkaProbe::status).collect();
        let canaries = sources.iter().filter_map(|source| source.canary.as_ref());
        let canaries: Vec<_> = canaries.map(|status| kafka::canary(status, now)).collect();
        components.push(kafka::component(sources));
        components.extend(canaries);
    }
    if !state.publishers.is_empty() {
        let publishers = state.publishers.iter().map(PublisherProbe::status);
        components.push(topics::component(publishers.collect()));
    }
    if let Some(registry) = &state.registry {
        components.push(topics::registry(&registry.status(), now));
    }
    components
}

const HOUR: i64 = 3_600_000_000;

fn pipeline(monitor: &PipelineMonitor, now: i64) -> Component {
    let mut component = Component::new("pipeline", "writer");
    if let Some(at) = monitor.last_commit_at() {
        component = component.figure("last_commit_age_seconds", seconds_between(at, now));
    }
    match monitor.state() {
        PipelineState::Running => component,
        PipelineState::Starting(what) => component.status(Health::Degraded, what),
        PipelineState::Refused(why) | PipelineState::Stopped(why) => {
            component.status(Health::Unhealthy, why)
        }
    }
}

fn serving(
    last_seq: &Result<i64, StoreError>,
    took: Duration,
    trimmed: Option<&Trimmed>,
) -> Component {
    let component = Component::new("serving", "store");
    match last_seq {
        Ok(position) => {
            let component =
                component.figure("position", *position).figure("read_seconds", took.as_secs_f64());
            let Some(trimmed) = trimmed else { return component };
            let component = component
                .figure("oldest_position", trimmed.seq + 1)
                .figure("trimmed_events", trimmed.events);
            match trimmed.latest_event_time {
                // Every event after this time is in the store.
                Some(at) => component.figure("complete_after_seconds", at as f64 / 1e6),
                None => component,
            }
        }
        Err(error) => no_answer(component, error),
    }
}

/// The connections that reads share. That all are at work is nothing bad: who asks waits a moment.
fn pool((busy, all): (usize, usize)) -> Component {
    Component::new("duckdb_pool", "store").figure("busy", busy).figure("connections", all)
}

/// Old rows that are being brought in line with changed contracts: nothing that answered before waits.
fn backfill(backfilling: &Backfilling) -> Option<Component> {
    let progress = backfilling.all()?;
    let component = Component::new("backfill", "writer")
        .figure("done", progress.done)
        .figure("total", progress.total);
    Some(match backfilling.problem() {
        None => component,
        Some(_) => component.status(
            Health::Degraded,
            "it needs rows of the lake, which cannot be read; it is tried again, the log says why",
        ),
    })
}

/// Contracts that cannot be taken up harm nobody: those before answer.
fn contracts(status: &ContractsStatus, now: i64) -> Component {
    let component = Component::new("contracts", "folder")
        .figure("reloads", status.reloads)
        .figure("age_seconds", seconds_between(status.loaded_at, now).max(0.0));
    let Some(problem) = &status.problem else { return component };
    let more = match problem.findings.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and {more} more, see the log)"),
    };
    let first = problem.findings.first().map(|finding| finding.message.as_str());
    component
        .figure("problem_age_seconds", seconds_between(problem.since, now).max(0.0))
        .figure("findings", problem.findings.len())
        .status(
            Health::Degraded,
            format!(
                "what is in the folder is not in use since {}: {}{more}",
                Time(problem.since),
                first.unwrap_or("no reason")
            ),
        )
}

/// What a component of the store says when it cannot say anything.
fn no_answer(component: Component, error: &StoreError) -> Component {
    tracing::error!(%error, component = component.name, "the store does not answer");
    component.status(Health::Unhealthy, "the store does not answer")
}

fn watermarks(
    partitions: Result<Vec<PartitionState>, StoreError>,
    now: i64,
    options: &HttpOptions,
) -> Component {
    let component = Component::new("freshness", "watermarks");
    let partitions = match partitions {
        Ok(partitions) => partitions,
        Err(error) => return no_answer(component, &error),
    };
    let Some(newest) = partitions.iter().filter_map(|partition| partition.watermark).max() else {
        return component.status(Health::Degraded, "no event has arrived yet");
    };
    let age = seconds_between(newest, now).max(0.0);
    let component = component.figure("last_event_age_seconds", age);
    let (fresh, stale) = (options.fresh_within.as_secs_f64(), options.stale_after.as_secs_f64());
    if age <= fresh {
        component
    } else if age <= stale {
        component.status(Health::Degraded, format!("no event newer than {fresh} seconds"))
    } else {
        component.status(Health::Unhealthy, format!("no event newer than {stale} seconds"))
    }
}

fn quality(counts: Result<Counts, StoreError>) -> Component {
    let component = Component::new("quality", "records of the last hour");
    let counts = match counts {
        Ok(counts) => counts,
        Err(error) => return no_answer(component, &error),
    };
    let component =
        component.figure("received", counts.received).figure("rejected", counts.rejected);
    if counts.received == 0 {
        return component;
    }
    let pass_rate = 1.0 - counts.rejected as f64 / counts.received as f64;
    let component = component.figure("pass_rate", pass_rate);
    let message = "too many events are rejected; `/v1/deadletter` says why";
    if pass_rate >= 0.99 {
        component
    } else if pass_rate >= 0.95 {
        component.status(Health::Degraded, message)
    } else {
        component.status(Health::Unhealthy, message)
    }
}

/// Never worse than degraded: serving goes on without the lake, and the journal keeps what the lake
/// is owed.
fn lake(status: &LakeStatus, now: i64) -> Component {
    let mut component = Component::new("lake", "follower")
        .figure("lag_events", status.lag_events)
        .figure("lag_seconds", status.lag_seconds)
        .figure("commits", status.commits);
    if let Some(at) = status.last_commit_at {
        component = component.figure("last_commit_age_seconds", seconds_between(at, now));
    }
    let sum = |count: fn(&TableStatus) -> u64| status.tables.iter().map(count).sum::<u64>();
    component = component
        .figure("files", sum(|table| table.files))
        .figure("bytes", sum(|table| table.bytes))
        .figure("snapshots", sum(|table| table.snapshots));
    if let Some(maintenance) = &status.maintenance {
        let age = seconds_between(maintenance.ended_at, now);
        component = component.figure("last_maintenance_age_seconds", age);
    }
    let unmaintained = status.maintenance.as_ref().is_some_and(|done| done.last_error.is_some());
    let halted = status.tables.iter().find(|table| table.halted.is_some());
    // Causes name places of the inside: they are for the log.
    if let Some(table) = halted {
        let message = format!("table `{}` is no longer followed; the log says why", table.name);
        component.status(Health::Degraded, message)
    } else if !status.running {
        component.status(Health::Degraded, "the follower has stopped; the log says why")
    } else if status.last_error.is_some() {
        let message = "the last commit failed and is tried again; the log says why";
        component.status(Health::Degraded, message)
    } else if unmaintained {
        component.status(Health::Degraded, "the last maintenance failed; the log says why")
    } else {
        component
    }
}

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Live {
    /// Always `alive`.
    status: &'static str,
}

/// Does the process live?
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    responses((status = 200, description = "It does.", body = Live)),
)]
pub(in super::super) async fn live() -> Json<Live> {
    Json(Live { status: "alive" })
}

/// Can the server do its work?
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Ready {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// What was asked.
    checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
struct Check {
    /// What.
    name: &'static str,
    /// `ok` or `failed`.
    status: &'static str,
}

/// Can the server read and write?
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    responses(
        (status = 200, description = "It can.", body = Ready),
        (status = 503, description = "It cannot, yet or any more.", body = Ready),
    ),
)]
pub(in super::super) async fn ready(State(state): State<AppState>) -> Result<Response, ApiError> {
    let store = state.blocking(|state| Ok::<_, ApiError>(state.readers.last_seq().is_ok())).await?;
    let writer = state.pipeline.state() == PipelineState::Running;
    let check = |name, ok| Check { name, status: if ok { "ok" } else { "failed" } };
    let ready = store && writer;
    let body = Ready {
        status: if ready { "ready" } else { "not_ready" },
        checks: vec![check("store", store), check("pipeline", writer)],
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(body)).into_response())
}
