//! Tables behind a REST catalog that change: their layout by a contract, and by somebody else who drops
//! columns, adds them and sets tables back. Real servers; PyIceberg changes and reads.

mod support;

use serde_json::{Value, json};

use support::flights::Sample;
use support::lake_readers::Other;
use support::lake_services::Service;
use support::rest_lake::{Rest, pieces, wait_for_rows};
use support::server::Server;
use support::{Place, domain, wait_for};

/// The table that is changed.
const TABLE: &str = "flight_departed";
/// How it is laid out at first: often committed, so that nobody waits.
const PLAIN: &str = "{commit: {every: 1s}}";

/// The contracts of the flights, in a folder of their own.
fn place() -> Place {
    let text = |name| std::fs::read_to_string(domain("flights").join(name)).expect("a contract");
    let (events, metrics) = (text("events.yaml"), text("metrics.yaml"));
    Place::with_contracts(&[("events.yaml", &laid_out(&events, PLAIN)), ("metrics.yaml", &metrics)])
}

/// The events with a `lake` for the table, and the plain one for the others.
fn laid_out(events: &str, lake: &str) -> String {
    let events =
        events.replace("\ntopic: flights\n", &format!("\ntopic: flights\nlake: {PLAIN}\n"));
    let (before, after) = events.split_once(&format!("name: {TABLE}\n")).expect("the table");
    format!("{before}name: {TABLE}\n{}", after.replacen(PLAIN, lake, 1))
}

fn lay_out(place: &Place, lake: &str) {
    let events = std::fs::read_to_string(domain("flights").join("events.yaml"));
    let text = laid_out(&events.expect("a contract"), lake);
    std::fs::write(place.contracts.join("events.yaml"), text).expect("a new layout");
}

#[test]
fn a_layout_changes_between_runs_and_back_and_every_file_keeps_its_own() {
    let Some(other) = Other::of(Service::Catalog, TABLE) else { return };
    let rest = Rest::of(place());
    let sample = Sample::new(721, 900, 4);
    let run = |lines: &[Vec<u8>], lake: &str, spec: &[&str], sort: &[&str]| -> Vec<Value> {
        lay_out(&rest.place, lake);
        rest.run(lines).succeeded();
        rest.check(&sample.only(|line| line < lines.len()));
        let table = other.does(&rest.services, &["show"]);
        assert_eq!((&table["spec"], &table["sort"]), (&json!(spec), &json!(sort)), "{table}");
        table["files"].as_array().expect("a list").clone()
    };
    let of = |files: &[Value], part: &str| -> Vec<Value> {
        files.iter().filter(|file| file[0] == json!([part])).cloned().collect()
    };
    let pieces = pieces(&sample, 4);
    let (day, carrier) = ("_event_time_day", "carrier");
    let first = run(pieces[0], PLAIN, &[day], &[]);
    assert_eq!(first.len(), of(&first, day).len(), "{first:?}");

    let other_layout = "{commit: {every: 1s}, partition: [carrier], sort: [origin, timestamp]}";
    let second = run(pieces[1], other_layout, &[carrier], &["origin", "_event_time"]);
    assert_eq!(of(&second, day), first, "files of before stay as they are");
    assert!(of(&second, carrier).len() > 1, "{second:?}");
    assert_eq!(second.len(), first.len() + of(&second, carrier).len(), "{second:?}");

    let third = run(pieces[2], other_layout, &[carrier], &["origin", "_event_time"]);
    let fourth = run(pieces[3], PLAIN, &[day], &[]);
    assert_eq!(of(&fourth, carrier), of(&third, carrier), "files of before stay as they are");
    assert!(of(&fourth, day).len() > first.len(), "{fourth:?}");

    // What was written under each is merged under its own.
    rest.lake(&["maintain", "--min-files", "2"]).succeeded();
    let merged = other.does(&rest.services, &["show"]);
    let merged = merged["files"].as_array().expect("a list");
    assert_eq!(of(merged, carrier).len(), of(&second, carrier).len(), "{merged:?}");
    assert!(of(merged, carrier).len() < of(&fourth, carrier).len(), "{merged:?}");
    assert!(!of(merged, day).is_empty(), "{merged:?}");
    rest.check(&sample);
}

