//! Filling columns of stored rows, when contracts gained fields or expressions.
//!
//! A table is filled in steps, each one transaction that also notes how far it came, so a process
//! that dies goes on where it was. Until the last step the old definition stays recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use contracts::model::{Computed, Domain, EnrichValue, Entity, Family, column};
use duckdb::{Connection, params};
use pipeline::entity::Replay;
use pipeline::erase;
use pipeline::overlay::Overlay;
use pipeline::store::StoreError;
use pipeline::{entity, fail_point};
use xxhash_rust::xxh3::xxh3_64;

use super::contract_state::{self, Definition, Definitions, Fill, Key, Role};
use super::error::{failed, refused};
use super::schema::{Table, column_definition, column_list, quoted, stored_columns};
use super::{absent, extra, in_transaction, rows};

/// Sequence numbers covered by one step. Tests take several steps with few rows.
const SEQS_PER_STEP: i64 = if cfg!(test) { 40 } else { 65_536 };

/// The column of row numbers beside new values.
pub(super) const ROW: &str = "_row";

/// What is filled.
pub(super) struct Job<'a> {
    /// The table.
    pub table: &'a Table,
    /// What to fill.
    pub fill: &'a Fill,
    /// The family whose journal it is.
    pub family: Option<&'a Family>,
    /// The entity whose rows they are.
    pub entity: Option<&'a Entity>,
    /// Expressions over the table's rows.
    pub computed: &'a [Computed],
    /// What to record in the end.
    pub key: Key,
    /// See `key`.
    pub definition: &'a Definition,
}

/// A fill that was begun and not finished.
pub(super) struct Begun {
    /// [`Job::target`].
    pub target: String,
    /// Rows up to this sequence number are filled.
    pub done_seq: i64,
    /// Up to where there are rows to fill, when it is done beside what comes in: later rows came with
    /// everything.
    pub until_seq: Option<i64>,
}

/// Fills that were begun and not finished, by table.
pub(super) fn begun(conn: &Connection) -> Result<BTreeMap<String, Begun>, StoreError> {
    let fails = |e: duckdb::Error| failed("read how far contracts were followed", &e);
    let mut statement = conn
        .prepare("select table_name, target, done_seq, until_seq from contract_fill")
        .map_err(fails)?;
    let rows = statement
        .query_map([], |row| {
            let table: String = row.get(0)?;
            let (done_seq, until_seq) = (row.get(2)?, row.get(3)?);
            Ok((table, Begun { target: row.get(1)?, done_seq, until_seq }))
        })
        .map_err(fails)?;
    rows.collect::<duckdb::Result<BTreeMap<_, _>>>().map_err(fails)
}

/// Notes in the running transaction that a change of `table` was begun.
pub(super) fn note(
    conn: &Connection,
    table: &str,
    target: &str,
    done: i64,
    until: Option<i64>,
) -> duckdb::Result<()> {
    forget(conn, table)?;
    conn.execute(
        "insert into contract_fill values (?, ?, ?, ?)",
        params![table, target, done, until],
    )?;
    Ok(())
}

/// Notes in the running transaction how far it came.
pub(super) fn advance(conn: &Connection, table: &str, done: i64) -> duckdb::Result<()> {
    conn.execute(
        "update contract_fill set done_seq = ? where table_name = ?",
        params![done, table],
    )?;
    Ok(())
}

/// Notes in the running transaction that it ended, or will not be finished.
pub(super) fn forget(conn: &Connection, table: &str) -> duckdb::Result<()> {
    conn.execute("delete from contract_fill where table_name = ?", [table])?;
    Ok(())
}

