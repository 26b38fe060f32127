//! A store that has given up some of its journal answers as one that has not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType};
use contracts::model::{Measure, Relation, column};
use contracts::types::Type;
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};
use pipeline::store::{dead_letter_schema, ingest_schema};
use proptest::prelude::*;

use super::fixture::{
    Bench, FIXES, NOW, RIDERS, RIDES, Row, SECOND, TENANT, TRIPS, ask, ask_entity, event, metric,
};
use super::properties::{groups_of, journals, questions, same};
use super::weighted::over_ingest;
use crate::access::Caller;
use crate::metric::quote;
use crate::query::guard;
use crate::query::{Queries, QueryError, QueryLimits, RowPage};
use crate::question::{MetricQuestion, ReadError};
use crate::store::{self, Archive, ArchiveError, StoreOptions, Take, Trimmed};
use crate::value::Value;

/// What a journal held before it gave up some of it.
#[derive(Default)]
struct Kept {
    tables: Mutex<Vec<(HistoryTable, RecordBatch)>>,
    asked: AtomicUsize,
    is_away: bool,
    is_slow: bool,
}

impl Archive for Kept {
    fn each(
        &self,
        _: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_away {
            return Err(ArchiveError::Behind { table: "x".into(), found: 0, wanted: 1 });
        }
        for (of, rows) in self.tables.lock().unwrap().iter().filter(|(of, _)| *of == table) {
            let within = |row: &usize| is_within(*of, rows, *row, range);
            let mask: BooleanArray = (0..rows.num_rows()).map(|row| Some(within(&row))).collect();
            loop {
                take(&filter_record_batch(rows, &mask).unwrap())?;
                if !self.is_slow {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_within(
    table: HistoryTable,
    rows: &RecordBatch,
    row: usize,
    range: &HistoryRange<'_>,
) -> bool {
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let (position, tenant) = match table {
        HistoryTable::Family(_) => (column::SEQ, column::TENANT),
        HistoryTable::Ingest => ("_row", column::TENANT),
        HistoryTable::DeadLetters => ("id", "tenant"),
    };
    let in_time = range.time.is_none_or(|(time, from, before)| {
        let at = column(time).as_primitive::<TimestampMicrosecondType>().value(row);
        from.is_none_or(|from| at >= from) && before.is_none_or(|before| at < before)
    });
    in_time
        && column(position).as_primitive::<Int64Type>().value(row) <= range.until
        && range.tenant.is_none_or(|wanted| column(tenant).as_string::<i32>().value(row) == wanted)
}

/// Moves everything up to `seq` out of the journal of `bench` into `kept`.
fn give_up(bench: &Bench, kept: &Kept, seq: i64) {
    keep(bench, kept);
    bench.store.writer().unwrap().trim_until(seq).unwrap();
}

/// Copies all that can be given up.
fn keep(bench: &Bench, kept: &Kept) {
    let domain = &bench.domain;
    let families = domain.families.iter();
    let mut tables: Vec<_> = families
        .map(|family| (HistoryTable::Family(family.index), family.table(), family.schema()))
        .collect();
    tables.push((HistoryTable::Ingest, "ingest".into(), ingest_schema(&domain.ingest)));
    tables.push((HistoryTable::DeadLetters, "dead_letters".into(), dead_letter_schema()));
    for (table, name, schema) in tables {
        let fields = schema.fields().iter().map(|f| Field::clone(f).with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns: Vec<String> = schema.fields().iter().map(|f| quote(f.name())).collect();
        let sql = format!("select {} from {}", columns.join(", "), quote(&name));
        let read = |conn: &duckdb::Connection| store::rows::query_once(conn, &sql, [], &schema);
        let rows = bench.readers.with("keep", read).unwrap();
        kept.tables.lock().unwrap().push((table, rows));
    }
}

fn applied_at(seq: i64) -> i64 {
    NOW - 60 * SECOND + seq * SECOND
}

/// Offsets of event and arrival from now, µs; one dead letter lies far ahead of its arrival.
const LETTERS: [(Option<i64>, i64); 6] = [
    (Some(-3600 * SECOND), -100 * SECOND),
    (None, -11 * SECOND),
    (Some(-5 * SECOND), -9 * SECOND),
    (Some(400 * 86_400 * SECOND), -8 * SECOND),
    (None, -2 * SECOND),
    (Some(1), 0),
];

fn bench(trips: &[Row], fixes: &[Row], options: StoreOptions) -> Bench {
    let mut records = metric("records", Measure::Count, Type::Int64);
    records.inputs = vec![over_ingest(None)];
    records.dimensions.clear();
    let bench = Bench::with(vec![records], options);
    bench.insert_events(TRIPS, trips);
    bench.insert_events(FIXES, fixes);
    bench.insert_commits((1..=40).map(|seq| (seq, applied_at(seq))));
    for (id, (happened, arrived)) in LETTERS.into_iter().enumerate() {
        let happened = happened.map_or("null".into(), |at| format!("make_timestamp({})", NOW + at));
        bench.run(&format!(
            "insert into dead_letters (id, tenant, event_time, arrived_at)
             values ({}, '{TENANT}', {happened}, make_timestamp({}))",
            id + 1,
            NOW + arrived
        ));
    }
    bench.fold_entities(&[TENANT, "other"]);
    bench
}

fn trimmed(trips: &[Row], fixes: &[Row], cut: i64) -> (Bench, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let archive: Arc<dyn Archive> = Arc::clone(&kept) as _;
    let options = StoreOptions { archive: Some(archive), ..StoreOptions::default() };
    let bench = bench(trips, fixes, options);
    give_up(&bench, &kept, cut);
    (bench, kept)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_trimmed_store_answers_as_one_that_kept_everything(
        (trips, fixes) in journals(),
        cut in 1i64..45,
        known in 0i64..45,
        salt in 0usize..13,
    ) {
        let whole = bench(&trips, &fixes, StoreOptions::default());
        let (part, _) = trimmed(&trips, &fixes, cut);
        for (i, metric) in whole.domain.metrics.iter().enumerate() {
            let fitting = questions(&metric.name, true).into_iter().filter(|q| {
                !metric.dimensions.is_empty() || (q.filters.is_empty() && q.group_by.is_empty())
            });
            for (n, question) in fitting.skip((i + salt) % 13).step_by(13).enumerate() {
                let known_at = ((n + i) % 2 == 1).then(|| applied_at(known) + SECOND / 2);
                let question = MetricQuestion { known_at, ..question };
                if question.filters.contains("city") && metric.name == "records" {
                    continue;
                }
                let expected = whole.engine.read(&question);
                let got = part.engine.read(&question);
                let (Ok(expected), Ok(got)) = (expected, got) else {
                    panic!("the question fits: {question:?}")
                };
                let (a, b) = (groups_of(&got), groups_of(&expected));
                let equal = a.len() == b.len()
                    && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1));
                prop_assert!(equal, "{question:?}\n     got {a:?}\nexpected {b:?}");
                let (a, b) = (format!("{:?}", got.proof), format!("{:?}", expected.proof));
                prop_assert_eq!(a, b, "{:?}", question);
            }
        }
        for (entity, id) in [("ride", "r1"), ("ride", "r3"), ("rider", "2")] {
            for (as_of, known_at) in [
                (None, None),
                (Some(NOW - 5 * SECOND), None),
                (None, Some(applied_at(known))),
            ] {
                let mut question = ask_entity(entity, id);
                (question.as_of, question.known_at) = (as_of, known_at);
                let expected = format!("{:?}", whole.engine.entity(&question));
                let got = format!("{:?}", part.engine.entity(&question));
                prop_assert_eq!(got, expected, "{:?}", question);
            }
        }
    }
}

/// An old trip and a fresh one.
fn two_trips() -> [Row; 2] {
    let trip = |seq: i128, at| event(seq, at, [("ride_id", Value::Text(format!("r{seq}")))]);
    [trip(1, NOW - 3600 * SECOND), trip(2, NOW - SECOND)]
}

#[test]
fn a_window_after_what_was_given_up_asks_nothing_of_the_lake() {
    let (bench, kept) = trimmed(&two_trips(), &[], 1);
    let asked = || kept.asked.swap(0, Ordering::Relaxed);
    for metric in ["trips", "rides"] {
        assert_eq!(bench.engine.read(&ask(metric, "10s")).unwrap().value, Some(Value::Int(1)));
        assert_eq!(asked(), 0, "{metric}");
    }
    // Entities are never given up.
    assert_eq!(bench.engine.read(&ask("rides", "now")).unwrap().value, Some(Value::Int(2)));
    assert_eq!(asked(), 0);
    assert_eq!(bench.engine.read(&ask("trips", "1h")).unwrap().value, Some(Value::Int(2)));
    assert_eq!(bench.engine.read(&ask("trips", "now")).unwrap().value, Some(Value::Int(2)));
    assert!(asked() > 0);
}

#[test]
fn an_answer_does_not_move_while_the_journal_is_trimmed() {
    let trips: Vec<Row> = (1..=400)
        .map(|seq| {
            event(
                seq,
                NOW - 3600 * SECOND + seq as i64,
                [("ride_id", Value::Text(format!("r{}", seq % 7)))],
            )
        })
        .collect();
    let kept = Arc::new(Kept::default());
    let options = StoreOptions { archive: Some(Arc::clone(&kept) as _), ..StoreOptions::default() };
    let bench = bench(&trips, &[], options);
    keep(&bench, &kept);
    let mut writer = bench.store.writer().unwrap();
    let answers = || {
        let known_at = Some(NOW - SECOND);
        let questions = [
            ask("trips", "1h"),
            ask("trips", "now"),
            MetricQuestion { as_of: Some(NOW), ..ask("rides", "1h") },
            MetricQuestion { known_at, ..ask("trips", "1h") },
        ];
        questions.map(|question| {
            let answer = bench.engine.read(&question).unwrap();
            let proof = answer.proof;
            let counts = (proof.rejected_in_window, proof.late_in_window, proof.events_in_window);
            (answer.value, counts)
        })
    };
    let expected = answers();
    assert_eq!(kept.asked.load(Ordering::Relaxed), 0);
    std::thread::scope(|scope| {
        let trimming = scope.spawn(|| {
            (1..=80).for_each(|step| writer.trim_until(step * 5).unwrap());
        });
        while !trimming.is_finished() {
            assert_eq!(answers(), expected);
        }
    });
    assert_eq!(answers(), expected);
    assert!(kept.asked.load(Ordering::Relaxed) > 0);
}

/// A page of a statement, rows that only the lake has among them.
fn page(bench: &Bench, sql: &str) -> Result<RowPage, QueryError> {
    let caller = Caller::with_key(TENANT.into(), "k".into(), Default::default());
    let guarded = guard::check(sql, &guard::Relations::new(&bench.engine, &caller, NOW))?;
    let queries = Queries::new(bench.readers.clone(), QueryLimits::default());
    queries.page_with_lake(&guarded, 1_000, 0)
}

fn texts(page: &RowPage) -> Vec<String> {
    page.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

/// Over journals alone, and beside an entity, whose rows are never given up.
const STATEMENTS: [&str; 3] = [
    "select count(*) as n, sum(amount) as a, min(event_time) as t, max(position) as p from trip_events",
    "select * from trip_events order by position",
    "select r.ride_id, count(t.position) as n from ride r left join trip_events t using (ride_id)
     group by 1 order by 1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn statements_over_a_trimmed_journal_answer_as_over_a_whole_one(
        (trips, fixes) in journals(),
        cut in 1i64..45,
    ) {
        let whole = bench(&trips, &fixes, StoreOptions::default());
        let (trimmed, _) = trimmed(&trips, &fixes, cut);
        for sql in STATEMENTS {
            let (whole, trimmed) = (page(&whole, sql).unwrap(), page(&trimmed, sql).unwrap());
            prop_assert_eq!(&whole.columns, &trimmed.columns, "{}", sql);
            prop_assert_eq!(texts(&whole), texts(&trimmed), "{}", sql);
        }
    }
}

#[test]
fn a_statement_over_a_lake_that_is_away_is_no_smaller_answer() {
    let kept = Arc::new(Kept { is_away: true, ..Kept::default() });
    let options = StoreOptions { archive: Some(Arc::clone(&kept) as _), ..StoreOptions::default() };
    let bench = bench(&two_trips(), &[], options);
    give_up(&bench, &kept, 1);
    let error = page(&bench, STATEMENTS[0]).unwrap_err();
    let QueryError::Read(ReadError::Beyond { cause: Some(_), hint, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(hint.contains("`lake`"), "{hint}");
}

#[test]
fn without_the_lake_there_is_no_smaller_number() {
    let kept = Arc::new(Kept { is_away: true, ..Kept::default() });
    let archive: Arc<dyn Archive> = Arc::clone(&kept) as _;
    let away = StoreOptions { archive: Some(archive), ..StoreOptions::default() };
    for options in [away, StoreOptions::default()] {
        let bench = bench(&two_trips(), &[], options);
        give_up(&bench, &kept, 1);
        let error = bench.engine.read(&ask("trips", "1h")).unwrap_err();
        assert!(matches!(error, ReadError::Beyond { cause: Some(_), .. }), "{error}");
        let known_at = Some(NOW - 100 * SECOND);
        let error = bench.engine.read(&MetricQuestion { known_at, ..ask("rides", "now") });
        assert!(matches!(error, Err(ReadError::Beyond { cause: Some(_), .. })), "{error:?}");
        assert!(bench.engine.read(&ask("trips", "10s")).is_ok());
    }
}

#[test]
fn a_read_of_the_lake_ends_with_its_time() {
    let kept = Arc::new(Kept { is_slow: true, ..Kept::default() });
    let options = StoreOptions {
        archive: Some(Arc::clone(&kept) as _),
        query_time_limit: Duration::from_millis(300),
        ..StoreOptions::default()
    };
    let bench = bench(&two_trips(), &[], options);
    give_up(&bench, &kept, 1);
    let started = Instant::now();
    let error = bench.engine.read(&ask("trips", "1h")).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20));
    let ReadError::Beyond { message, cause: None, hint } = error else { panic!("{error}") };
    assert!(message.contains("longer than 300ms"), "{message}");
    assert!(hint.contains("--keep-days"), "{hint}");
}

#[test]
fn relations_of_the_fixture_are_those_that_are_asked() {
    let bench = Bench::new(Vec::new());
    let relations: Vec<Relation> =
        bench.domain.metrics.iter().flat_map(|m| m.inputs.iter().map(|i| i.relation)).collect();
    for relation in [TRIPS, FIXES, RIDES, RIDERS] {
        assert!(relations.contains(&relation), "{relation:?}");
    }
}
