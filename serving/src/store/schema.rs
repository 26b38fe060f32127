//! Tables of the store, and how each Arrow type is held in DuckDB.
//!
//! The domain decides which tables there are: `ev_<family>` for each event family, `en_<entity>_v<n>`
//! for each entity, `ingest` and `dead_letters`; the rest is the store's own bookkeeping. No table
//! has a primary key: DuckDB rewrites a key's index at each checkpoint, which costs more than
//! everything else together. Uniqueness is kept by the one writer.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use contracts::model::{Domain, column, ingest};
use duckdb::Connection;
use pipeline::store::{StoreError, dead_letter_schema, ingest_schema};

use super::error::{failed, refused};

/// Table of the dead letters.
pub(super) const DEAD_LETTERS: &str = "dead_letters";

/// Tables that do not depend on the domain.
pub(super) const BOOKKEEPING: &str = "
    create table if not exists meta (key varchar, value varchar);
    create table if not exists source_partitions (
        id bigint, name varchar, next_offset ubigint, fingerprint varchar, watermark bigint,
        updated_at bigint, received ubigint, accepted ubigint, duplicate ubigint, rejected ubigint, discarded ubigint,
        last_seq bigint, last_arrived_at bigint, last_event_at bigint);
    create table if not exists outcome_counts (
        partition bigint, outcome varchar, reason varchar, n ubigint);
    create table if not exists contract_state (
        kind varchar, name varchar, version bigint, hash varchar, columns varchar);
    create table if not exists contract_fill (
        table_name varchar, target varchar, done_seq bigint, until_seq bigint);
    create table if not exists dead_letter_pieces (
        id bigint, field varchar, number integer, length integer, bytes blob);
    create table if not exists erasures (
        id varchar, requested_at bigint, finished_at bigint, tenant varchar, entity varchar,
        key_digest varchar, reason varchar, state varchar, store_rows varchar, lake_rows varchar,
        work varchar);
";

/// A table with rows in an Arrow schema of ours.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Name.
    pub name: String,
    /// Columns as the rest of the product sees them.
    pub schema: SchemaRef,
    /// The same columns as a quoted list, for queries.
    pub columns: String,
    /// The columns as they lie in DuckDB, each with its place in `schema`; `None` while both
    /// orders are the same. They differ once a contract was changed.
    stored: Option<(SchemaRef, Vec<Option<usize>>)>,
}

impl Table {
    /// A table of that schema, not created yet.
    pub(super) fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        let columns = column_list(&schema);
        Self { name: name.into(), schema, columns, stored: None }
    }

    /// The statement that creates it.
    pub(super) fn create(&self) -> Result<String, StoreError> {
        let mut sql = format!("create table if not exists {} (", quoted(&self.name));
        for (i, field) in self.schema.fields().iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(sql, "{comma}{}", column_definition(field)?);
        }
        sql.push(')');
        Ok(sql)
    }

    /// Looks up in which order DuckDB holds the columns.
    pub(super) fn learn_order(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let stored = stored_columns(conn, &self.name)?;
        let same = stored.len() == self.schema.fields().len()
            && stored.iter().zip(self.schema.fields()).all(|(name, field)| name == field.name());
        if same {
            self.stored = None;
            return Ok(());
        }
        let mut fields = Vec::with_capacity(stored.len());
        let mut places = Vec::with_capacity(stored.len());
        for name in &stored {
            match self.schema.column_with_name(name) {
                Some((place, field)) => {
                    fields.push(field.clone());
                    places.push(Some(place));
                }
                // A column that no contract has any more: new rows have null there. The type does
                // not matter to DuckDB, which casts.
                None => {
                    fields.push(Field::new(name, DataType::Utf8, true));
                    places.push(None);
                }
            }
        }
        if let Some(missing) = self.schema.fields().iter().find(|f| !stored.contains(f.name())) {
            return Err(StoreError::Corrupt(format!(
                "table `{}` has no column `{}`",
                self.name,
                missing.name()
            )));
        }
        self.stored = Some((Arc::new(Schema::new(fields)), places));
        Ok(())
    }

    /// Adds rows to the table in the running transaction.
    pub(super) fn append(&self, conn: &Connection, rows: &RecordBatch) -> duckdb::Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut appender = conn.appender(&self.name)?;
        match &self.stored {
            None => appender.append_record_batch(rows.clone())?,
            Some((schema, places)) => {
                let columns: Vec<ArrayRef> = places
                    .iter()
                    .map(|place| match place {
                        Some(place) => Arc::clone(rows.column(*place)),
                        None => new_null_array(&DataType::Utf8, rows.num_rows()),
                    })
                    .collect();
                let rows = RecordBatch::try_new(Arc::clone(schema), columns)
                    .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
                appender.append_record_batch(rows)?;
            }
        }
        appender.flush()
    }
}

