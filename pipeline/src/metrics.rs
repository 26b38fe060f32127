//! The pipeline's own metrics, in one place: names, help texts, labels. Updated once per batch.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::batch::DecodedBatch;
use crate::outcome::Counts;

/// The pipeline's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Records by source, stage and what the stage did with them: `received`, `sent`, `dropped`.
    pub stage_records: IntCounterVec,
    /// Records that a stage dropped, by source, outcome and reason.
    pub dropped: IntCounterVec,
    /// Seconds per stage and batch.
    pub stage_seconds: HistogramVec,
    /// Seconds from the first stage of the writer to the commit.
    pub apply_seconds: Histogram,
    /// Highest accepted event time per source partition, seconds since 1970.
    pub watermark_seconds: IntGaugeVec,
    /// Offsets of a Kafka topic that a declared policy skipped.
    pub skipped_offsets: IntCounterVec,
    /// Records published, by topic.
    pub topic_records: IntCounterVec,
    /// Records that a topic is owed.
    pub topic_owed: IntGaugeVec,
}

/// All of them. One process has one pipeline.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("name and labels are valid")
        };
        let seconds = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
        Self {
            stage_records: counter(
                "pipeline_stage_records_total",
                "Records by source, stage and what the stage did with them.",
                &["source", "stage", "result"],
            ),
            dropped: counter(
                "pipeline_dropped_records_total",
                "Records that left the pipeline before the journal, by outcome and reason.",
                &["source", "outcome", "reason"],
            ),
            stage_seconds: HistogramVec::new(
                HistogramOpts::new("pipeline_stage_seconds", "Seconds per stage and batch.")
                    .buckets(seconds.clone()),
                &["stage"],
            )
            .expect("name and labels are valid"),
            apply_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "pipeline_apply_seconds",
                    "Seconds from a batch's first stage in the writer to its commit.",
                )
                .buckets(seconds),
            )
            .expect("name is valid"),
            watermark_seconds: IntGaugeVec::new(
                Opts::new(
                    "pipeline_watermark_seconds",
                    "Highest accepted event time per source partition, seconds since 1970.",
                ),
                &["partition"],
            )
            .expect("name and labels are valid"),
            skipped_offsets: counter(
                "pipeline_kafka_skipped_offsets_total",
                "Offsets of a Kafka topic that the policy for offsets out of range skipped.",
                &["topic"],
            ),
            topic_records: counter(
                "pipeline_topic_records_total",
                "Records published from the journal, by topic.",
                &["topic"],
            ),
            topic_owed: IntGaugeVec::new(
                Opts::new(
                    "pipeline_topic_owed_records",
                    "Records of the journal that are not in their topic yet.",
                ),
                &["topic"],
            )
            .expect("name and labels are valid"),
        }
    }

    /// Registers all of them.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.stage_records.clone()))?;
        registry.register(Box::new(self.dropped.clone()))?;
        registry.register(Box::new(self.stage_seconds.clone()))?;
        registry.register(Box::new(self.apply_seconds.clone()))?;
        registry.register(Box::new(self.watermark_seconds.clone()))?;
        registry.register(Box::new(self.skipped_offsets.clone()))?;
        registry.register(Box::new(self.topic_records.clone()))?;
        registry.register(Box::new(self.topic_owed.clone()))
    }
}

/// Counts a committed batch.
pub(crate) fn count_batch(
    batch: &DecodedBatch,
    counts: &Counts,
    rejected: &BTreeMap<&'static str, u64>,
    elapsed: Duration,
) {
    let source = batch.raw.source;
    let stage = |stage: &str, received: u64, sent: u64| {
        let count = |result: &str, n: u64| {
            METRICS.stage_records.with_label_values(&[source, stage, result]).inc_by(n);
        };
        count("received", received);
        count("sent", sent);
        count("dropped", received - sent);
    };
    let dropped_before = (batch.rejected.len() + batch.ignored.len()) as u64;
    let decoded = counts.received - dropped_before;
    stage("decode_validate", counts.received, decoded);
    stage("admit", decoded, counts.accepted);
    stage("commit", counts.accepted, counts.accepted);
    for (reason, n) in rejected {
        METRICS.dropped.with_label_values(&[source, "rejected", reason]).inc_by(*n);
    }
    let others = [("duplicate", counts.duplicate), ("discarded", counts.discarded)];
    for (outcome, n) in others.into_iter().filter(|(_, n)| *n > 0) {
        METRICS.dropped.with_label_values(&[source, outcome, ""]).inc_by(n);
    }
    METRICS.apply_seconds.observe(elapsed.as_secs_f64());
}