/// Posts lines of the sample.
#[track_caller]
fn post(server: &Server, lines: &[Vec<u8>]) {
    for lines in lines.chunks(200) {
        let (status, answer) =
            server.post("/v1/events", "application/x-ndjson", lines.join(&b'\n'));
        assert_eq!(status, 200, "{answer}");
    }
}

/// Waits until the server says that it no longer follows the table, and why.
#[track_caller]
fn wait_until_halted(server: &Server, why: &str) {
    let told = format!("table `{TABLE}` is no longer followed");
    wait_for("the table to be told as halted", || {
        let is_told = server.get("/v1/health").1.to_string().contains(&told);
        (is_told && server.stderr().contains(why)).then_some(())
    });
}

#[test]
fn a_column_that_somebody_drops_is_told_and_comes_back_with_every_value() {
    let Some(other) = Other::of(Service::Catalog, TABLE) else { return };
    let rest = Rest::of(place());
    let sample = Sample::new(722, 900, 4);
    let pieces = pieces(&sample, 3);
    let (first, second) = (pieces[0], &pieces[1][pieces[0].len()..]);
    let third = &pieces[2][pieces[1].len()..];
    let server = rest.serve();
    post(&server, first);
    wait_for_rows(&server, &sample.only(|line| line < first.len()));
    let before = other.does(&rest.services, &["show"]);
    let schema = before["schema"].to_string();

    let dropped = other.does(&rest.services, &["drop", "distance_miles"]);
    assert!(!dropped["columns"].to_string().contains("distance_miles"), "{dropped}");
    post(&server, second);
    let why = format!("column `distance_miles` of lake table `{TABLE}` was dropped or renamed");
    wait_until_halted(&server, &why);
    let told = server.stderr();
    assert!(told.contains(&format!("make schema {schema} of the table its current one")), "{told}");
    // Metrics do not wait for the lake; nor do the other tables.
    assert_eq!(server.received(), pieces[1].len() as u64);
    server.stop();
    assert_eq!(
        other.does(&rest.services, &["show"])["rows"],
        before["rows"],
        "nothing was appended"
    );

    // Nor does a new start take the column for a new one, nor does maintenance forget its values.
    let server = rest.serve();
    wait_until_halted(&server, &why);
    post(&server, third);
    server.stop();
    let maintained = rest.lake(&["maintain", "--table", TABLE, "--min-files", "2"]);
    maintained.failed(2, &["`distance_miles` was dropped or renamed"]);
    assert_eq!(other.does(&rest.services, &["show"])["files"], before["files"]);

    other.does(&rest.services, &["schema", &schema]);
    let server = rest.serve();
    wait_for_rows(&server, &sample);
    assert!(server.stop().success());
    rest.check(&sample);
}

#[test]
fn a_table_that_somebody_sets_back_gets_its_rows_again() {
    let Some(other) = Other::of(Service::Catalog, TABLE) else { return };
    let rest = Rest::of(place());
    let sample = Sample::new(723, 1_200, 4);
    let pieces = pieces(&sample, 4);
    let upto = |piece: usize| sample.only(|line| line < pieces[piece].len());
    let server = rest.serve();
    post(&server, pieces[0]);
    wait_for_rows(&server, &upto(0));

    // Somebody's own column is kept, and ours are written beside it.
    other.does(&rest.services, &["add", "remark"]);
    post(&server, &pieces[1][pieces[0].len()..]);
    wait_for_rows(&server, &upto(1));
    rest.check(&upto(1));

    let full = other.does(&rest.services, &["show"])["rows"].as_u64();
    let back = other.does(&rest.services, &["back", "1"]);
    assert!(back["rows"].as_u64() < full, "{back}");
    post(&server, &pieces[2][pieces[1].len()..]);
    wait_until_halted(&server, &format!("lake table `{TABLE}` was set back by somebody else"));
    assert!(server.stderr().contains("start this process again"), "{}", server.stderr());
    server.stop();
    let server = rest.serve();
    wait_for_rows(&server, &upto(2));
    assert!(server.stop().success());
    rest.check(&upto(2));

    // While no server runs.
    other.does(&rest.services, &["back", "1"]);
    let server = rest.serve();
    post(&server, &pieces[3][pieces[2].len()..]);
    wait_for_rows(&server, &sample);
    assert!(server.stop().success());
    let columns = other.does(&rest.services, &["show"])["columns"].to_string();
    assert!(columns.contains("remark"), "{columns}");
    rest.check(&sample);
}
