//! Conditional reads: an answer carries an `ETag`, and who shows it again with `If-None-Match` is told
//! 304 without a body when nothing has changed.
//!
//! All tags are weak. One answer goes out in several encodings, and it says how old it is, so two answers with
//! one tag mean the same without being the same bytes. Who asks for another API version gets another tag.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// May be kept by who asked, and must be asked about again each time.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The header that asks for an API version.
const VERSION: &str = "x-agentflow-version";

/// What the caller has already.
#[derive(Debug, Default)]
pub(super) struct Conditional {
    if_none_match: Vec<String>,
    /// Hash of the API version that the caller asks for: the same answer has another body in another version.
    version: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for Conditional {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let lists = parts.headers.get_all(header::IF_NONE_MATCH).iter();
        let lists = lists.filter_map(|value| value.to_str().ok()).map(str::to_owned);
        let version = parts.headers.get(VERSION).map_or(0, |version| xxh3_64(version.as_bytes()));
        Ok(Self { if_none_match: lists.collect(), version })
    }
}

/// What an answer is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// Over everything that makes the answer another one.
    pub(super) fn of(parts: &impl Serialize) -> Self {
        // What cannot be written as JSON cannot be answered either.
        Self(xxh3_64(&serde_json::to_vec(parts).unwrap_or_default()))
    }

    fn text(self) -> String {
        format!("\"{:016x}\"", self.0)
    }
}

impl Conditional {
    /// The body, recognised by itself.
    pub(super) fn json<T: Serialize>(&self, body: &T) -> Response {
        self.tagged(Tag::of(body), body)
    }

    /// The body, recognised by `tag`.
    pub(super) fn tagged<T: Serialize>(&self, tag: Tag, body: &T) -> Response {
        let tag = Tag(tag.0 ^ self.version);
        let mut response = match self.has(tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => Json(body).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        if let Ok(value) = HeaderValue::from_str(&format!("W/{}", tag.text())) {
            headers.insert(header::ETAG, value);
        }
        response
    }

    /// Does the caller have the answer of that tag? Whether they show it as weak or strong is the same.
    fn has(&self, tag: Tag) -> bool {
        let text = tag.text();
        let shown = self.if_none_match.iter().flat_map(|list| list.split(','));
        shown.map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &[&str], expected: bool) {
        let conditional = Conditional {
            if_none_match: shown.iter().map(|text| (*text).to_owned()).collect(),
            version: 0,
        };
        assert_eq!(conditional.has(Tag(0xab)), expected, "{shown:?}");
    }

    #[test]
    fn tags_are_found_in_lists_weak_or_strong() {
        check(&[], false);
        check(&[r#""00000000000000ab""#], true);
        check(&[r#"W/"00000000000000ab""#], true);
        check(&[r#""x", W/"00000000000000ab""#], true);
        check(&[r#""x""#, r#""00000000000000ab""#], true);
        check(&["*"], true);
        for other in [r#""00000000000000ac""#, "00000000000000ab", "", ",", "W/"] {
            check(&[other], false);
        }
    }
}
