//! What may be asked of groups, windows and series, on both surfaces, and what is said to what does not fit.

use serde_json::{Value, json};

use super::bodies::Running;

const AS_OF: &str = "as_of=2026-01-31T10:00:00Z";

async fn get(running: &Running, question: &str) -> Value {
    let reply = running.world.get(&format!("/v1/metrics/{question}&{AS_OF}")).await;
    assert_eq!(reply.status, 200, "{question}: {}", reply.text);
    reply.json()
}

/// Groups as `town=value`, with a star where they are gathered.
fn groups(body: &Value) -> Vec<String> {
    let shown = |group: &Value| {
        let town = group["dimensions"]["town"].as_str().unwrap_or("-");
        let star = if group["other"] == true { "*" } else { "" };
        format!("{town}{star}={}", group["value"])
    };
    body["groups"].as_array().expect("groups").iter().map(shown).collect()
}

#[tokio::test]
async fn groups_are_ordered_cut_and_gathered() {
    let (running, _) = Running::filled().await;
    for (question, expected, is_short) in [
        ("sales?window=1h&group_by=town", &["Riga=1", "Tartu=1", "__other__*=1"][..], true),
        ("sales?window=1h&group_by=town&order_by=-value&limit=1", &["Riga=1"], true),
        ("sales?window=1h&group_by=town&limit=1&other=true", &["Riga=1", "__other__*=2"], true),
        ("sales?window=1h&group_by=town&filter=town.null:false", &["Riga=1", "Tartu=1"], false),
        ("sales?window=1h&group_by=town&filter=town.not:Riga", &["Tartu=1", "-=1"], false),
        ("sales?window=1h&group_by=town&filter=town.gte:S", &["Tartu=1"], false),
        ("sales?window=1h&group_by=town&filter=town.in:Riga,Oslo", &["Riga=1"], false),
    ] {
        let body = get(&running, question).await;
        assert_eq!(groups(&body), expected, "{question}");
        assert_eq!(body["groups_truncated"], is_short, "{question}");
    }
    let body =
        get(&running, "takings?window=1h&group_by=town&order_by=value&limit=1&other=true").await;
    assert_eq!(body["groups"][0]["dimensions"], json!({"town": "Tartu"}));
}

#[tokio::test]
async fn a_window_is_compared_with_the_one_before() {
    let (running, _) = Running::filled().await;
    let body = get(&running, "sales?window=1h&compare=previous&group_by=town").await;
    let before =
        json!({"value": null, "from": "2026-01-31T08:00:00Z", "to": "2026-01-31T09:00:00Z"});
    assert_eq!(body["previous"], before);
    let first = &body["groups"][0];
    assert_eq!((&first["previous"]["value"], &first["change"]), (&json!(0), &json!(1)));
    assert_eq!(first["change_ratio"], Value::Null, "there was nothing before");
    let at = "/v1/metrics/sales?window=1h&compare=previous&as_of=2026-01-31T10:15:00Z";
    let body = running.world.get(at).await.json();
    // [09:15, 10:15) has two of them, [08:15, 09:15) one.
    assert_eq!((&body["value"], &body["previous"]["value"]), (&json!(2), &json!(1)));
    assert_eq!((&body["change"], &body["change_ratio"]), (&json!(1), &json!(1.0)));
    let query = json!({"metrics": ["sales"], "window": "1h", "compare": "previous", "as_of": "2026-01-31T10:15:00Z"});
    let body = running.world.ask("/v1/query", &query).await.json();
    let row =
        json!([{"sales": 2, "sales_previous": 1, "sales_change": 1, "sales_change_ratio": 1.0}]);
    assert_eq!(body["rows"], row, "{body}");
}

#[tokio::test]
async fn a_window_is_cut_into_parts() {
    let (running, _) = Running::filled().await;
    let body = get(&running, "sales?window=1h&grain=30m").await;
    assert_eq!(body["value"], 3);
    let point = |from: &str, to: &str, value: i64| json!({"from": from, "to": to, "value": value});
    assert_eq!(
        body["series"],
        json!([
            point("2026-01-31T09:00:00Z", "2026-01-31T09:30:00Z", 2),
            point("2026-01-31T09:30:00Z", "2026-01-31T10:00:00Z", 1),
        ])
    );
    // A day of Riga begins at 22:00 UTC.
    let body = get(&running, "sales?window=24h&grain=day&zone=Europe/Riga").await;
    assert_eq!(
        body["series"],
        json!([
            point("2026-01-30T10:00:00Z", "2026-01-30T22:00:00Z", 0),
            point("2026-01-30T22:00:00Z", "2026-01-31T10:00:00Z", 3),
        ])
    );
    // All parts have the groups that the whole names; a mean of nothing is what the contract says.
    let body = get(&running, "sales?window=1h&grain=30m&group_by=town&limit=1&other=true").await;
    let series = body["series"].as_array().expect("a series");
    assert_eq!(groups(&series[0]), ["Riga=1", "__other__*=1"]);
    assert_eq!(groups(&series[1]), ["Riga=0", "__other__*=1"]);
    let body = get(&running, "average_sale?window=24h&grain=12h").await;
    assert_eq!(body["series"][0]["value"], Value::Null);

    let item = json!({"requests": [{"type": "metric", "params": {"name": "sales", "window": "1h",
        "as_of": "2026-01-31T10:00:00Z", "grain": "30m", "filters": {"town": {"not": null}}}}]});
    let body = running.world.ask("/v1/batch", &item).await.json();
    assert_eq!(body["results"][0]["data"]["series"][1]["value"], 0, "{body}");
}

