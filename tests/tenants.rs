//! Nothing of one tenant shows up for another, on no route: each route that the API describes is asked with
//! another tenant's key for this tenant's ids, and a route that nobody has thought about fails the test.

mod support;

use std::io::Read;

use reqwest::Method;
use serde_json::{Value, json};
use support::Place;
use support::server::Server;

const OWNER: &str = "the-key-of-the-owner";
const OTHER: &str = "the-key-of-the-other";

/// What only the owner may see. Each word is in the owner's events and nowhere else.
const SECRETS: [&str; 9] = [
    "ORD-20260101-77770001",
    "ORD-20260101-77770002",
    "usr-canary",
    "prod-canary",
    "Canary Lamp",
    "canaryville",
    "canary-category",
    "31337.77",
    "letter-canary",
];

/// A request that might show something.
struct Attempt {
    method: Method,
    path: String,
    body: Option<Value>,
}

fn get(path: impl Into<String>) -> Attempt {
    Attempt { method: Method::GET, path: path.into(), body: None }
}

fn post(path: &str, body: Value) -> Attempt {
    Attempt { method: Method::POST, path: path.to_owned(), body: Some(body) }
}

const METRICS: [&str; 6] = [
    "revenue",
    "order_count",
    "avg_order_value",
    "conversion_rate",
    "active_sessions",
    "error_rate",
];

const STATEMENTS: [&str; 10] = [
    "select * from \"order\"",
    "select * from product",
    "select * from \"user\"",
    "select * from \"order\" union all select * from \"order\"",
    "with o as (select * from \"order\") select o.*, p.* from o left join product p on true",
    "select (select max(total_amount) from \"order\") as m",
    "select count(*) as n from \"order\" where order_id = 'ORD-20260101-77770001' having count(*) > 0",
    "select user_id from \"order\" where tenant = 'owner'",
    "select * from \"order\" o where exists (select 1 from product where name like 'Canary%')",
    "select sum(total_amount) over () from \"order\"",
];

const QUESTIONS: [&str; 8] = [
    "order ORD-20260101-77770001",
    "show me top 10 products",
    "what is the revenue in the last hour",
    "revenue by city today",
    "average order value",
    "user usr-canary",
    "which products are out of stock",
    "how many orders in canaryville",
];

fn is_for_operators(route: &str) -> bool {
    ["/v1/admin/", "/v1/backup", "/v1/verify"].iter().any(|root| route.starts_with(root))
}

