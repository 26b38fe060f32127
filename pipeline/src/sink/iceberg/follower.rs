//! The follower: a thread that carries the journal into the lake.
//!
//! It works in rounds. A round reads the journal's end once and brings table after table up to it,
//! so only one table has files open at a time; the journal itself is the buffer between rounds. A
//! round takes the tables whose time has come or for which enough events wait; [`flush`] takes all.
//!
//! Nothing waits for this thread. A failure is kept in the status and retried with growing pauses;
//! a failure that needs a person halts the one table it concerns.
//!
//! [`flush`]: LakeHandle::flush

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use contracts::model::Domain;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use iceberg::spec::TableMetadata;
use iceberg::{Catalog, NamespaceIdent};

use super::cadence::Waiting;
use super::catalog;
use super::config::LakeConfig;
use super::error::{LakeError, Retry, chain};
use super::listing::TableInfo;
use super::maintain::Schedule;
use super::schema::{RowSource, sanitise, tables};
use super::status::{Complete, LakeStatus, SharedStatus, TableStatus};
use super::table::{Shared, TableFollower};
use crate::clock;
use crate::sink::backoff::Backoff;
use crate::store::{Journal, Ledger};

/// The lake of a data directory.
pub struct Lake;

impl Lake {
    /// Starts to follow `journal`. Returns at once: a catalog that is away is a matter of the
    /// status, not of the start.
    pub fn spawn(
        config: LakeConfig,
        journal: Arc<dyn Journal>,
        domain: Arc<Domain>,
    ) -> Result<LakeHandle, LakeError> {
        let failed = |action| {
            let path = config.dir.clone();
            move |source| LakeError::Io { action, path, source }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("start the runtime of the lake"))?;
        let status = SharedStatus::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (commands, inbox) = unbounded();
        let follower = Follower::new(
            Shared {
                config: config.clone(),
                journal,
                domain: Arc::clone(&domain),
                stop: Arc::clone(&stop),
            },
            &domain,
            status.clone(),
        );
        status.update(|status| status.running = true);
        let ended = status.clone();
        let thread = std::thread::Builder::new()
            .name("lake".to_owned())
            .spawn(move || {
                runtime.block_on(follower.run(&inbox));
                ended.update(|status| status.running = false);
            })
            .map_err(failed("start the thread of the lake"))?;
        let schedule = match config.maintenance.clone() {
            None => None,
            Some((every, maintenance)) => {
                Some(Schedule::start(config.clone(), every, maintenance, status.clone())?)
            }
        };
        Ok(LakeHandle { commands, stop, status, thread: Some(thread), schedule })
    }
}

/// Handle of a running follower. Dropping it stops the follower; what is not committed by then
/// stays in the journal and follows at the next start.
#[derive(Debug)]
pub struct LakeHandle {
    commands: Sender<Flush>,
    stop: Arc<AtomicBool>,
    status: SharedStatus,
    thread: Option<JoinHandle<()>>,
    schedule: Option<Schedule>,
}

/// Asks for a round now.
#[derive(Debug)]
struct Flush {
    until: i64,
    reply: Sender<Result<(), LakeError>>,
}

/// Asks a follower for rounds, as long as it runs.
#[derive(Debug, Clone)]
pub struct LakeFlusher {
    commands: Sender<Flush>,
}

impl LakeFlusher {
    /// Waits until all tables hold all events up to `until` and all dead letters. While the catalog
    /// or the disk refuses, it keeps trying for [`LakeConfig::flush_timeout`].
    pub fn flush(&self, until: i64) -> Result<(), LakeError> {
        let (reply, answer) = bounded(1);
        self.commands.send(Flush { until, reply }).map_err(|_| LakeError::Stopped)?;
        answer.recv().unwrap_or(Err(LakeError::Stopped))
    }
}

impl LakeHandle {
    /// For whoever must not keep the follower alive.
    pub fn flusher(&self) -> LakeFlusher {
        LakeFlusher { commands: self.commands.clone() }
    }

