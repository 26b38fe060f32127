//! Taking up other contracts while the server answers.
//!
//! The folder is looked at every second; SIGHUP and `POST /v1/admin/contracts/reload` have it looked at at once.
//! What is there is read and checked whole, compared by meaning with what is in use, and held against the
//! stored rows. Whatever is refused there changes nothing: the contracts before stay, and health and log
//! say why and since when. Otherwise posted events wait, the generation that works is stopped at a commit
//! boundary and the next one is started over the same open database, which reads go on using meanwhile. If it
//! does not start, the one before is started again.
//!
//! Nothing is lost and nothing counts twice: sources go on from the positions of the last commit, as after any
//! restart, and a process that is killed on the way finds a store between two commits.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::contracts::meaning::{self, Change, Class, Loaded};
use ::contracts::model::Domain;
use ::contracts::{Diagnostic, files};
use pipeline::sink::kafka::PublisherConfig;
use pipeline::{clock, fail_point};
use serving::http::{
    ContractsStatus, Hold, Live, LiveContracts, Problem, Refusal, ReloadResult, Reloaded,
};
use serving::store::Store;

use super::{Generation, Lasting, Working, spawn};
use crate::failure::{Failure, chain};
use crate::source_spec::Opened;

/// How long it is waited for requests that have to end first. One that takes longer is answered that the
/// pipeline has stopped, and may be sent again.
const SETTLE: Duration = Duration::from_secs(2);

/// Stored rows that are made anew while everything waits: so many take less than a second or two.
const MOST_ROWS: u64 = 50_000;

/// Opens sources and lays out what is published for a set of contracts.
pub(crate) type Open =
    Box<dyn Fn(&Domain) -> Result<(Opened, Vec<PublisherConfig>), Failure> + Send + Sync>;

/// How other contracts are taken up.
pub(crate) struct ReloadPlan {
    /// Their folder.
    pub(crate) folder: PathBuf,
    /// Those that the node is started with.
    pub(crate) loaded: Loaded,
    /// How often the folder is looked at; `None`: only when somebody asks.
    pub(crate) every: Option<Duration>,
    /// Opens what hangs on them.
    pub(crate) open: Open,
}

impl ReloadPlan {
    pub(super) fn begin(self) -> Arc<Reloading> {
        let status = ContractsStatus { loaded_at: clock::now(), ..ContractsStatus::default() };
        Arc::new(Reloading {
            folder: self.folder,
            every: self.every,
            open: self.open,
            current: Mutex::new(self.loaded),
            status: Mutex::new(status),
            turn: Mutex::new(()),
            parts: OnceLock::new(),
        })
    }
}

/// The contracts in use, and what is needed to take up others.
pub(super) struct Reloading {
    folder: PathBuf,
    every: Option<Duration>,
    open: Open,
    current: Mutex<Loaded>,
    status: Mutex<ContractsStatus>,
    /// One at a time.
    turn: Mutex<()>,
    parts: OnceLock<Parts>,
}

/// What a reload works on.
struct Parts {
    lasting: Arc<Lasting>,
    working: Working,
    live: Live,
}

/// The thread that looks at the folder. Dropping it waits for a reload under way.
pub(super) struct Reloader {
    bell: SyncSender<()>,
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    pub(super) fn start(
        reloading: Arc<Reloading>,
        lasting: &Arc<Lasting>,
        working: &Working,
        live: Live,
    ) -> Result<Self, Failure> {
        let parts = Parts { lasting: Arc::clone(lasting), working: Arc::clone(working), live };
        let _ = reloading.parts.set(parts);
        let (bell, rung) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel(1);
        let thread = spawn("contracts", move || reloading.watch(&rung, &ended))?;
        Ok(Self { bell, end: Some(end), thread: Some(thread) })
    }

