//! The server: events in over HTTP, answers out, the same ones as the command line gives, and a
//! clean end.

mod support;

use serde_json::{Value, json};

use support::flights::{Sample, rfc3339};
use support::server::Server;
use support::{Place, agentflow, check_answer, wait_for};

#[test]
fn http_and_the_command_line_give_the_same_answers() {
    let place = Place::of("flights");
    let sample = Sample::new(61, 1_000, 4);
    let file = place.file("events.ndjson", &sample.lines);
    place.run(&file).succeeded();
    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(62, 90).into_iter().unzip();
    let cold = place.read_batch(&place.data(), &questions);

    let server = Server::start(&place, &[]);
    // Now through the server, which holds the directory.
    let warm = place.read_batch(&place.data(), &questions);
    for (((question, expected), cold), warm) in
        questions.iter().zip(&expected).zip(&cold).zip(&warm)
    {
        let mut parameters = vec![
            ("window".to_owned(), question["window"].as_str().expect("text").to_owned()),
            ("as_of".to_owned(), question["as_of"].as_str().expect("text").to_owned()),
        ];
        for (name, value) in question["filters"].as_object().expect("object") {
            let value = value.as_str().expect("text");
            parameters.push(("filter".to_owned(), format!("{name}:{value}")));
        }
        let by: Vec<&str> = question["group_by"]
            .as_array()
            .expect("array")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !by.is_empty() {
            parameters.push(("group_by".to_owned(), by.join(",")));
        }
        let path = format!("/v1/metrics/{}", question["metric"].as_str().expect("text"));
        let (status, http) = server.query(&path, &parameters);
        assert_eq!(status, 200, "{http}");
        check_answer(question, &http, expected);
        for other in [cold, warm] {
            assert_eq!(stable(other), stable(&http), "{question}");
        }
    }

    let letters = place.dead_letters(&place.data());
    assert_eq!(letters.len() as u64, sample.rejected_count(), "dead letters through the server");
}

/// An answer without what differs from reading to reading.
fn stable(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let body = answer.as_object_mut().expect("an object");
    body.remove("computed_at");
    // How old an answer is and where it came from differ from one asking to the next.
    for (part, names) in [("meta", &["freshness_seconds"][..]), ("proof", &["age_ms", "cached"])] {
        if let Some(part) = body.get_mut(part).and_then(Value::as_object_mut) {
            names.iter().for_each(|name| {
                part.remove(*name);
            });
        }
    }
    answer
}

#[test]
fn a_posted_event_is_in_the_metric_when_the_answer_comes() {
    let place = Place::of("flights");
    let server = Server::start(&place, &[]);
    let now = chrono::Utc::now().timestamp_millis();
    let event = |id: &str, origin: &str| {
        json!({
            "event_id": id, "event_type": "flight.departed", "timestamp": rfc3339(now),
            "source": "test", "flight_id": format!("AA1-20130301-{origin}"), "carrier": "AA",
            "flight_number": 1, "origin": origin, "destination": "BOS",
            "scheduled_at": rfc3339(now), "distance_miles": 187, "delay_minutes": 3,
        })
    };
    assert_eq!(departures(&server), 0.0);

    let (status, answer) =
        server.post("/v1/events", "application/json", event("one", "JFK").to_string());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(outcomes(&answer), ["accepted"]);
    assert_eq!(departures(&server), 1.0);

    let batch = json!([event("one", "JFK"), event("two", "LGA"), event("three", "nowhere")]);
    let (status, answer) = server.post("/v1/events", "application/json", batch.to_string());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(outcomes(&answer), ["duplicate", "accepted", "rejected"]);
    assert_eq!(departures(&server), 2.0);

    let lines = format!("{}\n{}\n{{broken\n", event("four", "EWR"), event("two", "LGA"));
    let (status, answer) = server.post("/v1/events", "application/x-ndjson", lines);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(outcomes(&answer), ["accepted", "duplicate", "rejected"]);
    assert_eq!(departures(&server), 3.0);

    let (status, letters) = server.get("/v1/deadletter");
    assert_eq!(status, 200);
    assert_eq!(letters["pagination"]["total"], json!(2), "{letters}");

    // What was answered is there after a restart.
    assert!(server.stop().success());
    let server = Server::start(&place, &[]);
    assert_eq!(departures(&server), 3.0);
}

fn departures(server: &Server) -> f64 {
    let (status, answer) = server.get("/v1/metrics/departures?window=1h");
    assert_eq!(status, 200, "{answer}");
    answer["value"].as_f64().expect("a number")
}

fn outcomes(answer: &Value) -> Vec<String> {
    answer["results"]
        .as_array()
        .or_else(|| answer["events"].as_array())
        .unwrap_or_else(|| panic!("no results: {answer}"))
        .iter()
        .map(|result| {
            let outcome = result.get("outcome").or_else(|| result.get("status"));
            outcome.and_then(Value::as_str).expect("an outcome").to_owned()
        })
        .collect()
}

#[test]
fn a_file_source_beside_http_is_served_while_it_is_read() {
    let place = Place::of("flights");
    let sample = Sample::new(71, 2_000, 4);
    let file = place.file("events.ndjson", &sample.lines);
    let server = Server::start(&place, &["--from", &format!("file:{}", file.display())]);
    let (question, expected) = sample.questions(72, 1).remove(0);
    wait_for("the file to be read", || {
        let (_, catalog) = server.get("/v1/deadletter?page_size=1");
        let total = catalog["pagination"]["total"].as_u64()?;
        (total == sample.rejected_count()).then_some(())
    });
    let answer = wait_for("the answer", || {
        let answers = place.read_batch(&place.data(), std::slice::from_ref(&question));
        answers.into_iter().next()
    });
    check_answer(&question, &answer, &expected);
}

