//! Deprecated versions: since when, until when, and what to use instead.

use chrono::NaiveDate;

use crate::check::family::Draft;
use crate::check::names::Item;
use crate::diagnostic::{Report, suggest};
use crate::model::{self, Deprecation};
use crate::raw::decode::{Text, shorten};
use crate::raw::{self, Deprecated, Status};

/// The status with what `deprecated` says about it; dates that cannot be are reported.
pub(crate) fn status(
    status: Option<Status>,
    deprecated: &Option<Deprecated>,
    report: &mut Report,
) -> Option<Status> {
    let Some(deprecated) = deprecated else { return status };
    if matches!(status, Some(Status::Stable)) {
        report.error(
            deprecated.at,
            "a stable version is not deprecated",
            "leave out `status`, or leave out `deprecated`",
        );
    }
    let mut day = |text: &Option<Text>| {
        let text = text.as_ref()?;
        let day = read_day(text);
        if day.is_none() {
            report.error(
                text.at,
                format!("`{}` is not a day", shorten(&text.value)),
                "write it as `2026-10-01`",
            );
        }
        day
    };
    if let (Some(since), Some(sunset)) = (day(&deprecated.since), day(&deprecated.sunset))
        && sunset < since
    {
        report.error(
            deprecated.at,
            format!("it goes away on {sunset}, before it is deprecated on {since}"),
            "exchange `since` and `sunset`, or correct one of them",
        );
    }
    Some(Status::Deprecated)
}

/// What readers of a version are told; `None` unless it is deprecated.
pub(crate) fn of(status: model::Status, deprecated: Option<&Deprecated>) -> Option<Deprecation> {
    if status == model::Status::Stable {
        return None;
    }
    let day = |text: Option<&Text>| text.and_then(read_day);
    Some(Deprecation {
        since: day(deprecated.and_then(|d| d.since.as_ref())),
        sunset: day(deprecated.and_then(|d| d.sunset.as_ref())),
        instead: deprecated.and_then(|d| d.instead.as_ref()).and_then(successor),
    })
}

fn read_day(text: &Text) -> Option<NaiveDate> {
    // `%Y` also takes years that no calendar writes.
    let day = NaiveDate::parse_from_str(&text.value, "%Y-%m-%d").ok()?;
    (text.value.len() == 10).then_some(day)
}

/// `name`, or `name vN`.
fn successor(text: &Text) -> Option<(String, Option<u32>)> {
    let mut words = text.value.split_whitespace();
    let name = words.next()?.to_owned();
    let version = match words.next() {
        None => None,
        Some(word) => Some(word.strip_prefix('v')?.parse().ok()?),
    };
    words.next().is_none().then_some((name, version))
}

/// What is to be used instead must be there, and be another version.
pub(crate) fn successors(
    events: &[Draft],
    entities: &[Item<raw::entity::Entity>],
    metrics: &[Item<raw::metric::Metric>],
    report: &mut Report,
) {
    let events = events.iter().flat_map(|draft| &draft.versions);
    let events = events.map(|item| (item.name.as_str(), item.version, &item.raw.deprecated));
    of_kind(&events.collect::<Vec<_>>(), "event contracts", report);
    let entities = entities.iter().map(|i| (i.name.as_str(), i.version, &i.raw.deprecated));
    of_kind(&entities.collect::<Vec<_>>(), "entities", report);
    let metrics = metrics.iter().map(|i| (i.name.as_str(), i.version, &i.raw.deprecated));
    of_kind(&metrics.collect::<Vec<_>>(), "metrics", report);
}

fn of_kind(all: &[(&str, u32, &Option<Deprecated>)], plural: &str, report: &mut Report) {
    for (name, version, deprecated) in all {
        let Some(text) = deprecated.as_ref().and_then(|d| d.instead.as_ref()) else { continue };
        let Some((wanted, of_version)) = successor(text) else {
            report.error(
                text.at,
                format!("`{}` names no contract", shorten(&text.value)),
                "write `name`, or `name v2` for a certain version",
            );
            continue;
        };
        let fits = |other: &&(&str, u32, &Option<Deprecated>)| {
            other.0 == wanted && of_version.is_none_or(|version| other.1 == version)
        };
        match all.iter().find(fits) {
            None => report.error(
                text.at,
                format!("there is no `{}` to use instead", shorten(&text.value)),
                match all.iter().any(|other| other.0 == wanted) {
                    true => format!("`{wanted}` has other versions; add this one, or name another"),
                    false => suggest(&wanted, all.iter().map(|other| other.0), plural),
                },
            ),
            Some(_) if wanted == *name && of_version.is_none_or(|v| v == *version) => {
                let others = all.iter().any(|o| o.0 == wanted && o.1 != *version);
                if of_version.is_some() || !others {
                    report.error(
                        text.at,
                        "a deprecated version cannot be used instead of itself",
                        "name the version that readers should move to",
                    );
                }
            }
            Some(_) => {}
        }
    }
}
