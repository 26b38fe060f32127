//! A request that is answered in two goes: the contracts changed while it waited for a commit, and those that
//! follow are asked.
//!
//! For the caller it is one request: it waits from its first go on, is counted and timed once, and takes one of
//! its key's requests.

use std::convert::Infallible;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;

/// An extension of answers: the same request gets another one from those who answer by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskAgain;

/// An extension of requests that may be asked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Go {
    /// When the first one began.
    begun: Instant,
    is_first: bool,
}

impl Go {
    pub(super) fn first() -> Self {
        Self { begun: Instant::now(), is_first: true }
    }

    pub(super) fn next(self) -> Self {
        Self { is_first: false, ..self }
    }

    /// When the request of these extensions began.
    pub(super) fn begun(extensions: &Extensions) -> Instant {
        extensions.get::<Self>().map_or_else(Instant::now, |go| go.begun)
    }

    /// Is it a request of its own, and not one that was counted?
    pub(super) fn is_new(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_none_or(|go| go.is_first)
    }

    /// Is the request of these extensions asked again where its answer says so?
    pub(super) fn may_go_on(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some()
    }
}

/// When a request began.
pub(super) struct Begun(pub(super) Instant);

impl<S: Send + Sync> FromRequestParts<S> for Begun {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(Go::begun(&parts.extensions)))
    }
}