#[tokio::test]
async fn rows_of_several_metrics_and_windows_name_the_same_groups() {
    let (running, _) = Running::filled().await;
    let query = json!({"metrics": ["takings", "sales"], "dimensions": ["town"], "limit": 1, "other": true,
        "order_by": ["-takings"], "from": "2026-01-31T09:00:00Z", "to": "2026-01-31T10:00:00Z",
        "grain": "30m"});
    let body = running.world.ask("/v1/query", &query).await.json();
    let rows: Vec<(&str, &Value)> = body["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("{body}"))
        .iter()
        .map(|row| (row["town"].as_str().unwrap_or("-"), &row["sales"]))
        .collect();
    let mut sorted = rows.clone();
    sorted.sort_by_key(|(town, sales)| (town.to_string(), sales.as_i64()));
    let expected = [("Riga", 0), ("Riga", 1), ("__other__", 1), ("__other__", 1)];
    assert_eq!(
        sorted,
        expected.map(|(town, n)| (town, json!(n))).iter().map(|(t, n)| (*t, n)).collect::<Vec<_>>()
    );
    assert_eq!((&body["has_more"], &body["warning"]), (&json!(false), &Value::Null));
    // Which rows these are is said beside them.
    let is_other = |place: &usize| rows[*place].0 == "__other__";
    let others: Vec<usize> = (0..rows.len()).filter(is_other).collect();
    assert_eq!(body["other_rows"], json!(others));
}

#[tokio::test]
async fn what_does_not_fit_is_said() {
    let (running, _) = Running::filled().await;
    for (asked, detail) in [
        ("group_by=town&order_by=up", "`order_by` is no order of groups: `up`"),
        ("group_by=town&order_by=", "`order_by` is no order of groups"),
        ("group_by=town&order_by=value&order_by=value", "`order_by` is given more than once"),
        ("order_by=-value", "`order_by` is about groups, but nothing is grouped"),
        ("group_by=town&limit=0", "`limit` must be a whole number from 1 to 10000, not `0`"),
        ("group_by=town&limit=10001", "`limit` must be a whole number"),
        ("group_by=town&limit=-1", "`limit` must be a whole number"),
        ("group_by=town&limit=NaN", "`limit` must be a whole number"),
        ("group_by=town&limit=1&limit=1", "`limit` is given more than once"),
        ("limit=3", "`limit` is about groups, but nothing is grouped"),
        ("group_by=town&other=yes", "`other` must be `true` or `false`, not `yes`"),
        ("group_by=town&other=true", "there is no `limit`"),
        (
            "group_by=town&other=true&limit=1001",
            "with `other`, `limit` must be from 1 to 1000, not 1001",
        ),
        ("compare=next", "`compare` names nothing to compare with: `next`"),
        ("compare=previous&compare=previous", "`compare` is given more than once"),
        ("grain=", "grain `` is no duration"),
        ("grain=0s", "grain `0s` is no duration"),
        ("grain=-1h", "grain `-1h` is no duration"),
        ("grain=1h&grain=1h", "`grain` is given more than once"),
        ("grain=1s", "more than 500 windows"),
        ("zone=UTC", "there is no `grain`"),
        ("grain=1h&zone=UTC", "`zone` says where days begin, but `1h` is a length"),
        ("grain=day&zone=Mars", "there is no zone `Mars`"),
        ("grain=day&zone=UTC&zone=UTC", "`zone` is given more than once"),
        ("filter=town.like:a", "`filter` has the operator `like`"),
        ("filter=town.between:a", "`filter` has no two bounds"),
        ("filter=town.null:maybe", "`filter` has neither `true` nor `false`"),
        ("filter=town:a&filter=town:b", "`filter` names the dimension `town` twice"),
    ] {
        let reply = running.world.get(&format!("/v1/metrics/sales?{asked}")).await;
        let (found, _) = reply.error(422, "invalid_parameter");
        assert!(found.contains(detail), "{asked}: {found}");
    }
    let reply = running.world.get("/v1/metrics/takings?window=now&compare=previous").await;
    assert!(reply.error(422, "invalid_parameter").0.contains("has no length"));
    let reply = running.world.get("/v1/metrics/takings?window=now&grain=1h").await;
    assert!(reply.error(422, "invalid_parameter").0.contains("no start"));
    for (members, detail) in [
        (json!({"other": true}), "there is no `limit`"),
        (json!({"other": true, "limit": 3}), "there is no `dimensions`"),
        (json!({"other": "yes", "limit": 3}), "`other` must be `true` or `false`"),
        (json!({"other": true, "limit": 3, "dimensions": ["town"], "cursor": "x"}), "`cursor`"),
        (json!({"other": true, "limit": 1001, "dimensions": ["town"]}), "`limit` must be"),
        (json!({"compare": "next"}), "`compare` names nothing"),
        (json!({"compare": true}), "`compare` must be a text"),
        (json!({"zone": "UTC"}), "there is none"),
        (json!({"window": "24h", "grain": "day", "zone": "Mars"}), "there is no zone `Mars`"),
        (json!({"window": "24h", "grain": "day", "zone": 5}), "`zone` must be a text"),
        (json!({"filters": {"town": {"like": "a"}}}), "`filters` has the operator `like`"),
        (json!({"filters": {"town": []}}), "`filters` names no value of `town`"),
        (json!({"filters": {"town": {"gte": null}}}), "`filters` must be an object"),
    ] {
        let mut body = json!({"metrics": ["sales"]});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let (found, _) =
            running.world.ask("/v1/query", &body).await.error(422, "invalid_parameter");
        assert!(found.contains(detail), "{body}: {found}");
    }
}
