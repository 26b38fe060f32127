//! Deprecated versions answer, and say that they will not for ever.

use std::path::PathBuf;

use pipeline::source::http::QueueLimits;
use serde_json::json;

use super::support::{Reply, World};
use crate::http::HttpOptions;

const CONTRACTS: &str = "\
kind: event
names: [sale.made]
fields: {amount: int64}
---
kind: metric
name: sales
deprecated: {since: 2026-10-01, sunset: 2027-01-01, use: sales v2}
from: {event: sale.made}
measure: count
windows: [1h]
moved_by: [sale.made]
---
kind: metric
name: sales
version: 2
from: {event: sale.made}
where: amount > 0
measure: count
windows: [1h]
moved_by: [sale.made]
---
kind: metric
name: takings
status: deprecated
from: {event: sale.made}
measure: sum(amount)
windows: [1h]
moved_by: [sale.made]
---
kind: entity
name: sale
deprecated: {sunset: 2027-06-30}
from: sale.made
key: amount
fields: {n: count}
";

fn world() -> World {
    let files = [(PathBuf::from("sales.yaml"), CONTRACTS.to_owned())];
    let domain = contracts::load(&files).unwrap();
    World::of(domain, HttpOptions::default(), QueueLimits::default()).0
}

/// `Deprecation`, `Sunset` and `Link`.
fn told(reply: &Reply) -> [Option<&str>; 3] {
    ["deprecation", "sunset", "link"].map(|name| reply.headers.get(name)?.to_str().ok())
}

const SINCE: Option<&str> = Some("@1790812800");
const SUNSET: Option<&str> = Some("Fri, 01 Jan 2027 00:00:00 GMT");
const LINK: Option<&str> = Some("</v1/metrics/sales?version=2>; rel=\"successor-version\"");

#[tokio::test]
async fn a_deprecated_version_says_so_in_headers_and_body() {
    let world = world();
    let old = world.get("/v1/metrics/sales?version=1").await;
    assert_eq!((old.status.as_u16(), told(&old)), (200, [SINCE, SUNSET, LINK]));
    assert_eq!(
        old.json()["warnings"],
        json!([{
            "code": "deprecated_version",
            "detail": "version 1 of metric `sales` is deprecated since 2026-10-01 and goes away on \
                       2027-01-01; use `sales v2`",
            "since": "2026-10-01",
            "sunset": "2027-01-01",
            "use": "sales v2",
        }])
    );
    let new = world.get("/v1/metrics/sales").await;
    assert_eq!((told(&new), new.json().get("warnings")), ([None; 3], None));
    // Without dates it is the body that tells.
    let undated = world.get("/v1/metrics/takings").await;
    assert_eq!(told(&undated), [None; 3]);
    assert_eq!(
        undated.json()["warnings"][0]["detail"],
        "version 1 of metric `takings` is deprecated"
    );
}

#[tokio::test]
async fn it_is_told_on_every_way_to_it() {
    let world = world();
    let query = world.ask("/v1/query", json!({"metrics": ["takings"], "window": "1h"})).await;
    assert_eq!(query.json()["warnings"][0]["code"], "deprecated_version", "{}", query.text);
    let requests = json!({"requests": [
        {"id": "a", "type": "metric", "params": {"name": "takings", "window": "1h"}},
    ]});
    let batch = world.ask("/v1/batch", requests).await;
    assert!(batch.text.contains("deprecated_version"), "{}", batch.text);
    let stream = world.open("/v1/metrics/sales/stream?version=1", &[]).await;
    let header = |name: &str| stream.headers().get(name).and_then(|v| v.to_str().ok());
    assert_eq!((header("deprecation"), header("sunset")), (SINCE, SUNSET));
}

#[tokio::test]
async fn lists_show_what_is_deprecated() {
    let world = world();
    let catalog = world.get("/v1/catalog").await.json();
    assert_eq!(
        catalog["entities"]["sale"]["deprecation"],
        json!({"since": null, "sunset": "2027-06-30", "use": null})
    );
    assert_eq!(catalog["metrics"]["sales"].get("deprecation"), None, "the new version answers");
    let contracts = world.get("/v1/contracts").await.json();
    let listed = contracts["contracts"].as_array().unwrap().iter();
    let old =
        listed.clone().find(|c| c["entity"] == "metric.sales" && c["version"] == "1").unwrap();
    assert_eq!(old["status"], "deprecated");
    assert_eq!(old["deprecation"]["use"], "sales v2");
}
