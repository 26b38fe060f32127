//! One process that takes events and answers questions: the wiring of `serve` and `demo`.
//!
//! ```text
//! sources, POST /v1/events → runner (its own thread) → store ─┬→ cache → HTTP
//!                                                             └→ lake follower, topic publishers
//!                                                                (a thread each)
//! ```
//!
//! What always holds: the directory is ours before the store opens and until everything has ended;
//! the address stands in its lock file only once questions can be answered; at the end the API
//! stops first (so that posted events still get their answers), then the pipeline, then the lake and
//! the publishers.
//! Start at [`Node::start`].

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ::contracts::model::Domain;
use pipeline::registry::Registry;
use pipeline::runner::{RunError, RunReport, Runner, RunnerOptions, Stop};
use pipeline::sink::iceberg::{
    CATALOG_NAME, Lake, LakeCatalog, LakeConfig, LakeHandle, LakeStatus, Maintenance, TableInfo,
};
use pipeline::sink::kafka::{Content, PublisherConfig, PublisherHandle, PublisherProbe};
use pipeline::source::Source;
use pipeline::source::http::{QueueLimits, queue};
use pipeline::store::Journal;
use serving::access::digest::new_secret;
use serving::cache::{Cache, CacheMode};
use serving::http::tls::Tls;
use serving::http::{self, AppState, LakePlace, LakeView, PipelineMonitor};
use serving::metric::MetricEngine;
use serving::query::{Queries, QueryLimits};
use serving::search::{Search, SearchOptions};
use serving::store::data_dir::DataDir;
use serving::store::{
    Followed, LakeArchive, Readers, Retention, RetentionPolicy, Store, StoreOptions, Writer,
};
use serving::stream::{StreamOptions, Streams};
use serving::telemetry::Telemetry;
use tokio_util::sync::CancellationToken;

use crate::access_args::Access;
use crate::erasing::Erasing;
use crate::failure::{Context, Failure, chain};
use crate::source_spec::Opened;
use crate::{lake_args, opened, progress, publish_args};

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
    /// Who may ask.
    pub(crate) access: Access,
    /// Limits of callers' SQL.
    pub(crate) queries: QueryLimits,
}

/// A running node.
pub(crate) struct Node {
    address: SocketAddr,
    cache: Arc<Cache>,
    readers: Readers,
    /// Ends the API; its end ends the rest.
    ending: CancellationToken,
    api: JoinHandle<std::io::Result<()>>,
    pipeline: JoinHandle<Result<RunReport, RunError>>,
    stop: Stop,
    erasing: Erasing,
    lake: Arc<LakeHandle>,
    publishers: Vec<PublisherHandle>,
    // Fields are dropped in this order: the store closes before the directory is let go.
    _store: Store,
    _directory: DataDir,
}

