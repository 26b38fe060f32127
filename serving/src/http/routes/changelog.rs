//! `GET /v1/changelog`: the dated versions of the API and what each changed.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::etag::Conditional;
use crate::http::query::Parameters;
use crate::http::versions::{ApiVersion, LATEST, VERSIONS};

/// The versions of the API.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Changelog {
    /// The version that answers a request which names none.
    latest_version: &'static str,
    /// Oldest first.
    versions: Vec<ChangelogVersion>,
}

/// A version.
#[derive(Debug, Serialize, ToSchema)]
struct ChangelogVersion {
    /// The day, which is its name in `X-AgentFlow-Version`.
    date: &'static str,
    /// `latest`, `stable` or `deprecated`.
    status: &'static str,
    /// What it changed.
    changes: Vec<&'static str>,
}

/// The dated versions of the API and what each changed.
#[utoipa::path(
    get,
    path = "/v1/changelog",
    tag = "contracts",
    responses(
        (status = 200, description = "All versions.", body = Changelog),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
    ),
)]
pub(in super::super) async fn read(
    conditional: Conditional,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    parameters.only(&[])?;
    Ok(conditional.json(&Changelog {
        latest_version: LATEST.date,
        versions: VERSIONS.iter().map(ChangelogVersion::from).collect(),
    }))
}

impl From<&'static ApiVersion> for ChangelogVersion {
    fn from(version: &'static ApiVersion) -> Self {
        Self {
            date: version.date,
            status: version.status(),
            changes: version.changes.iter().map(|change| change.text).collect(),
        }
    }
}
