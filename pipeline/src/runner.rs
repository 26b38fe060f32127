//! Threads of the pipeline: one per source, one writer.
//!
//! ```text
//! source thread: next → decode → validate ─┐ bounded queue
//! source thread: next → decode → validate ─┴→ writer: admit → enrich → fold → commit → reply
//! ```
//!
//! The queue holds little, so a slow store holds the sources back. The writer waits on nothing but
//! the store, and commits together what came in while it committed: so latency is about two commits,
//! however many partitions deliver. A commit that fails for a passing reason (no space, a conflict)
//! is tried again with the same batches until it succeeds or the pipeline is stopped; nothing behind
//! them overtakes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contracts::model::Domain;
use serde::Serialize;
use tracing::{info, warn};

use crate::batch::{DecodedBatch, RawBatch};
use crate::decode::{Decoder, GaveUp, SchemaSource};
use crate::lease::Claim;
use crate::metrics;
use crate::outcome::{Counts, Outcome};
use crate::pace::Pace;
use crate::processor::{ProcessError, Processed, Processor};
use crate::queue::{self, Receiver, RecvTimeoutError, Sender};
use crate::source::http::ReplyTo;
use crate::source::{Limits, Next, Progress, Source, SourceError};
use crate::stage_times::{CommitTimes, StageTimes};
use crate::store::{Committed, ServingStore, StoreError};

/// How long a source waits for its first record before it looks at the stop signal again.
const SOURCE_POLL: Duration = Duration::from_millis(100);
/// The writer calls the store's `idle` after this long without a batch.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// Between two pieces of the store's tidying while batches come, and while none does.
const TIDY_EVERY: Duration = Duration::from_secs(1);
const TIDY_WHEN_IDLE: Duration = Duration::from_millis(20);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Tells a pipeline to stop: sources stop reading, what was read is committed.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Was it asked for?
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Called after each commit, on the writer's thread: it must be quick.
pub type OnCommit = Box<dyn Fn(&Committed) + Send>;

/// Called about ten times a second with the progress of bounded sources and the counts so far.
pub type OnProgress = Box<dyn Fn(Progress, &Counts) + Send>;

/// Called each time a batch was not applied and will be tried again, and while the store would not take
/// one, on the writer's thread.
pub type OnRefusal = Box<dyn Fn(&ProcessError) + Send>;

/// Called when the store takes batches again, on the writer's thread.
pub type OnReady = Box<dyn Fn() + Send>;

/// How a pipeline runs.
#[derive(Default)]
pub struct RunnerOptions {
    /// Size that batches may grow to.
    pub limits: Limits,
    /// Where the schemas of records in Avro come from.
    pub schemas: Option<Arc<dyn SchemaSource>>,
    /// How long a commit that fails for a passing reason is tried again, and a schema that cannot be
    /// had is asked for; `None`: until stopped.
    pub give_up_after: Option<Duration>,
    /// Called after each commit.
    pub on_commit: Option<OnCommit>,
    /// Called when a batch was refused and is tried again, or would be.
    pub on_refusal: Option<OnRefusal>,
    /// Called when the store takes batches again although none had to wait for it.
    pub on_ready: Option<OnReady>,
    /// Called while bounded sources advance.
    pub on_progress: Option<OnProgress>,
}

