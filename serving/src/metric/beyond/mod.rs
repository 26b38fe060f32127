//! Answers from rows that the journal has given up: they come from the lake, the rest from the journal,
//! into one private database, where the same statements run that run in the store.
//!
//! What always holds: the answer is the one that a store would give that has never given anything up,
//! or there is none. Both parts fit together because the journal tells in the reader's own snapshot up
//! to where it has given up its rows ([`Trimmed`]), and the lake gives exactly those.
//!
//! [`Plan::of`] says which rows a question needs from there, [`Beyond::database`] fetches them. A
//! question whose window begins after all that was given up needs none and costs what it always did.

mod plan;

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use contracts::model::{Domain, column, ingest};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};
use pipeline::store::{INGEST_APPLIED_AT, ingest_schema};

pub(crate) use plan::Plan;
use plan::Rows;

use super::check::timestamp;
use super::known::{Known, known};
use super::past;
use super::sql::{Query, quote};
use super::unavailable;
use crate::question::ReadError;
use crate::store::trimmed::FAR_AHEAD;
use crate::store::{self, Archive, ArchiveError, Readers, Trimmed};

/// Bounds of times that the lake's partitions are asked by, µs: the years 1 to 9999.
const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_300_799_999_999;

/// The dead letters as far as they are counted.
const LETTER: [&str; 3] = ["tenant", "event_time", "arrived_at"];

/// What to do about rows that are in the lake.
pub(crate) const NARROW: &str =
    "ask for a shorter window, or let the journal keep its rows for longer (`--keep-days`)";

/// A private database that is interrupted when its time is over.
pub(crate) struct Timed {
    database: Connection,
    /// The watching thread ends when it is dropped.
    _done: Sender<()>,
}

impl Deref for Timed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.database
    }
}

impl Timed {
    fn new(deadline: Instant) -> Result<Self, ReadError> {
        /// A statement that goes on after an interrupt is interrupted again after this time.
        const AGAIN: Duration = Duration::from_millis(100);

        let database = past::database()?;
        let handle = database.interrupt_handle();
        let (done, watched) = bounded::<()>(0);
        std::thread::Builder::new()
            .name("beyond-watch".into())
            .spawn(move || {
                let mut next = deadline;
                while let Err(RecvTimeoutError::Timeout) = watched.recv_deadline(next) {
                    handle.interrupt();
                    next = Instant::now() + AGAIN;
                }
            })
            .map_err(unavailable("watch the time of a read"))?;
        Ok(Self { database, _done: done })
    }
}

/// A reader of what was given up, for one answer.
pub(crate) struct Beyond<'a> {
    domain: &'a Arc<Domain>,
    archive: Option<&'a dyn Archive>,
    /// As of the reader's snapshot.
    pub(crate) trimmed: Trimmed,
    limit: Duration,
    deadline: Instant,
    /// Was anything of the lake needed?
    asked: Cell<bool>,
}

impl<'a> Beyond<'a> {
    /// Begins now, so the time limit does too.
    pub(crate) fn new(domain: &'a Arc<Domain>, readers: &'a Readers, trimmed: Trimmed) -> Self {
        Self::within(readers.time_limit(), domain, readers, trimmed)
    }

    /// The same with a time limit of its own.
    pub(crate) fn within(
        limit: Duration,
        domain: &'a Arc<Domain>,
        readers: &'a Readers,
        trimmed: Trimmed,
    ) -> Self {
        let deadline = Instant::now() + limit;
        Self {
            domain,
            archive: readers.archive(),
            trimmed,
            limit,
            deadline,
            asked: Cell::new(false),
        }
    }

    /// The position that had been applied at `at`.
    pub(crate) fn known(
        &self,
        conn: &Connection,
        at: Option<i64>,
    ) -> Result<Option<Known>, ReadError> {
        let (Some(at), Some(mut found)) = (at, known(conn, at)?) else { return Ok(None) };
        if self.trimmed.ingest_row == 0 {
            return Ok(Some(found));
        }
        if at >= self.trimmed.applied_at {
            found.position = found.position.max(self.trimmed.ingest_seq);
            return Ok(Some(found));
        }
        let range = HistoryRange { until: self.trimmed.ingest_row, ..HistoryRange::default() };
        self.each(HistoryTable::Ingest, range, |rows| {
            let times = times(rows, INGEST_APPLIED_AT);
            let seqs = rows.column_by_name(column::SEQ).map(|c| c.as_primitive::<Int64Type>());
            let (Some(times), Some(seqs)) = (times, seqs) else { return Ok(()) };
            for row in (0..rows.num_rows()).filter(|row| times.value(*row) <= at) {
                found.position = found.position.max(seqs.value(row));
            }
            Ok(())
        })?;
        Ok(Some(found))
    }

