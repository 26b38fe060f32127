//! `agentflow run`: events from files through every stage, the lake included, and an account of
//! every one of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use pipeline::outcome::Counts;
use pipeline::registry::Registry;
use pipeline::runner::{RunError, RunReport, RunTimes, Runner, RunnerOptions, Stop};
use pipeline::sink::iceberg::Lake;
use pipeline::sink::kafka::PublisherStatus;
use pipeline::source::file::AtEnd;
use pipeline::store::{CountsByReason, Journal, PartitionState};
use serde::Serialize;
use serving::store::data_dir::DataDir;
use serving::store::{LakeArchive, Store, StoreOptions};

use super::{ContractsArg, DataArg, StateArg};
use crate::failure::{Context, Failure, chain};
use crate::lake_args::{self, LakeArgs};
use crate::output::{self, Output, OutputArgs};
use crate::progress::{self, Bar};
use crate::publish_args::{self, PublishArgs};
use crate::source_spec::{self, KafkaArgs, SourceSpec};
use crate::{domain, logging, opened, signals};

/// How long a commit that the disk or the store refuses is tried again, and a schema registry that
/// is away waited for, before the run gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
#[command(after_help = "Run it again to continue: what was committed is never read twice. An \
appended file goes on where it stopped, a replaced one is refused. Exit code 130: stopped by a \
signal before the end, everything up to there is committed.")]
pub(super) struct Run {
    #[command(flatten)]
    contracts: ContractsArg,
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    state: StateArg,
    /// Where events come from: `file:PATH`, newline-delimited JSON, plain, gzip or zstd; or
    /// `kafka:HOST:PORT`, the topics that the contracts name. May be repeated.
    #[arg(long, value_name = "SOURCE", required = true)]
    from: Vec<SourceSpec>,
    /// End when all sources have ended (a topic ends at the offsets that it has at the start);
    /// otherwise plain files and topics are followed as they grow.
    #[arg(long)]
    until_end: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    publish: PublishArgs,
    #[command(flatten)]
    lake: LakeArgs,
    /// Leave the lake as it is. What it owes stays in the journal and follows at the next run without
    /// this.
    #[arg(long, help_heading = "Lake", conflicts_with = "lake_catalog")]
    no_lake: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What became of the events.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    counts: Counts,
    rejected_by_reason: BTreeMap<String, u64>,
    events_per_second: f64,
    /// From the start of the process to the last commit of the lake and the topics.
    seconds: f64,
    /// Did every source come to its end?
    complete: bool,
    /// Journal sequence number of the last accepted event.
    position: i64,
    stages: Stages,
    total: Total,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<Published>,
}

/// What was published by this run.
#[derive(Debug, Serialize)]
struct Published {
    topic: String,
    records: u64,
    /// Position up to which the topic is complete.
    position: Option<i64>,
}

/// Since the data directory was made.
#[derive(Debug, Serialize)]
struct Total {
    #[serde(flatten)]
    counts: Counts,
    rejected_by_reason: BTreeMap<String, u64>,
    discarded_by_reason: BTreeMap<String, u64>,
    /// By source partition; each for itself is balanced.
    by_partition: BTreeMap<String, Counts>,
}

/// Seconds per stage. Stages run on several threads, so they do not add up to the whole.
#[derive(Debug, Serialize)]
struct Stages {
    read: f64,
    decode_validate: f64,
    admit: f64,
    enrich: f64,
    fold: f64,
    commit: f64,
    commit_append: f64,
    commit_replace: f64,
    commit_log: f64,
    commit_checkpoint: f64,
    waiting: f64,
    lake_after_the_end: f64,
    topics_after_the_end: f64,
    batches: u64,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let started = Instant::now();
        logging::start("warn");
        let domain = domain::load(&self.contracts.contracts)?;
        let now = chrono::Utc::now().timestamp_micros();
        let at_end = if self.until_end { AtEnd::Stop } else { AtEnd::Follow };
        // Before the data directory is made or taken: a typing error should leave nothing behind.
        let publish = self.publish.plan(&self.from, &self.kafka, &domain)?;
        let lake = self.lake.catalog()?;
        let opened = source_spec::open(&self.from, &self.kafka, &domain, at_end, now)?;

        // Before the directory is taken: from here on an end is a clean one.
        let stop = Stop::default();
        let asked = stop.clone();
        signals::on_end(move || asked.request())?;
        let directory =
            DataDir::lock(&self.data.data, "run", None).map_err(|error| opened::refused(&error))?;
        let lake = lake_args::config(&directory, lake)?;
        let options = StoreOptions {
            progress: Some(progress::of_store()),
            archive: Some(Arc::new(LakeArchive::new(lake.clone(), Arc::clone(&domain)))),
            metric_state: self.state.is_on(),
            ..Default::default()
        };
        let store = opened::open_with(&directory, Arc::clone(&domain), options)?;
        let bar = Bar::new("run");
        let mut runner = runner(&store, &domain, opened.schemas, bar.clone())?;
        for source in opened.sources {
            runner.add_source(source).map_err(|error| {
                Failure::input(chain(&error))
                    .hint("a data directory remembers how far it has read each file")
            })?;
        }
        let journal: Arc<dyn Journal> = Arc::new(store.readers());
        let publishers = publish_args::start(publish, &directory, &journal, &domain)?;
        let lake = match self.no_lake {
            true => None,
            false => {
                let lake = Lake::spawn(lake, journal, domain);
                Some(lake.ours(|| "start the lake".to_owned())?)
            }
        };

        let report = runner.run(&stop).map_err(|error| {
            let hint = match &error {
                RunError::Process(error) if error.is_disk_full() => {
                    "free some space and run again: what was committed is kept"
                }
                _ => "what was committed is kept: run again to continue",
            };
            Failure::ours(chain(&error)).hint(hint)
        })?;
        bar.finish();