    /// Waits until all tables hold all events up to `until` and all dead letters. While the catalog
    /// or the disk refuses, it keeps trying for [`LakeConfig::flush_timeout`].
    pub fn flush(&self, until: i64) -> Result<(), LakeError> {
        self.flusher().flush(until)
    }

    /// How it goes. Takes no time: the follower keeps it up to date.
    pub fn status(&self) -> LakeStatus {
        self.status.read()
    }

    /// Points up to which the lake has been complete, and since when, oldest first. Empty at the start:
    /// what an earlier process saw is not asked for again.
    pub fn complete(&self) -> Vec<Complete> {
        self.status.complete()
    }

    /// The tables as the follower last saw them, in order of name. What maintenance of another process
    /// did to them is seen with the next commit.
    pub fn tables(&self) -> Vec<TableInfo> {
        let tables = self.status.tables();
        let mut infos: Vec<TableInfo> = tables
            .iter()
            .map(|table| {
                let ident = table.identifier();
                TableInfo::new(
                    ident.namespace().as_ref().join("."),
                    ident.name().to_owned(),
                    table.metadata_location().unwrap_or_default().to_owned(),
                    table.metadata(),
                )
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    /// Stops the follower: a commit under way is finished, files not yet committed are dropped.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Both end at the same time.
        self.schedule.iter().for_each(Schedule::ask_to_stop);
        let (closed, _) = unbounded();
        // The follower wakes up when its last sender is gone.
        self.commands = closed;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the lake follower ended with a panic");
        }
        self.schedule = None;
    }
}

impl Drop for LakeHandle {
    fn drop(&mut self) {
        self.end();
    }
}

struct Follower {
    shared: Shared,
    tables: Vec<Followed>,
    catalog: Option<Arc<dyn Catalog>>,
    status: SharedStatus,
    /// When the lake was last known to hold everything.
    complete_at: Instant,
    /// What the last round went by.
    ledger: Option<Ledger>,
    backoff: Backoff,
}

struct Followed {
    table: TableFollower,
    halted: Option<String>,
    /// When it was last tried to bring it up to date.
    tried_at: Instant,
    /// Did that fail? Then it is tried again as soon as the pause is over.
    failed: bool,
}

impl Follower {
    fn new(shared: Shared, domain: &Domain, status: SharedStatus) -> Self {
        let namespace = NamespaceIdent::new(sanitise(&domain.name));
        let now = Instant::now();
        let tables = tables(domain)
            .into_iter()
            .map(|definition| Followed {
                table: TableFollower::new(&namespace, definition),
                halted: None,
                tried_at: now,
                failed: false,
            })
            .collect();
        let mut follower = Self {
            shared,
            tables,
            catalog: None,
            status,
            complete_at: now,
            ledger: None,
            backoff: Backoff::default(),
        };
        follower.publish(None);
        follower
    }

