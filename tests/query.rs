//! Queries through the real server: those of the README, their figures beside the routes that say the
//! same, a statement that runs too long, and files that nobody may read.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::Place;
use support::server::Server;

/// A shop with six orders of the last minutes, posted over HTTP.
fn shop(more: &[&str]) -> (Place, Server) {
    let place = Place::of("shop");
    let server = Server::start(&place, more);
    let now = chrono::Utc::now();
    let events: Vec<Value> = (0..6)
        .map(|n| {
            let at = now - chrono::Duration::seconds(n);
            json!({
                "event_type": "order.created", "event_id": format!("e{n}"), "timestamp": at.to_rfc3339(),
                "source": "test", "order_id": format!("ORD-20260101-100{n}"), "user_id": format!("USR-{}", n % 2),
                "status": "pending", "currency": "RUB", "total_amount": 100 + n,
                "city": if n % 2 == 0 { "Riga" } else { "Tartu" },
                "items": [{"product_id": "P-1", "quantity": 1, "unit_price": 100 + n}],
            })
        })
        .collect();
    let (status, answer) =
        server.post("/v1/events", "application/json", Value::from(events).to_string());
    assert_eq!((status, &answer["accepted"]), (200, &json!(6)), "{answer}");
    (place, server)
}

fn ask(server: &Server, body: &Value) -> (u16, Value) {
    server.post("/v1/query", "application/json", body.to_string())
}

#[test]
fn the_queries_of_the_readme_are_answered() {
    let (_place, server) = shop(&[]);
    let readme = std::fs::read_to_string("README.md").expect("the README");
    let mut asked = 0;
    for (at, _) in readme.match_indices("curl -s -d '{") {
        let body = &readme[at + "curl -s -d '".len()..];
        let (body, rest) = body.split_once('\'').expect("a body in quotes");
        if !rest.lines().take(2).any(|line| line.contains("/v1/query")) {
            continue;
        }
        let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let (status, answer) = ask(&server, &body);
        assert_eq!(status, 200, "{body}: {answer}");
        assert!(!answer["rows"].as_array().expect("rows").is_empty(), "{body}: {answer}");
        asked += 1;
    }
    assert_eq!(asked, 3);
}

#[test]
fn the_metric_reads_of_the_readme_are_answered() {
    let (_place, server) = shop(&[]);
    let readme = std::fs::read_to_string("README.md").expect("the README");
    let urls = readme.split('\'').filter_map(|text| text.strip_prefix("http://127.0.0.1:8080"));
    let asked: Vec<&str> =
        urls.filter(|path| path.starts_with("/v1/metrics/") && !path.contains("/stream")).collect();
    assert_eq!(asked.len(), 5);
    for path in asked {
        let (status, answer) = server.get(path);
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(path.contains("group_by=") == answer.get("groups").is_some(), "{path}: {answer}");
        assert!(path.contains("grain=") == answer.get("series").is_some(), "{path}: {answer}");
        assert!(path.contains("compare=") == answer.get("previous").is_some(), "{path}: {answer}");
    }
}

#[test]
fn queries_agree_with_the_routes() {
    let (_place, server) = shop(&[]);
    let (_, metric) = server.get("/v1/metrics/revenue?window=1h&group_by=city");
    let (status, query) =
        ask(&server, &json!({"metrics": ["revenue"], "dimensions": ["city"], "window": "1h"}));
    assert_eq!(status, 200, "{query}");
    let groups = metric["groups"].as_array().expect("groups").iter();
    let groups: Vec<Value> = groups
        .map(|group| json!({"city": group["dimensions"]["city"], "revenue": group["value"]}))
        .collect();
    assert_eq!(query["rows"], Value::from(groups));

    let (_, entity) = server.get("/v1/entity/user/USR-1");
    let (_, query) = ask(&server, &json!({"sql": "select * from user where user_id = 'USR-1'"}));
    assert_eq!(query["rows"], json!([entity["data"]]));
    let (_, question) = ask(&server, &json!({"question": "user USR-1"}));
    assert_eq!(question["rows"], query["rows"]);

    let items = json!({"requests": [
        {"id": "m", "type": "metric", "params": {"name": "revenue", "window": "1h"}},
        {"id": "e", "type": "entity", "params": {"entity_type": "user", "entity_id": "USR-1"}},
        {"id": "q", "type": "query", "params": {"question": "revenue in the last hour"}},
    ]});
    let (status, batch) = server.post("/v1/batch", "application/json", items.to_string());
    assert_eq!(status, 200, "{batch}");
    let (_, metric) = server.get("/v1/metrics/revenue?window=1h");
    assert_eq!(batch["results"][0]["data"]["value"], metric["value"]);
    assert_eq!(batch["results"][1]["data"], entity["data"]);
    assert_eq!(batch["results"][2]["data"]["rows"], json!([{"revenue": metric["value"]}]));
}

