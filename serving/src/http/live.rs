//! Who answers while contracts change: the same socket and connections, another router.
//!
//! Each request gets its turn with the router of the moment and keeps it until it is answered, so nothing is
//! cut off: a request that began under old contracts ends under them. What must not be done meanwhile waits
//! here, before anything of it was read ([`Hold`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Method;
use tokio::sync::watch;

use super::layers::Kept;
use super::monitor::PipelineMonitor;
use super::router_with;
use super::state::{AppState, HttpOptions};
use crate::access::gate::Gate;
use crate::stream::Streams;

/// How often it is looked whether the last request under way is answered.
const LOOK: Duration = Duration::from_millis(2);

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Nothing.
    Nothing,
    /// What goes to the pipeline: events and erasures. Everything else is answered.
    Writes,
    /// Everything that touches the store.
    All,
}

/// The router of the moment. Clones are the same.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    now: watch::Sender<Arc<Serving>>,
    hold: watch::Sender<Hold>,
    kept: Kept,
    options: Arc<HttpOptions>,
    gate: Arc<Gate>,
}

/// What answers under one set of contracts.
struct Serving {
    router: Router,
    streams: Streams,
    pipeline: Arc<PipelineMonitor>,
    /// Cloned by each write that has its turn, and by each other request.
    writes: Arc<()>,
    reads: Arc<()>,
}

/// A request's turn: who answers it. Kept until it is answered.
pub(super) struct Turn {
    serving: Arc<Serving>,
    _under_way: Arc<()>,
}

impl Turn {
    pub(super) fn router(&self) -> Router {
        self.serving.router.clone()
    }
}

impl From<AppState> for Live {
    fn from(state: AppState) -> Self {
        let kept = Kept::new(&state.options);
        let (options, gate) = (Arc::clone(&state.options), Arc::clone(&state.gate));
        let (now, _) = watch::channel(Arc::new(Serving::new(state, &kept)));
        let (hold, _) = watch::channel(Hold::Nothing);
        Self(Arc::new(Inner { now, hold, kept, options, gate }))
    }
}

impl Serving {
    fn new(state: AppState, kept: &Kept) -> Self {
        let (streams, pipeline) = (state.streams.clone(), Arc::clone(&state.pipeline));
        Self {
            pipeline,
            router: router_with(state, kept),
            streams,
            writes: Arc::default(),
            reads: Arc::default(),
        }
    }
}

/// At which [`Hold`] a request waits.
fn waits_at(method: &Method, path: &str) -> Hold {
    let below = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if method == Method::POST && (below("/v1/events") || below("/v1/erasures")) {
        return Hold::Writes;
    }
    // Whoever changes contracts, and whoever looks whether the process lives, waits for nobody.
    let never = below("/v1/admin")
        || below("/health")
        || below("/v1/health")
        || ["/metrics", "/metrics/"].contains(&path);
    if never { Hold::Nothing } else { Hold::All }
}

impl Live {
    /// Waits for its turn.
    pub(super) async fn turn(&self, method: &Method, path: &str) -> Turn {
        let at = waits_at(method, path);
        let mut hold = self.0.hold.subscribe();
        loop {
            let serving = Arc::clone(&self.0.now.borrow());
            let kind = if at == Hold::Writes { &serving.writes } else { &serving.reads };
            let under_way = Arc::clone(kind);
            // Looked at only once the turn is counted: either it is waited for, or it sees that it has
            // to wait.
            let held = *hold.borrow_and_update();
            if at == Hold::Nothing || held < at {
                return Turn { serving, _under_way: under_way };
            }
            drop((under_way, serving));
            if hold.changed().await.is_err() {
                // The sender lives as long as this does.
                return self.current();
            }
        }
    }

    fn current(&self) -> Turn {
        let serving = Arc::clone(&self.0.now.borrow());
        let under_way = Arc::clone(&serving.reads);
        Turn { serving, _under_way: under_way }
    }

    /// Lets what is worse than `hold` wait from now on, and what waited before go on if it may.
    ///
    /// Reads that wait for a commit ask again when they would be waited for: with `All`, and when others answer.
    pub fn hold(&self, hold: Hold) {
        self.0.hold.send_replace(hold);
        self.0.now.borrow().pipeline.give_way(hold == Hold::All);
    }

    /// Waits until what is held is not under way any more either; `false` when that took too long. Blocks.
    pub fn settle(&self, within: Duration) -> bool {
        let begun = Instant::now();
        let serving = Arc::clone(&self.0.now.borrow());
        let hold = *self.0.hold.borrow();
        let is_over = |kind: &Arc<()>| Arc::strong_count(kind) == 1;
        loop {
            let writes = hold < Hold::Writes || is_over(&serving.writes);
            let reads = hold < Hold::All || is_over(&serving.reads);
            if writes && reads {
                return true;
            }
            if begun.elapsed() > within {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Ends the streams of the moment: whoever reads them connects again.
    pub fn close_streams(&self) {
        self.0.now.borrow().streams.close();
    }

    /// Answers by `state` from now on.
    pub fn put(&self, state: AppState) {
        let serving = Serving::new(state, &self.0.kept);
        let before = self.0.now.send_replace(Arc::new(serving));
        before.pipeline.give_way(true);
        before.streams.close();
    }

    /// Ends what would not end by itself.
    pub(super) fn end(&self) {
        self.close_streams();
        self.hold(Hold::Nothing);
    }

    pub(super) fn options(&self) -> &Arc<HttpOptions> {
        &self.0.options
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_the_pipeline_waits_first_and_what_looks_after_it_never() {
        for (method, path, at) in [
            (Method::POST, "/v1/events", Hold::Writes),
            (Method::POST, "/v1/erasures", Hold::Writes),
            (Method::GET, "/v1/erasures", Hold::All),
            (Method::GET, "/v1/metrics/a", Hold::All),
            (Method::POST, "/v1/query", Hold::All),
            (Method::GET, "/v1/eventsx", Hold::All),
            (Method::GET, "/health/live", Hold::Nothing),
            (Method::GET, "/v1/health", Hold::Nothing),
            (Method::GET, "/metrics", Hold::Nothing),
            (Method::POST, "/v1/admin/contracts/reload", Hold::Nothing),
        ] {
            assert_eq!(waits_at(&method, path), at, "{method} {path}");
        }
    }
}
