//! The routes, one file per resource. Each handler reads parameters, asks one port, shapes a body.

pub(super) mod admin;
pub(super) mod backup;
pub(super) mod batch;
pub(super) mod catalog;
pub(super) mod changelog;
pub(super) mod contracts;
pub(super) mod dead_letters;
pub(super) mod docs;
pub(super) mod entity;
pub(super) mod erasures;
pub(super) mod events;
pub(super) mod health;
pub(super) mod lake;
pub(super) mod lineage;
pub(super) mod lineage_entity;
pub(super) mod metrics;
pub(super) mod query;
pub(super) mod scrape;
pub(super) mod search;
pub(super) mod stream;
pub(super) mod timeline;
pub(super) mod verify;

use axum::extract::{OriginalUri, Path};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Code};

/// The percent-decoded segments of a path, or a 404: what is not UTF-8 names nothing.
pub(super) struct Segments<T>(pub(super) T);

impl<S, T> axum::extract::FromRequestParts<S> for Segments<T>
where
    S: Send + Sync,
    T: serde::de::DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(ApiError::not_found("the path is not percent-encoded UTF-8")),
        }
    }
}

/// No such route.
pub(super) async fn not_found(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("no route `{method} {}`", uri.path()))
        .hint("`/docs` shows all routes")
}

/// A route without that method; the router adds `Allow`. `OPTIONS` asks for just that.
pub(super) async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::new(Code::MethodNotAllowed, format!("this route has no method `{method}`"))
        .hint("`Allow` names those it has")
        .into_response()
}
