//! Topics in Avro on a real broker, with a real schema registry: what is counted is what JSON gives,
//! and a registry that is away costs time and nothing else.

mod support;

use apache_avro::types::Value as Avro;
use apache_avro::{Decimal, Schema};
use serde_json::{Value, json};

use support::kafka::{Kafka, Record};
use support::proxy::{Network, Proxy};
use support::server::Server;
use support::{Finished, Place, agentflow, wait_for};

/// Sold tickets; `TOPIC` and `FORMAT` are filled in.
const CONTRACTS: &str = r#"
kind: event
names: [ticket.sold, ticket.returned]
version: 1
topic: TOPIC
format: FORMAT
envelope: {time: {field: at, form: epoch_ms}}
key: ticket
fields:
  ticket: string
  price: {type: 'decimal(10,2)', above: 0}
  seats: {type: 'list<struct<row: int64, name: string>>', min_items: 1}
  note: {type: json, required: false}
---
kind: metric
name: sales
version: 1
owner: tests
from: {event: ticket.sold}
measure: sum(price)
windows: [1h]
moved_by: [ticket.sold]
examples:
  - given: [{event: ticket.sold, ticket: a, price: 1.50, seats: [{row: 1, name: x}]}]
    expect: {window: 1h, value: 1.50}
"#;

/// 2026-01-01T12:00:00Z.
const NOON: i64 = 1_767_268_800_000;

fn place(topic: &str, format: &str) -> Place {
    let contracts = CONTRACTS.replace("TOPIC", topic).replace("FORMAT", format);
    Place::with_contracts(&[("tickets.yaml", &contracts)])
}

/// The registry that all tests share.
#[track_caller]
fn registry() -> String {
    std::env::var("AGENTFLOW_SCHEMA_REGISTRY").expect("AGENTFLOW_SCHEMA_REGISTRY: run `make test`")
}

/// Registers a schema; gives its id.
#[track_caller]
fn register(subject: &str, schema: &str) -> u32 {
    let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
    let answer = http
        .post(format!("{}/subjects/{subject}/versions", registry()))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(json!({"schema": schema}).to_string())
        .send()
        .expect("an answer")
        .text()
        .expect("a body");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["id"].as_u64().unwrap_or_else(|| panic!("no id: {answer}")) as u32
}

/// One ticket as JSON and by the schema that the contract exports.
struct Ticket {
    json: Value,
    avro: Avro,
}

fn ticket(n: usize) -> Ticket {
    let kind = if n.is_multiple_of(3) { "ticket.returned" } else { "ticket.sold" };
    let cents = 100 + (n * 7_919) % 10_000;
    let at = NOON + n as i64 * 1_000;
    let price = format!("{}.{:02}", cents / 100, cents % 100);
    let note = (n.is_multiple_of(2)).then(|| json!({"n": n}));
    let mut record = json!({
        "event_type": kind, "event_id": format!("id-{n}"), "at": at, "ticket": format!("t-{n}"),
        "price": 0, "seats": [{"row": n, "name": "ä"}],
    });
    record["price"] = serde_json::from_str(&price).expect("a number");
    if let Some(note) = &note {
        record["note"] = note.clone();
    }
    let text = |text: String| Avro::String(text);
    let some = |branch, value| Avro::Union(branch, Box::new(value));
    let member = |name: &str, value| (name.to_owned(), value);
    let seat = Avro::Record(vec![
        member("row", some(1, Avro::Long(n as i64))),
        member("name", some(1, text("ä".to_owned()))),
    ]);
    let note = match note {
        None => some(0, Avro::Null),
        Some(note) => some(1, text(note.to_string())),
    };
    let avro = Avro::Record(vec![
        member("event_type", text(kind.to_owned())),
        member("event_id", text(format!("id-{n}"))),
        member("at", Avro::TimestampMillis(at)),
        member("ticket", text(format!("t-{n}"))),
        member("price", Avro::Decimal(Decimal::from((cents as i64).to_be_bytes()))),
        member("seats", Avro::Array(vec![seat])),
        member("note", note),
    ]);
    Ticket { json: record, avro }
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// The contract's schema as it is exported, registered; and its id.
#[track_caller]
fn exported(place: &Place, topic: &str) -> (Schema, u32) {
    let contracts = place.contracts.display().to_string();
    let export = ["contracts", "export", "ticket", "--format", "avro", "--contracts", &contracts];
    let text = agentflow(export).json().to_string();
    let id = register(&format!("{topic}-value"), &text);
    (Schema::parse_str(&text).expect("a schema"), id)
}

fn records(schema: &Schema, id: u32, numbers: std::ops::Range<usize>) -> Vec<Record> {
    let body = |n| apache_avro::to_avro_datum(schema, ticket(n).avro).expect("fits the schema");
    numbers.map(|n| Record::new((n % 2) as i32, framed(id, &body(n)))).collect()
}

fn arguments(place: &Place, kafka: &Kafka, command: &str, more: &[&str]) -> Vec<String> {
    let mut all = vec![command.to_owned()];
    all.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
    all.extend(["--data".to_owned(), place.data().display().to_string()]);
    all.extend(["--from".to_owned(), kafka.source()]);
    // One of its own: members of one group wait for each other, whatever topics they read.
    let group = place.path("group").display().to_string();
    all.extend(["--kafka-group".to_owned(), group.trim_start_matches('/').replace('/', "-")]);
    all.extend(more.iter().map(|argument| (*argument).to_owned()));
    all
}

fn run(place: &Place, kafka: &Kafka, more: &[&str]) -> Finished {
    let bounded = ["--until-end", "--output", "json"];
    agentflow(arguments(place, kafka, "run", &[&bounded, more].concat()))
}

#[track_caller]
fn sales(place: &Place) -> Value {
    let question = ["sales", "--window", "1h", "--as-of", "2026-01-01T12:50:00Z"];
    place.read(&question).json()["value"].clone()
}

#[test]
fn the_same_events_in_avro_and_in_json_give_the_same() {
    const N: usize = 2_000;
    let kafka = Kafka::shared();
    let (in_json, in_avro) = (kafka.topic("tickets-json", 2), kafka.topic("tickets-avro", 2));
    let lines: Vec<Record> =
        (0..N).map(|n| Record::new((n % 2) as i32, ticket(n).json.to_string())).collect();
    kafka.produce(&in_json, &lines);
    let json_place = place(&in_json, "json");
    let report = run(&json_place, &kafka, &[]).json();
    assert_eq!(report["accepted"], json!(N), "{report}");

    let avro_place = place(&in_avro, "avro");
    let (schema, id) = exported(&avro_place, &in_avro);
    kafka.produce(&in_avro, &records(&schema, id, 0..N));
    let report = run(&avro_place, &kafka, &["--schema-registry", &registry()]).json();
    assert_eq!(report["accepted"], json!(N), "{report}");
    assert_eq!(sales(&avro_place), sales(&json_place));
    assert!(sales(&avro_place).is_number() || sales(&avro_place).is_string());
}

/// The shop's contracts in that format, all of one topic.
fn shop(topic: &str, format: &str) -> Place {
    let folder = support::domain("shop");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the shop's contracts") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a contract");
        let lines = text.lines().map(|line| match line.starts_with("topic: ") {
            true => format!("topic: {topic}\nformat: {format}"),
            false => line.to_owned(),
        });
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        files.push((name, lines.collect::<Vec<_>>().join("\n")));
    }
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Place::with_contracts(&files)
}

