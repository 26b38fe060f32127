//! Who asks: lets in, counts against the key's budget, and hands the [`Caller`](crate::access::Caller) to the route.
//!
//! One place for all routes: a route that is not named here as open needs a key, so that a new one is
//! closed until somebody says otherwise. The key comes in a header; one in the URL would stand in
//! every log between here and there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::again::Go;
use super::super::error::{ApiError, Code};
use super::super::state::AppState;
use super::super::time;
use crate::access::gate::{Admitted, Gate, Refused};
use crate::access::login::FORGET_AFTER;
use crate::access::rate::{Budget, Verdict};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ADMIN_KEY: HeaderName = HeaderName::from_static("x-admin-key");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Names of query parameters by which people send keys.
const IN_URL: [&str; 5] = ["api_key", "apikey", "api-key", "x-api-key", "access_token"];

/// Who a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Everybody.
    Open,
    /// Everybody; who shows a key sees more.
    Ajar,
    /// Whoever runs the server.
    Operator,
    /// Who has a key.
    Key,
}

fn door(path: &str) -> Door {
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if path == "/v1/health" || below("/health") || below("/docs") || path == "/openapi.json" {
        Door::Open
    } else if path == "/metrics" || path == "/metrics/" {
        Door::Ajar
    } else if below("/v1/admin") || below("/v1/backup") || below("/v1/verify") {
        Door::Operator
    } else {
        Door::Key
    }
}

/// The API version of the tenant, for requests that name none; an extension of answers.
#[derive(Debug, Clone)]
pub(in super::super) struct VersionPin(pub(in super::super) std::sync::Arc<str>);

/// Lets in or refuses.
pub(in super::super) async fn admit(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = door(request.uri().path());
    if door == Door::Open {
        return next.run(request).await;
    }
    if let Some(name) = key_in_url(request.uri().query()) {
        return ApiError::invalid(format!("`{name}` does not belong in a URL, which is logged"))
            .hint("send the key as header `X-API-Key`, and make a new one: this one was seen")
            .into_response();
    }
    if let Some(error) = several_keys(request.headers()) {
        return error.into_response();
    }
    let from = address(&state.gate, &request);
    let admitted = match (door, admit_to(&state.gate, door, request.headers(), from).await) {
        (_, Ok(admitted)) => admitted,
        // A scraper without a key sees the server and no tenant's numbers.
        (Door::Ajar, Err(_)) => return next.run(request).await,
        (_, Err(refused)) => return refuse(refused, door).into_response(),
    };
    let Admitted { caller, key, pass, .. } = admitted;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(pass);
    let Some(key) = key.filter(|_| door != Door::Ajar) else {
        request.extensions_mut().insert(Budget::default());
        return next.run(request).await;
    };
    let limiter = state.gate.limiter();
    let cost = u32::from(Go::is_new(request.extensions()));
    let verdict = limiter.take(&key, cost, time::seconds()).await;
    let pin = key.api_version_pin.clone();
    let mut response = if verdict.is_allowed {
        request.extensions_mut().insert(Budget::of(limiter.clone(), key));
        next.run(request).await
    } else {
        too_many(verdict).into_response()
    };
    // A route that took more has said so already.
    if !response.headers().contains_key(&LIMIT) {
        tell(response.headers_mut(), verdict);
    }
    if let Some(pin) = pin {
        response.extensions_mut().insert(VersionPin(pin));
    }
    response
}

async fn admit_to(
    gate: &Gate,
    door: Door,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Admitted, Refused> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let bearer = text(&header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match door {
        // There are no keys, so there is nobody to keep out of what is kept from keys.
        Door::Operator if gate.is_open() && text(&ADMIN_KEY).is_none() => {
            gate.admit(None, from).await
        }
        Door::Operator => gate.admit_admin(text(&ADMIN_KEY), bearer, from),
        _ => gate.admit(text(&API_KEY).or(bearer), from).await,
    }
}

/// Several keys of one kind that are not the same: whose answer it would be, nobody should have to guess. A token in
/// `Authorization` beside an `X-API-Key` may be a proxy's, and is left alone.
fn several_keys(headers: &HeaderMap) -> Option<ApiError> {
    let differ = |name: &HeaderName| {
        let mut keys = headers.get_all(name).iter();
        keys.next().is_some_and(|first| keys.any(|key| key != first))
    };
    let name = [API_KEY, ADMIN_KEY, header::AUTHORIZATION].into_iter().find(differ)?;
    Some(
        ApiError::invalid(format!("the header `{name}` is given more than once"))
            .hint("send one key"),
    )
}

fn address(gate: &Gate, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(peer)| peer.ip());
    // Several lines are one list; a proxy may add a line of its own.
    let lines = request.headers().get_all("x-forwarded-for").iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    gate.proxies().caller(peer, (!lines.is_empty()).then(|| lines.join(",")).as_deref())
}

