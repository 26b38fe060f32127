//! Plain questions over the shop, as published clients ask them.

use serde_json::{Value, json};

use super::bodies::Running;
use super::support::Reply;

/// Twelve products, and an order that was just made.
async fn shop() -> Running {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/domains/shop");
    let running = Running::of(contracts::load_dir(&folder).unwrap());
    let now = crate::value::time_text(pipeline::clock::now());
    let mut lines = String::new();
    for n in 0..12 {
        let product = json!({"event_type": "product.updated", "event_id": format!("p{n}"), "timestamp": now,
            "source": "test", "product_id": format!("P-{n}"), "name": format!("Thing {n}"), "category": "toys",
            "price": 100 + n, "currency": "RUB", "in_stock": n != 4, "stock_quantity": 10 * n});
        lines.push_str(&format!("{product}\n"));
    }
    let order = json!({"event_type": "order.created", "event_id": "o1", "timestamp": now, "source": "test",
        "order_id": "ORD-20260404-1001", "user_id": "USR-10001", "status": "pending", "currency": "RUB",
        "total_amount": 149.5, "items": [{"product_id": "P-1", "quantity": 1, "unit_price": 149.5}]});
    lines.push_str(&format!("{order}\n"));
    let posted = running.world.post("application/x-ndjson", lines).await.json();
    assert_eq!(posted["accepted"], 13, "{posted}");
    running
}

async fn ask(running: &Running, body: Value) -> Reply {
    running.world.ask("/v1/query", body).await
}

#[tokio::test]
async fn the_examples_of_published_clients_are_answered() {
    let running = shop().await;
    let first =
        ask(&running, json!({"question": "Show me top 10 products", "limit": 5})).await.json();
    assert_eq!(first["rows"].as_array().unwrap().len(), 5, "{first}");
    assert_eq!((&first["total_count"], &first["has_more"]), (&json!(10), &json!(true)));
    assert_eq!(first["rows"][0]["name"], "Thing 11");
    for column in ["name", "category", "price", "stock_quantity"] {
        assert!(!first["rows"][0][column].is_null(), "{column}");
    }
    let asked =
        json!({"question": "Show me top 10 products", "limit": 5, "cursor": first["next_cursor"]});
    let second = ask(&running, asked).await.json();
    assert_eq!(second["rows"].as_array().unwrap().len(), 5);
    assert_eq!((&second["rows"][4]["price"], &second["has_more"]), (&json!(102.0), &json!(false)));

    for (question, engine, expected) in [
        ("What is the revenue today?", "rule_based", json!([{"revenue": 149.5}])),
        ("average order value", "rule_based", json!([{"avg_order_value": 149.5}])),
        ("conversion rate", "rule_based", json!([{"conversion_rate": 0.0}])),
        (
            "how many active sessions are there right now",
            "rule_based",
            json!([{"active_sessions": 0}]),
        ),
    ] {
        let body = ask(&running, json!({"question": question, "context": {"x": 1}})).await.json();
        assert_eq!((&body["rows"], &body["engine"]), (&expected, &json!(engine)), "{question}");
        assert_eq!(body["proof"].as_array().unwrap().len(), 1, "{question}");
    }
    let body = ask(&running, json!({"question": "order ORD-20260404-1001"})).await.json();
    assert_eq!(body["rows"][0]["user_id"], "USR-10001", "{body}");
    assert_eq!(body["interpretation"], json!({"entity": "order", "id": "ORD-20260404-1001"}));
    let body = ask(&running, json!({"question": "Which products are out of stock?"})).await.json();
    assert_eq!(body["rows"].as_array().unwrap().len(), 1, "{body}");

    let body = json!({"question": "Show me top 10 products", "contract_version": "product:v1"});
    let explained = running.world.ask("/v1/query/explain", body).await.json();
    assert_eq!(explained["engine"], "rule_based");
    assert_eq!(explained["question"], "Show me top 10 products");
    assert_eq!(explained["tables_accessed"], json!(["product"]));
    assert!(explained["sql"].as_str().unwrap().contains("\"_tenant\" = 'default'"), "{explained}");

    let batch = json!({"requests": [{"id": "q", "type": "query", "params": {"question": "revenue today"}}]});
    let batch = running.world.ask("/v1/batch", batch).await.json();
    assert_eq!(batch["results"][0]["data"]["answer"], json!([{"revenue": 149.5}]), "{batch}");
}

#[tokio::test]
async fn a_question_that_is_not_understood_says_what_is_near() {
    let running = shop().await;
    let (detail, hint) =
        ask(&running, json!({"question": "revenue by weather"})).await.error(400, "not_understood");
    assert_eq!(detail, "the contracts say nothing about `weather`");
    assert_eq!(hint, "ask about `revenue`");
    let (_, hint) =
        ask(&running, json!({"question": "who is the CEO?"})).await.error(400, "not_understood");
    assert!(hint.contains("`conversion_rate`") && hint.contains("`product`"), "{hint}");
    for question in ["", "ab", &"long ".repeat(300)] {
        ask(&running, json!({"question": question})).await.error(422, "invalid_parameter");
    }
    ask(&running, json!({"question": 7})).await.error(422, "invalid_parameter");
    let words = "why ".repeat(100);
    ask(&running, json!({"question": words})).await.error(400, "not_understood");
}

#[tokio::test]
async fn a_filter_for_what_cannot_be_says_so() {
    let running = shop().await;
    let warning =
        |body: &Value| body["warnings"][0]["detail"].as_str().unwrap_or_default().to_owned();
    let body = running.world.get("/v1/metrics/order_count?filter=status:shiped").await.json();
    assert_eq!(
        (&body["value"], &body["warnings"][0]["code"]),
        (&json!(0), &json!("impossible_value"))
    );
    assert!(warning(&body).starts_with("no event brings the `status` `shiped`: it is "), "{body}");
    assert!(warning(&body).contains("`shipped`"), "{body}");
    let asked = json!({"metrics": ["order_count"], "filters": {"currency": ["EUR", "EUX"]}});
    let body = ask(&running, asked).await.json();
    assert!(warning(&body).starts_with("no event brings the `currency` `EUX`"), "{body}");
    // Any town may be.
    for fits in ["status:pending", "currency:EUR", "city:Nowhere"] {
        let path = format!("/v1/metrics/order_count?filter={fits}");
        let body = running.world.get(&path).await.json();
        assert_eq!(body.get("warnings"), None, "{body}");
    }
}

#[tokio::test]
async fn all_time_is_a_span_that_sql_knows() {
    let running = shop().await;
    let body = ask(&running, json!({"question": "how many orders in total"})).await.json();
    assert_eq!(body["rows"], json!([{"order_count": 1}]), "{body}");
    let sql = body["sql"].as_str().unwrap();
    assert!(sql.contains(">= timestamp '1700-01-01T00:00:00Z'"), "{sql}");
    assert!(sql.contains("< timestamp 'infinity'"), "{sql}");
}

#[tokio::test]
async fn a_refusal_names_what_is_strange_and_nothing_else() {
    let running = shop().await;
    for (question, strange) in [
        ("cancelled weather of the top 5 products", Some("`weather`")),
        ("out of stock revenue above 500 by EUR yesterday", None),
    ] {
        let (detail, _) =
            ask(&running, json!({"question": question})).await.error(400, "not_understood");
        match strange {
            Some(strange) => assert!(detail.ends_with(&format!("about {strange}")), "{detail}"),
            None => assert!(detail.ends_with("is not understood as a whole"), "{detail}"),
        }
    }
}
