//! What is asked of the server, and how: one connection, no cache.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::support::Server;

/// Reads of each kind before those that count.
const WARM_UP: usize = 3;
/// Reads of each kind that count, however long they take.
const LEAST: usize = 30;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;

/// Windows as a read names them, with their lengths in µs; of all time there is no length.
const WINDOWS: [(&str, Option<i64>); 6] = [
    ("5m", Some(5 * MINUTE)),
    ("1h", Some(60 * MINUTE)),
    ("24h", Some(DAY)),
    ("7d", Some(7 * DAY)),
    ("30d", Some(30 * DAY)),
    ("all", None),
];

/// One kind of read, and the SQL that means the same.
#[derive(Clone)]
pub(crate) struct Case {
    /// Name in the results.
    pub(crate) name: String,
    metric: &'static str,
    window: &'static str,
    /// Length of the window, µs.
    pub(crate) length: Option<i64>,
    /// Only rows of one channel.
    filtered: bool,
    /// Dimension by which it is grouped.
    pub(crate) group_by: Option<&'static str>,
    /// The aggregate in SQL.
    pub(crate) aggregate: &'static str,
    /// Where the rows lie, their time, and which of them count.
    pub(crate) table: &'static str,
    pub(crate) time: &'static str,
    condition: Option<&'static str>,
}

impl Case {
    fn over_events(
        metric: &'static str,
        aggregate: &'static str,
        (window, length): (&'static str, Option<i64>),
    ) -> Self {
        Self {
            name: format!("{metric}_{window}"),
            metric,
            window,
            length,
            filtered: false,
            group_by: None,
            aggregate,
            table: "ev_ride",
            time: "_time",
            condition: None,
        }
    }

    fn over_rides((window, length): (&'static str, Option<i64>)) -> Self {
        Self {
            table: "en_ride_v1",
            time: "began_at",
            condition: Some("status <> 's0'"),
            ..Self::over_events("standing_fares", SUM, (window, length))
        }
    }

    fn filtered(self) -> Self {
        Self { name: format!("{}_one_channel", self.name), filtered: true, ..self }
    }

    fn by(self, dimension: &'static str) -> Self {
        Self { name: format!("{}_by_{dimension}", self.name), group_by: Some(dimension), ..self }
    }

    fn path(&self) -> String {
        let Self { metric, window, .. } = self;
        let mut path = format!("/v1/metrics/{metric}?window={window}&max_staleness=0");
        if self.filtered {
            path.push_str("&filter=channel:c3");
        }
        if let Some(dimension) = self.group_by {
            path.push_str("&group_by=");
            path.push_str(dimension);
        }
        path
    }

    /// Which rows count, from `$1` on where the window has a length.
    pub(crate) fn rows(&self) -> String {
        let mut tests: Vec<String> = self.condition.into_iter().map(str::to_owned).collect();
        if self.filtered {
            tests.push("channel = 'c3'".to_owned());
        }
        if self.length.is_some() {
            tests.push(format!("{} >= $1", self.time));
        }
        let tests = if tests.is_empty() { "true".to_owned() } else { tests.join(" and ") };
        format!("from {} where {tests}", self.table)
    }
}

const SUM: &str = "coalesce(sum(fare), 0)";
const RATIO: &str = "sum(fare)::double / nullif(count(*), 0)";

/// Every kind, short windows first: the newest events are those of some seconds before the first read.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for window in WINDOWS {
        for (metric, aggregate) in
            [("fares", SUM), ("changes", "count(*)"), ("mean_seats", "avg(seats)")]
        {
            let case = Case::over_events(metric, aggregate, window);
            cases.extend([case.clone(), case.filtered()]);
        }
        if ["24h", "all"].contains(&window.0) {
            cases.push(Case::over_events("fares", SUM, window).by("zone"));
        }
        if ["1h", "24h", "30d"].contains(&window.0) {
            cases.push(Case::over_events("fare_per_change", RATIO, window));
        }
        if window.0 == "24h" {
            cases.push(Case::over_events("riders", "count(distinct rider_id)", window));
        }
        if ["24h", "30d"].contains(&window.0) {
            cases.push(Case::over_rides(window));
        }
    }
    cases.push(Case::over_rides(("now", None)));
    cases.push(Case::over_rides(("now", None)).by("status"));
    cases
}

/// Values of a group, or one value without a group, as their texts.
pub(crate) type Values = Vec<(Option<String>, String)>;

/// One read.
pub(crate) struct Read {
    /// Between these times (µs) the window's reference time lies.
    pub(crate) sent: i64,
    pub(crate) answered: i64,
    pub(crate) values: Values,
}

/// Reads the same again and again: at most `most` times, and no longer than `longest` once there are a few. In turn
/// with a server beside it, whose times come last.
pub(crate) fn ask(
    server: &Server,
    beside: Option<&Server>,
    http: &reqwest::blocking::Client,
    case: &Case,
    most: usize,
    longest: Duration,
) -> (Vec<Read>, Vec<Duration>, Vec<Duration>) {
    let (mut reads, mut times, mut times_beside) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in 0..WARM_UP + most {
        if number >= WARM_UP + LEAST && begun.elapsed() > longest {
            break;
        }
        let (read, took) = once(server, http, case);
        let took_beside = beside.map(|beside| once(beside, http, case).1);
        if number >= WARM_UP {
            reads.push(read);
            times.push(took);
            times_beside.extend(took_beside);
        }
    }
    (reads, times, times_beside)
}

fn once(server: &Server, http: &reqwest::blocking::Client, case: &Case) -> (Read, Duration) {
    let url = server.url(&case.path());
    let sent = now();
    let started = Instant::now();
    let answer = http.get(&url).send().expect("an answer");
    let (status, cache) = (answer.status(), answer.headers().get("x-cache").cloned());
    let text = answer.text().expect("a body");
    let took = started.elapsed();
    assert!(status.is_success(), "{url}: {text}");
    assert!(cache.is_some_and(|cache| cache == "MISS"), "{url}: answered by the cache");
    (Read { sent, answered: now(), values: values(case, &text) }, took)
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// What is looked at of a body; texts of numbers keep all their digits.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, default)]
    groups: Vec<Group<'a>>,
}

#[derive(Deserialize)]
struct Group<'a> {
    dimensions: std::collections::HashMap<String, Option<String>>,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn values(case: &Case, body: &str) -> Values {
    let body: Body<'_> = serde_json::from_str(body).expect("the body of a metric");
    let Some(dimension) = case.group_by else {
        return vec![(None, body.value.get().to_owned())];
    };
    let value = |mut group: Group<'_>| {
        (group.dimensions.remove(dimension).flatten(), group.value.get().to_owned())
    };
    body.groups.into_iter().map(value).collect()
}
