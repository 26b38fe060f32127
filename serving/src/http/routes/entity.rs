//! `GET /v1/entity/{type}/{id}`: the state of one thing, now or as of a time.

use axum::extract::State;
use axum::response::Response;

use super::Segments;
use super::metrics::{CACHE, hit_or_miss};
use crate::http::after::After;
use crate::http::again::Begun;
use crate::http::ask;
use crate::http::body::EntityBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::etag::{Conditional, Tag};
use crate::http::layers::limits::Place;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time;
use crate::http::warnings;
use crate::question::EntityQuestion;

/// An entity's state.
#[utoipa::path(
    get,
    path = "/v1/entity/{type}/{id}",
    tag = "entities",
    params(
        ("type" = String, Path, description = "Entity type."),
        ("id" = String, Path, description = "Its key, percent-encoded."),
        ("version" = Option<u32>, Query,
            description = "Version of the contract. Default: the newest stable one that is complete."),
        ("as_of" = Option<String>, Query,
            description = "Fold only the events before this time: RFC 3339, a date, or seconds \
                           since 1970."),
        ("known_at" = Option<String>, Query,
            description = "Leave out what was applied after this time: the answer that was true to \
                           what was known then."),
        ("after" = Option<String>, Query,
            description = "Answer only once this is applied: `position` of the answer to \
                           `POST /v1/events`, or `topic:partition:offset` of a record; several are \
                           joined by commas."),
        ("wait" = Option<String>, Query,
            description = "For how long to wait for `after`: `250ms`, `2s`, at most `20s`. Default: `1s`."),
    ),
    responses(
        (status = 200, description = "The state.", body = EntityBody),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
        (status = 403, description = "The key may not read it.", body = ErrorBody),
        (status = 404, description = "No such entity type or version, or no such entity.",
            body = ErrorBody),
        (status = 409, description = "What `after` names is not applied yet; `detail` says how far the \
                                      store is.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now, or the version is being backfilled.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    conditional: Conditional,
    Begun(begun): Begun,
    place: Place,
    Segments((entity, id)): Segments<(String, String)>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["version", "as_of", "known_at", "after", "wait"])?;
    let after = After::of_parameters(&parameters)?;
    let question = EntityQuestion {
        entity,
        version: parameters.version("version")?,
        tenant: caller.tenant.to_string(),
        id,
        as_of: parameters.time("as_of")?,
        known_at: parameters.time("known_at")?,
    };
    caller.entity(&question.entity)?;
    if let Some(after) = after {
        after.reached(&state, &caller, &place, begun).await?;
    }
    let domain = state.domain.clone();
    let answer = state.blocking(move |state| ask::entity(state, &caller, &question)).await?;
    let cached = answer.cached;
    let version = answer.contract_version;
    let mut body = EntityBody::new(answer, time::now());
    body.warnings = warnings::of_entity(&domain, &body.entity_type, version);
    let mut response = conditional.tagged(tag(&body), &body);
    response.headers_mut().insert(CACHE, hit_or_miss(cached));
    warnings::tell(response.headers_mut(), &body.warnings);
    Ok(response)
}

/// A state is another one when something of it is; not when events of other entities were applied.
fn tag(body: &EntityBody) -> Tag {
    let data: Vec<(&str, &str)> =
        body.data.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
    Tag::of(&(
        (&body.entity_type, &body.entity_id, &body.meta.as_of, &body.meta.known_at),
        (data, &body.last_updated, &body.proof.contract.hash),
    ))
}
