//! The pipeline's own metrics, in one place: names, help texts, labels. Updated once per batch.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::batch::{DecodedBatch, RawBatch};
use crate::clock;
use crate::outcome::Counts;
use crate::store::PartitionState;

/// The pipeline's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Records by source, stage and what the stage did with them: `received`, `sent`, `dropped`.
    pub stage_records: IntCounterVec,
    /// Records that a stage dropped, by source, outcome and reason.
    pub dropped: IntCounterVec,
    /// Seconds per stage and transaction; `commit_…` are parts of `commit`.
    pub stage_seconds: HistogramVec,
    /// Seconds from the first stage of the writer to the commit, of each transaction.
    pub apply_seconds: Histogram,
    /// Seconds from a record's arrival (of a Kafka record: from the time that it carries) to the
    /// commit that made it visible, by source.
    pub append_to_applied_seconds: HistogramVec,
    /// Highest accepted event time per source partition, seconds since 1970.
    pub watermark_seconds: GaugeVec,
    /// Event time of the last accepted record per source partition, seconds since 1970.
    pub last_event_seconds: GaugeVec,
    /// Seconds from produced to visible of the canary's records.
    pub canary_seconds: Histogram,
    /// Batches that were not applied because their partition was taken away, by source.
    pub unapplied_batches: IntCounterVec,
    /// Records in those batches.
    pub unapplied_records: IntCounterVec,
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
        let gauge = |name: &str, help: &str| {
            GaugeVec::new(Opts::new(name, help), &["partition"]).expect("name and labels are valid")
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
                HistogramOpts::new("pipeline_stage_seconds", "Seconds per stage of the writer and transaction; commit_… are parts of commit.")
                    .buckets(seconds.clone()),
                &["stage"],
            )
            .expect("name and labels are valid"),
            apply_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "pipeline_apply_seconds",
                    "Seconds of a transaction, from the writer's first stage to the commit.",
                )
                .buckets(seconds),
            )
            .expect("name is valid"),
            append_to_applied_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "pipeline_append_to_applied_seconds",
                    "Seconds from a record's arrival to the commit that made it visible.",
                )
                // From a lone record on an idle machine to a backlog of hours.
                .buckets(vec![
                    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
                    60.0, 300.0, 1800.0, 7200.0,
                ]),
                &["source"],
            )
            .expect("name and labels are valid"),
            watermark_seconds: gauge(
                "pipeline_watermark_seconds",
                "Highest accepted event time per source partition, seconds since 1970.",
            ),
            last_event_seconds: gauge(
                "pipeline_last_event_seconds",
                "Event time of the last accepted record per source partition, seconds since 1970.",
            ),
            canary_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "agentflow_canary_visible_seconds",
                    "Seconds from the moment a canary was produced to the commit that made it visible.",
                )
                .buckets(vec![
                    0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0,
                    15.0, 60.0,
                ]),
            )
            .expect("name is valid"),
            unapplied_batches: counter(
                "pipeline_unapplied_batches_total",
                "Batches left unapplied because their partition was taken away; whoever has it now \
                 reads them again.",
                &["source"],
            ),
            unapplied_records: counter(
                "pipeline_unapplied_records_total",
                "Records in batches left unapplied because their partition was taken away.",
                &["source"],
            ),
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
        registry.register(Box::new(self.append_to_applied_seconds.clone()))?;
        registry.register(Box::new(self.watermark_seconds.clone()))?;
        registry.register(Box::new(self.last_event_seconds.clone()))?;
        registry.register(Box::new(self.canary_seconds.clone()))?;
        registry.register(Box::new(self.unapplied_batches.clone()))?;
        registry.register(Box::new(self.unapplied_records.clone()))?;
        registry.register(Box::new(self.skipped_offsets.clone()))?;
        registry.register(Box::new(self.topic_records.clone()))?;
        registry.register(Box::new(self.topic_owed.clone()))
    }
}

/// Shows the event times of a partition as committed.
pub(crate) fn show_partition(partition: &PartitionState) {
    let name = partition.name.as_str();
    let shown = [
        (&METRICS.watermark_seconds, partition.watermark),
        (&METRICS.last_event_seconds, partition.last_event_at),
    ];
    for (gauge, time) in shown {
        if let Some(time) = time {
            gauge.with_label_values(&[name]).set(time as f64 / 1e6);
        }
    }
}

/// Counts a batch that was left unapplied.
pub(crate) fn count_unapplied(batch: &RawBatch) {
    let source = &[batch.source];
    METRICS.unapplied_batches.with_label_values(source).inc();
    METRICS.unapplied_records.with_label_values(source).inc_by(batch.records.len() as u64);
}

/// Notes how long each record of a batch took that was committed at `now` (µs).
fn observe_records(batch: &RawBatch, now: i64) {
    let histogram = METRICS.append_to_applied_seconds.with_label_values(&[batch.source]);
    // Counted without locks or atomics, added at once.
    let local = histogram.local();
    for record in &batch.records {
        local.observe(now.saturating_sub(record.arrived_at).max(0) as f64 / 1e6);
    }
    local.flush();
}

/// Counts a committed batch.
pub(crate) fn count_batch(
    batch: &DecodedBatch,
    counts: &Counts,
    rejected: &BTreeMap<&'static str, u64>,
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
    observe_records(&batch.raw, clock::now());
}

/// Notes where the time of a transaction went.
pub(crate) fn count_transaction(stages: &[(&str, Duration)], whole: Duration) {
    for (stage, spent) in stages {
        METRICS.stage_seconds.with_label_values(&[stage]).observe(spent.as_secs_f64());
    }
    METRICS.apply_seconds.observe(whole.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Attached, RawRecord};

    #[test]
    fn every_record_of_a_batch_is_observed() {
        let record = |arrived_at| RawRecord {
            start: 0,
            len: 0,
            offset: 0,
            arrived_at,
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        };
        let batch = RawBatch {
            partition: "test".into(),
            source: "a source of this test",
            bytes: Vec::new(),
            // A clock that was set back makes no negative time.
            records: [1_000_000, 2_500_000, 9_000_000].into_iter().map(record).collect(),
            next_offset: 3,
            fingerprint: None,
            format: contracts::model::Format::Json,
            claim: None,
        };
        observe_records(&batch, 3_000_000);
        let histogram = METRICS.append_to_applied_seconds.with_label_values(&[batch.source]);
        assert_eq!((histogram.get_sample_count(), histogram.get_sample_sum()), (3, 2.5));
    }
}
