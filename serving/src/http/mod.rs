//! The HTTP API.
//!
//! ```text
//! request → name it → count it → guard → version → key → limits → route → cache, store or pipeline
//! ```
//!
//! Every answer is a JSON object, errors included ([`error`]); values keep all their digits;
//! blocking calls run on their own threads. The API writes nothing itself: events go to the pipeline
//! and come back as outcomes. Start at [`router`]; [`serve`] runs it on a socket until it is told to
//! end.

mod after;
mod again;
mod ask;
mod asked;
pub mod body;
mod connection;
mod direct;
pub mod error;
mod etag;
mod fields;
mod freshness;
mod graph;
mod handover;
mod layers;
mod ledger;
mod live;
mod monitor;
mod query;
mod refusal;
mod reload;
mod routes;
mod server;
mod split;
pub mod state;
pub mod time;
pub mod tls;
mod versions;
mod warnings;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use axum::http::HeaderValue;
pub use direct::read_metric;
pub use live::{Hold, Live};
pub use monitor::{PipelineMonitor, PipelineState};
pub use reload::{ContractsStatus, LiveContracts, Problem, Refusal, ReloadResult, Reloaded};
pub use routes::backup::BackupBody;
pub use routes::dead_letters::DeadLetterBody;
pub use routes::erasures::ErasureBody;
pub use routes::verify::VerificationBody;
pub use server::{NotLoopback, check_listen_addr, serve};
pub use state::{AppState, Caller, HttpOptions, LakePlace, LakeProbe, LakeView};

use routes::{
    admin, backup, batch, catalog, changelog, contracts, dead_letters, docs, entity, erasures,
    events,
};
use routes::{
    health, lake, lineage, lineage_entity, metrics, query as queries, reload_contracts, scrape,
    search, stream, timeline, verify,
};

/// All routes in all their layers.
pub fn router(state: AppState) -> Router {
    let kept = layers::Kept::new(&state.options);
    router_with(state, &kept)
}

/// The same with what outlives a change of contracts.
fn router_with(state: AppState, kept: &layers::Kept) -> Router {
    let (api, description) = described().split_for_parts();
    let routes = api
        // Others answer there.
        .route("/metrics/", get(scrape::read))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .with_state(state.clone())
        .merge(docs::routes(&description));
    layers::apply(routes, &state, kept)
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
        .routes(routes!(timeline::read))
        .routes(routes!(queries::post))
        .routes(routes!(queries::explain))
        .routes(routes!(batch::post))
        .routes(routes!(events::post))
        .routes(routes!(dead_letters::list))
        .routes(routes!(search::read))
        .routes(routes!(catalog::read))
        .routes(routes!(changelog::read))
        .routes(routes!(contracts::list))
        .routes(routes!(contracts::newest))
        .routes(routes!(contracts::version))
        .routes(routes!(contracts::diff::read))
        .routes(routes!(contracts::validate::post))
        .routes(routes!(lineage::read))
        .routes(routes!(lineage_entity::read))
        .routes(routes!(lake::list))
        .routes(routes!(erasures::list, erasures::post))
        .routes(routes!(erasures::read))
        .routes(routes!(backup::begin))
        .routes(routes!(backup::renew, backup::end))
        .routes(routes!(verify::begin))
        .routes(routes!(verify::read))
        .routes(routes!(admin::list, admin::create))
        .routes(routes!(admin::revoke))
        .routes(routes!(admin::rotate))
        .routes(routes!(admin::rotation))
        .routes(routes!(admin::revoke_old))
        .routes(routes!(admin::usage))
        .routes(routes!(reload_contracts::post))
        .routes(routes!(health::read))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(scrape::read))
}
