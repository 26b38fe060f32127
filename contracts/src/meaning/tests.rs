//! One row for each kind of change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Loaded, compare, words};

/// Everything that the rows below change. Each contract is a file.
const EVENTS: &str = "\
kind: event
name: trip
names: [trip.begun, trip.ended]
owner: drivers
topic: [trips, trips.late]
key: trip_id
dedup: {horizon: 7d, on_conflict: dead_letter}
time_policy: {late: restate, allowed_lateness: 1m}
fields:
  trip_id: string
  rider: {type: string, required: false}
  zone: {type: string, values: [north, south], description: where it began}
  price: {type: 'decimal(10,2)', min: 0, max: 900}
  distance: {type: int64, required: false, default: 0}
  driver: {type: string, required: false, pii: true}
rules:
  - {name: dear, check: 'price < 800'}
  - {name: far, check: 'distance < 5000', severity: warning}
enrich:
  band: \"case when price < 10 then 'low' else 'high' end\"
  double: price * 2
";
const ENTITY: &str = "\
kind: entity
name: trip
from: [trip.begun, trip.ended]
key: trip_id
fields:
  zone: last
  price: last
  band: last
  begun_at: first(event_time)
  dear: price > 100
";
const METRICS: &str = "\
kind: metric
name: trips
from: {event: [trip.begun, trip.ended]}
where: band = 'high'
measure: count
dimensions:
  zone: {max_cardinality: 10}
windows: [5m, 1h]
moved_by: [trip.begun, trip.ended]
---
kind: metric
name: takings
owner: money
unit: EUR
from: {entity: trip}
time: begun_at
measure: sum(price)
windows: 1h
moved_by: [trip.begun, trip.ended]
---
kind: metric
name: per_trip
measure: ratio(takings, trips)
windows: 1h
moved_by: [trip.begun, trip.ended]
---
kind: metric
name: dear_trips
from: {entity: trip}
time: begun_at
where: dear
measure: count
windows: 1h
moved_by: [trip.begun, trip.ended]
---
kind: metric
name: seen
from: ingest
measure: count
windows: 1h
moved_by: ingest
";

fn loaded(texts: &[&str]) -> Loaded {
    let files: Vec<(PathBuf, String)> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (PathBuf::from(format!("{i}.yaml")), (*text).to_owned()))
        .collect();
    let domain = crate::load(&files).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>())
    });
    Loaded::of(Arc::new(domain), &files)
}

/// `class change kind name vN key file:line [affected]` of each change.
fn told(old: &Loaded, new: &Loaded) -> Vec<String> {
    let changes = compare(old, new).into_iter().map(|c| {
        let class = format!("{:?}", c.class).to_lowercase();
        let (subject, key) = (&c.contract, if c.key.is_empty() { "-" } else { &c.key });
        let affects = if c.affects.is_empty() {
            String::new()
        } else {
            format!(" [{}]", c.affects.join(", "))
        };
        assert!(c.line > 0 && !c.file.as_os_str().is_empty(), "no place: {c:?}");
        assert_eq!(c.history.is_some(), class == "restating");
        format!("{class} {} {} {} {key}{affects}", c.change, subject.kind, subject.name)
    });
    changes.collect()
}

/// Replaces `before` by `after` in the contracts and compares.
#[track_caller]
fn check(before: &str, after: &str, expected: &[&str]) {
    let texts = [EVENTS, ENTITY, METRICS];
    let found = texts.iter().filter(|text| text.contains(before)).count();
    assert_eq!(found, 1, "`{before}` stands in one file");
    let changed = texts.map(|text| text.replacen(before, after, 1));
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    assert_eq!(told(&loaded(&texts), &loaded(&changed)), expected, "{before} → {after}");
}