/// How a route could show what it must not. `None`: nobody has thought about it.
fn attempts(method: &str, route: &str) -> Option<Vec<Attempt>> {
    let metrics = |rest: &str| METRICS.map(|name| get(format!("/v1/metrics/{name}{rest}"))).into();
    Some(match (method, route) {
        ("get", "/v1/entity/{type}/{id}") => vec![
            get("/v1/entity/order/ORD-20260101-77770001"),
            get("/v1/entity/order/ORD-20260101-77770001?as_of=2026-11-01"),
            get("/v1/entity/user/usr-canary"),
            get("/v1/entity/product/prod-canary"),
            get("/v1/entity/product/prod-canary%00"),
            get("/v1/entity/product/owner%2Fprod-canary"),
        ],
        ("get", "/v1/entity/{type}/{id}/timeline") => vec![
            get("/v1/entity/order/ORD-20260101-77770001/timeline"),
            get("/v1/entity/user/usr-canary/timeline"),
        ],
        ("get", "/v1/lineage/metric/{name}") => {
            METRICS.map(|name| get(format!("/v1/lineage/metric/{name}"))).into()
        }
        ("get", "/v1/lineage/{type}/{id}") => vec![
            get("/v1/lineage/order/ORD-20260101-77770001"),
            get("/v1/lineage/product/prod-canary"),
            get("/v1/lineage/metric/revenue"),
        ],
        ("get", "/v1/metrics/{name}") => {
            let mut all: Vec<Attempt> = metrics("");
            all.extend(["24h", "1h"].map(|w| get(format!("/v1/metrics/revenue?window={w}"))));
            all.push(get("/v1/metrics/revenue?window=24h&group_by=city,status"));
            all.push(get("/v1/metrics/revenue?window=24h&filter=city:canaryville"));
            all.push(get("/v1/metrics/revenue?window=24h&tenant=owner"));
            all
        }
        ("get", "/v1/metrics/{name}/stream") => vec![
            get("/v1/metrics/revenue/stream?window=24h"),
            get("/v1/metrics/order_count/stream?window=24h&group_by=city"),
        ],
        ("get", "/v1/stream/events") => vec![
            get("/v1/stream/events"),
            get("/v1/stream/events?last_event_id=0"),
            get("/v1/stream/events?last_event_id=0&entity_id=ORD-20260101-77770001"),
            get("/v1/stream/events?last_event_id=0&event_type=product"),
        ],
        ("post", "/v1/query" | "/v1/query/explain") => {
            let mut all: Vec<Attempt> =
                STATEMENTS.map(|sql| post(route, json!({ "sql": sql }))).into();
            all.extend(QUESTIONS.map(|question| post(route, json!({ "question": question }))));
            all.push(post(
                route,
                json!({"metrics": ["revenue", "order_count"], "dimensions": ["city"], "window": "24h"}),
            ));
            all.push(post(route, json!({"metrics": ["revenue"], "tenant": "owner"})));
            all
        }
        ("post", "/v1/batch") => {
            let entity = |id: &str| json!({"type": "entity", "params": {"entity_type": "order", "entity_id": id}});
            let sql = STATEMENTS.map(|sql| json!({"type": "query", "params": {"sql": sql}}));
            let mut items = vec![
                entity("ORD-20260101-77770001"),
                json!({"type": "metric", "params": {"name": "revenue", "window": "24h"}}),
                json!({"type": "query", "params": {"question": "top 10 products"}}),
            ];
            items.extend(sql);
            vec![post(route, json!({ "requests": items }))]
        }
        ("get", "/v1/search") => ["canary", "lamp", "canaryville", "order", "77770001", "revenue"]
            .map(|word| get(format!("/v1/search?q={word}&limit=50")))
            .into(),
        ("get", "/v1/deadletter") => vec![get(route), get("/v1/deadletter?page_size=100")],
        ("post", "/v1/contracts/{name}/validate") => {
            vec![post("/v1/contracts/order/validate", json!({"fields": []}))]
        }
        ("get", "/v1/contracts/{name}") => vec![get("/v1/contracts/order")],
        ("get", "/v1/contracts/{name}/{version}") => vec![get("/v1/contracts/order/2")],
        ("get", "/v1/contracts/{name}/diff/{from}/{to}") => {
            vec![get("/v1/contracts/order/diff/1/2")]
        }
        ("post", "/v1/erasures") => {
            vec![post(route, json!({"entity": "user", "key": "usr-canary", "dry_run": true}))]
        }
        ("get", "/v1/erasures/{id}") => vec![get("/v1/erasures/{erasure}")],
        // One that names the owner.
        ("post", "/v1/events") => {
            let mut event = order("9", "owner");
            event["total_amount"] = json!(1);
            event["items"] = json!([{"product_id": "another", "quantity": 1, "unit_price": 1}]);
            event["user_id"] = json!("another");
            event["city"] = json!("elsewhere");
            vec![post(route, event)]
        }
        // What all see is the same for all; the figures in it are of the server.
        (
            "get",
            "/v1/metrics" | "/v1/catalog" | "/v1/changelog" | "/v1/contracts" | "/v1/health"
            | "/v1/lake" | "/v1/erasures" | "/health/live" | "/health/ready" | "/metrics",
        ) => vec![get(route)],
        // For whoever runs the server; a key of a tenant opens none of them.
        (_, route) if is_for_operators(route) => {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).ok()?;
            let path = route.replace("{key_id}", "owner-owner").replace("{id}", "anything");
            vec![Attempt { method, path, body: None }]
        }
        _ => return None,
    })
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn order(number: &str, tenant: &str) -> Value {
    json!({
        "event_id": format!("00000000-0000-4000-8000-00000000000{number}"),
        "event_type": "order.created", "schema_version": 2, "timestamp": now(), "source": "web",
        "tenant": tenant, "order_id": format!("ORD-20260101-7777000{number}"),
        "user_id": "usr-canary", "status": "confirmed", "city": "canaryville", "currency": "RUB",
        "items": [{"product_id": "prod-canary", "quantity": 1, "unit_price": 31337.77}],
        "total_amount": 31337.77,
    })
}

fn ask(server: &Server, key: &str, attempt: &Attempt) -> (u16, String) {
    let request = server.request(attempt.method.clone(), &attempt.path).header("x-api-key", key);
    let request = match &attempt.body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let mut response = request.send().expect("an answer");
    let status = response.status().as_u16();
    let is_stream =
        response.headers().get("content-type").is_some_and(|t| t == "text/event-stream");
    let mut text = Vec::new();
    if is_stream && status == 200 {
        // It says a comment each second: two of them, and whatever came before.
        let mut part = [0; 4096];
        while String::from_utf8_lossy(&text).matches("\n:").count() < 2 && text.len() < 1 << 20 {
            match response.read(&mut part) {
                Ok(0) | Err(_) => break,
                Ok(read) => text.extend_from_slice(&part[..read]),
            }
        }
    } else {
        response.read_to_end(&mut text).expect("a body");
    }
    (status, String::from_utf8_lossy(&text).into_owned())
}

