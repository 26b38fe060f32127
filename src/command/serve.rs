//! `agentflow serve`: the pipeline and the HTTP API in one process.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use pipeline::source::file::AtEnd;
use serving::cache::CacheMode;
use serving::http::check_listen_addr;
use serving::query::QueryLimits;
use serving::store::RetentionPolicy;
use serving::stream::StreamOptions;

use super::{ContractsArg, DataArg, StateArg};
use crate::access_args::{Access, AccessArgs};
use crate::failure::{Failure, chain};
use crate::lake_args::LakeArgs;
use crate::node::{Node, Open, Plan, ReloadPlan};
use crate::publish_args::PublishArgs;
use crate::source_spec::{self, KafkaArgs, SourceSpec};
use crate::{domain, logging, signals};

#[derive(Debug, Args)]
#[command(
    after_help = "Make a key first: agentflow keys create --data DIR --name NAME. Secrets come \
from the environment: AGENTFLOW_API_KEYS (key:name, joined by commas), AGENTFLOW_ADMIN_KEY, \
AGENTFLOW_KEY_LOOKUP_PEPPER, REDIS_URL (request counts that replicas share).\n\
Ctrl-C or SIGTERM ends it cleanly: open requests are answered, what was read is committed."
)]
pub(super) struct Serve {
    #[command(flatten)]
    contracts: ContractsArg,
    #[command(flatten)]
    data: DataArg,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    access: AccessArgs,
    /// Where else events come from, besides POST /v1/events: `kafka:HOST:PORT`, or `file:PATH`, which
    /// is followed as it grows. May be repeated.
    #[arg(long, value_name = "SOURCE")]
    from: Vec<SourceSpec>,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// When a cached answer is good: `invalidated` (until an event touches what it stands on), or
    /// for comparison `off` or `ttl:SECONDS`.
    #[arg(long, value_name = "MODE", default_value = "invalidated", value_parser = cache_mode)]
    cache: CacheMode,
    #[command(flatten)]
    lake: LakeArgs,
    /// Minutes between two maintenances of the lake, as `agentflow lake maintain` does them with its
    /// defaults; 0: never by the clock.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=525_600))]
    lake_maintain_every: u64,
    /// Days, or a fraction of one, that the journal keeps its rows; older ones are in the lake only, and answers that need
    /// them take longer. 0: for ever.
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = amount)]
    keep_days: f64,
    /// GiB that the store may have before the journal gives up its oldest rows; 0: any.
    #[arg(long, value_name = "GIB", default_value = "20", value_parser = amount)]
    keep_gib: f64,
    /// Minutes that the lake must have had a row before the journal gives it up.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=1_440))]
    trim_grace_minutes: u64,
    /// MiB that have to stay free on the disk of the data directory: with less, sources pause and posted
    /// events are refused, until there is room again. 0: write until the disk is full.
    #[arg(long, value_name = "MIB", default_value_t = MIN_FREE_MIB)]
    min_free_mib: u32,
    #[command(flatten)]
    state: StateArg,
    /// Streams that one tenant may have open at once, of events and of metrics together.
    #[arg(long, value_name = "N", env = "AGENTFLOW_SSE_MAX_STREAMS_PER_TENANT", default_value_t = StreamOptions::default().max_per_tenant)]
    max_streams_per_tenant: usize,
    /// Streams that may be open at once, of all tenants together.
    #[arg(long, value_name = "N", env = "AGENTFLOW_SSE_MAX_STREAMS", default_value_t = StreamOptions::default().max_in_all)]
    max_streams: usize,
    /// Seconds between two looks at the folder of contracts: what was changed there is taken up while the
    /// server answers, if it is sound and nothing in it is worse than additive. 0: only at SIGHUP and
    /// `POST /v1/admin/contracts/reload`.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = amount)]
    watch_contracts: f64,
    /// Seconds after which a caller's SQL is stopped.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=25))]
    query_seconds: u64,
    /// Statements of callers' SQL that run at once; more are answered 503.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    queries_at_once: u8,
}