impl Node {
    /// Opens everything and starts the threads; returns once questions are answered.
    pub(crate) fn start(plan: Plan<'_>) -> Result<Self, Failure> {
        let Plan { role, domain, data, listener, opened: from, publish, cache, .. } = plan;
        let Access { gate, tls, options: limits } = plan.access;
        let address = listener.local_addr().ours(|| "listen".to_owned())?;
        listener.set_nonblocking(true).ours(|| "listen".to_owned())?;
        raise_open_files();
        let mut directory =
            DataDir::lock(data, role, None).map_err(|error| opened::refused(&error))?;
        let token = new_secret();
        directory.put_token(&token).map_err(|error| opened::refused(&error))?;
        let config = LakeConfig {
            maintenance: plan.maintain_every.map(|every| (every, Maintenance::default())),
            ..lake_args::config(&directory, plan.lake)?
        };
        let options = StoreOptions {
            progress: Some(progress::of_store()),
            archive: Some(Arc::new(LakeArchive::new(config.clone(), Arc::clone(&domain)))),
            backfill_beside: true,
            keep_free_mib: plan.min_free_mib,
            ..Default::default()
        };
        let store = opened::open_with(&directory, Arc::clone(&domain), options)?;
        let readers = store.readers();
        let engine = Arc::new(MetricEngine::new(Arc::clone(&domain), readers.clone()));
        let probes = from.kafka.clone();
        engine.on_behind(Box::new(move || {
            probes.iter().map(|probe| probe.partitions_behind()).sum()
        }));
        let search = Arc::new(Search::new(Arc::clone(&engine), SearchOptions::default()));
        let cache = Arc::new(Cache::with_mode(engine, cache));
        let streams = Streams::start(readers.clone(), Arc::clone(&cache), &plan.streams)
            .ours(|| "start streams".to_owned())?;
        let monitor = Arc::new(PipelineMonitor::default());

        let (ingress, http_source) = queue(QueueLimits::default());
        let telemetry = Arc::new(Telemetry::new());
        let shown = Arc::clone(&telemetry);
        cache.on_shown(Box::new(move |metric, waited| shown.shown(&metric.name, waited)));
        let registry = from.schemas.as_ref().map(Registry::probe);
        // Nothing is given up before those are there who follow.
        let followers = Arc::new(OnceLock::<Followers>::new());
        let asked = Arc::clone(&followers);
        let followed = move || asked.get().map(Followers::followed).unwrap_or_default();
        let mut writer = store.writer().ours(|| "open the store for writing".to_owned())?;
        writer.retain(Retention { policy: plan.retention, followed: Arc::new(followed) });
        let told = Told {
            cache: Arc::clone(&cache),
            streams: streams.clone(),
            monitor: Arc::clone(&monitor),
            telemetry: Arc::clone(&telemetry),
        };
        let mut runner = runner(writer, &domain, from.schemas, told)?;
        let all = from.sources.into_iter().chain([Box::new(http_source) as Box<dyn Source>]);
        for source in all {
            runner.add_source(source).map_err(|error| Failure::input(chain(&error)))?;
        }
        let journal: Arc<dyn Journal> = Arc::new(readers.clone());
        let publishers = publish_args::start(publish, &directory, &journal, &domain)?;
        let place = place(&config)?;
        let lake = Lake::spawn(config.clone(), journal, Arc::clone(&domain))
            .ours(|| "start the lake".to_owned())?;
        let lake = Arc::new(lake);
        let erasures = store.erasures();
        let touched = (Arc::clone(&cache), streams.clone(), Arc::clone(&search));
        erasures.on_erased(Arc::new(move |committed| {
            touched.0.committed(committed);
            touched.1.committed(committed);
            touched.2.forget(committed.touched.iter().flat_map(|(_, tenants)| tenants));
        }));
        let erasing = Erasing::start(&store, lake.flusher(), config, Arc::clone(&domain))?;
        let publishing: Vec<PublisherProbe> =
            publishers.iter().map(PublisherHandle::probe).collect();
        let _ = followers
            .set(Followers { lake: Arc::downgrade(&lake), publishers: publishing.clone() });

        let state = AppState {
            domain,
            cache: cache.clone(),
            search,
            readers: readers.clone(),
            streams,
            queries: Queries::new(readers.clone(), plan.queries),
            ingress,
            pipeline: monitor.clone(),
            lake: Some(Arc::new(View { lake: Arc::downgrade(&lake), place })),
            backups: store.backups(),
            erasures,
            verifications: Default::default(),
            kafka: from.kafka,
            publishers: publishing,
            registry,
            telemetry,
            options: Arc::new(limits),
            gate: Arc::new(gate.with_operator_token(&token)),
        };
        let ending = CancellationToken::new();
        let stop = Stop::default();
        let pipeline = spawn("pipeline", {
            let (stop, ending) = (stop.clone(), ending.clone());
            move || {
                monitor.running();
                let result = runner.run(&stop);
                monitor.stopped(match &result {
                    Ok(_) => "ended".to_owned(),
                    Err(error) => chain(error),
                });
                // Without a pipeline there is nothing to serve: end, so that somebody notices.
                ending.cancel();
                result
            }
        })?;
        let is_tls = tls.is_some();
        let api = spawn("http", {
            let ending = ending.clone();
            move || serve(listener, state, tls, ending)
        })?;
        directory.set_listen(address, is_tls).map_err(|error| opened::refused(&error))?;
        Ok(Self {
            address,
            cache,
            readers,
            ending,
            api,
            pipeline,
            stop,
            erasing,
            lake,
            publishers,
            _store: store,
            _directory: directory,
        })
    }

