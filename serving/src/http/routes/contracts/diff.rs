//! `GET /v1/contracts/{name}/diff/{from}/{to}`: what changed between two versions.

use axum::extract::State;
use axum::response::Response;
use contracts::compare;
use serde::Serialize;
use utoipa::ToSchema;

use super::change::{ChangeBody, split};
use super::{find, kind, versions};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::etag::Conditional;
use crate::http::query::Parameters;
use crate::http::routes::Segments;
use crate::http::state::AppState;

/// What changed for readers between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super::super) struct ContractDiff {
    /// Name of the contract.
    entity: String,
    /// The version compared with.
    from_version: String,
    /// The version looked at.
    to_version: String,
    /// What clients of the first version cannot take.
    breaking_changes: Vec<ChangeBody>,
    /// What they need not notice.
    additive_changes: Vec<ChangeBody>,
}

/// What changed between two versions of a contract.
#[utoipa::path(
    get,
    path = "/v1/contracts/{name}/diff/{from}/{to}",
    tag = "contracts",
    params(
        ("name" = String, Path, description = "An entity, an event contract, or `metric.<name>`."),
        ("from" = String, Path, description = "`1` or `v1`."),
        ("to" = String, Path, description = "`2` or `v2`."),
        ("kind" = Option<String>, Query,
            description = "`entity`, `event` or `metric`, where two share a name. Default: the entity."),
    ),
    responses(
        (status = 200, description = "The changes.", body = ContractDiff),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
        (status = 404, description = "No such contract or version.", body = ErrorBody),
    ),
)]
pub(in super::super::super) async fn read(
    State(state): State<AppState>,
    conditional: Conditional,
    Segments((name, from, to)): Segments<(String, String, String)>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["kind"])?;
    let documents = versions(&state.domain, &name, kind(&parameters)?)?;
    let (from, to) = (find(&documents, &name, &from)?, find(&documents, &name, &to)?);
    let changes = compare::diff(&from.fields, &to.fields);
    let (breaking_changes, additive_changes) = split(changes, "non_breaking");
    Ok(conditional.json(&ContractDiff {
        from_version: from.version.to_string(),
        to_version: to.version.to_string(),
        breaking_changes,
        additive_changes,
        entity: name,
    }))
}