fn key_in_url(query: Option<&str>) -> Option<&'static str> {
    let names = query?.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names
        .into_iter()
        .find_map(|name| IN_URL.into_iter().find(|known| known.eq_ignore_ascii_case(name)))
}

fn refuse(refused: Refused, door: Door) -> ApiError {
    let (what, header) = match door {
        Door::Operator => ("admin key", "X-Admin-Key"),
        _ => ("API key", "X-API-Key"),
    };
    match refused {
        Refused::Missing => ApiError::new(Code::Unauthorized, format!("{what} is missing"))
            .hint(format!("send it as header `{header}`")),
        Refused::Wrong => ApiError::new(Code::Unauthorized, format!("this {what} opens nothing"))
            .hint(
                "it may have been revoked or replaced; whoever runs the server can make a new one",
            ),
        Refused::Throttled => ApiError {
            retry_after: Some(FORGET_AFTER.as_secs()),
            ..ApiError::new(
                Code::RateLimited,
                format!("too many wrong keys from this address; and this {what} opens nothing"),
            )
        }
        .hint("a right key is let in at any time"),
        Refused::Busy => ApiError::busy("too many keys are being checked for the first time"),
        Refused::NoKeys => ApiError::new(Code::Unavailable, "no API key has been made yet")
            .hint("make one on the server: agentflow keys create --data DIR --name NAME"),
        Refused::NoAdminKey => ApiError::new(Code::Unavailable, "this server has no admin key")
            .hint("start it with AGENTFLOW_ADMIN_KEY set, or use `agentflow keys` on its machine"),
    }
}

/// The answer to what a budget does not hold.
pub(in super::super) fn too_many(verdict: Verdict) -> Response {
    let seconds = (verdict.reset - time::seconds()).clamp(1, 60) as u64;
    let error = ApiError {
        retry_after: Some(seconds),
        ..ApiError::new(
            Code::RateLimited,
            format!("Rate limit exceeded: {} requests/minute", verdict.limit),
        )
    };
    let mut response = error
        .hint("`X-RateLimit-Remaining` says what is left, `X-RateLimit-Reset` when there is more")
        .into_response();
    tell(response.headers_mut(), verdict);
    response
}

/// Says what is left of a budget.
pub(in super::super) fn tell(headers: &mut HeaderMap, verdict: Verdict) {
    headers.insert(LIMIT, HeaderValue::from(verdict.limit));
    headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
    headers.insert(RESET, HeaderValue::from(verdict.reset));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_needs_a_key() {
        for (path, expected) in [
            ("/v1/health", Door::Open),
            ("/health/live", Door::Open),
            ("/docs/", Door::Open),
            ("/openapi.json", Door::Open),
            ("/metrics", Door::Ajar),
            ("/metrics/", Door::Ajar),
            ("/v1/admin/keys", Door::Operator),
            ("/v1/backup", Door::Operator),
            ("/v1/verify", Door::Operator),
            ("/v1/verify/x", Door::Operator),
            ("/v1/administrators", Door::Key),
            ("/v1/healthy", Door::Key),
            ("/v1/health/", Door::Key),
            ("//v1/health", Door::Key),
            ("/docsx", Door::Key),
            ("/metrics/x", Door::Key),
            ("/v1/metrics", Door::Key),
            ("/", Door::Key),
        ] {
            assert_eq!(door(path), expected, "{path}");
        }
    }

    #[test]
    fn keys_in_urls_are_noticed() {
        assert_eq!(key_in_url(Some("window=1h&API_KEY=abc")), Some("api_key"));
        assert_eq!(key_in_url(Some("access_token")), Some("access_token"));
        assert_eq!(key_in_url(Some("filter=key:1&keys=2")), None);
        assert_eq!(key_in_url(None), None);
    }
}