#[test]
fn another_spelling_is_no_change() {
    check("owner: drivers\n", "# who it is\nowner:   \"drivers\"\n", &[]);
    check("band = 'high'", "(  band = 'high' )", &[]);
    check("price * 2", "(price*2)", &[]);
    // Order of keys, of fields, and of files.
    let moved =
        EVENTS.replace("key: trip_id\n", "").replace("name: trip\n", "key: trip_id\nname: trip\n");
    let moved =
        moved.replace("  trip_id: string\n", "").replace("rules:\n", "  trip_id: string\nrules:\n");
    assert_ne!(moved, EVENTS);
    let old = loaded(&[EVENTS, ENTITY, METRICS]);
    assert_eq!(told(&old, &loaded(&[METRICS, ENTITY, &moved])), Vec::<String>::new());
    let one_file = [EVENTS, ENTITY, METRICS].join("---\n");
    assert_eq!(told(&old, &loaded(&[&one_file])), Vec::<String>::new());
}

#[test]
fn words_for_people_are_safe() {
    check("owner: drivers", "owner: riders", &["safe words_changed event trip owner"]);
    check("owner: money", "owner: purse", &["safe words_changed metric takings owner"]);
    check(
        "description: where it began",
        "description: where",
        &["safe words_changed event trip fields.zone.description"],
    );
    check(
        "name: takings\n",
        "name: takings\nsynonyms: [income]\ngauge: true\nfreshness: {max_age: 5s}\n",
        &[
            "safe words_changed metric takings synonyms",
            "safe gauge_changed metric takings gauge",
            "safe freshness_changed metric takings freshness.max_age",
        ],
    );
    check(
        "name: takings\n",
        "name: takings\nstatus: deprecated\n",
        &["safe status_changed metric takings status"],
    );
    check(
        "check: 'distance < 5000'",
        "check: 'distance < 6000'",
        &["safe warning_changed event trip rules.far.check"],
    );
    check(
        "key: trip_id\ndedup",
        "lake: {sort: [zone]}\nkey: trip_id\ndedup",
        &["safe lake_layout_changed event trip lake"],
    );
}