    /// A database with all rows that `plan` needs, of `tenant`, of events before `before`.
    pub(crate) fn database(
        &self,
        conn: &Connection,
        plan: &Plan,
        tenant: &str,
        before: Option<i64>,
    ) -> Result<Timed, ReadError> {
        let database = Timed::new(self.deadline)?;
        for (family, rows) in &plan.families {
            self.load_family(conn, &database, *family, rows, tenant, before)?;
        }
        if let Some(rows) = &plan.ingest {
            self.load_ingest(conn, &database, rows, tenant)?;
        }
        if plan.letters {
            self.load_letters(conn, &database, tenant)?;
        }
        Ok(database)
    }

    /// What went wrong, in words for who asked too much.
    pub(crate) fn explain(&self, error: ReadError) -> ReadError {
        let ReadError::Unavailable { message } = &error else { return error };
        if !self.asked.get() {
            return error;
        }
        let too_much = if message.contains("INTERRUPT Error") || Instant::now() >= self.deadline {
            format!("it takes longer than {:?} to read from the lake what this needs", self.limit)
        } else if message.contains("Out of Memory Error") {
            "what this needs from the lake does not fit in the memory of one read".to_owned()
        } else {
            return error;
        };
        ReadError::Beyond { message: too_much, cause: None, hint: NARROW.to_owned() }
    }

    fn load_family(
        &self,
        conn: &Connection,
        database: &Connection,
        family: usize,
        rows: &Rows,
        tenant: &str,
        before: Option<i64>,
    ) -> Result<(), ReadError> {
        let family = &self.domain.families[family];
        let context = "read events";
        let stored = family.schema();
        let indices: Vec<usize> = rows
            .columns
            .iter()
            .map(|name| stored.index_of(name))
            .collect::<Result<_, _>>()
            .map_err(unavailable(context))?;
        let schema = nullable(&stored.project(&indices).map_err(unavailable(context))?);
        let from = (rows.from > i64::MIN).then_some(rows.from);
        let part = Part { table: &family.table(), schema: &schema, tenant, time: column::TIME };
        let range = HistoryRange {
            until: self.trimmed.seq,
            tenant: Some(tenant),
            time: part.time(from, before),
            ..HistoryRange::default()
        };
        let given_up = self.trimmed.families.contains_key(&family.table());
        let lake = given_up.then_some((HistoryTable::Family(family.index), range));
        self.load(conn, database, &part, lake, (from, before))
    }

    fn load_ingest(
        &self,
        conn: &Connection,
        database: &Connection,
        rows: &Rows,
        tenant: &str,
    ) -> Result<(), ReadError> {
        let schema = nullable(&ingest_schema(&self.domain.ingest));
        let from = (rows.from > i64::MIN).then_some(rows.from);
        let table = ingest::TABLE;
        let part = Part { table, schema: &schema, tenant, time: ingest::ARRIVED_AT };
        let range = HistoryRange {
            until: self.trimmed.ingest_row,
            tenant: Some(tenant),
            time: part.time(from, None),
            ..HistoryRange::default()
        };
        let lake = (self.trimmed.ingest_row > 0).then_some((HistoryTable::Ingest, range));
        self.load(conn, database, &part, lake, (from, None))
    }

    fn load_letters(
        &self,
        conn: &Connection,
        database: &Connection,
        tenant: &str,
    ) -> Result<(), ReadError> {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema = Arc::new(Schema::new(vec![
            Field::new(LETTER[0], DataType::Utf8, false),
            Field::new(LETTER[1], time.clone(), true),
            Field::new(LETTER[2], time, false),
        ]));
        let part = Part { table: "dead_letters", schema: &schema, tenant, time: "arrived_at" };
        let range = HistoryRange {
            until: self.trimmed.dead_letter,
            tenant: Some(tenant),
            columns: Some(&LETTER),
            ..HistoryRange::default()
        };
        let lake = Some((HistoryTable::DeadLetters, range));
        self.load(conn, database, &part, lake, (None, None))
    }