    async fn run(mut self, inbox: &Receiver<Flush>) {
        // The first round opens the tables, so that readers find them although nothing has come.
        let _ = self.round(true).await;
        loop {
            match inbox.recv_timeout(self.shared.config.poll_interval) {
                Ok(Flush { until, reply }) => {
                    let result = self.flush(until).await;
                    // Nobody waits any more: then nobody needs the answer.
                    let _ = reply.send(result);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(end) = self.journal_end()
                        && self.is_due(end)
                    {
                        let _ = self.round(false).await;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.stopped() {
                break;
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn is_due(&self, end: i64) -> bool {
        self.backoff.is_over() && self.tables.iter().any(|table| self.is_table_due(table, end))
    }

    fn is_table_due(&self, followed: &Followed, end: i64) -> bool {
        if followed.halted.is_some() {
            return false;
        }
        let table = &followed.table;
        let mut cadence = table.cadence(&self.shared.config);
        let positions = match table.source() {
            RowSource::Family(_) => end.saturating_sub(table.covered()),
            // They go along with the ledger: without it nobody could tell what they are complete to.
            RowSource::DeadLetters | RowSource::Ingest => return followed.failed,
            RowSource::Ledger => {
                // As patient as the most patient contract, which would get its small files otherwise.
                let families = self.tables.iter().filter(|t| t.table.source() != RowSource::Ledger);
                let every = families.map(|t| t.table.cadence(&self.shared.config).every);
                cadence.every = every.max().unwrap_or(cadence.every);
                Self::lag_of(self.tables.iter().filter(|t| t.halted.is_none()), end)
            }
        };
        let waiting = Waiting {
            since: followed.tried_at.elapsed(),
            positions,
            table_bytes: table.metadata().map_or(0, |m| summary(m, "total-files-size")),
            covered: table.covered(),
        };
        followed.failed || cadence.is_due(&waiting)
    }

    /// Positions that some table which is still followed does not cover yet.
    fn lag(&self, end: i64) -> i64 {
        Self::lag_of(self.tables.iter(), end)
    }

    fn lag_of<'a>(tables: impl Iterator<Item = &'a Followed>, end: i64) -> i64 {
        let families = tables.filter(|t| matches!(t.table.source(), RowSource::Family(_)));
        families.map(|t| end.saturating_sub(t.table.covered()).max(0)).max().unwrap_or(0)
    }

    /// End of the journal; `None`, and the reason in the status, when it cannot be read.
    fn journal_end(&mut self) -> Option<i64> {
        match self.shared.journal.last_seq() {
            Ok(end) => {
                self.publish(Some(end));
                Some(end)
            }
            Err(error) => {
                let message = format!("read the end of the journal: {}", chain(&error));
                self.status.update(|status| status.last_error = Some(message));
                None
            }
        }
    }

    /// Rounds until everything up to `until` is in the lake.
    async fn flush(&mut self, until: i64) -> Result<(), LakeError> {
        let deadline = Instant::now() + self.shared.config.flush_timeout;
        loop {
            let errors = match self.round(true).await {
                Ok(()) => return Ok(()),
                Err(errors) => errors,
            };
            let halted = errors.iter().any(|(_, retry)| *retry == Retry::Never);
            if self.stopped() || halted || Instant::now() >= deadline {
                let message: Vec<_> = errors.into_iter().map(|(message, _)| message).collect();
                return Err(LakeError::Flush { position: until, message: message.join("; ") });
            }
            while !self.backoff.is_over() && !self.stopped() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Brings the tables that are due, or all, up to what the journal has at this moment. The ledger is
    /// last and vouches for the others: when it is due all are, and it is left out when one is behind.
    /// Fails with one message per table that is behind.
    async fn round(&mut self, all: bool) -> Result<(), Vec<(String, Retry)>> {
        let started = Instant::now();
        let ledger = match self.shared.journal.ledger(self.ledger.as_ref()) {
            Ok(ledger) => ledger,
            Err(error) => {
                let message = format!("read where the journal stands: {}", chain(&error));
                self.status.update(|status| status.last_error = Some(message.clone()));
                self.backoff.fail();
                return Err(vec![(message, Retry::WithBackoff)]);
            }
        };
        let end = ledger.last_seq;
        let is_ledger = |table: &&Followed| table.table.source() == RowSource::Ledger;
        let all = all || self.tables.iter().filter(is_ledger).any(|t| self.is_table_due(t, end));
        let mut errors: Vec<(String, Retry)> = Vec::new();
        // Halted before: known, and no reason to try less often.
        let halted = self.tables.iter().filter_map(|table| table.halted.clone());
        errors.extend(halted.map(|message| (message, Retry::Never)));
        let known = errors.len();
        // Decided before any of them moves: the last ones go along with the first.
        let due =
            |table: &Followed| table.halted.is_none() && (all || self.is_table_due(table, end));
        let due: Vec<bool> = self.tables.iter().map(due).collect();
        match self.catalog().await {
            Err(error) => {
                errors.push((chain(&error), error.retry()));
                self.tables.iter_mut().for_each(|table| table.failed = true);
            }
            Ok(catalog) => {
                for (index, is_due) in due.into_iter().enumerate() {
                    if !is_due {
                        continue;
                    }
                    let vouches = self.tables[index].table.source() == RowSource::Ledger;
                    self.tables[index].tried_at = started;
                    if vouches && !errors.is_empty() {
                        continue;
                    }
                    let before = self.tables[index].table.commits;
                    let result =
                        self.tables[index].table.advance(&self.shared, &catalog, &ledger).await;
                    let followed = &mut self.tables[index];
                    followed.failed = result.is_err();
                    if followed.table.commits > before {
                        let now = clock::now();
                        let commits = followed.table.commits - before;
                        self.status.update(|status| {
                            status.last_commit_at = Some(now);
                            status.commits += commits;
                        });
                    }
                    if let Err(error) = result {
                        if matches!(error, LakeError::Stopped) {
                            errors.push((chain(&error), Retry::Never));
                            break;
                        }
                        let (message, retry) = (chain(&error), error.retry());
                        if retry == Retry::Never {
                            tracing::error!(table = followed.table.name(), error = %message, "lake table halted");
                            followed.halted = Some(message.clone());
                            self.status.forget_complete();
                        }
                        errors.push((message, retry));
                    }
                    self.publish(Some(end));
                }
            }
        }
        if errors.is_empty() && self.lag(end) == 0 {
            self.complete_at = started;
        }
        // The ledger was written, and with it everything that it vouches for.
        if errors.is_empty() && all {
            self.status.was_complete(Complete {
                at: clock::now(),
                last_seq: ledger.last_seq,
                last_ingest: ledger.last_ingest,
                last_dead_letter: ledger.last_dead_letter,
            });
        }
        if errors.len() == known {
            self.backoff.reset();
        } else if !self.stopped() {
            self.backoff.fail();
            if errors.iter().any(|(_, retry)| *retry == Retry::WithBackoff) {
                tracing::warn!(error = %errors[known].0, "the lake falls behind");
            }
        }
        self.ledger = Some(ledger);
        let last_error = errors.last().map(|(message, _)| message.clone());
        self.status.update(|status| status.last_error = last_error);
        self.publish(Some(end));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn catalog(&mut self) -> Result<Arc<dyn Catalog>, LakeError> {
        if let Some(catalog) = &self.catalog {
            return Ok(Arc::clone(catalog));
        }
        let catalog = catalog::open(&self.shared.config).await?;
        self.catalog = Some(Arc::clone(&catalog));
        Ok(catalog)
    }

    /// Shows the state of the tables; `end` is the end of the journal.
    fn publish(&mut self, end: Option<i64>) {
        let tables = self
            .tables
            .iter()
            .map(|followed| {
                let total = |key| followed.table.metadata().map_or(0, |m| summary(m, key));
                TableStatus {
                    name: followed.table.name().to_owned(),
                    position: followed.table.covered(),
                    rows: total("total-records"),
                    snapshots: followed.table.metadata().map_or(0, |m| m.snapshots().len() as u64),
                    files: total("total-data-files"),
                    bytes: total("total-files-size"),
                    halted: followed.halted.clone(),
                }
            })
            .collect();
        let seen = self.tables.iter().filter_map(|followed| followed.table.table().cloned());
        self.status.saw(seen.collect());
        let lag = end.map(|end| self.lag(end));
        let lag_seconds = self.complete_at.elapsed().as_secs_f64();
        self.status.update(|status| {
            status.tables = tables;
            if let Some(lag) = lag {
                status.lag_events = lag;
                status.lag_seconds = if lag == 0 { 0.0 } else { lag_seconds };
            }
        });
    }
}

/// A total of the current snapshot.
pub(super) fn summary(metadata: &TableMetadata, key: &str) -> u64 {
    metadata
        .current_snapshot()
        .and_then(|snapshot| snapshot.summary().additional_properties.get(key)?.parse().ok())
        .unwrap_or(0)
}