/// A pipeline that is not running yet.
pub struct Runner {
    domain: Arc<Domain>,
    processor: Processor,
    sources: Vec<Box<dyn Source>>,
    options: RunnerOptions,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct RunReport {
    /// Counts of this run.
    pub counts: Counts,
    /// Rejections of this run by reason code.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// Highest journal sequence number.
    pub last_seq: i64,
    /// Where the time went.
    pub times: RunTimes,
    /// Sources that could not go on; what they delivered before is committed.
    pub failed_sources: Vec<(String, SourceError)>,
}

/// Time of a run by stage.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RunTimes {
    /// Reading and splitting records, over all source threads.
    pub read: Duration,
    /// Decode and validate, over all source threads.
    pub decode: Duration,
    /// The writer's stages.
    pub writer: StageTimes,
    /// The parts of the writer's commit.
    pub commit: CommitTimes,
    /// From the first record to the last commit.
    pub total: Duration,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A batch could not be applied, and trying again cannot help. What was committed stays.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A source could not be positioned.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A thread could not be started.
    #[error("start a thread for source `{source_name}`: {cause}")]
    Thread {
        /// The source.
        source_name: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

enum FromSource {
    Batch(Box<Waiting>),
    Failed(String, SourceError),
}

/// A batch on its way to the writer.
struct Waiting {
    batch: DecodedBatch,
    reply: Option<ReplyTo>,
    /// It was told that the batch is somebody else's by now.
    is_gone: bool,
}

/// What became of the batches of a transaction.
struct Applied {
    processed: Processed,
    /// For each batch that was given: was it applied?
    which: Vec<bool>,
}

#[derive(Default)]
struct SourceTimes {
    read: Duration,
    decode: Duration,
}

impl Runner {
    /// Takes over a store: reads positions and fills the id filter.
    pub fn new(
        domain: Arc<Domain>,
        store: Box<dyn ServingStore + Send>,
        options: RunnerOptions,
    ) -> Result<Self, StoreError> {
        let processor = Processor::new(domain.clone(), store)?;
        Ok(Self { domain, processor, sources: Vec::new(), options })
    }

    /// Adds a source and sets it behind what the store has committed of it.
    pub fn add_source(&mut self, mut source: Box<dyn Source>) -> Result<(), SourceError> {
        source.resume(self.processor.positions())?;
        self.sources.push(source);
        Ok(())
    }

    /// Counts of all partitions since the store was made.
    pub fn total_counts(&self) -> Counts {
        let mut total = Counts::default();
        self.processor
            .positions()
            .with(|partitions| partitions.values().for_each(|partition| total += partition.counts));
        total
    }

    /// Runs until every source has ended or `stop` is requested, on this thread and one per source.
    pub fn run(mut self, stop: &Stop) -> Result<RunReport, RunError> {
        let start = Instant::now();
        let (sender, batches) = queue::queue();
        let times = Arc::new(Mutex::new(SourceTimes::default()));
        let progress = Arc::new(Mutex::new(BTreeMap::new()));
        let mut threads = Vec::new();
        for source in std::mem::take(&mut self.sources) {
            let name = source.name().to_owned();
            let mut decoder = Decoder::new(&self.domain);
            if let Some(schemas) = &self.options.schemas {
                decoder = decoder.with_schemas(Arc::clone(schemas));
            }
            let thread = SourceThread {
                name: name.clone(),
                source,
                decoder,
                give_up_after: self.options.give_up_after,
                limits: self.options.limits,
                out: sender.clone(),
                stop: stop.clone(),
                times: times.clone(),
                progress: progress.clone(),
            };
            let spawned = std::thread::Builder::new()
                .name(format!("source {}", threads.len()))
                .spawn(move || thread.run())
                .map_err(|cause| RunError::Thread { source_name: name, cause })?;
            threads.push(spawned);
        }
        drop(sender);

        let mut report = RunReport::default();
        let result = self.write(&batches, stop, &progress, &mut report);
        // Sources that wait for room in the queue end when it is gone.
        drop(batches);
        if result.is_err() {
            stop.request();
        }
        for thread in threads {
            if thread.join().is_err() {
                warn!("a source thread panicked");
            }
        }
        report.last_seq = self.processor.last_seq();
        report.times.writer = self.processor.times;
        report.times.commit = self.processor.commit_times();
        report.times.total = start.elapsed();
        if let Ok(times) = times.lock() {
            report.times.read = times.read;
            report.times.decode = times.decode;
        }
        result.map(|()| report)
    }

    fn write(
        &mut self,
        batches: &Receiver<FromSource>,
        stop: &Stop,
        progress: &Mutex<BTreeMap<String, Progress>>,
        report: &mut RunReport,
    ) -> Result<(), RunError> {
        let mut idle = false;
        let mut shown = Instant::now();
        let mut tidied = Instant::now();
        let mut untidy = false;
        let mut beside = Pace::new();
        let mut refuses = false;
        loop {
            let waiting = Instant::now();
            let pause = if untidy { TIDY_WHEN_IDLE } else { IDLE_AFTER };
            let pause = beside.pause().map_or(pause, |until| until.min(pause));
            let messages = batches.receive(pause);
            let is_quiet = messages.is_err();
            self.processor.times.waiting += waiting.elapsed();
            match messages {
                Ok(messages) => {
                    let mut group = Vec::with_capacity(messages.len());
                    for message in messages {
                        match message {
                            FromSource::Batch(waiting) => group.push(*waiting),
                            FromSource::Failed(source, error) => {
                                report.failed_sources.push((source, error));
                            }
                        }
                    }
                    idle &= group.is_empty();
                    if let Some(applied) = self.apply(&mut group, stop)? {
                        self.tell(group, applied, report);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    refuses = self.is_refusing(refuses);
                    if !idle && !untidy {
                        idle = true;
                        if let Err(error) = self.processor.idle() {
                            warn!(%error, "the store could not tidy up; trying again when idle");
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let every = if is_quiet { TIDY_WHEN_IDLE } else { TIDY_EVERY };
            if tidied.elapsed() >= every {
                untidy = self.processor.tidy().unwrap_or_else(|error| {
                    warn!(%error, "the store could not tidy up; trying again later");
                    false
                });
                tidied = Instant::now();
                // What was done is worth a checkpoint at the end.
                idle &= !untidy;
            }
            if beside.is_due(is_quiet) {
                idle &= !beside.run(|| self.processor.backfill());
            }
            if let Some(on_progress) = &self.options.on_progress
                && shown.elapsed() > Duration::from_millis(100)
            {
                shown = Instant::now();
                on_progress(sum(progress), &report.counts);
            }
        }
    }

    /// Would the store refuse a batch if one came? Tells where that is new or still so; `before`: what
    /// was found the last time.
    fn is_refusing(&mut self, before: bool) -> bool {
        match self.processor.ready() {
            Ok(()) => {
                if before {
                    info!("the store takes batches again");
                    self.options.on_ready.iter().for_each(|on_ready| on_ready());
                }
                false
            }
            Err(error) => {
                if !before {
                    warn!(%error, "the store would take no batch now");
                }
                self.options.on_refusal.iter().for_each(|on_refusal| on_refusal(&error));
                true
            }
        }
    }

    /// Tells what a commit did.
    fn tell(&self, group: Vec<Waiting>, applied: Applied, report: &mut RunReport) {
        let Applied { processed, which } = applied;
        if let Some(on_commit) = &self.options.on_commit {
            on_commit(&processed.committed);
        }
        report.counts += processed.counts;
        for (reason, n) in &processed.rejected_by_reason {
            *report.rejected_by_reason.entry(reason).or_insert(0) += n;
        }
        let mut outcomes: std::vec::IntoIter<Vec<Outcome>> = processed.outcomes.into_iter();
        for (waiting, was_applied) in group.into_iter().zip(which) {
            // Whoever has the partition of another one now delivers its records again.
            let outcomes = if was_applied { outcomes.next() } else { None };
            if let (Some(reply), Some(outcomes)) = (waiting.reply, outcomes) {
                reply.complete(outcomes);
            }
        }
    }

    /// Applies batches in one transaction, trying again while that can help. Those whose partition
    /// was taken away before that are left out; `None` when none is left.
    fn apply(
        &mut self,
        group: &mut [Waiting],
        stop: &Stop,
    ) -> Result<Option<Applied>, ProcessError> {
        let start = Instant::now();
        let mut wait = FIRST_RETRY;
        loop {
            let mut which = vec![true; group.len()];
            let mut applying = Vec::new();
            for (at, waiting) in group.iter().enumerate() {
                let Some(claim) = &waiting.batch.raw.claim else { continue };
                match claim.begin() {
                    Some(begun) => applying.push(begun),
                    None => which[at] = false,
                }
            }
            let ours: Vec<&DecodedBatch> = group
                .iter()
                .zip(&which)
                .filter(|(_, is_ours)| **is_ours)
                .map(|(waiting, _)| &waiting.batch)
                .collect();
            let Some(first) = ours.first() else {
                drop(applying);
                leave_out(group, &which);
                return Ok(None);
            };
            let (partition, offset) = (
                Arc::clone(&first.raw.partition),
                first.raw.records.first().map_or(0, |record| record.offset),
            );
            let result = self.processor.process(&ours);
            // Between two tries the partitions may be taken away.
            drop(applying);
            let batches = ours.len();
            leave_out(group, &which);
            let error = match result {
                Ok(processed) => return Ok(Some(Applied { processed, which })),
                Err(error) => error,
            };
            let given_up = self.options.give_up_after.is_some_and(|limit| start.elapsed() > limit);
            if !error.retry() || stop.requested() || given_up {
                return Err(error);
            }
            warn!(
                batches,
                partition = &*partition,
                offset,
                wait_ms = wait.as_millis() as u64,
                %error,
                "not applied, trying again"
            );
            if let Some(on_refusal) = &self.options.on_refusal {
                on_refusal(&error);
            }
            let until = Instant::now() + wait;
            while Instant::now() < until && !stop.requested() {
                std::thread::sleep(Duration::from_millis(20));
            }
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }
}

/// Tells once of each batch that was not `ours` any more.
fn leave_out(group: &mut [Waiting], ours: &[bool]) {
    for (waiting, is_ours) in group.iter_mut().zip(ours) {
        if !is_ours && !std::mem::replace(&mut waiting.is_gone, true) {
            metrics::count_unapplied(&waiting.batch.raw);
            info!(
                partition = &*waiting.batch.raw.partition,
                records = waiting.batch.raw.records.len(),
                "batch of a revoked partition left unapplied"
            );
        }
    }
}

struct SourceThread {
    name: String,
    source: Box<dyn Source>,
    decoder: Decoder,
    give_up_after: Option<Duration>,
    limits: Limits,
    out: Sender<FromSource>,
    stop: Stop,
    times: Arc<Mutex<SourceTimes>>,
    progress: Arc<Mutex<BTreeMap<String, Progress>>>,
}

impl SourceThread {
    fn run(mut self) {
        let mut limits = self.limits.first();
        while !self.stop.requested() {
            let start = Instant::now();
            let delivery = match self.source.next(limits, SOURCE_POLL) {
                Ok(Next::Batch(delivery)) => delivery,
                Ok(Next::Idle) => continue,
                Ok(Next::End) => break,
                Err(error) => {
                    self.fail(error);
                    return;
                }
            };
            let read = Instant::now();
            limits = self.limits.after(limits, &delivery.batch);
            let decoded = match self.decode(delivery.batch) {
                Ok(decoded) => decoded,
                Err(None) => continue,
                Err(Some(error)) => {
                    self.fail(error.into());
                    return;
                }
            };
            if let Ok(mut times) = self.times.lock() {
                times.read += read - start;
                times.decode += read.elapsed();
            }
            if let (Some(at), Ok(mut all)) = (self.source.progress(), self.progress.lock()) {
                all.insert(self.name.clone(), at);
            }
            // The writer is gone only when it failed; it reports that itself.
            let weight = decoded.raw.bytes.len();
            let waiting = Waiting { batch: decoded, reply: delivery.reply, is_gone: false };
            if self.out.send(FromSource::Batch(Box::new(waiting)), weight).is_err() {
                return;
            }
        }
        info!(source = self.name, "source ended");
    }

    fn fail(&self, error: SourceError) {
        // The writer is gone only when it failed; it reports that itself.
        let _ = self.out.send(FromSource::Failed(self.name.clone(), error), 0);
    }

    /// Decodes a batch, waiting for the schemas that its records need. `Err` when they did not come
    /// and the batch is left unapplied, so that its records are delivered again: with an error when
    /// the source cannot go on, without when they are somebody else's by now or the pipeline stops.
    ///
    /// Nothing of the same assignment comes after a batch that was left: a stop is for good, and a
    /// lease that is being taken away hands out no more claims.
    fn decode(&mut self, batch: RawBatch) -> Result<DecodedBatch, Option<GaveUp>> {
        let start = Instant::now();
        let claim = batch.claim.clone();
        let partition = Arc::clone(&batch.partition);
        let is_ours = || !claim.as_ref().is_some_and(Claim::is_wanted_back);
        let is_wanted = || !self.stop.requested() && is_ours();
        let go_on =
            || is_wanted() && self.give_up_after.is_none_or(|limit| start.elapsed() < limit);
        self.decoder.try_decode(batch, &go_on).map_err(|gave_up| {
            info!(%partition, error = %gave_up, "batch left unapplied");
            is_wanted().then_some(gave_up)
        })
    }
}

fn sum(progress: &Mutex<BTreeMap<String, Progress>>) -> Progress {
    let mut total = Progress { done: 0, total: 0 };
    if let Ok(all) = progress.lock() {
        for at in all.values() {
            total.done += at.done;
            total.total += at.total;
        }
    }
    total
}
