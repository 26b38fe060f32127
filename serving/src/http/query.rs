//! Query strings, read strictly: a parameter that a route does not have is an error that names the
//! nearest one, so a typo never answers another question than the one asked.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::request::Parts;

use super::after::duration;
use super::error::{ApiError, Code};
use super::time;
use crate::metric::hint;
use crate::question::Filters;

/// The parameters of a request in their order, decoded.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        if let Some(name) = parts.uri.query().and_then(badly_encoded) {
            return Err(ApiError::invalid(format!("`{name}` is not percent-encoded UTF-8"))
                .hint("write `%` and two hexadecimal digits for each byte, `%25` for `%` itself"));
        }
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(ApiError::invalid("the query string is not percent-encoded UTF-8")),
        }
    }
}

/// The name, as it stands there, of a parameter whose name or value is no percent-encoded UTF-8. Decoders put
/// replacement characters in the place of such bytes, and the answer would be to another question.
fn badly_encoded(query: &str) -> Option<&str> {
    let is_bad = |text: &str| {
        let mut rest = text.split('%');
        let mut bytes = rest.next().unwrap_or_default().as_bytes().to_vec();
        let is_whole = rest.all(|part| {
            let hex = part.get(..2).and_then(|digits| {
                let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                are_digits.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
            });
            bytes.extend(hex);
            bytes.extend(part.as_bytes().iter().skip(2));
            hex.is_some()
        });
        !is_whole || std::str::from_utf8(&bytes).is_err()
    };
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(name, value)| is_bad(name) || is_bad(value)).map(|(name, _)| name)
}