fn produce(kafka: &Kafka, topic: &str, more: &[&str]) -> Finished {
    let to = kafka.source();
    let common = ["produce", "--events", "4000", "--seed", "11", "--unpaced", "--bad", "0.05"];
    let place = ["--start", "2026-01-01T00:00:00Z", "--topic", topic, "--to", &to];
    agentflow([&common[..], &place, &["--output", "json"], more].concat())
}

#[test]
fn a_shop_that_writes_avro_sells_as_much_as_one_that_writes_json() {
    let kafka = Kafka::shared();
    let url = registry();
    let mut totals = Vec::new();
    for (format, more) in [
        ("json", &["--format", "json"][..]),
        ("avro", &["--format", "avro", "--schema-registry", &url]),
    ] {
        let topic = kafka.topic("shop", 2);
        let told = produce(&kafka, &topic, more).json();
        let place = shop(&topic, format);
        let report = run(&place, &kafka, &["--schema-registry", &url]).json();
        let mut reasons = report["rejected_by_reason"].clone();
        let mut expected = told["bad_by_reason"].clone();
        for counts in [&mut reasons, &mut expected] {
            // Random bytes may begin as Avro does.
            counts
                .as_object_mut()
                .expect("counts")
                .retain(|reason, count| reason != "unknown_schema" && count.as_u64() != Some(0));
        }
        assert_eq!(reasons, expected, "{format}: {report}");
        let numbers: Vec<Value> = ["revenue", "order_count", "conversion_rate"]
            .iter()
            .map(|metric| {
                let day = ["--window", "24h", "--as-of", "2026-01-01T01:00:00Z"];
                place.read(&[&[*metric][..], &day].concat()).json()["value"].clone()
            })
            .collect();
        assert!(numbers.iter().all(|number| !number.is_null()), "{numbers:?}");
        let counts = ["received", "accepted", "duplicate", "rejected"].map(|n| report[n].clone());
        totals.push((counts, numbers));
    }
    assert_eq!(totals[0], totals[1]);
}

