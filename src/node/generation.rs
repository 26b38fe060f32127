//! Everything that hangs on one set of contracts, from sources to answers.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::contracts::model::Domain;
use pipeline::registry::Registry;
use pipeline::runner::{RunError, RunReport, Runner, RunnerOptions, Stop};
use pipeline::sink::iceberg::{
    CATALOG_NAME, Lake, LakeCatalog, LakeConfig, LakeHandle, LakeStatus, TableInfo,
};
use pipeline::sink::kafka::{Content, PublisherConfig, PublisherHandle, PublisherProbe};
use pipeline::source::Source;
use pipeline::source::http::{QueueLimits, queue};
use pipeline::store::Journal;
use serving::cache::Cache;
use serving::http::{AppState, LakePlace, LakeView, LiveContracts, PipelineMonitor};
use serving::metric::MetricEngine;
use serving::query::Queries;
use serving::search::{Search, SearchOptions};
use serving::store::{Followed, Readers, Retention, Store, Writer};
use serving::stream::Streams;
use serving::telemetry::Telemetry;

use super::{Lasting, spawn};
use crate::erasing::Erasing;
use crate::failure::{Context, Failure, chain};
use crate::publish_args;
use crate::source_spec::Opened;

/// How long it is waited for a look at the lake that is under way when a generation ends.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A pipeline, its followers, and what answers over the same store.
pub(super) struct Generation {
    state: AppState,
    pipeline: JoinHandle<Result<RunReport, RunError>>,
    stop: Stop,
    erasing: Erasing,
    lake: Arc<LakeHandle>,
    publishers: Vec<PublisherHandle>,
    store: Store,
}

impl Generation {
    /// Starts it over a store that is in line with the contracts of `domain`.
    pub(super) fn start(
        lasting: &Lasting,
        store: Store,
        domain: Arc<Domain>,
        from: Opened,
        publish: Vec<PublisherConfig>,
        control: Option<Arc<dyn LiveContracts>>,
    ) -> Result<Self, Failure> {
        let config = lasting.config.clone();
        let readers = store.readers();
        let engine = Arc::new(MetricEngine::new(Arc::clone(&domain), readers.clone()));
        let probes = from.kafka.clone();
        engine.on_behind(Box::new(move || {
            probes.iter().map(|probe| probe.partitions_behind()).sum()
        }));
        let search = Arc::new(Search::new(Arc::clone(&engine), SearchOptions::default()));
        let cache = Arc::new(Cache::with_mode(engine, lasting.cache));
        let streams = Streams::start(readers.clone(), Arc::clone(&cache), &lasting.streams)
            .ours(|| "start streams".to_owned())?;
        let monitor = Arc::new(PipelineMonitor::default());

        let (ingress, http_source) = queue(QueueLimits::default());
        let telemetry = Arc::clone(&lasting.telemetry);
        let shown = Arc::clone(&telemetry);
        cache.on_shown(Box::new(move |metric, waited| shown.shown(&metric.name, waited)));
        let registry = from.schemas.as_ref().map(Registry::probe);
        // Nothing is given up before those are there who follow.
        let followers = Arc::new(OnceLock::<Followers>::new());
        let asked = Arc::clone(&followers);
        let followed = move || asked.get().map(Followers::followed).unwrap_or_default();
        let mut writer = store.writer().ours(|| "open the store for writing".to_owned())?;
        writer.retain(Retention { policy: lasting.retention, followed: Arc::new(followed) });
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
        let publishers = publish_args::start(publish, &lasting.directory, &journal, &domain)?;
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
            cache,
            search,
            readers: readers.clone(),
            streams,
            queries: Queries::new(readers, lasting.queries.clone()),
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
            options: Arc::clone(&lasting.options),
            gate: Arc::clone(&lasting.gate),
            contracts: control,
        };
        let stop = Stop::default();
        let pipeline = spawn("pipeline", {
            let (stop, ending) = (stop.clone(), lasting.ending.clone());
            move || {
                monitor.running();
                let result = runner.run(&stop);
                // Stopped for the next generation, it is none that anybody would miss.
                if result.is_err() || !stop.requested() {
                    monitor.stopped(match &result {
                        Ok(_) => "ended".to_owned(),
                        Err(error) => chain(error),
                    });
                    // Without a pipeline there is nothing to serve: end, so that somebody notices.
                    ending.cancel();
                }
                result
            }
        })?;
        Ok(Self { state, pipeline, stop, erasing, lake, publishers, store })
    }

    /// What answers.
    pub(super) fn state(&self) -> AppState {
        self.state.clone()
    }

    pub(super) fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.state.cache)
    }

    pub(super) fn readers(&self) -> Readers {
        self.state.readers.clone()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Stops the pipeline at a commit boundary, then those who follow it: they finish a commit under way, and
    /// the rest follows when they are started again. Readers go on reading. `None`: the pipeline panicked.
    pub(super) fn end(self) -> (Option<Result<RunReport, RunError>>, Store) {
        self.stop.request();
        let pipeline = self.pipeline.join().ok();
        publish_args::stop(self.publishers);
        // Two followers of one lake would stand in each other's way.
        let begun = Instant::now();
        while Arc::strong_count(&self.lake) > 1 && begun.elapsed() < LAST_LOOK {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(self.lake);
        drop(self.erasing);
        (pipeline, self.store)
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
