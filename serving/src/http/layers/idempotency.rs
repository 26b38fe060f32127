//! `Idempotency-Key`: a write that is sent again gets the answer of the first time.
//!
//! Remembered per key of the caller for a day, in memory, within a budget. Events need none of it (their
//! ids make them safe to send again, across restarts too); what has no id of its own does. Reads by POST
//! have nothing to repeat: they are answered anew. An answer that says "try again" is not remembered.
//! What was begun is done and remembered even if the caller goes away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::super::error::{ApiError, Code};
use crate::access::Caller;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long an answer is remembered.
const KEEP: Duration = Duration::from_secs(86_400);

/// Most bytes of all answers together.
const MAX_BYTES: u64 = 64 << 20;

/// Larger answers are not remembered.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Longest key.
const MAX_KEY_CHARS: usize = 255;

/// Whose key, and the key.
type Name = (Arc<str>, Option<Arc<str>>, String);

/// One key.
#[derive(Default)]
struct Slot {
    /// Locked while its first request is under way.
    stored: Arc<Mutex<Option<Stored>>>,
    /// Bytes of the answer.
    size: AtomicUsize,
}

/// Reads that are sent by POST.
const READS: [&str; 3] = ["/v1/query", "/v1/query/explain", "/v1/batch"];

/// What is remembered.
#[derive(Clone)]
pub(in super::super) struct Answers {
    slots: Cache<Name, Arc<Slot>>,
    max_body_bytes: usize,
}

#[derive(Clone)]
struct Stored {
    request: [u8; 32],
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    error: Option<ApiError>,
}

impl Answers {
    pub(in super::super) fn new(max_body_bytes: usize) -> Self {
        // Weighed again when its answer is there.
        let slots = Cache::builder()
            .weigher(|(_, _, key): &Name, slot: &Arc<Slot>| {
                let size = slot.size.load(Ordering::Relaxed) + key.len() + 512;
                u32::try_from(size).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(MAX_BYTES)
            .time_to_live(KEEP)
            .build();
        Self { slots, max_body_bytes }
    }
}

/// Answers a repeated write as before.
pub(in super::super) async fn replay(
    State(answers): State<Answers>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !READS.contains(&path)
        && !path.ends_with("/validate");
    let Some(key) = request.headers().get(&IDEMPOTENCY_KEY).filter(|_| writes) else {
        return next.run(request).await;
    };
    let Some(key) = fit(key) else {
        return ApiError::invalid(format!(
            "`Idempotency-Key` must be 1 to {MAX_KEY_CHARS} visible ASCII characters"
        ))
        .hint("a UUID does")
        .into_response();
    };
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, answers.max_body_bytes).await {
        Ok(body) => body,
        Err(_) => {
            let detail = format!(
                "the body is larger than {} bytes, or ended too early",
                answers.max_body_bytes
            );
            return ApiError::new(Code::BodyTooLarge, detail).into_response();
        }
    };
    let asked = fingerprint(&parts, &body);
    let name = (caller.tenant, caller.key, key);
    let slot = answers.slots.get_with(name.clone(), Arc::default);
    let request = Request::from_parts(parts, Body::from(body));
    // On a task of its own, which a caller that goes away does not end.
    let answered = tokio::spawn(async move {
        // Who comes while the first is under way waits for its answer.
        let mut stored = Arc::clone(&slot.stored).lock_owned().await;
        if let Some(stored) = &*stored {
            return stored.again(asked);
        }
        let (response, answer) = first(request, next, asked).await;
        if let Some(answer) = answer {
            slot.size.store(answer.body.len(), Ordering::Relaxed);
            *stored = Some(answer);
            answers.slots.insert(name, Arc::clone(&slot));
        }
        response
    });
    answered.await.unwrap_or_else(|error| ApiError::internal(error.to_string()).into_response())
}

/// Answers for the first time, and gives what to remember of it.
async fn first(request: Request, next: Next, asked: [u8; 32]) -> (Response, Option<Stored>) {
    let response = next.run(request).await;
    let (mut parts, body) = response.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length = length.and_then(|text| text.parse::<usize>().ok());
    if !is_final(parts.status) || length.is_some_and(|length| length > MAX_ANSWER_BYTES) {
        return (Response::from_parts(parts, body), None);
    }
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            return (ApiError::internal(format!("answer: {error}")).into_response(), None);
        }
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let stored = (body.len() <= MAX_ANSWER_BYTES).then(|| Stored {
        request: asked,
        status: parts.status,
        headers: parts.headers.clone(),
        body: body.clone(),
        error: parts.extensions.get::<ApiError>().cloned(),
    });
    (Response::from_parts(parts, Body::from(body)), stored)
}

fn fit(key: &HeaderValue) -> Option<String> {
    let text = key.to_str().ok()?;
    let fits =
        (1..=MAX_KEY_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

/// What makes two requests the same.
fn fingerprint(parts: &axum::http::request::Parts, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let headers = [header::CONTENT_TYPE, header::CONTENT_ENCODING];
    let headers =
        headers.map(|name| parts.headers.get(name).map_or(&[][..], HeaderValue::as_bytes));
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), headers[0], headers[1], body]
    {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Would the same request get this answer again? Not when it says to wait, to come in otherwise, or that
/// the server failed.
fn is_final(status: StatusCode) -> bool {
    let wait = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !wait.contains(&status)
}

impl Stored {
    /// The answer once more, to the same request.
    fn again(&self, asked: [u8; 32]) -> Response {
        if self.request != asked {
            return ApiError::new(
                Code::KeyReused,
                "this `Idempotency-Key` was sent with another request before",
            )
            .hint("use a new key for each request")
            .into_response();
        }
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        if let Some(error) = &self.error {
            response.extensions_mut().insert(error.clone());
        }
        response
    }
}