/// All tables that the domain asks for, in the order of the domain.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// Journal tables, by family.
    pub families: Vec<Table>,
    /// Entity tables, by entity.
    pub entities: Vec<Table>,
    /// Received records by outcome.
    pub ingest: Table,
    /// Rejected records.
    pub dead_letters: Table,
}

impl Tables {
    /// The tables of a domain.
    pub(super) fn of(domain: &Domain) -> Self {
        Self {
            families: domain.families.iter().map(|f| Table::new(f.table(), f.schema())).collect(),
            entities: domain.entities.iter().map(|e| Table::new(e.table(), e.schema())).collect(),
            ingest: Table::new(ingest::TABLE, ingest_schema(&domain.ingest)),
            dead_letters: Table::new(DEAD_LETTERS, dead_letter_schema()),
        }
    }

    /// Every table.
    pub(super) fn all(&self) -> impl Iterator<Item = &Table> {
        self.families.iter().chain(&self.entities).chain([&self.ingest, &self.dead_letters])
    }

    /// Every table.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.families
            .iter_mut()
            .chain(&mut self.entities)
            .chain([&mut self.ingest, &mut self.dead_letters])
    }
}

/// Names of a table's columns as they lie in DuckDB; empty when there is no such table.
pub(super) fn stored_columns(conn: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let context = || format!("read columns of `{table}`");
    let mut statement = conn
        .prepare(
            "select column_name from duckdb_columns()
             where database_name = current_database() and schema_name = 'main' and table_name = ?
             order by column_index",
        )
        .map_err(|e| failed(context(), &e))?;
    let names =
        statement.query_map([table], |row| row.get(0)).map_err(|e| failed(context(), &e))?;
    names.collect::<duckdb::Result<_>>().map_err(|e| failed(context(), &e))
}

/// A column as `create table` and `alter table` write it.
pub(super) fn column_definition(field: &Field) -> Result<String, StoreError> {
    let ty = duckdb_type(field.data_type()).ok_or_else(|| {
        refused(
            format!("create column `{}`", field.name()),
            format!("no DuckDB type for {}", field.data_type()),
        )
    })?;
    // The first two are read by a few scattered rows at a time. DuckDB would choose FSST, which has to
    // unpack 2,048 neighbours for each of them: four times slower on a million entities.
    let scattered = [column::STATE, column::KEY];
    // Hashes cannot be compressed; trying takes time at each checkpoint and each scan.
    let hashes = [column::KEY_HASH, column::ID_HI, column::ID_LO, column::BODY];
    let plain = scattered.iter().chain(&hashes).any(|name| name == field.name());
    let compression = if plain { " using compression uncompressed" } else { "" };
    Ok(format!("{} {ty}{compression}", quoted(field.name())))
}

/// The DuckDB type that holds an Arrow type; `None` for types that contracts cannot declare.
pub(super) fn duckdb_type(ty: &DataType) -> Option<String> {
    Some(match ty {
        DataType::Utf8 => "varchar".into(),
        DataType::Binary => "blob".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp".into(),
        DataType::Date32 => "date".into(),
        DataType::List(element) => format!("{}[]", duckdb_type(element.data_type())?),
        DataType::Struct(members) => {
            let mut text = String::from("struct(");
            for (i, member) in members.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let ty = duckdb_type(member.data_type())?;
                let _ = write!(text, "{comma}{} {ty}", quoted(member.name()));
            }
            text.push(')');
            text
        }
        _ => return None,
    })
}

/// A name as SQL takes it literally.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All columns of a schema, quoted, comma separated.
pub(super) fn column_list(schema: &Schema) -> String {
    schema.fields().iter().map(|field| quoted(field.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use contracts::types::Type;

    use super::*;

    #[track_caller]
    fn check(ty: &Type, expected: &str) {
        assert_eq!(duckdb_type(&ty.arrow()).as_deref(), Some(expected), "{ty}");
    }

    #[test]
    fn every_contract_type_has_a_duckdb_type() {
        check(&Type::String, "varchar");
        check(&Type::Json, "varchar");
        check(&Type::Bool, "boolean");
        check(&Type::Int64, "bigint");
        check(&Type::Float64, "double");
        check(&Type::Decimal { precision: 38, scale: 4 }, "decimal(38,4)");
        check(&Type::Timestamp, "timestamp");
        check(&Type::Date, "date");
        let item = Type::Struct(vec![
            ("sku".into(), Type::String),
            ("tags".into(), Type::List(Box::new(Type::Int64))),
        ]);
        check(&Type::List(Box::new(item)), "struct(\"sku\" varchar, \"tags\" bigint[])[]");
    }

    #[test]
    fn names_are_taken_literally() {
        assert_eq!(quoted("plain"), "\"plain\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
