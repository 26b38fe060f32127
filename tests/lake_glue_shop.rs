//! A shop whose orders go to AWS Glue and S3 while its server is killed and a customer is forgotten: what Glue
//! shows of the tables, and every order as PyIceberg reads it.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use support::lake_readers::remote;
use support::lake_services::Service;
use support::rest_lake::Rest;
use support::server::Server;
use support::{Place, domain, wait_for};

const CUSTOMERS: usize = 8;

/// The shop's contracts, with a commit every second.
fn shop() -> Place {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(domain("shop")).expect("the shop's contracts") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a contract");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let often = "\ntopic: orders.raw\nlake: {commit: {every: 1s}}\n";
        files.push((name, text.replace("\ntopic: orders.raw\n", often)));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    Place::with_contracts(&files)
}

/// An order with as many lines as its number ends with, and one.
fn order(number: usize) -> Value {
    let lines = number % 3 + 1;
    let items: Vec<Value> = (0..lines)
        .map(|line| json!({"product_id": format!("PROD-{line:03}"), "quantity": 2, "unit_price": "10.25"}))
        .collect();
    let cents = lines * 2 * 1_025;
    json!({
        "event_type": "order.created", "schema_version": 2, "event_id": format!("E-{number}"),
        "timestamp": chrono::Utc::now().to_rfc3339(), "source": "web",
        "order_id": format!("ORD-20261101-{number:04}"), "user_id": format!("USR-{}", number % CUSTOMERS),
        "status": "pending", "items": items, "total_amount": format!("{}.{:02}", cents / 100, cents % 100),
        "currency": "EUR", "city": "Köln",
    })
}

/// One whose total is not that of its lines.
fn wrong(number: usize) -> Value {
    let mut order = order(number);
    order["total_amount"] = json!("1.00");
    order
}

#[track_caller]
fn post(server: &Server, orders: &[Value]) -> Value {
    let lines: Vec<String> = orders.iter().map(Value::to_string).collect();
    let (status, body) = server.post("/v1/events", "application/x-ndjson", lines.join("\n"));
    assert_eq!(status, 200, "{body}");
    body
}

/// Waits until the server's lake holds so many orders.
#[track_caller]
fn wait_for_orders(server: &Server, count: usize) {
    wait_for("the orders to be in the lake", || {
        let lake = server.get("/v1/lake").1;
        let tables = lake["tables"].as_array()?.iter();
        let mut orders = tables.filter(|table| table["name"] == "order");
        (orders.next()?["rows"] == json!(count)).then_some(())
    });
}

#[track_caller]
fn read(shop: &Rest, name: &str, arguments: &[&str]) -> String {
    let mut program = remote(&shop.services, name).expect("PyIceberg is there for Glue");
    let output = program.args(arguments).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What PyIceberg finds: by event id the order, the customer and the total. The order's lines are as many as
/// they should be, at their price.
#[track_caller]
fn orders(shop: &Rest) -> BTreeMap<String, [Option<String>; 3]> {
    let reader = "pyiceberg_reader.py";
    let columns = ["glue", "order", "_event_id", "order_id", "user_id", "total_amount", "items"];
    let told = read(shop, reader, &columns);
    let rows: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of = |row: &Value| {
        let id = text(&row[0]).expect("an id");
        let number: usize = id["E-".len()..].parse().expect("a number");
        let lines = row[4].as_array().expect("a list");
        assert_eq!(lines.len(), number % 3 + 1, "{row}");
        assert!(lines.iter().all(|line| line["unit_price"] == "10.25"), "{row}");
        (id, [1, 2, 3].map(|column| text(&row[column])))
    };
    let found: BTreeMap<_, _> = rows.iter().map(of).collect();
    assert_eq!(found.len(), rows.len(), "each event once");
    assert_eq!(read(shop, reader, &["glue", "dead_letters", "event_type"]).lines().count(), 1);
    found
}

fn wanted(count: usize, forgotten: Option<usize>) -> BTreeMap<String, [Option<String>; 3]> {
    let of = |number: usize| {
        let order = order(number);
        let text = |name: &str| order[name].as_str().map(str::to_owned);
        let customer = text("user_id").filter(|_| forgotten != Some(number % CUSTOMERS));
        (format!("E-{number}"), [text("order_id"), customer, text("total_amount")])
    };
    (0..count).map(of).collect()
}

#[test]
fn orders_are_read_one_by_one_after_a_kill_and_a_customer_who_is_forgotten() {
    let shop = Rest::with(Service::Glue, shop());
    let all: Vec<Value> = (0..240).map(order).collect();
    let server = shop.serve();
    post(&server, &all[..80]);
    post(&server, &[wrong(999)]);
    wait_for_orders(&server, 80);
    // Killed with some orders that no snapshot has yet.
    post(&server, &all[80..160]);
    server.signal("KILL");
    server.wait();
    let server = shop.serve();
    let again = post(&server, &all);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(80), &json!(160)), "{again}");
    wait_for_orders(&server, all.len());
    wait_for("the dead letter to be in the lake", || {
        let lake = server.get("/v1/lake").1;
        let letters = lake["tables"].as_array()?.iter().find(|t| t["name"] == "dead_letters")?;
        (letters["rows"] == json!(1)).then_some(())
    });
    assert_eq!(orders(&shop), wanted(all.len(), None));

    // What people and searches see in Glue, under the name of the contracts' folder.
    let tables = || -> Value {
        serde_json::from_str(&read(&shop, "glue_tables.py", &["contracts"])).expect("JSON")
    };
    let before = tables()["order"].clone();
    for (column, ty) in [
        ("_event_time", "timestamp"),
        ("_late", "boolean"),
        ("_seq", "bigint"),
        ("total_amount", "decimal(12,2)"),
        ("items", "array<struct<product_id:string,quantity:bigint,unit_price:decimal(12,2)>>"),
    ] {
        assert_eq!(before["columns"][column][0], ty, "{column}: {before}");
    }
    assert_eq!(before["columns"]["city"], json!(["string", "Town of delivery"]));
    let parameters = &before["parameters"];
    assert_eq!(
        (&before["type"], &parameters["table_type"]),
        (&json!("EXTERNAL_TABLE"), &json!("ICEBERG"))
    );
    assert_ne!(parameters["metadata_location"], parameters["previous_metadata_location"]);

    // A customer is forgotten while the server goes on.
    let mut erase = vec!["erase".to_owned()];
    erase.extend(shop.place.common(&shop.place.data()));
    erase.extend(["--entity", "user", "--key", "USR-3", "--output", "json"].map(str::to_owned));
    erase.extend(shop.options.iter().cloned());
    let done = shop.place.agentflow(erase).json();
    assert_eq!((&done["state"], &done["problem"]), (&json!("done"), &Value::Null), "{done}");
    assert_eq!(done["lake_rows"]["order"], json!(all.len() / CUSTOMERS), "{done}");
    assert!(server.stop().success());
    assert_eq!(orders(&shop), wanted(all.len(), Some(3)));
    let after = tables()["order"]["version"].as_u64();
    assert!(after > before["version"].as_u64(), "replaced through Glue: {after:?}");
    shop.lake(&["maintain", "--min-files", "2"]).succeeded();
    assert_eq!(orders(&shop), wanted(all.len(), Some(3)));
}