/// The secrets in an answer that were not in the question.
fn shown(attempt: &Attempt, text: &str) -> Vec<&'static str> {
    let asked = format!("{} {}", attempt.path, attempt.body.as_ref().unwrap_or(&Value::Null));
    let (asked, text) = (asked.to_lowercase(), text.to_lowercase());
    let is_shown = |secret: &&str| {
        let secret = secret.to_lowercase();
        text.contains(&secret) && !asked.contains(&secret)
    };
    SECRETS.into_iter().filter(is_shown).collect()
}

#[test]
fn no_route_shows_what_belongs_to_another_tenant() {
    let place = Place::of("shop");
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    let more = ["--listen", "127.0.0.1:0", "--rate-limit-rpm", "1000000"];
    arguments.extend(more.map(str::to_owned));
    let mut command = place.command(&arguments);
    command.env_remove("AGENTFLOW_AUTH_DISABLED");
    command.env("AGENTFLOW_API_KEYS", format!("{OWNER}:owner:owner,{OTHER}:other:other"));
    command.env("AGENTFLOW_ADMIN_KEY", "the-key-of-the-operator");
    let server = Server::spawn_command(command, &arguments);

    let mut events = vec![order("1", "owner"), order("2", "owner")];
    events.push(json!({
        "event_id": "00000000-0000-4000-8000-000000000003", "event_type": "product.updated",
        "timestamp": now(), "source": "web", "product_id": "prod-canary", "name": "Canary Lamp",
        "category": "canary-category", "price": 31337.77, "currency": "RUB", "in_stock": false,
        "stock_quantity": 0,
    }));
    events.push(json!({"event_id": "4", "event_type": "letter-canary", "timestamp": now()}));
    let sent = ask(&server, OWNER, &post("/v1/events", Value::Array(events)));
    assert_eq!(sent.0, 200, "{}", sent.1);
    assert!(sent.1.contains(r#""accepted":3"#) && sent.1.contains(r#""rejected":1"#), "{}", sent.1);
    let erased = post("/v1/erasures", json!({"entity": "session", "key": "no-such-session"}));
    let erased: Value = serde_json::from_str(&ask(&server, OWNER, &erased).1).expect("JSON");
    let erasure = erased["id"].as_str().unwrap_or("none").to_owned();

    let description = ask(&server, OTHER, &get("/openapi.json")).1;
    let description: Value = serde_json::from_str(&description).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    let mut seen_by_owner = Vec::new();
    for (route, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let all = attempts(method, route).unwrap_or_else(|| {
                panic!("how could {method} {route} show another tenant's rows?")
            });
            assert!(!all.is_empty(), "{route}");
            for mut attempt in all {
                attempt.path = attempt.path.replace("{erasure}", &erasure);
                let what = format!("{} {} {:?}", attempt.method, attempt.path, attempt.body);
                let (status, text) = ask(&server, OTHER, &attempt);
                assert!(status < 500, "{what}: {status} {text}");
                assert_eq!(shown(&attempt, &text), [""; 0], "{what}: {status} {text}");
                if is_for_operators(route) {
                    assert_eq!(status, 401, "{what}");
                    continue;
                }
                // What the owner sends would count for the owner.
                if route == "/v1/events" {
                    continue;
                }
                // An attempt that shows nothing to anybody proves nothing.
                let (_, text) = ask(&server, OWNER, &attempt);
                if !shown(&attempt, &text).is_empty() {
                    seen_by_owner.push(route.as_str());
                }
            }
        }
    }
    for route in [
        "/v1/entity/{type}/{id}",
        "/v1/entity/{type}/{id}/timeline",
        "/v1/metrics/{name}",
        "/v1/metrics/{name}/stream",
        "/v1/stream/events",
        "/v1/query",
        "/v1/batch",
        "/v1/search",
        "/v1/deadletter",
    ] {
        assert!(seen_by_owner.contains(&route), "the owner saw nothing at {route}");
    }
    // Sent by the other with the owner's name in it: refused, and nothing of it counts for the owner.
    let (_, text) = ask(&server, OWNER, &get("/v1/metrics/order_count?window=24h"));
    let count: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(count["value"], 2, "{count}");
    assert!(server.stop().success());
}
