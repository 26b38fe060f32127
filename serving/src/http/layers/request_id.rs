//! Names each request and, knowing the name, finishes errors.
//!
//! Every answer of status 400 and above leaves here with the one JSON body of
//! [`super::super::error`], whoever made it: a handler, the router, or a library's extractor.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use super::super::error::{ApiError, Code};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Takes `X-Request-Id` from the caller or makes one; the same for `X-Correlation-ID`, which falls
/// back to the request's id.
pub(in super::super) async fn name(request: Request, next: Next) -> Response {
    let id = taken(request.headers(), &REQUEST_ID).unwrap_or_else(|| Uuid::new_v4().to_string());
    let correlation = taken(request.headers(), &CORRELATION_ID).unwrap_or_else(|| id.clone());
    let method = request.method().clone();
    let keys = shown_keys(request.headers());
    let span = tracing::info_span!("request", %method, path = request.uri().path(), id = %id);

    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().as_u16() >= 400 {
        response = span.in_scope(|| finish(response, (&id, &keys), &method));
    }
    for (name, value) in [(REQUEST_ID, id), (CORRELATION_ID, correlation)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The caller's id, when it is fit for a log line and a header.
fn taken(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let fit = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then(|| text.to_owned())
}

/// The keys that the caller shows, to be kept out of errors: who puts one where a name belongs is told the name.
fn shown_keys(headers: &HeaderMap) -> Vec<String> {
    /// Shorter ones are no keys, and may be part of any word.
    const SHORTEST: usize = 8;

    let names = [HeaderName::from_static("x-api-key"), HeaderName::from_static("x-admin-key")];
    let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let tokens = texts(&header::AUTHORIZATION).filter_map(|text| Some(text.split_once(' ')?.1));
    let keys = names.iter().flat_map(texts).chain(tokens).map(str::trim);
    keys.filter(|key| key.len() >= SHORTEST).map(str::to_owned).collect()
}

fn finish(mut response: Response, (id, keys): (&str, &[String]), method: &Method) -> Response {
    let status = response.status();
    let mut error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if is_json(&response) => return response,
        None => foreign(status),
    };
    if let Some(cause) = &error.cause {
        if status.is_server_error() {
            tracing::error!(%status, cause, "request failed");
        } else {
            tracing::warn!(%status, cause, "request refused");
        }
    }
    for key in keys {
        let hide = |text: &mut String| *text = text.replace(key, "***");
        hide(&mut error.detail);
        error.hint.iter_mut().for_each(hide);
    }
    let body = serde_json::to_vec(&error.body(id)).unwrap_or_else(|_| b"{}".to_vec());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.remove(header::CONTENT_ENCODING);
    // An answer to HEAD has the headers of the answer to GET and no body.
    *response.body_mut() = if method == Method::HEAD { Body::empty() } else { body.into() };
    response
}

fn is_json(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"))
}

/// Words for an error that a library made.
fn foreign(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::not_found("there is nothing here"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(Code::MethodNotAllowed, "this route has no such method")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::BodyTooLarge, "the body is too large"),
        status if status.is_server_error() => {
            ApiError::internal(format!("a library said {status}"))
        }
        status => ApiError::invalid(format!("the request could not be read ({status})")),
    }
}