#[test]
fn more_is_additive() {
    check(
        "  driver:",
        "  tip: {type: int64, required: false}\n  driver:",
        &["additive field_added event trip fields.tip"],
    );
    check(
        "  driver:",
        "  tip: {type: int64, default: 0}\n  driver:",
        &["additive field_added event trip fields.tip"],
    );
    check(
        "  double:",
        "  triple: price * 3\n  double:",
        &["additive column_added event trip enrich.triple"],
    );
    check(
        "[trip.begun, trip.ended]\nowner",
        "[trip.begun, trip.ended, trip.lost]\nowner",
        &["additive event_type_added event trip names.trip.lost"],
    );
    check(
        "[trips, trips.late]",
        "[trips, trips.late, trips.new]",
        &["additive topic_added event trip topic"],
    );
    check(
        "  dear: price",
        "  dearest: max(price)\n  dear: price",
        &["additive field_added entity trip fields.dearest"],
    );
    check(
        "windows: [5m, 1h]",
        "windows: [5m, 1h, 6h]",
        &["additive window_added metric trips windows"],
    );
    check(
        "  zone: {max",
        "  band: {}\n  zone: {max",
        &["additive dimension_added metric trips dimensions.band"],
    );
    check(
        "max_cardinality: 10",
        "max_cardinality: 20",
        &["additive cardinality_raised metric trips dimensions.zone.max_cardinality"],
    );
    check(
        "values: [north, south]",
        "values: [north, south, west]",
        &[
            "additive bound_loosened event trip fields.zone.values [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "max: 900",
        "max: 900.01",
        &[
            "additive bound_loosened event trip fields.price.max [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "  trip_id: string\n",
        "  trip_id: {type: string, required: false}\n",
        &[
            "additive field_became_optional event trip fields.trip_id.required [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "  - {name: dear, check: 'price < 800'}\n",
        "",
        &[
            "additive rule_removed event trip rules [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    let added = |text: &str| {
        told(&loaded(&[EVENTS, ENTITY, METRICS]), &loaded(&[EVENTS, ENTITY, METRICS, text]))
    };
    assert_eq!(
        added("kind: event\nnames: [car.washed]\nfields: {car: string}\n"),
        ["additive event_added event car.washed -"]
    );
    assert_eq!(
        added(&EVENTS.replace("name: trip\n", "name: trip\nversion: 2\nstatus: deprecated\n")),
        ["additive event_version_added event trip -"]
    );
    assert_eq!(
        added("kind: entity\nname: rider\nfrom: trip.begun\nkey: rider\nfields: {n: count}\n"),
        ["additive entity_added entity rider -"]
    );
    assert_eq!(
        added(&ENTITY.replace("name: trip\n", "name: trip\nversion: 2\nstatus: deprecated\n")),
        ["additive entity_version_added entity trip -"]
    );
    let metric = METRICS.split("---\n").next().unwrap();
    assert_eq!(
        added(&metric.replace("name: trips", "name: more")),
        ["additive metric_added metric more -"]
    );
    assert_eq!(
        added(&metric.replace("name: trips", "name: trips\nversion: 2\nstatus: deprecated")),
        ["additive metric_version_added_aside metric trips -"]
    );
    // What is made of it goes with the newest stable version.
    assert_eq!(
        added(&metric.replace("name: trips", "name: trips\nversion: 2")),
        [
            "restating parts_changed metric per_trip measure [per_trip v1]",
            "additive metric_version_added metric trips -"
        ]
    );
}

#[test]
fn other_numbers_under_the_same_name_are_restating() {
    check(
        "where: band = 'high'",
        "where: band = 'low'",
        &["restating where_changed metric trips where [per_trip v1, trips v1]"],
    );
    check(
        "where: dear\n",
        "",
        &["restating where_changed metric dear_trips where [dear_trips v1]"],
    );
    check(
        "measure: sum(price)",
        "measure: sum(price + 1)",
        &["restating measure_changed metric takings measure [per_trip v1, takings v1]"],
    );
    check(
        "ratio(takings, trips)",
        "ratio(takings, dear_trips)",
        &["restating parts_changed metric per_trip measure [per_trip v1]"],
    );
    check(
        "time: begun_at\nmeasure",
        "time: begun_at\non_empty: null\nmeasure",
        &["restating on_empty_changed metric takings on_empty [per_trip v1, takings v1]"],
    );
    check(
        "time: begun_at\nwhere",
        "time: begun_at + interval '1 hour'\nwhere",
        &["restating time_changed metric dear_trips time [dear_trips v1]"],
    );
    check(
        "zone: {max",
        "zone: {field: band, max",
        &["restating dimension_changed metric trips dimensions.zone [per_trip v1, trips v1]"],
    );
    check(
        "from: {event: [trip.begun, trip.ended]}",
        "from: {event: [trip.ended, trip.begun]}",
        &[],
    );
    check("zone: last", "zone: first", &["restating fold_changed entity trip fields.zone"]);
    check(
        "begun_at: first(event_time)",
        "begun_at: min(event_time)",
        &[
            "restating fold_changed entity trip fields.begun_at [dear_trips v1, per_trip v1, takings v1]",
        ],
    );
    check(
        "dear: price > 100",
        "dear: price > 200",
        &["restating fold_changed entity trip fields.dear [dear_trips v1]"],
    );
    check(
        "from: [trip.begun, trip.ended]\nkey",
        "from: [trip.begun, trip.ended]\nwhere: price > 1\nkey",
        &["restating source_changed entity trip from [dear_trips v1, per_trip v1, takings v1]"],
    );
    check(
        "key: trip_id\nfields",
        "closes_after: 30m\nkey: trip_id\nfields",
        &[
            "restating closes_changed entity trip closes_after [dear_trips v1, per_trip v1, takings v1]",
        ],
    );
    // Through an entity and a ratio.
    check(
        "price < 10 then",
        "price < 20 then",
        &["restating enrich_changed event trip enrich.band [per_trip v1, trips v1]"],
    );
    check(
        "double: price * 2",
        "double: price * 3",
        &["restating enrich_changed event trip enrich.double"],
    );
    let all = "[dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]";
    check(
        "late: restate",
        "late: drop",
        &[&format!("restating time_policy_changed event trip time_policy.late {all}")],
    );
    check(
        "horizon: 7d",
        "horizon: 1h",
        &[&format!("restating dedup_changed event trip dedup.horizon {all}")],
    );
    check(
        "on_conflict: dead_letter",
        "on_conflict: keep_first",
        &[&format!("restating dedup_changed event trip dedup.on_conflict {all}")],
    );
    check(
        "default: 0",
        "default: 1",
        &["restating default_changed event trip fields.distance.default"],
    );
    let unknown = "kind: domain\nname: d\nunknown_event: ignore\n";
    let known = unknown.replace("ignore", "dead_letter");
    assert_eq!(
        told(
            &loaded(&[EVENTS, METRICS, ENTITY, &known]),
            &loaded(&[EVENTS, METRICS, ENTITY, unknown])
        ),
        ["restating unknown_event_changed domain d unknown_event [seen v1]"]
    );
}

#[test]
fn what_somebody_misses_is_breaking() {
    check(
        "moved_by: [trip.begun, trip.ended]\n---\nkind: metric\nname: seen\nfrom: ingest\nmeasure: count\nwindows: 1h\nmoved_by: ingest\n",
        "moved_by: [trip.begun, trip.ended]\n",
        &["breaking metric_removed metric seen - [seen v1]"],
    );
    check(
        "windows: [5m, 1h]",
        "windows: [1h]",
        &["breaking window_removed metric trips windows [per_trip v1, trips v1]"],
    );
    check(
        "dimensions:\n  zone: {max_cardinality: 10}\n",
        "",
        &["breaking dimension_removed metric trips dimensions.zone [per_trip v1, trips v1]"],
    );
    check(
        "max_cardinality: 10",
        "max_cardinality: 9",
        &[
            "breaking cardinality_lowered metric trips dimensions.zone.max_cardinality [per_trip v1, trips v1]",
        ],
    );
    check(
        "zone: {max",
        "zone: {field: distance, max",
        &[
            "breaking dimension_type_changed metric trips dimensions.zone [per_trip v1, trips v1]",
            "restating dimension_changed metric trips dimensions.zone [per_trip v1, trips v1]",
        ],
    );
    check(
        "unit: EUR",
        "unit: CZK",
        &["breaking unit_changed metric takings unit [per_trip v1, takings v1]"],
    );
    check(
        "measure: sum(price)",
        "measure: avg(price)",
        &[
            "breaking value_type_changed metric takings measure [per_trip v1, takings v1]",
            "restating on_empty_changed metric takings on_empty [per_trip v1, takings v1]",
            "restating measure_changed metric takings measure [per_trip v1, takings v1]",
        ],
    );
    check("  band: last\n", "", &["breaking field_removed entity trip fields.band"]);
    check(
        "key: trip_id\nfields",
        "key: rider\nfields",
        &[
            "breaking key_renamed entity trip key [dear_trips v1, per_trip v1, takings v1]",
            "restating source_changed entity trip from [dear_trips v1, per_trip v1, takings v1]",
        ],
    );
    check("  double: price * 2\n", "", &["breaking column_removed event trip enrich.double"]);
    check(
        "  driver: {type: string, required: false, pii: true}\n",
        "",
        &["breaking field_removed event trip fields.driver"],
    );
    check("pii: true", "pii: false", &["breaking pii_changed event trip fields.driver.pii"]);
    check(
        "  driver:",
        "  tip: int64\n  driver:",
        &[
            "breaking required_field_added event trip fields.tip [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "rider: {type: string, required: false}",
        "rider: string",
        &[
            "breaking field_became_required event trip fields.rider.required [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "rider: {type: string,",
        "rider: {type: int64,",
        &["breaking type_changed event trip fields.rider.type"],
    );
    check(
        "values: [north, south]",
        "values: [north]",
        &[
            "breaking bound_tightened event trip fields.zone.values [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    check(
        "min: 0",
        "min: 0.5",
        &[
            "breaking bound_tightened event trip fields.price.min [dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]",
        ],
    );
    let all = "[dear_trips v1, per_trip v1, seen v1, takings v1, trips v1]";
    check(
        "'price < 800'",
        "'price < 700'",
        &[&format!("breaking rule_changed event trip rules.dear.check {all}")],
    );
    check(
        "severity: warning",
        "severity: error",
        &[&format!("breaking rule_added event trip rules.far.check {all}")],
    );
    check(
        "[trips, trips.late]",
        "[trips]",
        &[&format!("breaking topic_removed event trip topic {all}")],
    );
    check(
        "topic: [trips",
        "format: avro\ntopic: [trips",
        &[&format!("breaking format_changed event trip format {all}")],
    );
    check(
        "topic: [trips",
        "envelope: {time: at}\ntopic: [trips",
        &[&format!("breaking envelope_changed event trip envelope {all}")],
    );
    check(
        "key: trip_id\ndedup",
        "key: rider\ndedup",
        &["breaking event_key_changed event trip key"],
    );
    let without = |texts: &[&str]| told(&loaded(&[EVENTS, ENTITY, METRICS]), &loaded(texts));
    assert_eq!(
        without(&[EVENTS, METRICS.rsplit("---\n").next().unwrap()]).len(),
        5,
        "an entity and four metrics"
    );
    let renamed =
        |name: &str| loaded(&[EVENTS, ENTITY, METRICS, &format!("kind: domain\nname: {name}\n")]);
    assert_eq!(told(&renamed("a"), &renamed("b")), ["breaking domain_renamed domain b name"]);
}

#[test]
fn a_version_that_goes_tells_who_answers_then() {
    let two =
        METRICS.split("---\n").next().unwrap().replace("name: trips", "name: trips\nversion: 2");
    let old = loaded(&[EVENTS, ENTITY, METRICS, &two]);
    let new = loaded(&[
        EVENTS,
        ENTITY,
        METRICS,
        &two.replace("version: 2", "version: 2\nstatus: deprecated"),
    ]);
    assert_eq!(
        told(&old, &new),
        [
            "restating parts_changed metric per_trip measure [per_trip v1]",
            "restating default_version_changed metric trips status [trips v2]",
            "safe status_changed metric trips status",
        ]
    );
    let gone = loaded(&[EVENTS, ENTITY, METRICS]);
    assert_eq!(
        told(&old, &gone)[0],
        "breaking metric_removed metric trips - [per_trip v1, trips v2]"
    );
}

#[test]
fn a_change_says_where_it_stands() {
    let changed = METRICS.replace("band = 'high'", "band = 'low'");
    let (old, new) = (loaded(&[EVENTS, ENTITY, METRICS]), loaded(&[EVENTS, ENTITY, &changed]));
    let changes = compare(&old, &new);
    assert_eq!((changes[0].file.as_path(), changes[0].line), (std::path::Path::new("2.yaml"), 4));
    assert_eq!(changes[0].before.as_deref(), Some("band = 'high'"));
    assert_eq!(changes[0].after.as_deref(), Some("band = 'low'"));
    // What is gone stands in the old folder.
    let changed = METRICS.split("---\n").take(4).collect::<Vec<_>>().join("---\n");
    let changes = compare(&old, &loaded(&[EVENTS, ENTITY, &changed]));
    assert_eq!(changes[0].line, 36);
}

/// A word without words of its own would be told as harmless.
#[test]
fn every_change_has_its_reason() {
    let source = [
        include_str!("mod.rs"),
        include_str!("event.rs"),
        include_str!("entity.rs"),
        include_str!("metric.rs"),
    ];
    let found = regex::Regex::new(r#""([a-z]+(?:_[a-z]+)+)""#).unwrap();
    let made: BTreeSet<&str> = source
        .iter()
        .flat_map(|text| found.captures_iter(text))
        .map(|c| c.get(1).unwrap().as_str())
        .collect();
    let ends = [
        "_added",
        "_aside",
        "_removed",
        "_changed",
        "_required",
        "_optional",
        "_renamed",
        "_tightened",
        "_loosened",
        "_raised",
        "_lowered",
    ];
    let changes: Vec<&&str> =
        made.iter().filter(|word| ends.iter().any(|end| word.ends_with(end))).collect();
    assert!(changes.len() > 40, "{changes:?}");
    let silent = words::of("words_changed").reason;
    let harmless = [
        "words_changed",
        "gauge_changed",
        "warning_changed",
        "stages_changed",
        "relationships_changed",
    ];
    for change in changes {
        assert_eq!(words::of(change).reason == silent, harmless.contains(change), "{change}");
    }
}