        let processed_at = Instant::now();
        if let Some(lake) = lake {
            lake.flush(report.last_seq).map_err(|error| {
                Failure::ours(chain(&error)).hint(
                    "the events are safe in the journal: run again to bring the lake up to date",
                )
            })?;
            lake.stop();
        }
        let lake_flushed_at = Instant::now();
        publish_args::flush(&publishers)?;
        let topics = publish_args::stop(publishers).into_iter().map(Published::from).collect();
        let flushing = [lake_flushed_at - processed_at, lake_flushed_at.elapsed()];
        let totals = store.readers().counts_by_reason().ours(|| "read the counts".to_owned())?;
        let partitions = store.readers().partitions().ours(|| "read the counts".to_owned())?;
        let complete = !stop.requested() && report.failed_sources.is_empty();
        self.tell(&Report {
            counts: report.counts,
            rejected_by_reason: texts(&report.rejected_by_reason),
            events_per_second: rate(report.counts.received, started.elapsed()),
            seconds: round(started.elapsed()),
            complete,
            position: report.last_seq,
            stages: Stages::new(&report.times, flushing),
            total: Total::new(&totals, partitions),
            topics,
        })?;
        ended(&report, &stop, self.until_end)
    }

    fn tell(&self, report: &Report) -> Result<(), Failure> {
        match self.output.output {
            Output::Json => output::json(report),
            Output::Text => output::line(report.text().trim_end()),
        }
    }
}

fn runner(
    store: &Store,
    domain: &Arc<::contracts::model::Domain>,
    schemas: Option<Registry>,
    bar: Bar,
) -> Result<Runner, Failure> {
    let writer = store.writer().ours(|| "open the store for writing".to_owned())?;
    let options = RunnerOptions {
        schemas: schemas.map(|registry| Arc::new(registry) as _),
        give_up_after: Some(GIVE_UP_AFTER),
        on_progress: Some(Box::new(move |progress, counts| bar.advance(progress, counts))),
        ..Default::default()
    };
    Runner::new(Arc::clone(domain), Box::new(writer), options)
        .ours(|| "read where the last run ended".to_owned())
}

/// How a run that told its account ended.
fn ended(report: &RunReport, stop: &Stop, until_end: bool) -> Result<(), Failure> {
    if !report.failed_sources.is_empty() {
        let findings = report
            .failed_sources
            .iter()
            .map(|(_, error)| {
                let hint = "everything before that is processed; mend the source and run again";
                (chain(error), Some(hint.to_owned()))
            })
            .collect();
        return Err(Failure::inputs(findings));
    }
    // Following a file has no other end than a signal.
    if stop.requested() && until_end {
        return Err(Failure::interrupted("stopped before the end; run again to continue"));
    }
    Ok(())
}

impl From<PublisherStatus> for Published {
    fn from(status: PublisherStatus) -> Self {
        Self { topic: status.topic, records: status.records, position: status.position }
    }
}

impl Total {
    fn new(counts: &CountsByReason, partitions: Vec<PartitionState>) -> Self {
        let sum = |outcome: &str| -> u64 {
            counts.get(outcome).map_or(0, |reasons| reasons.values().sum())
        };
        let reasons = |outcome: &str| counts.get(outcome).cloned().unwrap_or_default();
        let (accepted, duplicate) = (sum("accepted"), sum("duplicate"));
        let (rejected, discarded) = (sum("rejected"), sum("discarded"));
        Self {
            counts: Counts {
                received: accepted + duplicate + rejected + discarded,
                accepted,
                duplicate,
                rejected,
                discarded,
            },
            rejected_by_reason: reasons("rejected"),
            discarded_by_reason: reasons("discarded"),
            by_partition: partitions.into_iter().map(|p| (p.name, p.counts)).collect(),
        }
    }
}

impl Stages {
    fn new(times: &RunTimes, [lake, topics]: [Duration; 2]) -> Self {
        Self {
            read: round(times.read),
            decode_validate: round(times.decode),
            admit: round(times.writer.admit),
            enrich: round(times.writer.enrich),
            fold: round(times.writer.fold),
            commit: round(times.writer.commit),
            commit_append: round(times.commit.append),
            commit_replace: round(times.commit.replace),
            commit_log: round(times.commit.log),
            commit_checkpoint: round(times.commit.checkpoint),
            waiting: round(times.writer.waiting),
            lake_after_the_end: round(lake),
            topics_after_the_end: round(topics),
            batches: times.writer.batches,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let row = |name: &str, counts: &Counts| {
            let Counts { received, accepted, duplicate, rejected, discarded } = *counts;
            let mut row = vec![name.to_owned()];
            row.extend([received, accepted, duplicate, rejected, discarded].map(|n| n.to_string()));
            row
        };
        let head = ["", "received", "accepted", "duplicate", "rejected", "discarded"];
        let mut text = output::table(&[
            head.map(str::to_owned).to_vec(),
            row("this run", &self.counts),
            row("in all", &self.total.counts),
        ]);
        for (reason, count) in &self.rejected_by_reason {
            text.push_str(&format!("rejected as {reason}: {count}\n"));
        }
        for Published { topic, records, .. } in &self.topics {
            text.push_str(&format!("published to {topic}: {records}\n"));
        }
        text.push_str(&format!(
            "{:.0} events/s over {:.1} s, lake included\n",
            self.events_per_second, self.seconds
        ));
        text
    }
}

fn texts(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

fn rate(events: u64, elapsed: Duration) -> f64 {
    let rate = events as f64 / elapsed.as_secs_f64().max(1e-6);
    (rate * 10.0).round() / 10.0
}

/// Seconds to the millisecond.
fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