impl Job<'_> {
    /// Does it all, or goes on after `done` when it was begun before.
    pub(super) fn run(
        &self,
        conn: &Connection,
        done: Option<i64>,
        progress: &dyn Fn(&str, u64, u64),
    ) -> Result<(), StoreError> {
        let context = self.context();
        let fails = |e: duckdb::Error| failed(&context, &e);
        let (name, position) = (quoted(&self.table.name), self.position());
        let mut done = match done {
            Some(done) => done,
            None => self.begin(conn, None)?,
        };
        let last: i64 = conn
            .query_row(&format!("select coalesce(max({position}), -1) from {name}"), [], |row| {
                row.get(0)
            })
            .map_err(fails)?;
        while done < last {
            let end = last.min(done + SEQS_PER_STEP);
            self.step(conn, done, end, || advance(conn, &self.table.name, end))?;
            fail_point::hit("store_fill_step");
            done = end;
            progress(&context, done.max(0) as u64, last as u64);
        }
        in_transaction(conn, &context, || {
            forget(conn, &self.table.name)?;
            contract_state::save(conn, &self.key, self.definition)
        })?;
        // Updated rows live in memory until they are written to the file.
        conn.execute_batch("checkpoint").map_err(fails)
    }

    /// What it does, for messages.
    pub(super) fn context(&self) -> String {
        format!("fill columns of `{}`", self.table.name)
    }

    /// The column by which rows are taken in order.
    pub(super) fn position(&self) -> &'static str {
        if self.entity.is_some() { column::UPDATED_SEQ } else { column::SEQ }
    }

    /// Adds the columns and notes that nothing is filled yet. `until`: how far there is something to
    /// fill, when that is done beside what comes in.
    pub(super) fn begin(&self, conn: &Connection, until: Option<i64>) -> Result<i64, StoreError> {
        let context = self.context();
        let name = quoted(&self.table.name);
        let stored = stored_columns(conn, &self.table.name)?;
        let mut alter = String::new();
        for added in &self.fill.added {
            let Some((_, field)) = self.table.schema.column_with_name(added) else {
                return Err(refused(context, format!("no column `{added}` in the contract")));
            };
            if stored.contains(added) {
                // Left from a contract that once had it, perhaps with another type.
                alter.push_str(&format!("alter table {name} drop column {};", quoted(added)));
            }
            let definition = column_definition(field)?;
            alter.push_str(&format!("alter table {name} add column {definition};"));
        }
        in_transaction(conn, &context, || {
            if !alter.is_empty() {
                conn.execute_batch(&alter)?;
            }
            note(conn, &self.table.name, &self.target(), -1, until)?;
            Ok(-1)
        })
    }

    /// Fills the rows with `after < position <= until`, and does `also` in the same transaction.
    pub(super) fn step(
        &self,
        conn: &Connection,
        after: i64,
        until: i64,
        also: impl FnOnce() -> duckdb::Result<()>,
    ) -> Result<(), StoreError> {
        let (name, position) = (quoted(&self.table.name), self.position());
        let range = format!("{position} > {after} and {position} <= {until}");
        in_transaction(conn, &self.context(), || {
            let wanted = self.wanted();
            let row = Arc::new(Field::new(ROW, DataType::Int64, false));
            let fields = [row].into_iter().chain(wanted.fields().iter().cloned());
            let with_row: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let columns = column_list(&wanted);
            let sql = format!("select rowid, {columns} from {name} where {range}");
            let found = rows::query_once(conn, &sql, [], &with_row)?;
            if found.num_rows() > 0 {
                let filled = match self.entity {
                    Some(entity) => self.filled_from_states(entity, &found)?,
                    None => self.filled(&found).map_err(rows::conversion)?,
                };
                update(conn, self.table, &filled, &[], &range)?;
            }
            also()
        })
    }

    /// The columns that a step reads: all, or where nothing but expressions is evaluated what those
    /// read and what they fill.
    fn wanted(&self) -> SchemaRef {
        let schema = &self.table.schema;
        let mut names: BTreeSet<&str> = self.fill.evaluate.iter().map(String::as_str).collect();
        if self.entity.is_some() {
            names = [column::TENANT, column::KEY, column::STATE].into();
        } else if self.fill.fields_before.is_some() || self.fill.body {
            return Arc::clone(schema);
        }
        names.insert(column::VERSION);
        let enriched = self.family.iter().flat_map(|family| &family.versions);
        for enrich in enriched.flat_map(|version| &version.enrich) {
            if let (EnrichValue::Expr(expr), true) =
                (&enrich.value, self.fill.evaluate.contains(&enrich.name))
            {
                names.extend(expr.columns().iter().map(String::as_str));
            }
        }
        for computed in self.computed.iter().filter(|c| self.fill.evaluate.contains(&c.name)) {
            names.extend(computed.expr.columns().iter().map(String::as_str));
        }
        let fields = schema.fields().iter().filter(|field| names.contains(field.name().as_str()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    /// Row numbers and the added columns, from the states of an entity's rows.
    fn filled_from_states(
        &self,
        entity: &Entity,
        stored: &RecordBatch,
    ) -> duckdb::Result<RecordBatch> {
        let fails = |error: &dyn std::fmt::Display| {
            rows::conversion(ArrowError::ComputeError(error.to_string()))
        };
        let made = entity::from_states(entity, stored).map_err(|error| fails(&error))?;
        let mut fields = vec![Field::new(ROW, DataType::Int64, false)];
        let mut values = vec![Arc::clone(stored.column(0))];
        for name in &self.fill.added {
            let place = made.schema_ref().index_of(name).map_err(|error| fails(&error))?;
            fields.push(made.schema_ref().field(place).clone());
            values.push(Arc::clone(made.column(place)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), values).map_err(rows::conversion)
    }

    /// Row numbers and new values of all columns that change, from rows as they are stored.
    fn filled(&self, stored: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let row_numbers = Arc::clone(stored.column(0));
        let mut rows = Overlay::of(stored.project(&(1..stored.num_columns()).collect::<Vec<_>>())?);
        if let Some(family) = self.family {
            self.fill_fields(family, &mut rows)?;
            self.fill_enriched(family, &mut rows)?;
        }
        for computed in self.computed.iter().filter(|c| self.fill.evaluate.contains(&c.name)) {
            let values = computed.expr.evaluate(rows.batch());
            rows.set(&computed.name, values)?;
        }
        let mut fields = vec![Field::new(ROW, DataType::Int64, false)];
        let mut values = vec![row_numbers];
        for name in rows.changed() {
            let (place, field) =
                rows.batch().schema_ref().column_with_name(name).ok_or_else(|| {
                    ArrowError::SchemaError(format!("no column `{name}` in the contract"))
                })?;
            fields.push(field.clone().with_nullable(true));
            values.push(Arc::clone(rows.batch().column(place)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), values)
    }

    /// New fields from members that the contract did not know before, and what depends on the list
    /// of fields: which were absent, and the hash over them.
    fn fill_fields(&self, family: &Family, rows: &mut Overlay) -> Result<(), ArrowError> {
        if let Some(before) = &self.fill.fields_before {
            let versions = rows.int64(column::VERSION)?;
            let taken = extra::take(family, before, versions, rows.text(column::EXTRA)?)?;
            let bits = absent::bits(family, before, versions, rows.int64(column::ABSENT)?, &taken);
            rows.set(column::ABSENT, Arc::new(bits))?;
            for found in taken.fields {
                rows.set_where(&found.name, &found.rows, found.values)?;
            }
            rows.set(column::EXTRA, taken.rest)?;
        }
        if self.fill.body {
            for version in &family.versions {
                let hashes = erase::body_hashes(version, rows.batch());
                let of_version = rows.of_version(version.version)?;
                rows.set_where(column::BODY, &of_version, Arc::new(Int64Array::from(hashes)))?;
            }
        }
        Ok(())
    }

    fn fill_enriched(&self, family: &Family, rows: &mut Overlay) -> Result<(), ArrowError> {
        for version in &family.versions {
            let of_version = rows.of_version(version.version)?;
            for enrich in version.enrich.iter().filter(|e| self.fill.evaluate.contains(&e.name)) {
                // A lookup is as known when the event was applied: nothing to be done today.
                if let EnrichValue::Expr(expr) = &enrich.value {
                    let values = expr.evaluate(rows.batch());
                    rows.set_where(&enrich.name, &of_version, values)?;
                }
            }
        }
        Ok(())
    }

    /// Names the definition that is being followed, so that an interrupted fill is not mixed with
    /// another one.
    pub(super) fn target(&self) -> String {
        target([self.definition])
    }
}

/// Writes the columns of `filled` (whose first one is the row's number) back to the rows of `range`, an
/// SQL condition, and makes the columns `emptied` null in the same rows.
pub(super) fn update(
    conn: &Connection,
    table: &Table,
    filled: &RecordBatch,
    emptied: &[&str],
    range: &str,
) -> duckdb::Result<()> {
    let schema = filled.schema();
    let definitions = schema
        .fields()
        .iter()
        .map(|field| column_definition(field))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
    let sql = format!("create or replace temp table filled ({})", definitions.join(", "));
    conn.execute_batch(&sql)?;
    let mut appender = conn.appender_to_catalog_and_db("filled", "temp", "main")?;
    appender.append_record_batch(filled.clone())?;
    appender.flush()?;
    drop(appender);
    let set =
        schema.fields()[1..].iter().map(|field| format!("{0} = filled.{0}", quoted(field.name())));
    let empty = emptied.iter().map(|name| format!("{} = null", quoted(name)));
    let set: Vec<String> = set.chain(empty).collect();
    let name = quoted(&table.name);
    conn.execute_batch(&format!(
        "update {name} set {} from temp.filled where {name}.rowid = filled.{ROW} and {range};
         drop table temp.filled",
        set.join(", ")
    ))
}

/// Names definitions.
pub(super) fn target<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> String {
    let columns: Vec<String> = definitions
        .into_iter()
        .map(|definition| serde_json::to_string(&definition.columns).unwrap_or_default())
        .collect();
    format!("{:016x}", xxh3_64(columns.concat().as_bytes()))
}

/// Names what entities are folded from and how: `definitions` of the entities, and what the events below
/// the first one are made of. Whoever goes on under another name begins anew.
pub(super) fn fold_target<'a>(
    domain: &Domain,
    entity: usize,
    definitions: impl IntoIterator<Item = &'a Definition>,
    wanted: &Definitions,
) -> String {
    let mut text = String::new();
    for definition in definitions {
        text.push_str(&definition.hash);
        text.push_str(&serde_json::to_string(&definition.columns).unwrap_or_default());
    }
    for family in Replay::wants_of(domain, entity) {
        let columns = &wanted[&contract_state::event_key(&domain.families[family])].columns;
        // Computed columns are named by what they hold, and others come and go.
        for column in columns.iter().filter(|column| column.role != Role::Computed) {
            text.push_str(&serde_json::to_string(column).unwrap_or_default());
        }
    }
    format!("{:016x}", xxh3_64(text.as_bytes()))
}
