//! Headers for browsers, and the guard of a server that lets everybody in.
//!
//! A server on loopback can be reached by every web page that its user opens. So, where no key is
//! needed, a request must name this machine as its host (which stops a foreign name that was pointed
//! at 127.0.0.1) and must not come from another site's page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::error::{ApiError, Code};
use crate::access::gate::Gate;

const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_XSS_PROTECTION, "1; mode=block"),
    // Only means something behind a proxy that speaks TLS; browsers ignore it on plain HTTP.
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Longest path and query.
const MAX_TARGET_BYTES: usize = 8 << 10;

/// Most bytes of all names and values of headers.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Nothing may be loaded on behalf of a JSON body.
const CSP_API: &str = "default-src 'none'; frame-ancestors 'none'";
/// The vendored page loads its own files and sets styles from script.
const CSP_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                        img-src 'self' data:; font-src 'self'; connect-src 'self'; \
                        frame-ancestors 'none'";

/// Adds the headers; where no key is needed, refuses what does not come from this machine.
pub(in super::super) async fn protect(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let docs = request.uri().path().starts_with("/docs");
    let refused = too_long(&request).or_else(|| gate.is_open().then(|| foreign(&request))?);
    let mut response = match refused {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let csp = HeaderValue::from_static(if docs { CSP_DOCS } else { CSP_API });
    headers.insert(header::CONTENT_SECURITY_POLICY, csp);
    response
}

/// Refuses addresses and headers that no client needs; what is much larger yet the HTTP library refuses.
fn too_long(request: &Request) -> Option<ApiError> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail =
            format!("the path and query have {target} bytes, more than {MAX_TARGET_BYTES}");
        return Some(
            ApiError::new(Code::TargetTooLong, detail).hint(
                "put long lists into a body: `POST /v1/query` and `POST /v1/batch` take them",
            ),
        );
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (bytes > MAX_HEADER_BYTES).then(|| {
        let detail = format!("the headers have {bytes} bytes, more than {MAX_HEADER_BYTES}");
        ApiError::new(Code::HeadersTooLarge, detail)
    })
}

fn foreign(request: &Request) -> Option<ApiError> {
    let text = |name: HeaderName| Some(request.headers().get(name)?.to_str().unwrap_or("?"));
    // HTTP/2 has the host in the request's target.
    let host = text(header::HOST).or_else(|| request.uri().authority().map(Authority::as_str));
    let refuse = |what: &str, value: &str| {
        let detail = format!("`{what}: {value}` is not this machine");
        ApiError::new(Code::ForeignOrigin, detail)
            .hint("this server needs no key and answers requests from its own machine only")
    };
    if let Some(host) = host
        && !host.parse::<Authority>().is_ok_and(|authority| is_loopback(authority.host()))
    {
        return Some(refuse("Host", host));
    }
    if let Some(origin) = text(header::ORIGIN)
        && !origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
    {
        return Some(refuse("Origin", origin));
    }
    None
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(HeaderName, &str)], allowed: bool) {
        let mut request = Request::new(axum::body::Body::empty());
        for (name, value) in headers {
            request.headers_mut().insert(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(foreign(&request).is_none(), allowed, "{headers:?}");
    }

    #[test]
    fn only_this_machine_is_answered() {
        check(&[], true);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"] {
            check(&[(header::HOST, host)], true);
        }
        for host in ["example.org", "localhost.example.org", "10.0.0.1:8080", "", "a b"] {
            check(&[(header::HOST, host)], false);
        }
        let host = (header::HOST, "localhost:8080");
        check(&[host.clone(), (header::ORIGIN, "http://localhost:3000")], true);
        check(&[host.clone(), (header::ORIGIN, "http://127.0.0.1")], true);
        check(&[host.clone(), (header::ORIGIN, "https://example.org")], false);
        check(&[host, (header::ORIGIN, "null")], false);
    }
}
