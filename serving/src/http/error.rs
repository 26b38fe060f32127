//! Errors as clients see them: `{"detail", "code", "hint", "request_id"}`, always an object.
//!
//! [`ApiError`] carries what to say and, apart from it, the cause. It becomes a response without a
//! body; [`super::layers::request_id`] knows the request's id, logs the cause under it and writes
//! the body. So no handler can let a cause slip into an answer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use pipeline::store::StoreError;

use super::again::AskAgain;
use crate::filter::NoFilter;
use crate::query::QueryError;
use crate::query::guard::{Refusal, RefusalKind};
use crate::question::ReadError;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, for people.
    pub detail: String,
    /// What kind of error it is, for programs.
    pub code: Code,
    /// The next step, when there is an obvious one.
    pub hint: Option<String>,
    /// Names this request in the server's log.
    pub request_id: String,
}

/// Kinds of errors. One per reaction that a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// What came is no HTTP request.
    InvalidRequest,
    /// The body as a whole cannot be split into events.
    InvalidBody,
    /// A statement is no SQL, or does not fit its relations.
    InvalidQuery,
    /// A cursor is none, or one of another question.
    InvalidCursor,
    /// A question that the contracts give no meaning to.
    NotUnderstood,
    /// `X-AgentFlow-Version` names a version that does not exist.
    UnsupportedVersion,
    /// The request comes from another site than this machine.
    ForeignOrigin,
    /// No key, a wrong one, or one that holds no more.
    Unauthorized,
    /// The key may not do this.
    Forbidden,
    /// A statement of a kind that is not let through, or over relations that are not offered.
    QueryRefused,
    /// Too many requests; try again after `Retry-After`.
    RateLimited,
    /// No such route, metric, entity type, entity, contract or version.
    NotFound,
    /// It was there and is no more: begin anew.
    Gone,
    /// Somebody else does the same at the moment, or what was begun holds no more.
    Conflict,
    /// The route has no such method.
    MethodNotAllowed,
    /// What the read was to come after is not applied yet; try again after `Retry-After`.
    NotCaughtUp,
    /// The body is larger than the limit, or holds too many events.
    BodyTooLarge,
    /// The body did not come in time; nothing of it was taken.
    BodyTimeout,
    /// Path and query are longer than the limit.
    TargetTooLong,
    /// The headers are larger than the limit.
    HeadersTooLarge,
    /// An `Idempotency-Key` was used for another request before.
    KeyReused,
    /// The route has no such query parameter.
    UnknownParameter,
    /// A parameter's value does not fit the contract.
    InvalidParameter,
    /// A statement was stopped at its time limit.
    QueryTimeout,
    /// A statement needs more memory, or a row more room, than there is.
    QueryTooLarge,
    /// The server could not do it; its log says why.
    Internal,
    /// The pipeline or the server has too much to do; try again after `Retry-After`.
    Busy,
    /// The store cannot answer at the moment; try again.
    Unavailable,
    /// The version that was asked for is not whole yet; try again after `Retry-After`.
    Backfilling,
    /// The contracts changed while the read waited for what it is to come after; ask again.
    ContractsChanged,
    /// It took too long; try again.
    Timeout,
}

impl Code {
    /// Would asking differently help?
    pub fn is_the_callers(self) -> bool {
        self.status().is_client_error()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest
            | Self::InvalidBody
            | Self::UnsupportedVersion
            | Self::InvalidQuery
            | Self::InvalidCursor
            | Self::NotUnderstood => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin | Self::Forbidden | Self::QueryRefused => StatusCode::FORBIDDEN,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Gone => StatusCode::GONE,
            Self::Conflict | Self::NotCaughtUp => StatusCode::CONFLICT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownParameter
            | Self::InvalidParameter
            | Self::KeyReused
            | Self::QueryTimeout
            | Self::QueryTooLarge => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy
            | Self::Unavailable
            | Self::Backfilling
            | Self::ContractsChanged
            | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// What kind.
    pub code: Code,
    /// What is wrong, for people.
    pub detail: String,
    /// The next step.
    pub hint: Option<String>,
    /// What happened inside; logged, never sent.
    pub cause: Option<String>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error that says what the client did.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: None, cause: None, retry_after: None }
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the next step, where none is known that fits better.
    pub(super) fn or_hint(self, hint: &str) -> Self {
        match self.hint {
            Some(_) => self,
            None => self.hint(hint),
        }
    }

    /// Nothing of that name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// A parameter's value does not fit.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, detail)
    }

    /// The parameter or member `name` holds no filter.
    pub(super) fn no_filter(name: &str, error: NoFilter) -> Self {
        Self::invalid(format!("`{name}` {}", error.message)).hint(error.hint)
    }

    /// A failure of ours that trying again does not mend.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(Code::Internal, "the server could not answer this request")
        }
    }

    /// A failure of the store.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            retry_after: Some(1),
            ..Self::new(Code::Unavailable, "the store could not answer")
        }
    }

    /// Too much to do; nothing was done.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(Code::Busy, detail) }
    }

    /// The body to send under `request_id`.
    pub(super) fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            detail: self.detail.clone(),
            code: self.code,
            hint: self.hint.clone(),
            request_id: request_id.to_owned(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound { message, hint } => Self { hint, ..Self::not_found(message) },
            ReadError::Invalid { message, hint, .. } => Self { hint, ..Self::invalid(message) },
            // Too much was asked for: trying again does not help.
            ReadError::Beyond { message, cause: None, hint }
            | ReadError::Overflow { message, hint } => Self::invalid(message).hint(hint),
            ReadError::Beyond { message, cause, hint } => Self {
                cause,
                retry_after: Some(5),
                ..Self::new(Code::Unavailable, message).hint(hint)
            },
            ReadError::Backfilling { message, hint } => {
                Self { retry_after: Some(5), ..Self::new(Code::Backfilling, message).hint(hint) }
            }
            ReadError::Unavailable { message } => Self::unavailable(message),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, message, hint } = refusal;
        let (code, retry_after) = match kind {
            RefusalKind::Invalid => (Code::InvalidQuery, None),
            RefusalKind::Refused => (Code::QueryRefused, None),
            RefusalKind::Forbidden => (Code::Forbidden, None),
            RefusalKind::Backfilling => (Code::Backfilling, Some(5)),
        };
        Self { hint, retry_after, ..Self::new(code, message) }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Refused(refusal) => refusal.into(),
            QueryError::TimedOut { .. } => Self::new(Code::QueryTimeout, message)
                .hint("ask for less: fewer joins, a shorter time, or a metric of the contracts"),
            QueryError::TooLarge(_) => {
                Self::new(Code::QueryTooLarge, message).hint("ask for fewer rows or fewer columns")
            }
            QueryError::Busy(_) | QueryError::BusyWithSeries(_) => {
                Self::busy(message).hint("try again after `Retry-After` seconds")
            }
            QueryError::Read(error) => error.into(),
            QueryError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::ContractsChanged {
            response.extensions_mut().insert(AskAgain);
        }
        response.extensions_mut().insert(self);
        response
    }
}
