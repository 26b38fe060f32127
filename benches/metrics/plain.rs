//! The same questions in plain SQL over the same rows, to DuckDB itself: what a read would cost whoever
//! kept the events in a database and asked it.
//!
//! DuckDB has its own defaults here, all cores and most of the memory; a store has the limits of the server.

use std::path::Path;
use std::time::{Duration, Instant};

use duckdb::types::{TimeUnit, Value};
use duckdb::{AccessMode, Config, Connection, Statement, params_from_iter};

use crate::reads::{Case, Read, Values};

/// How far two doubles may be apart, as a part of their size: sums of doubles have no exact order.
const TOLERANCE: f64 = 1e-12;

/// Questions before those that count.
const WARM_UP: usize = 3;

/// Opens the store of a data directory that no server has any more.
pub(crate) fn open(data: &Path) -> Connection {
    let config = Config::default().access_mode(AccessMode::ReadOnly).expect("a mode");
    Connection::open_with_flags(data.join("serving.duckdb"), config).expect("open the store")
}

/// Asks what each read has asked, over the same window, and compares the answers. Returns the times, and the
/// number of rows of the last window.
pub(crate) fn ask(
    conn: &Connection,
    case: &Case,
    reads: &[Read],
    longest: Duration,
) -> (Vec<Duration>, i64) {
    let prefix = case.group_by.map(|group| format!("{group}, ")).unwrap_or_default();
    let suffix = case.group_by.map(|group| format!(" group by {group}")).unwrap_or_default();
    let sql = format!("select {prefix}{} {}{suffix}", case.aggregate, case.rows());
    let mut statement = conn.prepare(&sql).expect("a statement");
    let since = |read: &Read| case.length.map(|length| read.sent - length);
    let begun = Instant::now();
    let mut times = Vec::new();
    for read in reads.iter().cycle().take(WARM_UP) {
        answer(&mut statement, case, since(read));
    }
    // The last ones first: where time runs out they are those of the shortest windows.
    for read in reads.iter().rev() {
        let started = Instant::now();
        let values = answer(&mut statement, case, since(read));
        times.push(started.elapsed());
        assert!(
            agree(&read.values, &values) || moved(conn, &mut statement, case, read),
            "{}: the server says {:?}, `{sql}` {values:?}",
            case.name,
            read.values,
        );
        if begun.elapsed() > longest && times.len() >= 30 {
            break;
        }
    }
    let count = format!("select count(*) {}", case.rows());
    let since = bound(reads.last().and_then(since));
    let rows = conn.query_row(&count, params_from_iter(since), |row| row.get(0));
    (times, rows.expect("a count"))
}

/// Does one of the windows that begin between the sending of a question and its answer have the value?
/// An event may have left the window on the way.
fn moved(conn: &Connection, statement: &mut Statement<'_>, case: &Case, read: &Read) -> bool {
    let Some(length) = case.length else { return false };
    let sql = format!(
        "select distinct epoch_us({time}) from {} where {time} between $1 and $2",
        case.table,
        time = case.time,
    );
    let between = [read.sent - length, read.answered - length].map(timestamp);
    let mut leaving = conn.prepare(&sql).expect("a statement");
    let leaving = leaving.query_map(params_from_iter(between), |row| row.get::<_, i64>(0));
    let leaving: Vec<i64> = leaving.expect("it runs").map(|time| time.expect("a time")).collect();
    leaving.iter().any(|time| agree(&read.values, &answer(statement, case, Some(time + 1))))
}

fn answer(statement: &mut Statement<'_>, case: &Case, since: Option<i64>) -> Vec<Row> {
    let place = usize::from(case.group_by.is_some());
    let rows = statement.query_map(params_from_iter(bound(since)), |row| {
        let group = if place == 1 { row.get(0)? } else { None };
        Ok((group, row.get(place)?))
    });
    rows.expect("it runs").map(|row| row.expect("a row")).collect()
}

type Row = (Option<String>, Value);

fn bound(since: Option<i64>) -> Option<Value> {
    since.map(timestamp)
}

fn timestamp(micros: i64) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, micros)
}

/// The same groups with the same values?
fn agree(read: &Values, plain: &[Row]) -> bool {
    let mut read: Vec<&(Option<String>, String)> = read.iter().collect();
    let mut plain: Vec<&Row> = plain.iter().collect();
    read.sort_by(|one, other| one.0.cmp(&other.0));
    plain.sort_by(|one, other| one.0.cmp(&other.0));
    let mut both = read.iter().zip(&plain);
    read.len() == plain.len() && both.all(|(one, other)| one.0 == other.0 && same(&one.1, &other.1))
}

fn same(read: &str, plain: &Value) -> bool {
    match plain {
        Value::Null => read == "null",
        Value::Double(plain) => {
            let read = read.parse::<f64>();
            read.is_ok_and(|read| (read - plain).abs() <= TOLERANCE * plain.abs())
        }
        Value::BigInt(plain) => shortest(read) == plain.to_string(),
        Value::HugeInt(plain) => shortest(read) == plain.to_string(),
        Value::Decimal(plain) => shortest(read) == shortest(&plain.to_string()),
        other => panic!("no number of a metric: {other:?}"),
    }
}

/// The digits of a number without zeros at the end of its fraction.
fn shortest(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}
