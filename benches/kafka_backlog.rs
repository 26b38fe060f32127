//! A backlog in Kafka: shop events on eight partitions, drained through every stage, lake included.
//!
//! Needs a broker (`AGENTFLOW_KAFKA`; infra/bench.sh starts one). `AGENTFLOW_BENCH_EVENTS` sets the
//! number of events, `AGENTFLOW_BENCH_MEMBERS` the number of group members.

mod support;

use serde_json::{Value, json};

use support::{agentflow, measure, place, setting, shop, tell};

fn main() {
    let Ok(broker) = std::env::var("AGENTFLOW_KAFKA") else {
        panic!("AGENTFLOW_KAFKA is not set: run it by `make bench`");
    };
    let events = setting("EVENTS", 500_000);
    let members = setting("MEMBERS", 1).to_string();
    let topic = format!("backlog-{}", std::process::id());
    support::kafka::create(&broker, &topic, 8);
    let produced = agentflow()
        .args(["produce", "--unpaced", "--output", "json", "--seed", "42", "--rate", "400"])
        .args(["--events", &events.to_string(), "--to", &format!("kafka:{broker}")])
        .args(["--topic", &topic])
        .output()
        .expect("the binary starts");
    assert!(produced.status.success(), "{}", String::from_utf8_lossy(&produced.stderr));
    let folder = place();
    let measured = measure(
        agentflow()
            .args(["run", "--until-end", "--output", "json", "--contracts"])
            .arg(shop())
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--from", &format!("kafka:{broker}"), "--kafka-topic", &topic])
            .args(["--kafka-members", &members]),
    );
    let report: Value = serde_json::from_str(&measured.stdout).expect("a report");
    assert_eq!(report["received"], json!(events), "{report}");
    tell(
        "kafka_backlog",
        &json!({
            "events": events,
            "partitions": 8,
            "members": members,
            "events_per_second": report["events_per_second"],
            "seconds": report["seconds"],
            "peak_memory_mib": measured.peak_mib,
            "accepted": report["accepted"],
            "duplicate": report["duplicate"],
            "rejected": report["rejected"],
            "stages_s": report["stages"],
        }),
    );
}