    /// Has the folder looked at when something is put into it.
    pub(super) fn bell(&self) -> SyncSender<()> {
        self.bell.clone()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.end = None;
        let _ = self.bell.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a folder: `None` while it cannot be read.
type Seen = Option<u64>;

fn look(folder: &Path) -> Seen {
    files::read_dir(folder).ok().map(|texts| meaning::fingerprint(&texts))
}

impl Reloading {
    fn watch(self: &Arc<Self>, bell: &Receiver<()>, ended: &Receiver<()>) {
        let in_use = || Some(lock(&self.current).fingerprint());
        // What was tried last, and what the last look saw: a folder that is being written is left alone.
        let mut tried = in_use();
        let mut seen = tried;
        loop {
            let rung = match self.every {
                Some(every) => bell.recv_timeout(every),
                None => bell.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let is_over = matches!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected));
            if is_over || rung == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            let now = look(&self.folder);
            let is_still = now == seen;
            seen = now;
            if rung.is_ok() || (is_still && now != tried) {
                tried = now;
                self.reload(Class::Additive);
            }
        }
    }

    /// Takes up what is in the folder, unless something in it is worse than `allow`.
    fn reload(self: &Arc<Self>, allow: Class) -> Reloaded {
        let _turn = lock(&self.turn);
        let Some(parts) = self.parts.get() else {
            return refused_at_all("the server is starting", "try again in a moment");
        };
        let texts = match files::read_dir(&self.folder) {
            Ok(texts) => texts,
            Err(found) => {
                return self.refuse(Vec::new(), found.into_iter().map(finding).collect());
            }
        };
        let current = lock(&self.current).clone();
        if meaning::fingerprint(&texts) == current.fingerprint() {
            if lock(&self.status).problem.take().is_some() {
                tracing::info!("the contracts in the folder are those in use again");
            }
            return Reloaded {
                result: ReloadResult::Unchanged,
                changes: Vec::new(),
                findings: Vec::new(),
                paused: 0,
            };
        }
        let loaded = match files::load_read(&self.folder, &texts) {
            Ok(domain) => Loaded::of(Arc::new(domain), &texts),
            Err(found) => {
                return self.refuse(Vec::new(), found.into_iter().map(finding).collect());
            }
        };
        let changes = meaning::compare(&current, &loaded);
        let mut working = lock(&parts.working);
        let Some(generation) = working.take() else {
            return refused_at_all("the pipeline does not run", "start the server again");
        };
        let hold = match self.decide(generation.store(), parts, &loaded, &changes, allow) {
            Ok(hold) => hold,
            Err(findings) => {
                *working = Some(generation);
                drop(working);
                return self.refuse(changes, findings);
            }
        };
        let begun = Instant::now();
        let outcome = self.replace(parts, generation, hold, &current, &loaded);
        let (generation, problem) = match outcome {
            Ok(replaced) => replaced,
            Err(failure) => {
                // Nothing takes events any more: end, so that somebody notices.
                tracing::error!("{}", failure.text());
                parts.lasting.ending.cancel();
                parts.live.hold(Hold::Nothing);
                return self.refuse(changes, vec![refusal_of(&failure)]);
            }
        };
        parts.live.put(generation.state());
        *working = Some(generation);
        drop(working);
        parts.live.hold(Hold::Nothing);
        let paused = begun.elapsed();
        if let Some(failure) = problem {
            return Reloaded {
                paused: paused.as_micros() as i64,
                ..self.refuse(changes, vec![refusal_of(&failure)])
            };
        }
        *lock(&self.current) = loaded;
        let mut status = lock(&self.status);
        status.reloads += 1;
        status.loaded_at = clock::now();
        status.problem = None;
        let (count, ms) = (changes.len(), paused.as_millis() as u64);
        tracing::info!(changes = count, paused_ms = ms, "other contracts are in use");
        Reloaded {
            result: ReloadResult::Reloaded,
            changes,
            findings: Vec::new(),
            paused: paused.as_micros() as i64,
        }
    }

    /// The next generation; or one of the contracts before, and why it is not the next.
    fn replace(
        self: &Arc<Self>,
        parts: &Parts,
        generation: Generation,
        hold: Hold,
        current: &Loaded,
        loaded: &Loaded,
    ) -> Result<(Generation, Option<Failure>), Failure> {
        parts.live.hold(hold);
        if !parts.live.settle(SETTLE) {
            tracing::warn!("requests are still under way; contracts are taken up all the same");
        }
        if hold == Hold::All {
            // They read rows that are about to be made anew.
            parts.live.close_streams();
        }
        let (report, before) = generation.end();
        match report {
            Some(Ok(report)) => {
                for (source, error) in &report.failed_sources {
                    tracing::warn!(source, error = chain(error), "a source could not go on");
                }
            }
            Some(Err(error)) => return Err(Failure::ours(chain(&error))),
            None => return Err(Failure::ours("the pipeline panicked; see above")),
        }
        fail_point::hit("reload_stopped");
        match self.next(parts, &before, &loaded.domain) {
            Ok(generation) => Ok((generation, None)),
            Err(failure) => {
                tracing::warn!("the contracts before are taken up again: {}", failure.text());
                let generation = self.next(parts, &before, &current.domain)?;
                Ok((generation, Some(failure)))
            }
        }
    }

    /// Refuses, and notes why and since when.
    fn refuse(&self, changes: Vec<Change>, findings: Vec<Refusal>) -> Reloaded {
        let mut status = lock(&self.status);
        for Refusal { message, hint } in &findings {
            tracing::warn!(hint, "contracts not taken up: {message}");
        }
        let since = match &status.problem {
            Some(problem) if problem.findings == findings => problem.since,
            _ => clock::now(),
        };
        status.problem = Some(Problem { since, findings: findings.clone() });
        Reloaded { result: ReloadResult::Refused, changes, findings, paused: 0 }
    }

    /// What is refused before anything is touched; else what has to wait meanwhile.
    fn decide(
        &self,
        store: &Store,
        parts: &Parts,
        loaded: &Loaded,
        changes: &[Change],
        allow: Class,
    ) -> Result<Hold, Vec<Refusal>> {
        let worse: Vec<Refusal> =
            changes.iter().filter(|change| change.class > allow).map(refusal).collect();
        if !worse.is_empty() {
            return Err(worse);
        }
        let needed = store.needs_before(parts.lasting.directory.path(), &loaded.domain).map_err(
            |error| {
                let hint = error.hint().unwrap_or_else(|| "see the log".to_owned());
                vec![Refusal { message: chain(&error), hint }]
            },
        )?;
        if needed.what.is_empty() {
            return Ok(Hold::Writes);
        }
        if needed.rows > MOST_ROWS {
            let what = needed.what.join(", ");
            let message = format!(
                "{what}: they are to be made anew over {} positions of the journal, and nothing could \
                 be answered meanwhile",
                needed.rows
            );
            let hint = "declare a new version, which is made beside the live one, or start the \
                        server again";
            return Err(vec![Refusal { message, hint: hint.to_owned() }]);
        }
        Ok(Hold::All)
    }

    /// Starts the next generation over the store of the one before.
    fn next(
        self: &Arc<Self>,
        parts: &Parts,
        before: &Store,
        domain: &Arc<Domain>,
    ) -> Result<Generation, Failure> {
        let lasting = &parts.lasting;
        let store = before
            .again(lasting.directory.path(), Arc::clone(domain), &lasting.store_options(domain))
            .map_err(|error| crate::opened::refused(&error))?;
        fail_point::hit("reload_prepared");
        let (opened, publish) = (self.open)(domain)?;
        let control: Arc<dyn LiveContracts> = Arc::new(Control(Arc::downgrade(self)));
        Generation::start(lasting, store, Arc::clone(domain), opened, publish, Some(control))
    }
}

/// A change that is worse than what is allowed.
fn refusal(change: &Change) -> Refusal {
    let contract = &change.contract;
    let key = if change.key.is_empty() { String::new() } else { format!(", {}", change.key) };
    Refusal {
        message: format!(
            "{}:{}: {} v{}{key}: {} ({}): {}",
            change.file.display(),
            change.line,
            contract.name,
            contract.version,
            change.change.replace('_', " "),
            change.class.word(),
            change.reason,
        ),
        hint: change.hint.clone(),
    }
}

fn refusal_of(failure: &Failure) -> Refusal {
    let (message, hint) = failure.first();
    Refusal { message, hint: hint.unwrap_or_else(|| "see the log".to_owned()) }
}

fn finding(found: Diagnostic) -> Refusal {
    let (message, hint) = crate::domain::finding(found);
    Refusal { message, hint: hint.unwrap_or_default() }
}

/// The way for the API. Weak: what answers is part of what it changes.
pub(super) struct Control(pub(super) Weak<Reloading>);

impl LiveContracts for Control {
    fn status(&self) -> ContractsStatus {
        self.0.upgrade().map(|reloading| lock(&reloading.status).clone()).unwrap_or_default()
    }

    fn reload(&self, allow: Class) -> Reloaded {
        match self.0.upgrade() {
            Some(reloading) => reloading.reload(allow),
            None => refused_at_all("the server ends", "ask the one that is started next"),
        }
    }
}

/// Refused whatever the contracts are.
fn refused_at_all(message: &str, hint: &str) -> Reloaded {
    let finding = Refusal { message: message.to_owned(), hint: hint.to_owned() };
    Reloaded {
        result: ReloadResult::Refused,
        changes: Vec::new(),
        findings: vec![finding],
        paused: 0,
    }
}
