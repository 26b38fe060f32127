//! What readers are told before they build on an answer, in the body as `warnings`: that a filter asks for what
//! cannot be, and that the contract version is deprecated; this also in the headers `Deprecation` (RFC 9745), `Sunset`
//! (RFC 8594) and `Link`. A day begins at midnight UTC.

use chrono::NaiveDate;
use contracts::model::{Deprecation, Domain};
use serde::Serialize;
use utoipa::ToSchema;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::query::listed;
use super::state::AppState;
use crate::metric::hint;
use crate::question::{Impossible, MetricAnswer};

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Dates and successor of a deprecated version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeprecationBody {
    /// Day from which on nobody should begin to use it.
    #[schema(value_type = Option<String>)]
    pub since: Option<NaiveDate>,
    /// Day on which it goes away.
    #[schema(value_type = Option<String>)]
    pub sunset: Option<NaiveDate>,
    /// What to use instead: `name`, or `name vN`.
    #[serde(rename = "use")]
    pub instead: Option<String>,
}

/// What to know before building on an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WarningBody {
    /// `deprecated_version`, or `impossible_value` where a filter asks for a value that no event can bring.
    pub code: &'static str,
    /// What it is about, for people.
    pub detail: String,
    /// Dates and successor of a deprecated version.
    #[serde(flatten)]
    pub deprecation: Option<DeprecationBody>,
    /// Where the successor answers.
    #[serde(skip)]
    successor: Option<String>,
}

impl DeprecationBody {
    /// What is said of it; `None` when nothing is said.
    pub(super) fn of(deprecation: Option<&Deprecation>) -> Option<Self> {
        deprecation.filter(|deprecation| **deprecation != Deprecation::default()).map(Self::from)
    }
}

impl From<&Deprecation> for DeprecationBody {
    fn from(deprecation: &Deprecation) -> Self {
        let instead = deprecation.instead.as_ref().map(|(name, version)| match version {
            Some(version) => format!("{name} v{version}"),
            None => name.clone(),
        });
        Self { since: deprecation.since, sunset: deprecation.sunset, instead }
    }
}

impl WarningBody {
    fn new(kind: &str, name: &str, version: u32, deprecation: &Deprecation) -> Self {
        let body = DeprecationBody::from(deprecation);
        let mut detail = format!("version {version} of {kind} `{name}` is deprecated");
        if let Some(since) = body.since {
            detail += &format!(" since {since}");
        }
        if let Some(sunset) = body.sunset {
            detail += &format!(" and goes away on {sunset}");
        }
        if let Some(instead) = &body.instead {
            detail += &format!("; use `{instead}`");
        }
        let successor = deprecation.instead.as_ref().filter(|_| kind == "metric");
        let successor = successor.map(|(name, version)| match version {
            Some(version) => format!("</v1/metrics/{name}?version={version}>"),
            None => format!("</v1/metrics/{name}>"),
        });
        Self { code: "deprecated_version", detail, deprecation: Some(body), successor }
    }

    fn impossible(of: &Impossible) -> Self {
        const MOST: usize = 12;

        let Impossible { dimension, value, allowed } = of;
        let mut detail = format!("no event brings the `{dimension}` `{value}`");
        if let Some(near) =
            hint(value, allowed.iter().map(String::as_str)).filter(|_| allowed.len() > MOST)
        {
            detail += &format!("; {near}");
        } else {
            detail += &format!(": it is {}", listed(allowed));
        }
        Self { code: "impossible_value", detail, deprecation: None, successor: None }
    }

    /// What the reader of an answer is told.
    pub(super) fn of_answer(answer: &MetricAnswer) -> Vec<Self> {
        let version = answer.proof.contract_version;
        let deprecation = answer.deprecation.iter();
        let deprecation = deprecation.map(|d| Self::new("metric", &answer.metric, version, d));
        deprecation.chain(answer.impossible.iter().map(Self::impossible)).collect()
    }
}

/// What whoever asks for a metric now would be told.
pub(super) fn of_metric(state: &AppState, name: &str, version: Option<u32>) -> Vec<WarningBody> {
    let found = match version {
        None => state.cache.engine().answering(name),
        Some(version) => {
            let mut all = state.domain.metrics.iter();
            all.find(|metric| metric.name == name && metric.version == version)
        }
    };
    let told = found.and_then(|metric| {
        let deprecation = metric.deprecation.as_ref()?;
        Some(WarningBody::new("metric", &metric.name, metric.version, deprecation))
    });
    told.into_iter().collect()
}

/// What the reader of an entity is told.
pub(super) fn of_entity(domain: &Domain, name: &str, version: u32) -> Vec<WarningBody> {
    let mut all = domain.entities.iter();
    let found = all.find(|entity| entity.name == name && entity.version == version);
    let deprecation = found.and_then(|entity| entity.deprecation.as_ref());
    deprecation.map(|d| WarningBody::new("entity type", name, version, d)).into_iter().collect()
}

/// Says it in the headers, too: of several versions the first days.
pub(super) fn tell(headers: &mut HeaderMap, warnings: &[WarningBody]) {
    let since = warnings.iter().filter_map(|warning| warning.deprecation.as_ref()?.since).min();
    let sunset = warnings.iter().filter_map(|warning| warning.deprecation.as_ref()?.sunset).min();
    let midnight = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let since = since.map(|day| format!("@{}", midnight(day).timestamp()));
    let sunset = sunset.map(|day| midnight(day).format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let links = warnings.iter().filter_map(|warning| warning.successor.as_ref());
    let links = links.map(|link| (header::LINK, format!("{link}; rel=\"successor-version\"")));
    let dates = [(DEPRECATION, since), (SUNSET, sunset)];
    let dates = dates.into_iter().filter_map(|(name, value)| Some((name, value?)));
    for (name, value) in dates.chain(links) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
}
