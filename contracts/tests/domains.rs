//! The two domains of the repository, the editor schema, and what changes a hash.

use std::fs;
use std::path::{Path, PathBuf};

use contracts::model::Domain;

fn domain(name: &str) -> Domain {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("domains").join(name);
    loaded(contracts::load_dir(&folder))
}

#[track_caller]
fn loaded(result: Result<Domain, Vec<contracts::Diagnostic>>) -> Domain {
    result.unwrap_or_else(|found| {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn names(domain: &Domain) -> Vec<&str> {
    let mut names: Vec<&str> = domain.metrics.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_shop_has_its_six_metrics_and_its_entities() {
    let shop = domain("shop");
    assert_eq!(shop.name, "shop");
    assert_eq!(
        names(&shop),
        [
            "active_sessions",
            "avg_order_value",
            "conversion_rate",
            "error_rate",
            "order_count",
            "revenue"
        ]
    );
    for (entity, fields) in [
        ("order", vec!["user_id", "status", "total_amount", "currency", "created_at"]),
        ("product", vec!["name", "category", "price", "in_stock", "stock_quantity"]),
        (
            "session",
            vec![
                "user_id",
                "started_at",
                "ended_at",
                "duration_seconds",
                "event_count",
                "unique_pages",
                "funnel_stage",
                "is_conversion",
            ],
        ),
        (
            "user",
            vec![
                "total_orders",
                "total_spent",
                "first_order_at",
                "last_order_at",
                "preferred_category",
            ],
        ),
    ] {
        let found = shop.entity(entity).expect(entity);
        for field in fields {
            assert!(found.fields.iter().any(|f| f.name == field), "{entity}.{field}");
        }
    }
    let order = shop.event("order.created", None).expect("an order contract");
    assert_eq!(order.version, 2);
    let old = shop.event("order.created", Some(1)).expect("the old order contract");
    assert_eq!(old.status, contracts::model::Status::Deprecated);
}

#[test]
fn the_flights_have_their_nine_metrics() {
    let flights = domain("flights");
    assert_eq!(
        names(&flights),
        [
            "aircraft_in_service",
            "avg_departure_delay",
            "cancellation_rate",
            "cancellations",
            "departures",
            "max_departure_delay",
            "miles_flown",
            "on_time_rate",
            "p90_departure_delay",
        ]
    );
    for metric in &flights.metrics {
        let windows: Vec<&str> = metric.windows.iter().map(|w| w.text.as_str()).collect();
        let dimensions: Vec<&str> = metric.dimensions.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(windows, ["1h", "24h", "7d"], "{}", metric.name);
        assert_eq!(dimensions, ["origin", "destination", "carrier"], "{}", metric.name);
    }
}

#[test]
fn the_editor_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/contract.schema.json");
    let schema = contracts::schema::json_schema();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the schema");
        fs::write(&path, &schema).expect("a writable schema");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == schema, "UPDATE_EXPECT=1 rewrites {}", path.display());
}

#[test]
fn graph_and_documents_cover_every_contract() {
    let shop = domain("shop");
    let graph = contracts::graph::render_json(&shop);
    let edges = graph["edges"].as_array().expect("edges");
    let edge = |from: &str, to: &str| edges.iter().any(|e| e["from"] == from && e["to"] == to);
    assert!(edge("event:order.cancelled", "entity:order"));
    assert!(edge("entity:order", "entity:user"));
    assert!(edge("entity:order", "metric:revenue"));
    assert!(edge("ingest", "metric:error_rate"));
    assert!(!edge("event:click", "metric:revenue"));
    let documents: Vec<(&str, u32)> =
        shop.documents.iter().map(|d| (d.entity.as_str(), d.version)).collect();
    for expected in [("order", 1), ("order", 2), ("metric.revenue", 1), ("session", 1)] {
        assert!(documents.contains(&expected), "{documents:?}");
    }
    let revenue = shop.documents.iter().find(|d| d.entity == "metric.revenue").expect("revenue");
    assert!(revenue.yaml.contains("name: revenue") && !revenue.yaml.contains("name: order_count"));
}

const SMALL: &str = "\
kind: event
names: [a.b]
owner: one
fields: {id: string, n: int64}
enrich: {twice: n * 2}
---
kind: metric
name: m
from: {event: a.b}
measure: sum(twice)
where: n > 0
windows: [1h]
moved_by: [a.b]
examples:
  - given: [{event: a.b, id: x, n: 1}]
    expect: {value: 2}
";

fn hashes(text: &str) -> (u64, u64) {
    let domain = loaded(contracts::load(&[(PathBuf::from("small.yaml"), text.to_owned())]));
    (domain.families[0].versions[0].hash, domain.metrics[0].hash)
}

#[test]
fn only_meaning_changes_a_hash() {
    let before = hashes(SMALL);
    for (from, to, event, metric) in [
        ("owner: one", "owner: two", false, false),
        ("owner: one", "description: other", false, false),
        ("owner: one", "topic: [a, '^b']", false, false),
        ("owner: one", "envelope: {id: {header: event_id}}", true, false),
        ("owner: one", "envelope: {time: {header: t, form: epoch_ms}}", true, false),
        ("where: n > 0", "where: (n>0)", false, false),
        ("id: string, n: int64", "n: int64, id: string", false, false),
        ("windows: [1h]", "windows: [5m, 1h]", false, false),
        ("where: n > 0", "where: n > 1", false, true),
        ("sum(twice)", "max(twice)", false, true),
        ("n * 2", "n * 3", true, true),
        ("id: string,", "id: {type: string, min_length: 1},", true, false),
        ("owner: one", "dedup: {horizon: 1d}", true, false),
        ("owner: one", "lake: {partition: tenant, sort: id, commit: {every: 5m}}", false, false),
    ] {
        let after = hashes(&SMALL.replace(from, to));
        assert_eq!(after.0 != before.0, event, "event: {from} → {to}");
        assert_eq!(after.1 != before.1, metric, "metric: {from} → {to}");
    }
}

#[test]
fn a_decimal_default_is_a_number_unless_a_double_would_change_it() {
    let default = |text: &str| {
        let field = format!("price: {{type: 'decimal(20,3)', default: {text}}}");
        let text = format!("kind: event\nnames: [a.b]\nfields: {{{field}}}\n");
        let domain = loaded(contracts::load(&[(PathBuf::from("small.yaml"), text)]));
        domain.families[0].versions[0].fields[0].default.clone().expect("a default").to_string()
    };
    assert_eq!(default("1.500"), "1.5");
    assert_eq!(default("-7"), "-7");
    assert_eq!(default("12345678901234567.891"), "\"12345678901234567.891\"");
}

#[test]
fn folders_that_hold_no_contracts_are_refused_by_name() {
    let base = std::env::temp_dir().join(format!("agentflow-contracts-{}", std::process::id()));
    let empty = base.join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    let file = base.join("file.yaml");
    fs::write(&file, "kind: event\n\u{1}").expect("a file");
    let binary = base.join("binary");
    fs::create_dir_all(&binary).expect("a folder");
    fs::write(binary.join("b.yml"), b"kind: event\nname: \xff\xfe\n").expect("a file");
    let message = |path: &Path| {
        let found = contracts::load_dir(path).expect_err("no contracts here");
        (found[0].message.clone(), found[0].line)
    };
    assert_eq!(message(&base.join("missing")).0, "there is no such folder");
    assert_eq!(message(&file).0, "this is not a folder");
    assert_eq!(message(&empty).0, "the folder has no contract files (*.yaml, *.yml)");
    assert_eq!(message(&binary), ("this line is not UTF-8 text".to_owned(), 2));
    fs::remove_dir_all(&base).expect("our own folder");
}
