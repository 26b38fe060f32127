//! How many requests at once, and for how long.
//!
//! What watches the server (`/health`, `/v1/health`, `/metrics`) has places of its own: a server that is
//! busy must still be able to say so, and who needs no key must not keep out those who have one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::error::{ApiError, Code};
use super::super::state::HttpOptions;

/// Most requests of those who watch at once.
const MAX_WATCHERS: usize = 32;

/// The limits, shared by all requests.
#[derive(Clone)]
pub(in super::super) struct Limits {
    slots: Arc<Semaphore>,
    /// Of those that need no key: they must not take the places of those that do.
    watchers: Arc<Semaphore>,
    timeout: Duration,
}

impl Limits {
    pub(in super::super) fn new(options: &HttpOptions) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(options.max_concurrent_requests)),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            timeout: options.request_timeout,
        }
    }
}

/// Refuses what is too much at once, and ends what takes too long.
pub(in super::super) async fn limit(
    State(limits): State<Limits>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut held = None;
    let path = request.uri().path();
    let slots = match path {
        // Asks nobody.
        "/health/live" => None,
        "/health/ready" | "/v1/health" | "/metrics" | "/metrics/" => Some(&limits.watchers),
        _ => Some(&limits.slots),
    };
    if let Some(slots) = slots {
        match Arc::clone(slots).try_acquire_owned() {
            Ok(slot) => {
                let place = Place(Arc::new((Mutex::new(Some(slot)), Arc::clone(slots))));
                // It is held until the request, which has it, and this function end.
                request.extensions_mut().insert(place.clone());
                held = Some(place);
            }
            Err(_) => return too_many().into_response(),
        }
    }
    let writes = request.method() == Method::POST;
    let has_come = watch_body(&mut request);
    let answer = match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) if !has_come.load(Ordering::Acquire) => {
            let seconds = limits.timeout.as_secs_f64();
            let detail = format!("the body did not come within {seconds} seconds");
            let error = ApiError::new(Code::BodyTimeout, detail);
            error.hint("nothing of it was taken: send it again, whole").into_response()
        }
        Err(_) => {
            let seconds = limits.timeout.as_secs_f64();
            let mut error =
                ApiError::new(Code::Timeout, format!("no answer within {seconds} seconds"));
            error.retry_after = Some(1);
            if writes {
                error = error.hint(
                    "the events may have been applied; sending them again is safe, known ids are \
                     answered as duplicates",
                );
            }
            error.into_response()
        }
    };
    // What is sent from here on, a stream for one, takes no place.
    if let Some(place) = held {
        place.give_back();
    }
    answer
}

/// Whether the whole body of the request was read; without one it was.
fn watch_body(request: &mut Request) -> Arc<AtomicBool> {
    let has_come = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    if !has_come.load(Ordering::Relaxed) {
        let told = Arc::clone(&has_come);
        let end = stream::iter(std::iter::once_with(move || {
            told.store(true, Ordering::Release);
            Ok(Bytes::new())
        }));
        let body = std::mem::take(request.body_mut()).into_data_stream();
        *request.body_mut() = Body::from_stream(body.chain(end));
    }
    has_come
}

fn too_many() -> ApiError {
    ApiError::busy("too many requests are under way").hint("try again after `Retry-After` seconds")
}

/// A request's place among those under way. Who waits for something else to happen gives it back meanwhile.
#[derive(Clone)]
pub(in super::super) struct Place(Arc<(Mutex<Option<OwnedSemaphorePermit>>, Arc<Semaphore>)>);

impl Place {
    /// Lets another request have it.
    pub(in super::super) fn give_back(&self) {
        drop(self.lock().take());
    }

    /// Takes one again, unless it is there; waits a moment for it, because the request has come far.
    pub(in super::super) async fn take_again(&self) -> Result<(), ApiError> {
        /// After this time the server has other troubles.
        const PATIENCE: Duration = Duration::from_secs(1);

        if self.lock().is_some() {
            return Ok(());
        }
        let taken = tokio::time::timeout(PATIENCE, Arc::clone(&self.0.1).acquire_owned()).await;
        let Ok(Ok(place)) = taken else { return Err(too_many()) };
        *self.lock() = Some(place);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let free = || Self(Arc::new((Mutex::default(), Arc::new(Semaphore::new(1)))));
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(free))
    }
}