#[test]
fn a_statement_that_runs_too_long_is_stopped_and_metrics_are_read_meanwhile() {
    let (_place, server) = shop(&["--query-seconds", "1", "--queries-at-once", "1"]);
    let tables: Vec<String> = (0..16).map(|n| format!("order_events e{n}")).collect();
    let sum: Vec<String> = (0..16).map(|n| format!("e{n}.position")).collect();
    let sql = format!("select count(*) from {} where {} = -1", tables.join(", "), sum.join(" + "));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            loop {
                let begun = Instant::now();
                let answer = ask(&server, &json!({"sql": sql}));
                // It may be the one that comes second.
                if answer.0 != 503 {
                    return (answer, begun.elapsed());
                }
            }
        });
        let mut busy = 0;
        while !slow.is_finished() {
            let begun = Instant::now();
            let (status, answer) = server.get("/v1/metrics/order_count?window=1h");
            assert_eq!((status, &answer["value"]), (200, &json!(6)), "{answer}");
            assert!(begun.elapsed() < Duration::from_secs(1));
            let (status, answer) = ask(&server, &json!({"sql": "select 1"}));
            busy += u32::from(status == 503 && answer["code"] == "busy");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(busy > 0, "nobody was told to wait");
        let ((status, answer), took) = slow.join().expect("no panic");
        assert_eq!((status, &answer["code"]), (422, &json!("query_timeout")), "{answer}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
    let (status, answer) = ask(&server, &json!({"sql": "select count(*) as n from order_events"}));
    assert_eq!((status, &answer["rows"]), (200, &json!([{"n": 6}])), "{answer}");
}

#[test]
fn no_statement_reads_a_file_or_writes_one() {
    let (place, server) = shop(&[]);
    let (canary, target) = (place.path("canary.csv"), place.path("leak.csv"));
    std::fs::write(&canary, "a\nCANARY\n").expect("write a file");
    let canary = canary.display();
    for sql in [
        format!("select * from '{canary}'"),
        format!("select * from \"{canary}\""),
        format!("select * from read_csv('{canary}')"),
        format!("select * from read_text('{canary}')"),
        format!("copy (select 1) to '{}'", target.display()),
        format!("attach '{canary}' as x"),
        "select getenv('HOME')".to_owned(),
    ] {
        let (status, answer) = ask(&server, &json!({"sql": sql}));
        assert_eq!((status, &answer["code"]), (403, &json!("query_refused")), "{sql}: {answer}");
        assert!(!answer.to_string().contains("CANARY"), "{sql}: {answer}");
    }
    assert!(!target.exists());
}

#[test]
fn the_command_line_asks_whatever_the_api_is_asked() {
    let (place, server) = shop(&[]);
    let as_of = (chrono::Utc::now() + chrono::Duration::seconds(2)).format("%Y-%m-%dT%H:%M:%SZ");
    let as_of = as_of.to_string();
    let asked: [(&[&str], &str); 5] = [
        (
            &["--group-by", "city", "--order-by", "-value", "--limit", "1", "--other"],
            "group_by=city&order_by=-value&limit=1&other=true",
        ),
        (&["--group-by", "city", "--limit", "1"], "group_by=city&limit=1"),
        (&["--compare", "previous"], "compare=previous"),
        (&["--grain", "15m", "--version", "1"], "grain=15m&version=1"),
        (
            &["--group-by", "city", "--grain", "day", "--zone", "Europe/Moscow"],
            "group_by=city&grain=day&zone=Europe/Moscow",
        ),
    ];
    let told = asked.map(|(_, parameters)| {
        let path = format!("/v1/metrics/revenue?window=1h&as_of={as_of}&{parameters}");
        let (status, answer) = server.get(&path);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    });
    let members = ["value", "groups", "groups_truncated", "previous", "change", "series"];
    let check = |through: &str| {
        for ((arguments, _), told) in asked.iter().zip(&told) {
            let mut all = vec!["revenue", "--window", "1h", "--as-of", &as_of];
            all.extend(*arguments);
            let answer = place.read(&all).json();
            for member in members {
                assert_eq!(answer.get(member), told.get(member), "{through}: {arguments:?}");
            }
        }
        let line = json!({"metric": "revenue", "window": "1h", "as_of": as_of, "group_by": ["city"],
            "order_by": "-value", "limit": 1, "other": true});
        let answers = place.read_batch(&place.data(), &[line]);
        assert_eq!(answers[0]["groups"], told[0]["groups"], "{through}");
        let refused = |more: &[&str], says: &str| {
            let mut all = vec!["revenue"];
            all.extend(more);
            place.read(&all).failed(1, &[says]);
        };
        refused(&["--group-by", "city", "--order-by", "size"], "`order_by` is no order of groups");
        refused(&["--group-by", "city", "--limit", "0"], "`limit` must be a whole number");
        refused(&["--compare", "next"], "`compare` names nothing to compare with");
        refused(&["--zone", "Europe/Riga"], "--grain");
        refused(&["--as-of", "soon"], "`as_of` is not a time");
    };
    assert_eq!(told[0]["groups"][1]["dimensions"], json!({"city": "__other__"}), "{}", told[0]);
    check("through the server");
    assert!(server.stop().success());
    check("from the store");
    let mut all = vec!["read".to_owned()];
    all.extend(place.common(&place.data()));
    all.extend(
        ["revenue", "--as-of", &as_of, "--group-by", "city", "--limit", "1"].map(str::to_owned),
    );
    let shown = place.agentflow(all);
    assert!(shown.succeeded().stdout.contains("more groups exist"), "{shown:?}");
}