impl Parameters {
    /// Names and values in their order.
    pub(super) fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Refuses all names but these.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, ApiError> {
        for (name, _) in &self.0 {
            if known.contains(&name.as_str()) {
                continue;
            }
            let none = || "this route takes no query parameters".to_owned();
            let near = hint(name, known.iter().copied());
            return Err(ApiError::new(
                Code::UnknownParameter,
                format!("unknown query parameter `{name}`"),
            )
            .hint(near.unwrap_or_else(none)));
        }
        Ok(self)
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be given once.
    pub(super) fn one<'a>(&'a self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(ApiError::invalid(format!("`{name}` is given more than once"))),
        }
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match time::parse(text) {
            Some(micros) => Ok(Some(micros)),
            None => Err(ApiError::invalid(format!("`{name}` is not a time: `{text}`"))
                .hint("write it as 2026-01-31T10:00:00Z, or as seconds since 1970")),
        }
    }

    /// `true` or `false`; false when it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => {
                Err(ApiError::invalid(format!("`{name}` must be `true` or `false`, not `{text}`")))
            }
        }
    }

    /// A duration.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        self.one(name)?.map(|text| duration(name, text)).transpose()
    }

    /// A duration in µs.
    pub(super) fn micros(&self, name: &str) -> Result<Option<i64>, ApiError> {
        Ok(self.duration(name)?.map(|length| i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &self,
        name: &str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        match text.parse::<u64>() {
            Ok(number) if bounds.contains(&number) => Ok(number),
            _ => Err(ApiError::invalid(format!(
                "`{name}` must be a whole number from {} to {}, not `{text}`",
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    /// The version of a contract: `2` or `v2`.
    pub(super) fn version(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.strip_prefix('v').unwrap_or(text).parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(ApiError::invalid(format!("`{name}` is not a version: `{text}`"))
                .hint("write it as 2 or v2")),
        }
    }

    /// Repeated `name=dimension:value` or `name=dimension.operator:value`.
    pub(super) fn filters(&self, name: &str) -> Result<Filters, ApiError> {
        let mut filters = Filters::default();
        for text in self.all(name) {
            filters.add_text(text).map_err(|error| ApiError::no_filter(name, error))?;
        }
        Ok(filters)
    }

    /// The same for those who do not care about order: each name once, empty ones passed over; `None` when
    /// there are none.
    pub(super) fn listed(&self, name: &str) -> Option<Vec<String>> {
        let parts = self.all(name).flat_map(|text| text.split(',')).map(str::trim);
        let parts: std::collections::BTreeSet<&str> =
            parts.filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.into_iter().map(str::to_owned).collect())
    }

    /// Names joined by commas, in one parameter or several.
    pub(super) fn names(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let mut names: Vec<String> = Vec::new();
        for part in self.all(name).flat_map(|text| text.split(',')) {
            let part = part.trim();
            if part.is_empty() {
                return Err(ApiError::invalid(format!("`{name}` has an empty name"))
                    .hint(format!("write it as {name}=a,b")));
            }
            if names.iter().any(|known| known == part) {
                return Err(ApiError::invalid(format!("`{name}` names `{part}` twice")));
            }
            names.push(part.to_owned());
        }
        Ok(names)
    }
}

/// `` `a`, `b` and `c` ``.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        let uri = format!("/?{query}").parse().unwrap();
        Parameters(Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap().0)
    }

    #[track_caller]
    fn check_only(query: &str, known: &[&str], expected: Result<(), (&str, &str)>) {
        let result = parameters(query).only(known).map(|_| ());
        let result = result.map_err(|e| (e.detail, e.hint.unwrap_or_default()));
        let expected = expected.map_err(|(d, h)| (d.to_owned(), h.to_owned()));
        assert_eq!(result, expected, "{query}");
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_name() {
        let known = ["window", "as_of", "filter", "group_by"];
        check_only("window=1h&filter=a:b", &known, Ok(()));
        check_only(
            "windw=1h",
            &known,
            Err(("unknown query parameter `windw`", "did you mean `window`?")),
        );
        check_only(
            "groupby=a",
            &known,
            Err(("unknown query parameter `groupby`", "did you mean `group_by`?")),
        );
        check_only(
            "q=1",
            &known,
            Err(("unknown query parameter `q`", "known: `as_of`, `filter`, `group_by`, `window`")),
        );
        check_only(
            "q=1",
            &[],
            Err(("unknown query parameter `q`", "this route takes no query parameters")),
        );
    }

    #[test]
    fn filters_split_at_the_first_colon_and_are_decoded() {
        let filters = parameters("filter=a:b:c&filter=d%20e:%C3%A9").filters("filter").unwrap();
        let expected = [("a".to_owned(), "b:c".to_owned()), ("d e".to_owned(), "é".to_owned())];
        assert_eq!(filters, expected.into_iter().collect());
        for wrong in ["filter=a", "filter=a:b&filter=a:c"] {
            assert!(parameters(wrong).filters("filter").is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_keep_their_order_and_come_once() {
        assert_eq!(parameters("g=b,a&g=c").names("g").unwrap(), ["b", "a", "c"]);
        for wrong in ["g=", "g=a,,b", "g=a,a"] {
            assert!(parameters(wrong).names("g").is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_come_joined_and_repeated() {
        assert_eq!(parameters("").listed("t"), None);
        assert_eq!(parameters("t=&t=,").listed("t"), None);
        assert_eq!(parameters("t=b,a&t=c&t=a").listed("t").unwrap(), ["a", "b", "c"]);
        assert_eq!(parameters("t=%20a%20,").listed("t").unwrap(), ["a"]);
    }

    #[test]
    fn single_parameters_come_once_and_within_bounds() {
        assert!(parameters("w=1&w=2").one("w").is_err());
        assert_eq!(parameters("").number("page", 1, 1..=100).unwrap(), 1);
        assert_eq!(parameters("page=7").number("page", 1, 1..=100).unwrap(), 7);
        for wrong in ["page=0", "page=101", "page=-1", "page=x", "page="] {
            assert!(parameters(wrong).number("page", 1, 1..=100).is_err(), "{wrong}");
        }
    }
}
