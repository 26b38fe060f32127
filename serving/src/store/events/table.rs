//! What is read of a family's table, and how.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use contracts::model::{Family, column};
use duckdb::types::Value as SqlValue;
use hashbrown::HashSet;

use super::super::bookkeeping::literal;
use super::super::schema::{column_list, quoted};
use super::{ENTITY, Only};

/// The table of a family, as far as streams read it.
pub(super) struct EventTable {
    /// Its name.
    pub(super) name: String,
    /// What is looked at first.
    pub(super) heads: (String, SchemaRef),
    /// What is sent.
    pub(super) rows: (String, SchemaRef),
    /// The entity as an expression.
    entity: String,
    /// The contract's `key` by version, the newest last.
    keys: Vec<(i64, Option<String>)>,
}

impl EventTable {
    /// Of a family.
    pub(super) fn of(family: &Family) -> Self {
        let whole = family.schema();
        let of = |names: &[&str]| -> Vec<Field> {
            let found = names.iter().filter_map(|name| whole.column_with_name(name));
            found.map(|(_, field)| field.clone()).collect()
        };
        let with_entity = |mut fields: Vec<Field>, entity: &str| -> (String, SchemaRef) {
            let columns = format!("{}, {entity}", column_list(&Schema::new(fields.clone())));
            fields.push(Field::new(ENTITY, DataType::Utf8, true));
            (columns, Arc::new(Schema::new(fields)))
        };
        let entity = entity(family);
        let heads = of(&[column::SEQ, column::TENANT, column::TYPE]);
        let mut sent = of(&[
            column::SEQ,
            column::TENANT,
            column::TYPE,
            column::ID,
            column::TIME,
            column::ARRIVED_AT,
            column::VERSION,
            column::ABSENT,
            column::PARTITION,
            column::OFFSET,
            column::EXTRA,
        ]);
        let fields: Vec<&str> = family.fields.iter().map(|field| field.name.as_str()).collect();
        sent.extend(of(&fields));
        Self {
            name: family.table(),
            heads: with_entity(heads, &entity),
            rows: with_entity(sent, &entity),
            entity,
            keys: family
                .versions
                .iter()
                .map(|version| (i64::from(version.version), version.key.clone()))
                .collect(),
        }
    }

    /// Rows of the family's schema as [`Self::select`] would read them back; `None` if they are not of it.
    pub(super) fn of_written(&self, rows: &RecordBatch) -> Option<RecordBatch> {
        let schema = &self.rows.1;
        let (_, read) = schema.fields().split_last()?;
        let read = read.iter().map(|field| rows.column_by_name(field.name()).cloned());
        let columns: Option<Vec<ArrayRef>> = read.chain([self.entities(rows)]).collect();
        RecordBatch::try_new(Arc::clone(schema), columns?).ok()
    }

    /// The entity of each row. Keys are texts and integers, which Arrow and DuckDB write alike.
    fn entities(&self, rows: &RecordBatch) -> Option<ArrayRef> {
        let text = |key: &Option<String>| match key {
            None => Some(new_null_array(&DataType::Utf8, rows.num_rows())),
            Some(key) => cast(rows.column_by_name(key)?, &DataType::Utf8).ok(),
        };
        let Some(((_, newest), others)) = self.keys.split_last() else { return text(&None) };
        let mut entities = text(newest)?;
        for (version, key) in others.iter().filter(|(_, key)| key != newest) {
            let versions = rows.column_by_name(column::VERSION)?.as_primitive_opt::<Int64Type>()?;
            let is_of = versions.values().iter().map(|of| Some(of == version));
            entities = zip(&is_of.collect(), &text(key)?, &entities).ok()?;
        }
        Some(entities)
    }

    /// The statement for whole rows.
    pub(super) fn select(&self, condition: &str) -> String {
        let columns = &self.rows.0;
        format!("select {columns} from {} where {condition} order by _seq", quoted(&self.name))
    }

    /// The statement for what is looked at first, and its parameters.
    pub(super) fn look(&self, range: &str, only: Option<&Only<'_>>) -> (String, Vec<SqlValue>) {
        let (mut sql, values) = self.heads_of(range, only);
        sql.push_str(" order by _seq");
        (sql, values)
    }

    /// The statement for the newest `count` of what is looked at first, and its parameters.
    pub(super) fn newest(
        &self,
        range: &str,
        only: &Only<'_>,
        count: usize,
    ) -> (String, Vec<SqlValue>) {
        let (mut sql, values) = self.heads_of(range, Some(only));
        sql.push_str(&format!(" order by _seq desc limit {count}"));
        (sql, values)
    }

    /// The statement for what is looked at first of what is about one of many entities of some tenants.
    pub(super) fn about(
        &self,
        range: &str,
        tenants: &HashSet<&str>,
        entities: &HashSet<&str>,
    ) -> String {
        let list = |texts: &HashSet<&str>| {
            let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            texts.join(",")
        };
        let (sql, _) = self.heads_of(range, None);
        let (tenants, entities) = (list(tenants), list(entities));
        format!("{sql} and _tenant in ({tenants}) and {} in ({entities})", self.entity)
    }

    fn heads_of(&self, range: &str, only: Option<&Only<'_>>) -> (String, Vec<SqlValue>) {
        let mut sql = format!("select {} from {} where {range}", self.heads.0, quoted(&self.name));
        let mut values = Vec::new();
        if let Some(only) = only {
            sql.push_str(" and _tenant = ?");
            values.push(SqlValue::Text(only.tenant.to_owned()));
            if let Some(types) = only.types {
                let marks = vec!["?"; types.len()].join(",");
                sql.push_str(&format!(" and _type in ({marks})"));
                values.extend(types.iter().cloned().map(SqlValue::Text));
            }
            if let Some(entity) = only.entity {
                sql.push_str(&format!(" and {} = ?", self.entity));
                values.push(SqlValue::Text(entity.to_owned()));
            }
        }
        (sql, values)
    }
}

/// The value of the contract's `key` as text: versions may have different ones.
fn entity(family: &Family) -> String {
    let of = |key: &Option<String>| {
        let key = key.as_ref().and_then(|key| family.fields.iter().find(|f| f.name == *key));
        match key {
            None => "cast(null as varchar)".to_owned(),
            Some(key) if key.ty.arrow() == DataType::Utf8 => quoted(&key.name),
            Some(key) => format!("cast({} as varchar)", quoted(&key.name)),
        }
    };
    let mut versions = family.versions.iter().map(|version| (version.version, of(&version.key)));
    let Some((_, newest)) = versions.next_back() else { return of(&None) };
    let others: Vec<String> = versions
        .filter(|(_, key)| *key != newest)
        .map(|(version, key)| format!("when {version} then {key}"))
        .collect();
    match others.is_empty() {
        true => newest,
        false => format!("case _version {} else {newest} end", others.join(" ")),
    }
}
