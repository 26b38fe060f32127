//! What `/metrics` shows. All names of this crate are in this file; those of the pipeline are in
//! [`pipeline::metrics`] and are shown beside them.
//!
//! Requests are counted as they are answered ([`Telemetry`]). What the store, the cache, the lake
//! and the metrics themselves say is read when somebody asks ([`Gauges`]), into a registry of that
//! one answer, so that two answers at once do not mix.
//!
//! Labels are bounded: stages, reasons, route templates, declared metrics and windows, partitions.

use std::time::Duration;

use contracts::model::Domain;
use pipeline::source::kafka::KafkaPartition;
use pipeline::store::{Committed, PartitionState};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::cache::CacheStats;
use crate::store::BackfillProgress;
use crate::stream::StreamStats;

/// What happened in this process.
pub struct Telemetry {
    registry: Registry,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    shown_seconds: HistogramVec,
    freshness_seconds: HistogramVec,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// Counters at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        pipeline::metrics::METRICS.register(&registry).expect(VALID);
        Self {
            http_requests: counter(
                &registry,
                "agentflow_http_requests_total",
                "Requests answered, by route template and status",
                &["method", "route", "status"],
            ),
            http_seconds: register(
                &registry,
                HistogramVec::new(
                    histogram_opts(
                        "agentflow_http_request_duration_seconds",
                        "Time of one request, by route template",
                        (0.000_25, 2.0, 17),
                    ),
                    &["route"],
                )
                .expect(VALID),
            ),
            freshness_seconds: register(
                &registry,
                HistogramVec::new(
                    histogram_opts(
                        "agentflow_metric_freshness_seconds",
                        "Seconds from the newest event of a commit to its place in the metric",
                        (0.005, 2.0, 16),
                    ),
                    &["metric"],
                )
                .expect(VALID),
            ),
            shown_seconds: register(
                &registry,
                HistogramVec::new(
                    histogram_opts(
                        "agentflow_metric_event_to_answer_seconds",
                        "Seconds from the arrival of a record to the first answer that includes it, of the oldest \
                         record that no answer had included: how often it is asked counts, too",
                        (0.005, 2.0, 16),
                    ),
                    &["metric"],
                )
                .expect(VALID),
            ),
            registry,
        }
    }

    /// Notes how fresh a commit at `now` (µs) made the metrics that it moved.
    pub fn committed(&self, domain: &Domain, committed: &Committed, now: i64) {
        for metric in &domain.metrics {
            let Some(relations) = domain.graph.relations_of.get(metric.index) else { continue };
            let moved =
                committed.newest.iter().filter(|(relation, _)| relations.contains(relation));
            if let Some(newest) = moved.map(|(_, newest)| *newest).max() {
                let age = now.saturating_sub(newest).max(0) as f64 / 1e6;
                self.freshness_seconds.with_label_values(&[&metric.name]).observe(age);
            }
        }
    }

    /// Notes how long (µs) the oldest record waited that an answer of the metric is the first to include.
    pub fn shown(&self, metric: &str, waited: i64) {
        let seconds = waited.max(0) as f64 / 1e6;
        self.shown_seconds.with_label_values(&[metric]).observe(seconds);
    }

    /// Counts one answered request. `route` is the template, never the path.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.http_requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.http_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Everything in the Prometheus text format, these counters first.
    pub fn render(&self, gauges: &Gauges) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(gauges.registry.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// A gauge without labels: name and help.
#[derive(Debug, Clone, Copy)]
pub struct Plain(&'static str, &'static str);

/// Last journal sequence number.
pub const JOURNAL_POSITION: Plain =
    Plain("agentflow_journal_position", "Last committed journal sequence number");
/// Where the journal begins, after some of it was trimmed.
pub const JOURNAL_OLDEST_POSITION: Plain = Plain(
    "agentflow_journal_oldest_position",
    "Journal sequence number from which on events are in the store; older ones are in the lake only",
);
/// Up to which event time some are gone.
pub const JOURNAL_COMPLETE_AFTER: Plain = Plain(
    "agentflow_journal_complete_after_timestamp_seconds",
    "Event time after which every event is in the store",
);
/// How many are gone.
pub const JOURNAL_TRIMMED_EVENTS: Plain = Plain(
    "agentflow_journal_trimmed_events",
    "Events that are in the lake only, since the store was made",
);
/// Of how much state is kept.
pub const METRIC_STATE_WHOLE: Plain = Plain(
    "agentflow_metric_state_whole",
    "Metrics and counts that answers are read from instead of rows",
);
/// Of how much it is not there yet.
pub const METRIC_STATE_BUILDING: Plain = Plain(
    "agentflow_metric_state_building",
    "Metrics and counts whose state is being built from rows",
);
/// How many groups it has.
pub const METRIC_STATE_GROUPS: Plain =
    Plain("agentflow_metric_state_groups", "Groups of rows in the state of metrics");
/// What it keeps of single minutes and hours.
pub const METRIC_STATE_PIECE_BYTES: Plain = Plain(
    "agentflow_metric_state_piece_bytes",
    "Bytes of rows and values of single minutes and hours that are kept decoded",
);
/// What the lake still owes.
pub const LAKE_LAG_EVENTS: Plain =
    Plain("agentflow_lake_lag_events", "Journal positions that not every lake table covers yet");
/// For how long it has owed something.
pub const LAKE_LAG_SECONDS: Plain = Plain(
    "agentflow_lake_lag_seconds",
    "Seconds since the lake last held everything that the journal had",
);
/// What is read at the moment of asking.
pub struct Gauges {
    registry: Registry,
    records: IntCounterVec,
    source: IntGaugeVec,
    source_applied: GaugeVec,
    source_end: IntGaugeVec,
    source_lag_records: IntGaugeVec,
    source_lag_seconds: GaugeVec,
    source_halted: IntGaugeVec,
    canary: GaugeVec,
    invalidations: IntCounter,
    cache: IntCounterVec,
    lake_position: IntGaugeVec,
    lake_rows: IntGaugeVec,
    metric: GaugeVec,
    metric_data_through: GaugeVec,
    metric_last_event: GaugeVec,
    metric_age: GaugeVec,
    backfill_done: IntGaugeVec,
    backfill_total: IntGaugeVec,
    streams: IntGaugeVec,
    stream_frames: IntCounterVec,
    stream_ends: IntCounterVec,
    up: IntGaugeVec,
}

impl Default for Gauges {
    fn default() -> Self {
        Self::new()
    }
}

impl Gauges {
    /// None yet.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            records: counter(
                &registry,
                "agentflow_records_total",
                "Records since the store was made, by outcome and reason",
                &["outcome", "reason"],
            ),
            source: gauge_int(
                &registry,
                "agentflow_source_next_offset",
                "Position that a source partition continues from",
                &["partition"],
            ),
            source_applied: gauge(
                &registry,
                "agentflow_source_applied_seconds",
                "When a source partition's last batch was applied, seconds since 1970",
                &["partition"],
            ),
            source_end: gauge_int(
                &registry,
                "agentflow_source_end_offset",
                "Offset after the last record that a source partition has, where the source tells",
                &["partition"],
            ),
            source_lag_records: gauge_int(
                &registry,
                "agentflow_source_lag_records",
                "Records of a source partition that are not applied yet",
                &["partition"],
            ),
            source_lag_seconds: gauge(
                &registry,
                "agentflow_source_lag_seconds",
                "Seconds since the last applied record was appended; 0 while nothing waits",
                &["partition"],
            ),
            source_halted: gauge_int(
                &registry,
                "agentflow_source_halted",
                "1 for a partition that was stopped and needs a person; `/v1/health` says why",
                &["partition"],
            ),
            canary: gauge(
                &registry,
                "agentflow_canary_freshness_seconds",
                "Seconds from produced to visible of the canary's last record, or the age of the next \
                 once that is older; absent while nothing is measured",
                &["brokers"],
            ),
            cache: counter(
                &registry,
                "agentflow_cache_requests_total",
                "Reads that could come from the cache, by result",
                &["result"],
            ),
            invalidations: register(
                &registry,
                IntCounter::new(
                    "agentflow_cache_invalidations_total",
                    "Relations and tenants that commits have touched",
                )
                .expect(VALID),
            ),
            lake_position: gauge_int(
                &registry,
                "agentflow_lake_table_position",
                "Journal position up to which a lake table is complete",
                &["table"],
            ),
            lake_rows: gauge_int(
                &registry,
                "agentflow_lake_table_rows",
                "Rows in a lake table",
                &["table"],
            ),
            metric: gauge(
                &registry,
                "agentflow_metric_value",
                "Value of a declared metric, where its contract says `gauge: true`",
                &["metric", "window"],
            ),
            metric_data_through: gauge(
                &registry,
                "agentflow_metric_data_through_seconds",
                "Event time up to which every active source partition has delivered, seconds since 1970",
                &["metric"],
            ),
            metric_last_event: gauge(
                &registry,
                "agentflow_metric_last_event_seconds",
                "Newest event time in what a metric stands on, seconds since 1970",
                &["metric"],
            ),
            metric_age: gauge(
                &registry,
                "agentflow_metric_age_seconds",
                "Seconds since a commit last touched what a metric stands on",
                &["metric"],
            ),
            backfill_done: gauge_int(
                &registry,
                "agentflow_backfill_done_positions",
                "Positions of the journal that are done for a version that is being backfilled",
                &["kind", "name", "version"],
            ),
            backfill_total: gauge_int(
                &registry,
                "agentflow_backfill_total_positions",
                "Positions of the journal that have to be done for a version that is being backfilled",
                &["kind", "name", "version"],
            ),
            streams: gauge_int(
                &registry,
                "agentflow_streams_open",
                "Streams that are open, by what they carry",
                &["kind"],
            ),
            stream_frames: counter(
                &registry,
                "agentflow_stream_frames_total",
                "Frames handed to streams, by what they carry",
                &["kind"],
            ),
            stream_ends: counter(
                &registry,
                "agentflow_streams_dropped_total",
                "Streams that the server ended before their reader did, by reason",
                &["reason"],
            ),
            up: gauge_int(
                &registry,
                "agentflow_component_healthy",
                "1 healthy, 0 degraded or unhealthy, as in `/v1/health`",
                &["component"],
            ),
            registry,
        }
    }

    /// A contract's version that is being backfilled.
    pub fn backfill(&self, kind: &str, name: &str, version: u32, progress: BackfillProgress) {
        let version = version.to_string();
        let labels = &[kind, name, &version];
        self.backfill_done.with_label_values(labels).set(whole(progress.done));
        self.backfill_total.with_label_values(labels).set(whole(progress.total));
    }

    /// Totals of one outcome and reason (empty for none).
    pub fn records(&self, outcome: &str, reason: &str, count: u64) {
        self.records.with_label_values(&[outcome, reason]).inc_by(count);
    }

    /// A source partition as stored.
    pub fn partition(&self, partition: &PartitionState) {
        let name = &[partition.name.as_str()];
        self.source.with_label_values(name).set(whole(partition.next_offset));
        self.source_applied.with_label_values(name).set(seconds(partition.updated_at));
    }

    /// What a Kafka source says of the partition of that name.
    pub fn kafka_partition(&self, name: &str, partition: &KafkaPartition) {
        let name = &[name];
        self.source.with_label_values(name).set(whole(partition.position));
        self.source_halted.with_label_values(name).set(i64::from(partition.halted.is_some()));
        if let Some(end) = partition.end {
            self.source_end.with_label_values(name).set(whole(end));
        }
        if let Some(lag) = partition.lag {
            self.source_lag_records.with_label_values(name).set(whole(lag));
        }
        if let Some(lag) = partition.lag_micros {
            self.source_lag_seconds.with_label_values(name).set(seconds(lag));
        }
    }

    /// The freshness that the canary at these brokers measures, µs.
    pub fn canary(&self, brokers: &str, freshness: i64) {
        self.canary.with_label_values(&[brokers]).set(seconds(freshness));
    }

    /// How fresh a metric is, in µs: up to where its data are there, its newest event, the age of
    /// the last commit that touched it.
    pub fn metric_freshness(
        &self,
        metric: &str,
        data_through: Option<i64>,
        last_event_at: Option<i64>,
        age: Option<i64>,
    ) {
        let shown = [
            (&self.metric_data_through, data_through),
            (&self.metric_last_event, last_event_at),
            (&self.metric_age, age),
        ];
        for (gauge, micros) in shown {
            if let Some(micros) = micros {
                gauge.with_label_values(&[metric]).set(seconds(micros));
            }
        }
    }

    /// Sets a gauge without labels, once per answer.
    pub fn set(&self, gauge: Plain, value: f64) {
        let made = Gauge::new(gauge.0, gauge.1).expect(VALID);
        made.set(value);
        register(&self.registry, made);
    }

    /// Counts of the cache since the start.
    pub fn cache(&self, stats: &CacheStats) {
        self.cache.with_label_values(&["hit"]).inc_by(stats.hits);
        self.cache.with_label_values(&["miss"]).inc_by(stats.misses);
        self.invalidations.inc_by(stats.invalidations);
    }

    /// Streams: what is open, and counts since the start.
    pub fn streams(&self, stats: &StreamStats) {
        for (kind, open, frames) in stats.kinds {
            self.streams.with_label_values(&[kind]).set(open);
            self.stream_frames.with_label_values(&[kind]).inc_by(frames);
        }
        for (reason, count) in stats.ended {
            self.stream_ends.with_label_values(&[reason]).inc_by(count);
        }
    }

    /// How far a lake table is.
    pub fn lake_table(&self, table: &str, position: i64, rows: u64) {
        self.lake_position.with_label_values(&[table]).set(position);
        self.lake_rows.with_label_values(&[table]).set(whole(rows));
    }

    /// Value of a declared metric.
    pub fn metric(&self, metric: &str, window: &str, value: f64) {
        self.metric.with_label_values(&[metric, window]).set(value);
    }

    /// Is a component healthy?
    pub fn component(&self, name: &str, healthy: bool) {
        self.up.with_label_values(&[name]).set(i64::from(healthy));
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Why making and registering cannot fail: a test makes and renders all of them.
const VALID: &str = "names and buckets are constants of this file";

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), labels).expect(VALID))
}

fn gauge_int(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID))
}

/// `buckets`: the first bound, the factor between bounds, their number.
fn histogram_opts(name: &str, help: &str, buckets: (f64, f64, usize)) -> HistogramOpts {
    let (start, factor, count) = buckets;
    HistogramOpts::new(name, help)
        .buckets(prometheus::exponential_buckets(start, factor, count).expect(VALID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_one_answer_do_not_outlive_it() {
        let telemetry = Telemetry::new();
        let gauges = Gauges::new();
        gauges.metric("a", "1h", 2.5);
        for plain in [JOURNAL_POSITION, LAKE_LAG_EVENTS, LAKE_LAG_SECONDS] {
            gauges.set(plain, 1.0);
        }
        let text = String::from_utf8(telemetry.render(&gauges).unwrap()).unwrap();
        assert!(text.contains("agentflow_metric_value{metric=\"a\",window=\"1h\"} 2.5"));
        let text = String::from_utf8(telemetry.render(&Gauges::new()).unwrap()).unwrap();
        assert!(!text.contains("agentflow_metric_value"));
    }
}
