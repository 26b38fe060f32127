//! A router over an empty store, a pipeline played by the test, and golden files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use contracts::model::Domain;
use pipeline::batch::RawBatch;
use pipeline::outcome::Outcome;
use pipeline::positions::Positions;
use pipeline::source::http::{HttpSource, QueueLimits, queue};
use pipeline::source::{Limits, Next, Source};
use tower::ServiceExt;

use crate::access::gate::Gate;
use crate::cache::Cache;
use crate::http::{AppState, HttpOptions, PipelineMonitor, router};
use crate::metric::MetricEngine;
use crate::query::{Queries, QueryLimits};
use crate::search::{Search, SearchOptions};
use crate::store::Store;
use crate::store::backup::Backups;
use crate::stream::{StreamOptions, Streams};
use crate::telemetry::Telemetry;

/// An API under test.
pub(super) struct World {
    pub(super) state: AppState,
    pub(super) store: Store,
    router: Router,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl World {
    /// Over an empty domain; the source is the other end of `POST /v1/events`.
    pub(super) fn empty() -> (Self, HttpSource) {
        Self::with(HttpOptions::default(), QueueLimits::default())
    }

    pub(super) fn with(options: HttpOptions, limits: QueueLimits) -> (Self, HttpSource) {
        let domain = Domain {
            name: "empty".to_owned(),
            families: Vec::new(),
            entities: Vec::new(),
            metrics: Vec::new(),
            ingest: Default::default(),
            unknown_event: Default::default(),
            graph: Default::default(),
            documents: Vec::new(),
            type_places: Vec::new(),
        };
        Self::of(domain, options, limits)
    }

    pub(super) fn of(
        domain: Domain,
        options: HttpOptions,
        limits: QueueLimits,
    ) -> (Self, HttpSource) {
        let domain = Arc::new(domain);
        let store = Store::in_memory(domain.clone()).unwrap();
        let readers = store.readers();
        let engine = Arc::new(MetricEngine::new(domain.clone(), readers.clone()));
        let (ingress, mut source) = queue(limits);
        source.resume(&Positions::default()).unwrap();
        let monitor = PipelineMonitor::default();
        monitor.running();
        let cache = Arc::new(Cache::new(engine.clone()));
        let streams =
            Streams::start(readers.clone(), cache.clone(), &StreamOptions::default()).unwrap();
        let state = AppState {
            domain,
            cache,
            search: Arc::new(Search::new(engine, SearchOptions::default())),
            queries: Queries::new(readers.clone(), QueryLimits::default()),
            readers,
            streams,
            ingress,
            pipeline: Arc::new(monitor),
            lake: None,
            backups: None,
            erasures: store.erasures(),
            verifications: Default::default(),
            kafka: Vec::new(),
            publishers: Vec::new(),
            registry: None,
            telemetry: Arc::new(Telemetry::new()),
            options: Arc::new(options),
            gate: Arc::new(Gate::open()),
        };
        let router = router(state.clone());
        (Self { state, store, router }, source)
    }

    /// The answer with its body unread.
    pub(super) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// With leases for backups.
    pub(super) fn with_backups(backups: Backups) -> (Self, HttpSource) {
        let (mut world, source) = Self::empty();
        world.state.backups = Some(backups);
        world.router = router(world.state.clone());
        (world, source)
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub(super) async fn post(&self, content_type: &str, body: impl Into<Body>) -> Reply {
        let headers = [("content-type", content_type)];
        self.send(Method::POST, "/v1/events", &headers, body).await
    }

    /// Posts JSON anywhere.
    pub(super) async fn ask(&self, path: &str, body: impl ToString) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, body.to_string()).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        self.send_to(self.router.clone(), method, path, headers, body).await
    }

    /// Sends to another router than the API's.
    pub(super) async fn send_to(
        &self,
        router: Router,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Reply { status: parts.status, headers: parts.headers, text }
    }
}

impl Reply {
    #[track_caller]
    pub(super) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header `{name}`"));
        value.to_str().unwrap()
    }

    /// The body must be an error with this status and code; gives its detail and hint.
    #[track_caller]
    pub(super) fn error(&self, status: u16, code: &str) -> (String, String) {
        let body = self.json();
        assert_eq!((self.status.as_u16(), &body["code"]), (status, &code.into()), "{}", self.text);
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["detail", "code", "hint", "request_id"]);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        assert!(!text("detail").is_empty());
        (text("detail"), text("hint"))
    }
}

/// Plays the pipeline for one batch: looks at the records and says what became of them.
pub(super) fn answer_one(
    mut source: HttpSource,
    answer: impl FnOnce(&RawBatch) -> Vec<Outcome> + Send + 'static,
) -> std::thread::JoinHandle<HttpSource> {
    std::thread::spawn(move || {
        match source.next(Limits::default(), Duration::from_secs(10)).unwrap() {
            Next::Batch(delivery) => {
                let outcomes = answer(&delivery.batch);
                delivery.reply.unwrap().complete(outcomes);
            }
            other => panic!("no batch came: {other:?}"),
        }
        source
    })
}

/// Compares with `golden/<name>`, or writes it when `UPDATE_GOLDEN` is set.
#[track_caller]
pub(super) fn check_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/http/tests/golden").join(name);
    check_file(&path, text);
}

/// The same with a file anywhere.
#[track_caller]
pub(super) fn check_file(path: &std::path::Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run with UPDATE_GOLDEN=1", path.display()));
    assert!(expected == text, "{} differs; now it is:\n{text}", path.display());
}

/// A body with what differs from run to run masked, laid out for reading.
pub(super) fn masked(mut body: serde_json::Value) -> String {
    mask(&mut body);
    let mut text = serde_json::to_string_pretty(&body).unwrap();
    text.push('\n');
    text
}

fn mask(value: &mut serde_json::Value) {
    const MASKED: [&str; 22] = [
        "hash",
        "request_id",
        "computed_at",
        "checked_at",
        "age_ms",
        "freshness_seconds",
        "read_seconds",
        "last_event_age_seconds",
        "last_commit_age_seconds",
        "received_at",
        "age_seconds",
        "applied_at",
        "last_event_at",
        "in_stage_seconds",
        "latency_ms",
        "arrived_at",
        "occurred_at",
        "execution_time_ms",
        "duration_ms",
        "data_freshness_seconds",
        "next_cursor",
        "plan",
    ];
    match value {
        serde_json::Value::Object(members) => {
            // Of an event the time at which it was applied; of a metric's lineage an event time.
            let is_event = members.contains_key("latency_ms");
            for (name, value) in members {
                let applied = is_event && name == "processed_at";
                if (applied || MASKED.contains(&name.as_str())) && !value.is_null() {
                    *value = "<masked>".into();
                } else {
                    mask(value);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}