    /// Where the API answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers questions as the API does.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Reads counts.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Asks for the end when cancelled; cancelled when the node ends by itself.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// Waits for the end and tells how it came about.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        let api = self.api.join();
        self.stop.request();
        let pipeline = self.pipeline.join();
        // The followers finish a commit under way; the rest follows at the next start.
        publish_args::stop(self.publishers);
        drop(self.lake);
        drop(self.erasing);
        let panicked = || Failure::ours("a thread panicked; see above");
        let report = pipeline.map_err(|_| panicked())?.map_err(|error| {
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

/// Those whom a commit is made known to.
struct Told {
    cache: Arc<Cache>,
    streams: Streams,
    monitor: Arc<PipelineMonitor>,
    telemetry: Arc<Telemetry>,
}

/// The pipeline over a store. A commit is first made known to the cache, then to streams and to whoever
/// posted.
fn runner(
    writer: Writer,
    domain: &Arc<Domain>,
    schemas: Option<Registry>,
    told: Told,
) -> Result<Runner, Failure> {
    let Told { cache, streams, monitor, telemetry } = told;
    let contracts = Arc::clone(domain);
    let (refused, ready) = (Arc::clone(&monitor), Arc::clone(&monitor));
    let options = RunnerOptions {
        schemas: schemas.map(|registry| Arc::new(registry) as _),
        on_refusal: Some(Box::new(move |error| {
            let what = if error.is_disk_full() { "; free some space" } else { "" };
            refused.refused(format!("{error}{what}; what comes is tried again until it is taken"));
        })),
        on_ready: Some(Box::new(move || ready.ready())),
        on_commit: Some(Box::new(move |committed| {
            cache.committed(committed);
            streams.committed(committed);
            monitor.committed(committed);
            telemetry.committed(&contracts, committed, pipeline::clock::now());
        })),
        ..Default::default()
    };
    Runner::new(Arc::clone(domain), Box::new(writer), options)
        .ours(|| "read where the last run ended".to_owned())
}

/// Those who follow the journal. Weak, as in [`View`].
struct Followers {
    lake: Weak<LakeHandle>,
    publishers: Vec<PublisherProbe>,
}

impl Followers {
    /// What they have.
    fn followed(&self) -> Followed {
        let furthest_behind = |content: Content| {
            let all = self.publishers.iter().map(PublisherProbe::status);
            // One that has not been told yet may owe everything.
            let positions = all.filter(|status| status.content == content);
            positions.map(|status| status.position.unwrap_or(0)).min()
        };
        Followed {
            complete: self.lake.upgrade().map(|lake| lake.complete()).unwrap_or_default(),
            events: furthest_behind(Content::ValidatedEvents),
            dead_letters: furthest_behind(Content::DeadLetters),
        }
    }
}

/// A look at the lake. Weak: a health check that is still under way must not keep the follower alive.
struct View {
    lake: Weak<LakeHandle>,
    place: LakePlace,
}

impl LakeView for View {
    fn status(&self) -> LakeStatus {
        self.lake.upgrade().map(|lake| lake.status()).unwrap_or_default()
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.lake.upgrade().map(|lake| lake.tables()).unwrap_or_default()
    }

    fn place(&self) -> LakePlace {
        self.place.clone()
    }
}

/// Where the lake of `config` is, with absolute paths.
fn place(config: &LakeConfig) -> Result<LakePlace, Failure> {
    let absolute =
        |path: PathBuf| std::path::absolute(&path).ours(|| format!("resolve `{}`", path.display()));
    Ok(match &config.catalog {
        LakeCatalog::Local => LakePlace::Local {
            catalog: CATALOG_NAME.to_owned(),
            catalog_file: absolute(config.catalog_file())?,
            warehouse: absolute(config.warehouse())?,
        },
        LakeCatalog::Glue(glue) => LakePlace::Glue {
            catalog: CATALOG_NAME.to_owned(),
            account: glue.account().map(str::to_owned),
            warehouse: glue.warehouse.clone(),
        },
        LakeCatalog::Rest(rest) => LakePlace::Rest {
            catalog: CATALOG_NAME.to_owned(),
            uri: rest.uri.clone(),
            warehouse: rest.warehouse.clone(),
        },
    })
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
    state: AppState,
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
        http::serve(listener, state, tls, ending.cancelled_owned()).await
    });
    ended.cancel();
    // A blocking read that outlives the drain is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
