//! `/openapi.json` and `/docs`: the API described, and that description as a page.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The head of the description; paths come from the routes themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "AgentFlow",
        description = "Live metrics from events: declare a metric once, read it milliseconds after \
                       the event, with proof of how fresh and how complete the number is.\n\n\
                       Every answer is a JSON object. Every error is \
                       `{detail, code, hint, request_id}`.",
    ),
    modifiers(&Schemes),
    security(("api_key" = []), ("bearer" = [])),
    tags(
        (name = "metrics", description = "Read metrics."),
        (name = "entities", description = "Read the state of things."),
        (name = "queries", description = "Several metrics at once, SQL, plain questions, batches."),
        (name = "events", description = "Send events; see what became of them."),
        (name = "contracts", description = "What metrics mean and where they come from."),
        (name = "health", description = "How the server is."),
        (name = "operations", description = "For those who run the server."),
        (name = "admin", description = "API keys, for those who run the server."),
    ),
)]
pub(in super::super) struct Head;

/// How requests say who they are from.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let header = |name: &str, text: &str| {
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)))
        };
        components.add_security_scheme("api_key", header("X-API-Key", "A key of a tenant."));
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
        );
        components.add_security_scheme(
            "admin_key",
            header("X-Admin-Key", "The key of whoever runs the server."),
        );
    }
}

/// The description as text, as it is committed in `docs/openapi.json`.
pub(in super::super) fn text(api: &utoipa::openapi::OpenApi) -> String {
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Routes for the description and the page. The page's files are part of the program.
pub(in super::super) fn routes(api: &utoipa::openapi::OpenApi) -> Router {
    let text: Arc<str> = text(api).into();
    let describe = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response() }
    };
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::from(page).route("/openapi.json", get(describe))
}