    /// Makes a table of the rows in the lake and those in the journal.
    fn load(
        &self,
        conn: &Connection,
        database: &Connection,
        part: &Part<'_>,
        lake: Option<(HistoryTable, HistoryRange<'_>)>,
        bounds: (Option<i64>, Option<i64>),
    ) -> Result<(), ReadError> {
        let context = format!("load `{}`", part.table);
        let create = store::create_table(part.table, part.schema).map_err(unavailable(&context))?;
        database.execute_batch(&create).map_err(unavailable(&context))?;
        let mut appender = database.appender(part.table).map_err(unavailable(&context))?;
        let mut append = |rows: &RecordBatch| -> Result<(), ReadError> {
            let columns = part.schema.fields().iter().map(|f| rows.schema().index_of(f.name()));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(unavailable(&context))?;
            let rows = rows.project(&columns).map_err(unavailable(&context))?;
            appender.append_record_batch(rows).map_err(unavailable(&context))
        };
        if let Some((table, range)) = lake {
            self.each(table, range, |rows| match table {
                HistoryTable::DeadLetters => append(&given_up_letters(rows)?),
                _ => append(rows),
            })?;
        }
        let (query, mut failed) = (part.query(bounds), Ok(()));
        let values = params_from_iter(query.values);
        store::rows::stream(conn, &query.text, values, part.schema, |rows| {
            if failed.is_ok() {
                failed = append(rows);
            }
        })
        .map_err(unavailable(&context))?;
        failed?;
        appender.flush().map_err(unavailable(&context))
    }

    /// Reads from the lake.
    fn each(
        &self,
        table: HistoryTable,
        range: HistoryRange<'_>,
        mut take: impl FnMut(&RecordBatch) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let unreadable = |cause: String| ReadError::Beyond {
            message: "this needs rows that only the lake has, and the lake cannot be read".into(),
            cause: Some(cause),
            hint: format!("try again once the lake can be read; until then {NARROW}"),
        };
        let Some(archive) = self.archive else {
            return Err(unreadable("no lake is known here".to_owned()));
        };
        self.asked.set(true);
        let range = HistoryRange { deadline: Some(self.deadline), ..range };
        let mut failed = Ok(());
        let result = archive.each(&self.trimmed, table, &range, &mut |rows| {
            failed = match Instant::now() >= self.deadline {
                true => Err(self.explain(ReadError::Unavailable { message: "too slow".into() })),
                false => take(rows),
            };
            if failed.is_ok() { Ok(()) } else { Err(ArchiveError::Enough) }
        });
        failed?;
        result.map_err(|error| match Instant::now() >= self.deadline {
            true => self.explain(ReadError::Unavailable { message: error.to_string() }),
            false => unreadable(error.to_string()),
        })
    }
}

/// A table of the private database.
struct Part<'a> {
    table: &'a str,
    schema: &'a SchemaRef,
    tenant: &'a str,
    /// The column that times are bounded by.
    time: &'static str,
}

impl Part<'_> {
    /// Bounds for the lake, where they are such that it can go by them.
    fn time(
        &self,
        from: Option<i64>,
        before: Option<i64>,
    ) -> Option<(&'static str, Option<i64>, Option<i64>)> {
        let usable = |time: &i64| (FIRST..=LAST).contains(time);
        let (from, before) = (from.filter(usable), before.filter(usable));
        (from.is_some() || before.is_some()).then_some((self.time, from, before))
    }

    /// The rows that the store still has.
    fn query(&self, (from, before): (Option<i64>, Option<i64>)) -> Query {
        let mut query = Query::default();
        let fields = self.schema.fields().iter();
        let columns: Vec<String> = fields.map(|field| quote(field.name())).collect();
        let tenant = query.bind(SqlValue::Text(self.tenant.to_owned()));
        let named = if self.table == "dead_letters" { "tenant" } else { column::TENANT };
        query.text = format!(
            "select {} from {} where {} = {tenant}",
            columns.join(", "),
            quote(self.table),
            quote(named)
        );
        for (compare, bound) in [(">=", from), ("<", before)] {
            if let Some(bound) = bound {
                let bound = query.bind(timestamp(bound));
                query.text.push_str(&format!(" and {} {compare} {bound}", quote(self.time)));
            }
        }
        query
    }
}

/// The same columns, none of them required: a column may be younger than a row of the lake.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Without those that the store never gives up.
fn given_up_letters(rows: &RecordBatch) -> Result<RecordBatch, ReadError> {
    let context = "count dead letters";
    let missing = || unavailable(context)("a column is missing");
    let happened = times(rows, "event_time").ok_or_else(missing)?;
    let arrived = times(rows, "arrived_at").ok_or_else(missing)?;
    let gone = (0..rows.num_rows()).map(|row| {
        let arrived = arrived.value(row);
        let at = if happened.is_valid(row) { happened.value(row) } else { arrived };
        Some(at <= arrived.saturating_add(FAR_AHEAD))
    });
    let gone = gone.collect::<arrow::array::BooleanArray>();
    arrow::compute::filter_record_batch(rows, &gone).map_err(unavailable(context))
}

fn times<'a>(
    rows: &'a RecordBatch,
    name: &str,
) -> Option<&'a arrow::array::PrimitiveArray<TimestampMicrosecondType>> {
    rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}
