//! What every handler has at hand: contracts, answers, the store, the way in, and the limits.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use contracts::model::{Domain, Metric};
use pipeline::registry::RegistryProbe;
use pipeline::sink::iceberg::{LakeStatus, TableInfo};
use pipeline::sink::kafka::PublisherProbe;
use pipeline::source::http::Ingress;
use pipeline::source::kafka::KafkaProbe;

use super::error::{ApiError, Code};
use super::monitor::PipelineMonitor;
pub use crate::access::Caller;
use crate::access::Pass;
use crate::access::gate::Gate;
use crate::access::rate::Budget;
use crate::cache::Cache;
use crate::query::Queries;
use crate::search::Search;
use crate::store::Readers;
use crate::store::backup::Backups;
use crate::store::erase::Erasures;
use crate::stream::Streams;
use crate::telemetry::Telemetry;
use crate::verify::Verifications;

/// Looks at the lake from outside.
pub trait LakeView: Send + Sync {
    /// How its follower is.
    fn status(&self) -> LakeStatus;

    /// Its tables, in order of name.
    fn tables(&self) -> Vec<TableInfo>;

    /// Where it is.
    fn place(&self) -> LakePlace;
}

/// Where a lake is, as other engines have to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LakePlace {
    /// On local disks.
    Local {
        /// Name of the catalog.
        catalog: String,
        /// The catalog's SQLite file.
        catalog_file: PathBuf,
        /// Folder below which all tables lie.
        warehouse: PathBuf,
    },
    /// In AWS Glue.
    Glue {
        /// Name for the catalog.
        catalog: String,
        /// The account, if it is not that of the credentials.
        account: Option<String>,
        /// Where new tables go.
        warehouse: String,
    },
    /// Behind a REST catalog.
    Rest {
        /// Name for the catalog.
        catalog: String,
        /// Where it answers.
        uri: String,
        /// The warehouse to ask it for.
        warehouse: Option<String>,
    },
}

/// The lake, as the API sees it.
pub type LakeProbe = Arc<dyn LakeView>;

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The contracts.
    pub domain: Arc<Domain>,
    /// Answers questions to metrics and entities.
    pub cache: Arc<Cache>,
    /// Finds entities, fields and metrics by words.
    pub search: Arc<Search>,
    /// Reads everything else from the store.
    pub readers: Readers,
    /// Sends events and metrics as they come.
    pub streams: Streams,
    /// Runs callers' SQL.
    pub queries: Queries,
    /// Takes events into the pipeline.
    pub ingress: Ingress,
    /// How the pipeline is.
    pub pipeline: Arc<PipelineMonitor>,
    /// How the lake is; `None` when the process has none.
    pub lake: Option<LakeProbe>,
    /// What backups and the writer agree on; `None` for a store in memory.
    pub backups: Option<Backups>,
    /// The way for erasures to the writer.
    pub erasures: Erasures,
    /// Verifications that run beside everything else.
    pub verifications: Verifications,
    /// How the sources that read Kafka are.
    pub kafka: Vec<KafkaProbe>,
    /// How the topics are that are published.
    pub publishers: Vec<PublisherProbe>,
    /// How the schema registry is; `None` when no topic needs one.
    pub registry: Option<RegistryProbe>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Limits.
    pub options: Arc<HttpOptions>,
    /// Who is let in.
    pub gate: Arc<Gate>,
}

/// Limits of the API.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Most events in one request.
    pub max_events_per_request: usize,
    /// Longest time for one request, reading its body included.
    pub request_timeout: Duration,
    /// Most requests under way at once; more are answered 503. Health and `/metrics` are free.
    pub max_concurrent_requests: usize,
    /// Most connections at once; more wait until one ends.
    pub max_connections: usize,
    /// Sites whose pages may use the API from a browser, as `https://HOST`.
    pub cors_origins: Vec<HeaderValue>,
    /// How long open requests may take to end once shutdown began.
    pub drain_timeout: Duration,
    /// Newest event at most this old: `freshness` is healthy.
    pub fresh_within: Duration,
    /// Newest event at most this old: `freshness` is degraded, beyond it unhealthy.
    pub stale_after: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_events_per_request: 10_000,
            request_timeout: Duration::from_secs(30),
            max_concurrent_requests: 512,
            max_connections: 20_000,
            cors_origins: vec![HeaderValue::from_static("http://localhost:3000")],
            drain_timeout: Duration::from_secs(30),
            fresh_within: Duration::from_secs(30),
            stale_after: Duration::from_secs(90),
        }
    }
}

impl AppState {
    /// Runs a blocking call (all of DuckDB's are) where it holds up no other request.
    pub(super) async fn blocking<T, E>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let state = self.clone();
        match tokio::task::spawn_blocking(move || call(&state)).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => Err(ApiError::internal(format!("blocking call: {error}"))),
        }
    }
}

/// What the caller may not see is a 403 that names the key and the thing.
impl Caller {
    /// Refuses who may not read entities of this type.
    pub(super) fn entity(&self, name: &str) -> Result<(), ApiError> {
        self.allow(self.sees_entity(name), format_args!("read entity type `{name}`"))
    }

    /// Refuses who may not read this metric.
    pub(super) fn metric(&self, domain: &Domain, metric: &Metric) -> Result<(), ApiError> {
        let name = &metric.name;
        self.allow(self.sees_metric(domain, metric), format_args!("read metric `{name}`"))
    }

    /// Refuses who may not read all events of their tenant. `what` is the object, for the message.
    pub(super) fn events(&self, what: &str) -> Result<(), ApiError> {
        self.allow(self.sees_events(), format_args!("read {what}"))
    }

    /// Refuses who may not send events.
    pub(super) fn send(&self) -> Result<(), ApiError> {
        self.allow(self.sees_events(), format_args!("send events"))
    }

    fn allow(&self, may: bool, what: std::fmt::Arguments<'_>) -> Result<(), ApiError> {
        if may {
            return Ok(());
        }
        let key = self.key.as_deref().unwrap_or("none");
        Err(ApiError::new(Code::Forbidden, format!("key `{key}` may not {what}"))
            .hint("ask whoever made the key for a wider scope"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // Only a route that nobody guards comes here without one: closed all the same.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::new(Code::Unauthorized, "API key is missing")
                .hint("send it as header `X-API-Key`")
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Pass {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Budget {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
