//! One process that takes events and answers questions: the wiring of `serve` and `demo`.
//!
//! ```text
//! sources, POST /v1/events → runner (its own thread) → store ─┬→ cache → HTTP
//!                                                             └→ lake follower, topic publishers
//!                                                                (a thread each)
//! ```
//!
//! What hangs on the contracts is a [`Generation`]; what outlives a change of them (socket, directory, keys,
//! counters) is the node's. [`reload`] replaces one generation by the next.
//!
//! What always holds: the directory is ours before the store opens and until everything has ended;
//! the address stands in its lock file only once questions can be answered; at the end the API
//! stops first (so that posted events still get their answers), then the pipeline, then the lake and
//! the publishers.
//! Start at [`Node::start`].

mod generation;
mod reload;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ::contracts::model::Domain;
use pipeline::sink::iceberg::{LakeCatalog, LakeConfig, Maintenance};
use pipeline::sink::kafka::PublisherConfig;
use serving::access::digest::new_secret;
use serving::access::gate::Gate;
use serving::cache::{Cache, CacheMode};
use serving::http::tls::Tls;
use serving::http::{self, HttpOptions, Live, LiveContracts};
use serving::query::QueryLimits;
use serving::store::data_dir::DataDir;
use serving::store::{LakeArchive, Readers, RetentionPolicy, StoreOptions};
use serving::stream::StreamOptions;
use serving::telemetry::Telemetry;
use tokio_util::sync::CancellationToken;

use self::generation::Generation;
use self::reload::{Control, Reloader};
pub(crate) use self::reload::{Open, ReloadPlan};
use crate::access_args::Access;
use crate::failure::{Context, Failure, chain};
use crate::source_spec::Opened;
use crate::{lake_args, opened, progress};

/// What a node is started with.
pub(crate) struct Plan<'a> {
    /// Who we are, in the lock file.
    pub(crate) role: &'static str,
    /// The contracts.
    pub(crate) domain: Arc<Domain>,
    /// The data directory.
    pub(crate) data: &'a Path,
    /// The socket of the API.
    pub(crate) listener: TcpListener,
    /// Sources besides HTTP.
    pub(crate) opened: Opened,
    /// Topics to publish.
    pub(crate) publish: Vec<PublisherConfig>,
    /// When answers in the cache are good.
    pub(crate) cache: CacheMode,
    /// Where the lake's catalog is.
    pub(crate) lake: LakeCatalog,
    /// How often the lake is maintained; `None`: never.
    pub(crate) maintain_every: Option<Duration>,
    /// Limits of streams.
    pub(crate) streams: StreamOptions,
    /// How long the journal keeps its rows.
    pub(crate) retention: RetentionPolicy,
    /// MiB that stay free on the disk of the data directory.
    pub(crate) min_free_mib: u32,
    /// Is the state of metrics kept?
    pub(crate) metric_state: bool,
    /// Who may ask.
    pub(crate) access: Access,
    /// Limits of callers' SQL.
    pub(crate) queries: QueryLimits,
    /// How other contracts are taken up; `None`: never.
    pub(crate) reload: Option<ReloadPlan>,
}

/// What outlives a change of contracts.
struct Lasting {
    directory: DataDir,
    config: LakeConfig,
    cache: CacheMode,
    streams: StreamOptions,
    retention: RetentionPolicy,
    min_free_mib: u32,
    metric_state: bool,
    queries: QueryLimits,
    options: Arc<HttpOptions>,
    gate: Arc<Gate>,
    telemetry: Arc<Telemetry>,
    /// Ends the API; its end ends the rest.
    ending: CancellationToken,
}

impl Lasting {
    /// How the store is opened for the contracts of `domain`.
    fn store_options(&self, domain: &Arc<Domain>) -> StoreOptions {
        StoreOptions {
            progress: Some(progress::of_store()),
            archive: Some(Arc::new(LakeArchive::new(self.config.clone(), Arc::clone(domain)))),
            backfill_beside: true,
            keep_free_mib: self.min_free_mib,
            metric_state: self.metric_state,
            ..Default::default()
        }
    }
}

/// The generation that works, or none while one takes the place of another and after a failure between.
type Working = Arc<Mutex<Option<Generation>>>;

/// A running node.
pub(crate) struct Node {
    address: SocketAddr,
    ending: CancellationToken,
    api: JoinHandle<std::io::Result<()>>,
    reloader: Option<Reloader>,
    // Fields are dropped in this order: the store closes before the directory is let go.
    working: Working,
    _lasting: Arc<Lasting>,
}

