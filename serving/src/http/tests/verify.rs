//! Verification over HTTP.

use axum::http::Method;

use super::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_is_begun_and_asked_for() {
    let (world, _source) = World::empty();
    let begun = world.send(Method::POST, "/v1/verify", &[], "").await;
    assert_eq!(begun.status, 202);
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/verify/{id}");
    let done = loop {
        let body = world.get(&path).await.json();
        if body["state"] != "running" {
            break body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(done["report"]["differences"], serde_json::json!([]), "{done}");
    world.get("/v1/verify/none").await.error(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused() {
    let (world, _source) = World::empty();
    let json = [("content-type", "application/json")];
    let post = |body: &'static str| world.send(Method::POST, "/v1/verify", &json, body);
    post("[]").await.error(400, "invalid_body");
    let (detail, hint) = post(r#"{"metrics": 1}"#).await.error(422, "invalid_parameter");
    assert!(detail.contains("`metrics`") && hint.contains("`metric`"), "{detail}; {hint}");
    let (detail, _) = post(r#"{"metric": 1}"#).await.error(422, "invalid_parameter");
    assert_eq!(detail, "`metric` must be a text, not `1`");
    post(r#"{"metric": "nothing"}"#).await.error(404, "not_found");
    post(r#"{"as_of": "yesterday"}"#).await.error(422, "invalid_parameter");
    post(r#"{"as_of": "2999-01-01"}"#).await.error(422, "invalid_parameter");
    post(r#"{"time_limit_seconds": 0}"#).await.error(422, "invalid_parameter");
}