#[test]
fn ctrl_c_ends_the_server_cleanly() {
    for signal in ["INT", "TERM"] {
        let place = Place::of("flights");
        let server = Server::start(&place, &[]);
        assert_eq!(server.get("/health/ready").0, 200);
        server.signal(signal);
        assert!(server.wait().success());
        assert!(!support::server::is_held(&place.data()) || may_take(&place));
    }
}

/// Can another process have the directory?
fn may_take(place: &Place) -> bool {
    let letters = agentflow([
        "deadletters",
        "--reveal",
        "--output",
        "json",
        "--data",
        &place.data().display().to_string(),
    ]);
    letters.code == Some(0)
}

#[test]
fn only_loopback_is_listened_on_while_there_are_no_keys() {
    let place = Place::of("flights");
    let arguments = [
        "serve".to_owned(),
        "--contracts".to_owned(),
        place.contracts.display().to_string(),
        "--data".to_owned(),
        place.data().display().to_string(),
        "--listen".to_owned(),
        "0.0.0.0:0".to_owned(),
    ];
    agentflow(arguments).failed(1, &["0.0.0.0:0", "loopback", "hint:"]);
}

#[test]
fn a_taken_port_is_said_by_name() {
    let place = Place::of("flights");
    let other = Place::of("flights");
    let server = Server::start(&place, &[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let arguments = [
        "serve".to_owned(),
        "--contracts".to_owned(),
        other.contracts.display().to_string(),
        "--data".to_owned(),
        other.data().display().to_string(),
        "--listen".to_owned(),
        address.clone(),
    ];
    agentflow(arguments).failed(1, &[&address, "hint:"]);
}

#[test]
fn an_entity_tells_where_it_came_from() {
    let place = Place::of("shop");
    let server = Server::start(&place, &[]);
    let now = chrono::Utc::now().timestamp_millis();
    let event = |n: usize, event_type: &str, order: usize, user: &str| {
        json!({
            "event_id": format!("evt-{n}"), "event_type": event_type, "timestamp": rfc3339(now),
            "source": "test", "order_id": format!("ORD-20260404-100{order}"), "user_id": user,
            "status": "pending", "total_amount": 20, "currency": "RUB", "schema_version": 2,
            "city": "Riga", "items": [{"product_id": "P1", "quantity": 2, "unit_price": 10}],
        })
    };
    let post = |events: &[Value]| {
        let (status, answer) =
            server.post("/v1/events", "application/json", json!(events).to_string());
        assert_eq!((status, &answer["accepted"]), (200, &json!(events.len())), "{answer}");
    };
    post(&[event(1, "order.created", 1, "USR-1"), event(2, "order.created", 2, "USR-2")]);
    post(&[event(3, "order.updated", 1, "USR-1"), event(4, "order.created", 3, "USR-1")]);
    let lineage = |entity: &str, id: &str| {
        let (status, body) = server.get(&format!("/v1/lineage/{entity}/{id}"));
        assert_eq!(status, 200, "{body}");
        body
    };
    let ids = |body: &Value| -> Vec<String> {
        let events = body["events"].as_array().expect("events");
        events.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
    };
    let order = lineage("order", "ORD-20260404-1001");
    assert_eq!(
        (ids(&order), &order["events_total"]),
        (vec!["evt-3".into(), "evt-1".into()], &json!(2))
    );
    let newest = &order["events"][0];
    for (name, value) in [
        ("event_type", json!("order.updated")),
        ("position", json!(3)),
        ("source", json!("http")),
        ("topic", json!(null)),
        ("partition", json!("http")),
        ("offset", json!(2)),
        ("contract", json!("order")),
        ("version", json!(2)),
    ] {
        assert_eq!(newest[name], value, "{newest}");
    }
    assert!(newest["arrived_at"].as_str() < newest["applied_at"].as_str(), "{newest}");
    assert_eq!((&order["validated"], &order["enriched"]), (&json!(true), &json!(true)));
    // A user is folded from orders: the events of those that are his.
    let user = lineage("user", "USR-1");
    assert_eq!(
        (ids(&user), &user["position"]),
        (vec!["evt-4".into(), "evt-3".into(), "evt-1".into()], &json!(4))
    );
    assert_eq!(ids(&lineage("user", "USR-2")), ["evt-2"]);
    // An order that goes to another user takes its events with it.
    post(&[event(5, "order.updated", 2, "USR-1")]);
    assert_eq!(ids(&lineage("user", "USR-1")), ["evt-5", "evt-4", "evt-3", "evt-2", "evt-1"]);

    let order = wait_for("the lake to have all of it", || {
        let body = lineage("order", "ORD-20260404-1002");
        let events = body["events"].as_array().expect("events").clone();
        events.iter().all(|event| !event["lake"].is_null()).then_some(body)
    });
    let lake = &order["events"][0]["lake"];
    let (_, tables) = server.get("/v1/lake");
    let tables = tables["tables"].as_array().expect("tables");
    let table = tables.iter().find(|table| table["name"] == "order").expect("its table");
    assert_eq!((&lake["table"], &lake["snapshot_id"]), (&json!("shop.order"), &table["snapshot"]));
    let layers: Vec<&str> = order["lineage"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step["layer"].as_str().expect("a layer"))
        .collect();
    let expected = ["source", "ingestion", "validation", "enrichment", "serving", "lake"];
    assert_eq!(layers, expected, "{order}");
    let (status, body) = server.get("/v1/lineage/order/ORD-20260404-9999");
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
    assert!(server.stop().success());
}
