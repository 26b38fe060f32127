//! Accepted events as records: the contract's key, the event as JSON (see
//! [`crate::encode::event`]), and what the journal knows of it as headers (see [`header`]).

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use contracts::model::{Domain, Family, Relation, column};

use super::record::{Headers, Mark, Record, header};
use crate::encode::event::{EventRows, EventWriter, WrongColumns};

/// How rows of one family become records.
#[derive(Debug)]
pub(super) struct EventFamily {
    name: String,
    writer: EventWriter,
    /// (version, event type) → column with the key.
    keys: Vec<(i64, String, String)>,
}

impl EventFamily {
    pub(super) fn new(domain: &Domain, family: &Family) -> Self {
        let mut keys = Vec::new();
        for contract in &family.versions {
            for event_type in &contract.names {
                let key = contract.key.clone().or_else(|| entity_key(domain, family, event_type));
                if let Some(key) = key {
                    keys.push((i64::from(contract.version), event_type.clone(), key));
                }
            }
        }
        Self { name: family.name.clone(), writer: EventWriter::new(family), keys }
    }

    fn key_column(&self, version: i64, event_type: &str) -> Option<&str> {
        let found = self.keys.iter().find(|(v, name, _)| *v == version && name == event_type);
        found.map(|(_, _, column)| column.as_str())
    }
}

/// The column with the key of the first entity that is folded from events of that type: what
/// belongs to one thing stays in one partition.
fn entity_key(domain: &Domain, family: &Family, event_type: &str) -> Option<String> {
    let inputs = domain.entities.iter().flat_map(|entity| &entity.inputs);
    let takes = |types: &[String]| types.is_empty() || types.iter().any(|name| name == event_type);
    inputs
        .filter(|input| input.relation == Relation::Family(family.index))
        .find(|input| takes(&input.event_types))
        .map(|input| input.key.name.clone())
}

/// Rows of one family in [`Family::schema`], column by column.
pub(super) struct Events<'a> {
    family: &'a EventFamily,
    rows: EventRows<'a>,
    /// Key columns as text.
    keys: BTreeMap<&'a str, StringArray>,
    types: &'a StringArray,
    tenants: &'a StringArray,
    warnings: &'a StringArray,
    late: &'a BooleanArray,
    versions: &'a [i64],
    id_hi: &'a [i64],
    id_lo: &'a [i64],
    pub(super) seqs: &'a [i64],
}

impl<'a> Events<'a> {
    pub(super) fn new(
        family: &'a EventFamily,
        rows: &'a RecordBatch,
    ) -> Result<Self, WrongColumns> {
        let wrong =
            |column: &str| WrongColumns { family: family.name.clone(), column: column.to_owned() };
        let find = |name: &str| rows.column_by_name(name).ok_or_else(|| wrong(name));
        let int64 = |name: &str| {
            let column = find(name)?.as_primitive_opt::<Int64Type>();
            column.map(|column| &**column.values()).ok_or_else(|| wrong(name))
        };
        let text = |name: &str| find(name)?.as_string_opt::<i32>().ok_or_else(|| wrong(name));
        let mut keys = BTreeMap::new();
        for (_, _, name) in &family.keys {
            if !keys.contains_key(name.as_str()) {
                // As entities do it: keys are texts, or numbers that are shown as text.
                let key = cast(find(name)?, &DataType::Utf8).map_err(|_| wrong(name))?;
                keys.insert(name.as_str(), key.as_string::<i32>().clone());
            }
        }
        Ok(Self {
            family,
            rows: EventRows::new(&family.writer, rows)?,
            keys,
            types: text(column::TYPE)?,
            tenants: text(column::TENANT)?,
            warnings: text(column::WARNINGS)?,
            late: find(column::LATE)?.as_boolean_opt().ok_or_else(|| wrong(column::LATE))?,
            versions: int64(column::VERSION)?,
            id_hi: int64(column::ID_HI)?,
            id_lo: int64(column::ID_LO)?,
            seqs: int64(column::SEQ)?,
        })
    }

    /// How many rows of a batch, ascending by `_seq`, are not beyond `until`.
    pub(super) fn until(rows: &RecordBatch, until: i64) -> Result<usize, WrongColumns> {
        let wrong = || WrongColumns { family: String::new(), column: column::SEQ.to_owned() };
        let seqs = rows.column_by_name(column::SEQ).ok_or_else(wrong)?;
        let seqs = seqs.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        Ok(seqs.values().partition_point(|seq| *seq <= until))
    }

    /// The record of `row`; its value is written into `value`.
    pub(super) fn record<'r>(&'r self, row: usize, value: &'r mut Vec<u8>) -> Record<'r> {
        value.clear();
        self.rows.write(row, value);
        let (version, event_type) = (self.versions[row], self.types.value(row));
        let key = self
            .family
            .key_column(version, event_type)
            .and_then(|name| self.keys.get(name))
            .filter(|keys| keys.is_valid(row))
            .map(|keys| keys.value(row).as_bytes());
        let late = if self.late.value(row) { "true" } else { "false" };
        let mut headers = Headers::with_capacity(12);
        for (name, value) in self.rows.headers(row) {
            headers = headers.text(name, &value);
        }
        let headers = headers
            .text(header::SEQ, &self.seqs[row].to_string())
            .text(header::TENANT, self.tenants.value(row))
            .text(header::CONTRACT, &self.family.name)
            .text(header::CONTRACT_VERSION, &version.to_string())
            .text(header::EVENT_TYPE, event_type)
            .text(header::LATE, late)
            .maybe(header::WARNINGS, self.warnings.is_valid(row).then(|| self.warnings.value(row)));
        Record {
            position: self.seqs[row],
            mark: Mark::Event { hi: self.id_hi[row], lo: self.id_lo[row] },
            key,
            value: Some(&*value),
            headers,
        }
    }
}
