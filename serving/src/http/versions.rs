//! The dated versions of the API and what each changed: one table for the header, the changelog and for
//! making a body older.
//!
//! A change that added a member says where, so an answer to a client that is pinned to an earlier date is
//! made by taking that member out again. Nothing else in the API knows about versions.

use serde_json::value::RawValue;

use crate::json::Members;

/// One dated version.
#[derive(Debug)]
pub(super) struct ApiVersion {
    /// The day, which is its name.
    pub(super) date: &'static str,
    /// What it changed.
    pub(super) changes: &'static [Change],
}

/// One change.
#[derive(Debug)]
pub(super) struct Change {
    /// For people.
    pub(super) text: &'static str,
    /// The members of entity and metric bodies that it added, as paths.
    added: &'static [&'static str],
}

/// A version is deprecated when a newer one is more days ahead than this.
const DEPRECATED_AFTER_DAYS: i64 = 183;

/// All versions, oldest first. The first two are those of the published clients.
pub(super) static VERSIONS: [ApiVersion; 3] = [
    ApiVersion {
        date: "2026-01-01",
        changes: &[Change {
            text: "First version: entities, metrics, contracts, catalog, lineage, health.",
            added: &[],
        }],
    },
    ApiVersion {
        date: "2026-04-11",
        changes: &[Change {
            text: "Added `meta.is_historical` to entity and metric bodies.",
            added: &["meta.is_historical"],
        }],
    },
    ApiVersion {
        date: "2026-11-21",
        changes: &[
            Change {
                text: "Added `proof` to entity and metric bodies: contract, position, age, what was \
                       rejected and late.",
                added: &["proof"],
            },
            Change {
                text: "Added the parameters `filter`, `group_by`, `version` and `known_at`; with them \
                       `groups` and `meta.known_at`.",
                // Who asks for them knows them.
                added: &[],
            },
            Change { text: "Added `POST /v1/events`.", added: &[] },
        ],
    },
];

/// The newest version.
pub(super) static LATEST: &ApiVersion = &VERSIONS[VERSIONS.len() - 1];

/// The version of that name.
pub(super) fn find(date: &[u8]) -> Option<&'static ApiVersion> {
    VERSIONS.iter().find(|version| version.date.as_bytes() == date)
}

impl ApiVersion {
    /// Is it the newest?
    pub(super) fn is_latest(&self) -> bool {
        self.date == LATEST.date
    }

    /// `latest`, `stable` or `deprecated`.
    pub(super) fn status(&self) -> &'static str {
        let old = day(LATEST.date).zip(day(self.date));
        match old {
            _ if self.is_latest() => "latest",
            Some((latest, own)) if (latest - own).num_days() > DEPRECATED_AFTER_DAYS => {
                "deprecated"
            }
            _ => "stable",
        }
    }

    /// What a client that is pinned to it should be told; `None` unless it is deprecated.
    pub(super) fn warning(&self) -> Option<String> {
        let year = chrono::Months::new(12);
        let until = day(self.date)?.checked_add_months(year)?;
        (self.status() == "deprecated").then(|| {
            format!(
                "API version {} is deprecated and supported until {until}; see /v1/changelog",
                self.date
            )
        })
    }

    /// The members that newer versions added.
    fn missing(&self) -> impl Iterator<Item = &'static str> {
        let newer = VERSIONS.iter().skip_while(|version| version.date != self.date).skip(1);
        newer.flat_map(|version| version.changes).flat_map(|change| change.added).copied()
    }

    /// An entity or metric body as it was under this version, all digits kept; `None` when it is the
    /// same, or no object.
    pub(super) fn older(&self, body: &str) -> Option<String> {
        let mut text = body.to_owned();
        for path in self.missing() {
            if let Some(without) = without(&text, path) {
                text = without;
            }
        }
        (text != body).then_some(text)
    }
}

fn day(date: &str) -> Option<chrono::NaiveDate> {
    date.parse().ok()
}

/// The object without the member at `path`; `None` when it has none.
fn without(body: &str, path: &str) -> Option<String> {
    let Members(mut members): Members<'_> = serde_json::from_str(body).ok()?;
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let place = members.iter().position(|(member, _)| member == name)?;
    let inner: Box<RawValue>;
    if rest.is_empty() {
        members.remove(place);
    } else {
        inner = RawValue::from_string(without(members[place].1.get(), rest)?).ok()?;
        members[place].1 = &inner;
    }
    serde_json::to_string(&Members(members)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(date: &str, body: &str, expected: Option<&str>) {
        let version = find(date.as_bytes()).unwrap();
        assert_eq!(version.older(body).as_deref(), expected, "{date}");
    }

    #[test]
    fn a_body_loses_what_newer_versions_added_and_nothing_else() {
        let body = r#"{"value":12345678901234567.890,"meta":{"as_of":null,"is_historical":false,"freshness_seconds":1e-7},"proof":{"meta":{"is_historical":1}}}"#;
        check(
            "2026-01-01",
            body,
            Some(
                r#"{"value":12345678901234567.890,"meta":{"as_of":null,"freshness_seconds":1e-7}}"#,
            ),
        );
        check(
            "2026-04-11",
            body,
            Some(
                r#"{"value":12345678901234567.890,"meta":{"as_of":null,"is_historical":false,"freshness_seconds":1e-7}}"#,
            ),
        );
        check("2026-11-21", body, None);
        check("2026-01-01", r#"{"value":1}"#, None);
        check("2026-01-01", "[1]", None);
        check("2026-01-01", "no json", None);
    }

    #[test]
    fn versions_ascend_and_age() {
        assert!(VERSIONS.windows(2).all(|pair| pair[0].date < pair[1].date));
        assert!(VERSIONS.iter().all(|version| day(version.date).is_some()));
        let told = VERSIONS.iter().map(|v| (v.status(), v.warning().is_some()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("deprecated", true), ("deprecated", true), ("latest", false)]
        );
        let warning = VERSIONS[0].warning().unwrap();
        assert!(warning.contains("2026-01-01") && warning.contains("2027-01-01"), "{warning}");
    }
}