impl Node {
    /// Opens everything and starts the threads; returns once questions are answered.
    pub(crate) fn start(plan: Plan<'_>) -> Result<Self, Failure> {
        let Plan { role, domain, data, listener, opened: from, publish, .. } = plan;
        let Access { gate, tls, options } = plan.access;
        let address = listener.local_addr().ours(|| "listen".to_owned())?;
        listener.set_nonblocking(true).ours(|| "listen".to_owned())?;
        raise_open_files();
        let directory = DataDir::lock(data, role, None).map_err(|error| opened::refused(&error))?;
        let token = new_secret();
        directory.put_token(&token).map_err(|error| opened::refused(&error))?;
        let is_tls = tls.is_some();
        let config = LakeConfig {
            maintenance: plan.maintain_every.map(|every| (every, Maintenance::default())),
            ..lake_args::config(&directory, plan.lake)?
        };
        let mut lasting = Lasting {
            directory,
            config,
            cache: plan.cache,
            streams: plan.streams,
            retention: plan.retention,
            min_free_mib: plan.min_free_mib,
            metric_state: plan.metric_state,
            queries: plan.queries,
            options: Arc::new(options),
            gate: Arc::new(gate.with_operator_token(&token)),
            telemetry: Arc::new(Telemetry::new()),
            ending: CancellationToken::new(),
        };
        let store_options = lasting.store_options(&domain);
        let store = opened::open_with(&lasting.directory, Arc::clone(&domain), store_options)?;
        let reloading = plan.reload.map(ReloadPlan::begin);
        let control = reloading.as_ref().map(|reloading| {
            Arc::new(Control(Arc::downgrade(reloading))) as Arc<dyn LiveContracts>
        });
        let generation = Generation::start(&lasting, store, domain, from, publish, control)?;
        let live = Live::from(generation.state());
        let ending = lasting.ending.clone();
        let api = spawn("http", {
            let (live, ending) = (live.clone(), ending.clone());
            move || serve(listener, live, tls, ending)
        })?;
        lasting.directory.set_listen(address, is_tls).map_err(|error| opened::refused(&error))?;
        let (working, lasting): (Working, _) =
            (Arc::new(Mutex::new(Some(generation))), Arc::new(lasting));
        let reloader = reloading
            .map(|reloading| Reloader::start(reloading, &lasting, &working, live))
            .transpose()?;
        Ok(Self { address, ending, api, reloader, working, _lasting: lasting })
    }

    /// Where the API answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers questions as the API does, and reads counts: of the contracts of the moment.
    pub(crate) fn answers(&self) -> Option<(Arc<Cache>, Readers)> {
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        working.as_ref().map(|generation| (generation.cache(), generation.readers()))
    }

    /// Asks for the end when cancelled; cancelled when the node ends by itself.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// Has the contracts looked at again when called.
    pub(crate) fn look_again(&self) -> impl Fn() + Send + 'static + use<> {
        let reloader = self.reloader.as_ref().map(Reloader::bell);
        move || {
            if let Some(bell) = &reloader {
                let _ = bell.try_send(());
            }
        }
    }

    /// Waits for the end and tells how it came about.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        let api = self.api.join();
        // A reload under way comes to its end first.
        drop(self.reloader);
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner).take();
        let panicked = || Failure::ours("a thread panicked; see above");
        let Some(generation) = working else {
            return Err(Failure::ours("the pipeline could not be started again; see above"));
        };
        let (report, _store) = generation.end();
        let report = report.ok_or_else(panicked)?.map_err(|error| {
            Failure::ours(chain(&error)).hint("what was committed is kept: start again to continue")
        })?;
        tracing::debug!(times = ?report.times, "the pipeline ended");
        api.map_err(|_| panicked())?.ours(|| "answer HTTP".to_owned())?;
        match report.failed_sources.first() {
            None => Ok(()),
            Some((_, error)) => Err(Failure::input(chain(error))),
        }
    }
}

/// As many open files as the system allows: each connection is one, and streams stay open.
fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .ours(|| format!("start the thread `{name}`"))
}

/// The API on a runtime of its own, until `ending`.
fn serve(
    listener: TcpListener,
    live: Live,
    tls: Option<Tls>,
    ending: CancellationToken,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("http")
        .build()?;
    let ended = ending.clone();
    let result = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        http::serve(listener, live, tls, ending.cancelled_owned()).await
    });
    ended.cancel();
    // A blocking read that outlives the drain is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