#[test]
fn avro_is_produced_by_registered_schemas_only() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("shop", 1);
    produce(&kafka, &topic, &["--format", "avro"])
        .failed(1, &["need a schema registry", "hint:", "--schema-registry"]);
    let nobody = ["--format", "avro", "--schema-registry", "http://127.0.0.1:1"];
    produce(&kafka, &topic, &nobody)
        .failed(1, &["no schema registry answers at `http://127.0.0.1:1", "hint:"]);
    // The name of the record that the shop's orders are, with another type of amount.
    let name = r#""name":"order","namespace":"shop""#;
    let field = r#"{"name":"total_amount","type":"string"}"#;
    let subject = format!("{topic}-shop.order");
    register(&subject, &format!(r#"{{"type":"record",{name},"fields":[{field}]}}"#));
    set_compatibility(&subject, "BACKWARD");
    let failed = produce(&kafka, &topic, &["--format", "avro", "--schema-registry", &registry()]);
    failed.failed(1, &["does not take the schema", &subject, "409", "hint:"]);
    assert_eq!(kafka.ends(&topic).values().sum::<i64>(), 0, "nothing was sent");
    agentflow(["produce", "--events", "1", "--format", "avro"])
        .failed(1, &["--format is for records of Kafka", "hint:"]);
}

/// What new schemas of a subject must be to the older ones.
#[track_caller]
fn set_compatibility(subject: &str, rule: &str) {
    let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
    let answer = http
        .put(format!("{}/config/{subject}", registry()))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(json!({"compatibility": rule}).to_string())
        .send()
        .expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[test]
fn records_that_cannot_be_read_are_dead_letters_and_cost_no_other() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("tickets", 2);
    let place = place(&topic, "avro");
    let (schema, id) = exported(&place, &topic);
    let other =
        register(&format!("{topic}-other"), r#"{"type":"record","name":"Other","fields":[]}"#);
    let mut all = records(&schema, id, 0..40);
    let good = all[0].payload.clone().expect("a payload");
    let bad: [(&str, Vec<u8>); 6] = [
        ("not_avro", b"{\"event_type\":\"ticket.sold\"}".to_vec()),
        ("not_avro", Vec::new()),
        ("not_avro", good[..good.len() - 1].to_vec()),
        ("not_avro", [&good[..], &[0]].concat()),
        ("unknown_schema", framed(2_000_000_000, &good[5..])),
        ("missing_field", framed(other, &[])),
    ];
    for (at, (_, payload)) in bad.iter().enumerate() {
        all.insert(3 + 5 * at, Record::new(0, payload.clone()));
    }
    kafka.produce(&topic, &all);
    let report = run(&place, &kafka, &["--schema-registry", &registry()]).json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(40), &json!(6)), "{report}");
    let letters: Vec<(String, Vec<u8>)> = place
        .dead_letters(&place.data())
        .iter()
        .map(|letter| {
            let reason = letter["reason"].as_str().expect("a reason").to_owned();
            (reason, support::payload(letter))
        })
        .collect();
    let mut wanted: Vec<(String, Vec<u8>)> =
        bad.into_iter().map(|(reason, payload)| (reason.to_owned(), payload)).collect();
    let mut letters = letters;
    letters.sort();
    wanted.sort();
    assert_eq!(letters, wanted);
}

#[test]
fn a_registry_that_is_away_costs_time_and_nothing_else() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("tickets", 2);
    let place = place(&topic, "avro");
    let (schema, id) = exported(&place, &topic);
    let proxy = Proxy::start();
    let url = registry();
    let (_, rest) =
        url.strip_prefix("http://").and_then(|url| url.split_once(':')).expect("a port");
    let (port, path) = rest.split_once('/').expect("a path");
    proxy.target(port.parse().expect("a number"));
    let url = format!("http://127.0.0.1:{}/{path}", proxy.port);

    proxy.set(Network::Cut);
    kafka.produce(&topic, &records(&schema, id, 0..100));
    // A run that should end does not wait for ever, and takes nothing for read.
    let failed = run(&place, &kafka, &["--schema-registry", &url]);
    failed.failed(1, &["records cannot be read: schema", "no schema registry answers at"]);
    let report: Value = serde_json::from_str(&failed.stdout).expect("JSON");
    assert_eq!((&report["received"], &report["complete"]), (&json!(0), &json!(false)));

    let more = ["--kafka-canary", "off", "--listen", "127.0.0.1:0", "--schema-registry", &url];
    let server = Server::spawn(arguments(&place, &kafka, "serve", &more));
    wait_for("records that wait", || {
        server.stderr().contains("records wait for their schema").then_some(())
    });
    let (_, health) = server.get("/v1/health");
    let component = health["components"].as_array().expect("a list").iter();
    let component = component.clone().find(|component| component["name"] == "schema_registry");
    let component = component.expect("a component");
    assert_eq!(component["status"], "degraded", "{component}");
    assert!(component["metrics"]["waiting_for"].as_u64() > Some(0), "{component}");
    // What is posted goes its way meanwhile.
    let (status, body) =
        server.post("/v1/events", "application/json", ticket(1_000).json.to_string());
    assert_eq!((status, &body["results"][0]["status"]), (200, &json!("accepted")), "{body}");
    assert_eq!(server.received(), 1);
    proxy.set(Network::Works);
    wait_for("all records", || (server.received() == 101).then_some(()));
    proxy.set(Network::Stalled);
    // A schema that is known is not asked for again.
    kafka.produce(&topic, &records(&schema, id, 100..150));
    wait_for("the rest", || (server.received() == 151).then_some(()));
}
