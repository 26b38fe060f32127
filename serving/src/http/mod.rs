//! The HTTP API.
//!
//! ```text
//! request → name it → count it → guard → version → limits → route → cache, store or pipeline
//! ```
//!
//! Every answer is a JSON object, errors included ([`error`]); values keep all their digits;
//! blocking calls run on their own threads. The API writes nothing itself: events go to the pipeline
//! and come back as outcomes. Start at [`router`]; [`serve`] runs it on a socket until it is told to
//! end.

pub mod body;
mod connections;
pub mod error;
mod freshness;
mod graph;
mod layers;
mod ledger;
mod monitor;
mod query;
mod routes;
mod split;
pub mod state;
pub mod time;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use monitor::{PipelineMonitor, PipelineState};
pub use routes::backup::BackupBody;
pub use routes::dead_letters::DeadLetterBody;
pub use routes::erasures::ErasureBody;
pub use state::{AppState, Caller, HttpOptions, LakePlace, LakeProbe, LakeView};

use routes::{backup, catalog, contracts, dead_letters, docs, entity, erasures, events, health};
use routes::{lake, lineage, lineage_entity, metrics, scrape, stream};

/// All routes in all their layers.
pub fn router(state: AppState) -> Router {
    let (api, description) = described().split_for_parts();
    let routes = api
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .with_state(state.clone())
        .merge(docs::routes(&description));
    layers::apply(routes, &state)
}

/// The OpenAPI description as JSON text: what `/openapi.json` answers.
pub fn openapi() -> String {
    docs::text(&described().into_openapi())
}

fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(docs::Head::openapi())
        .routes(routes!(metrics::list))
        .routes(routes!(metrics::read))
        .routes(routes!(stream::metric))
        .routes(routes!(stream::events))
        .routes(routes!(entity::read))
        .routes(routes!(events::post))
        .routes(routes!(dead_letters::list))
        .routes(routes!(catalog::read))
        .routes(routes!(contracts::list))
        .routes(routes!(contracts::newest))
        .routes(routes!(contracts::version))
        .routes(routes!(lineage::read))
        .routes(routes!(lineage_entity::read))
        .routes(routes!(lake::list))
        .routes(routes!(erasures::list, erasures::post))
        .routes(routes!(erasures::read))
        .routes(routes!(backup::begin))
        .routes(routes!(backup::renew, backup::end))
        .routes(routes!(health::read))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(scrape::read))
}

/// Why the server does not listen there.
#[derive(Debug, thiserror::Error)]
#[error("refusing to listen on `{addr}`: the API has no keys yet, so it listens on loopback only")]
pub struct NotLoopback {
    /// The address.
    pub addr: SocketAddr,
}

impl NotLoopback {
    /// The next step.
    pub fn hint(&self) -> String {
        format!("listen on 127.0.0.1:{} or [::1]:{}", self.addr.port(), self.addr.port())
    }
}

/// Without keys, only this machine may ask.
pub fn check_listen_addr(addr: SocketAddr) -> Result<(), NotLoopback> {
    if addr.ip().to_canonical().is_loopback() { Ok(()) } else { Err(NotLoopback { addr }) }
}

/// Answers requests on `listener` until `shutdown` resolves; then takes no new ones, lets open ones
/// end within `drain_timeout`, and returns.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let addr = listener.local_addr()?;
    check_listen_addr(addr).map_err(io::Error::other)?;
    let drain = state.options.drain_timeout;
    let streams = state.streams.clone();
    let (ending, ended) = watch::channel(false);
    let answering = connections::answer(listener, router(state), ended);
    let cut = async move {
        shutdown.await;
        // They would not end by themselves.
        streams.close();
        // Nobody listens any more only when all have ended already.
        let _ = ending.send(true);
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = answering => {}
        () = cut => {
            tracing::warn!(seconds = drain.as_secs(), "open requests were cut off at shutdown");
        }
    }
    Ok(())
}