/// Space for the lake to catch up, and for others on the disk.
pub(super) const MIN_FREE_MIB: u32 = 512;

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("info");
        let access = self.access.open(&self.data.data)?;
        let listener = listen(self.listen, &access)?;
        let folder = self.contracts.contracts;
        let loaded = domain::load_with_places(&folder)?;
        let domain = Arc::clone(&loaded.domain);
        let (from, kafka, publish) = (self.from, self.kafka, self.publish);
        let open: Open = Box::new(move |domain| {
            let publish = publish.plan(&from, &kafka, domain)?;
            let now = chrono::Utc::now().timestamp_micros();
            let opened = source_spec::open(&from, &kafka, domain, AtEnd::Follow, now)?;
            Ok((opened, publish))
        });
        let (opened, publish) = open(&domain)?;
        let lake = self.lake.catalog()?;
        let plan = Plan {
            role: "serve",
            domain,
            data: &self.data.data,
            listener,
            opened,
            publish,
            cache: self.cache,
            lake,
            maintain_every: (self.lake_maintain_every > 0)
                .then(|| Duration::from_secs(self.lake_maintain_every * 60)),
            retention: RetentionPolicy {
                keep_for: (self.keep_days > 0.0)
                    .then(|| Duration::from_secs_f64(self.keep_days * 86_400.0)),
                keep_bytes: (self.keep_gib > 0.0)
                    .then(|| (self.keep_gib * f64::from(1 << 30)) as u64),
                grace: Duration::from_secs(self.trim_grace_minutes * 60),
            },
            min_free_mib: self.min_free_mib,
            metric_state: self.state.is_on(),
            access,
            streams: StreamOptions {
                max_per_tenant: self.max_streams_per_tenant,
                max_in_all: self.max_streams,
                ..StreamOptions::default()
            },
            queries: QueryLimits {
                time: Duration::from_secs(self.query_seconds),
                at_once: usize::from(self.queries_at_once),
                ..QueryLimits::default()
            },
            reload: Some(ReloadPlan {
                folder,
                loaded,
                every: (self.watch_contracts > 0.0)
                    .then(|| Duration::from_secs_f64(self.watch_contracts)),
                open,
            }),
        };
        let notes = notes(&plan.access, self.listen);
        let scheme = if plan.access.tls.is_some() { "https" } else { "http" };
        let node = Node::start(plan)?;
        let ending = node.ending();
        signals::on_end(move || ending.cancel())?;
        signals::on_hangup(node.look_again())?;
        eprintln!("listening on {scheme}://{}", node.address());
        for note in notes {
            eprintln!("{note}");
        }
        node.wait()
    }
}

fn cache_mode(text: &str) -> Result<CacheMode, String> {
    match (text, text.strip_prefix("ttl:").map(str::parse::<u32>)) {
        ("invalidated", _) => Ok(CacheMode::Invalidated),
        ("off", _) => Ok(CacheMode::Off),
        (_, Some(Ok(seconds))) => Ok(CacheMode::TimeToLive(i64::from(seconds) * 1_000_000)),
        _ => Err("write `invalidated`, `off` or `ttl:SECONDS`".to_owned()),
    }
}

/// A number of days or GiB, also a fraction.
fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if (0.0..=100_000.0).contains(&amount) => Ok(amount),
        _ => Err("write a number from 0 to 100000, for example `30` or `0.5`".to_owned()),
    }
}

/// What to know about who may ask.
fn notes(access: &Access, address: SocketAddr) -> Vec<String> {
    let mut notes = Vec::new();
    match access.gate.ring() {
        None => notes.push("everybody on this machine is let in without a key; Ctrl-C ends it".into()),
        Some(ring) if ring.is_empty() => notes.push(
            "there are no API keys yet, so nobody is let in; make one: agentflow keys create --data \
             DIR --name NAME"
                .to_owned(),
        ),
        Some(ring) => notes.push(format!("{} API keys; Ctrl-C ends it", ring.keys().len())),
    }
    if access.tls.is_none() && !address.ip().to_canonical().is_loopback() {
        notes.push(
            "note: keys go over the network in the clear; put a proxy with TLS in front, or use \
             --tls-cert and --tls-key"
                .to_owned(),
        );
    }
    notes
}

/// Binds the socket of the API.
pub(super) fn listen(address: SocketAddr, access: &Access) -> Result<TcpListener, Failure> {
    check_listen_addr(address, &access.gate)
        .map_err(|refused| Failure::input(refused.to_string()).hint(refused.hint()))?;
    TcpListener::bind(address).map_err(|error| {
        Failure::input(format!("cannot listen on {address}: {}", chain(&error)))
            .hint("choose another port with --listen, or 0 for a free one")
    })
}
