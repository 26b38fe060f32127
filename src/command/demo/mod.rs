//! `agentflow demo`: the shop in one command, from nothing, offline.
//!
//! The contracts are part of the binary, the events come from the generator, and everything else is
//! what `serve` does.

mod board;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use pipeline::source::generator::{GeneratorOptions, GeneratorSource};

use serving::cache::CacheMode;
use serving::store::RetentionPolicy;
use serving::stream::StreamOptions;

use crate::access_args::Access;
use crate::failure::chain;
use crate::failure::{Context, Failure};
use crate::node::{Node, Plan};
use crate::source_spec::{Opened, TENANT};
use crate::{domain, logging, output, signals};
use pipeline::sink::iceberg::LakeCatalog;
use serving::access::digest::{Pepper, new_secret};
use serving::access::gate::Gate;
use serving::access::record::KeyRecord;
use serving::access::ring::KeyRing;
use serving::http::HttpOptions;

use board::Board;

/// What the shop did before the demo began: without it an hour's revenue would begin with nothing.
const HISTORY: Duration = Duration::from_secs(15 * 60);

/// Nobody should meet the limit who tries things out.
const REQUESTS_PER_MINUTE: u32 = 6_000;

/// Where the demo listens if it may choose.
const USUAL: &str = "127.0.0.1:8080";

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where to keep the data. Default: a temporary directory that is gone afterwards.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen. Default: 127.0.0.1:8080, or a free port if that is taken.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Events per second.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seed of the generated events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        let domain = domain::demo()?;
        let temporary = match self.data {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("agentflow-demo-")
                    .tempdir()
                    .ours(|| "make a temporary directory".to_owned())?,
            ),
        };
        let data = match (&self.data, &temporary) {
            (Some(data), _) => data.clone(),
            (None, Some(temporary)) => temporary.path().to_path_buf(),
            (None, None) => return Err(Failure::ours("no place for the data")),
        };
        let (access, key) = access()?;
        let listener = self.listener(&access)?;
        let node = Node::start(Plan {
            role: "demo",
            domain: Arc::new(domain),
            data: &data,
            listener,
            opened: Opened { sources: vec![Box::new(self.generator())], ..Opened::default() },
            publish: Vec::new(),
            cache: CacheMode::default(),
            lake: LakeCatalog::Local,
            maintain_every: None,
            retention: RetentionPolicy::default(),
            min_free_mib: super::serve::MIN_FREE_MIB,
            metric_state: true,
            access,
            streams: StreamOptions::default(),
            queries: Default::default(),
            reload: None,
        })?;
        let ending = node.ending();
        signals::on_end(move || ending.cancel())?;
        eprintln!("listening on http://{}", node.address());
        if let Some(board) = Board::new(&node, self.rate, key) {
            output::line(&board.introduction(&data, temporary.is_some()))?;
            board.run(&node.ending())?;
        }
        node.wait()
    }

    fn listener(&self, access: &Access) -> Result<TcpListener, Failure> {
        if let Some(address) = self.listen {
            return super::serve::listen(address, access);
        }
        let usual: SocketAddr = USUAL.parse().ours(|| format!("read `{USUAL}`"))?;
        TcpListener::bind(usual)
            .or_else(|_| super::serve::listen(SocketAddr::new(usual.ip(), 0), access))
    }

    fn generator(&self) -> GeneratorSource {
        let now = || chrono::Utc::now().timestamp_micros();
        let options = GeneratorOptions {
            seed: self.seed,
            rate: f64::from(self.rate),
            start: now(),
            ..GeneratorOptions::default()
        };
        GeneratorSource::new(options, Arc::from(TENANT), now).with_history(HISTORY)
    }
}

/// The demo has a key of its own, which is good while it runs.
fn access() -> Result<(Access, String), Failure> {
    let secret = format!("demo-{}", new_secret());
    let record = KeyRecord {
        key: Some(secret.clone()),
        rate_limit_rpm: Some(REQUESTS_PER_MINUTE),
        ..KeyRecord::new("demo", TENANT)
    };
    let ring = KeyRing::open(None, vec![record], Pepper::random(), None)
        .map_err(|error| Failure::ours(chain(&error)))?;
    let access =
        Access { gate: Gate::locked(Arc::new(ring)), tls: None, options: HttpOptions::default() };
    Ok((access, secret))
}
