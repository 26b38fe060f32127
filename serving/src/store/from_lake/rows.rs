//! Rows of the lake as journal rows of the contracts of today.
//!
//! The lake keeps what cannot be computed: what the record said, what was looked up when the event was
//! applied, and where it came from. All the rest follows from the contracts and is made here by the same
//! expressions and hashes that make it when an event is applied. A row may be older than a field of its
//! contract; then the field is taken from what was kept in `_extra`, as a changed contract does it with
//! the journal ([`super::super::fill`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use contracts::model::{EnrichValue, Family, column};
use pipeline::deduplicate::hash;
use pipeline::erase;
use pipeline::overlay::Overlay;
use pipeline::sink::iceberg::{NULLS, absent_bits};
use serde::de::IgnoredAny;

use crate::store::contract_state::FieldBefore;
use crate::store::extra;

/// Journal rows of `family` from `given`, the rows of its table in the lake under the journal's names.
pub(in crate::store) fn journal_rows(
    family: &Family,
    given: &RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    let mut rows = Overlay::of(base(family, given)?);
    let names = match given.column_by_name(NULLS) {
        Some(names) => names.as_string::<i32>().clone(),
        None => StringArray::new_null(given.num_rows()),
    };
    let told = take_extra(family, &mut rows, &names)?;
    let names = with_told(&names, &told);
    let bits = absent_bits(family, rows.batch(), &names)?;
    rows.set(column::ABSENT, Arc::new(bits))?;
    for version in &family.versions {
        let of_version = rows.of_version(version.version)?;
        if of_version.true_count() == 0 {
            continue;
        }
        let hashes = erase::body_hashes(version, rows.batch());
        rows.set_where(column::BODY, &of_version, Arc::new(Int64Array::from(hashes)))?;
        for enrich in &version.enrich {
            // What was looked up is as it was then.
            if let EnrichValue::Expr(expr) = &enrich.value {
                let values = expr.evaluate(rows.batch());
                rows.set_where(&enrich.name, &of_version, values)?;
            }
        }
    }
    for computed in &family.computed {
        let values = computed.expr.evaluate(rows.batch());
        rows.set(&computed.name, values)?;
    }
    RecordBatch::try_new(family.schema(), rows.batch().columns().to_vec())
}

/// All columns of the family's journal: given, hashed from the id, or not known yet.
fn base(family: &Family, given: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let text = |name: &str| {
        let column = given.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        column.ok_or_else(|| ArrowError::SchemaError(format!("there is no column `{name}`")))
    };
    let (tenants, ids) = (text(column::TENANT)?, text(column::ID)?);
    let hashes: Vec<_> = (0..given.num_rows())
        .map(|row| hash::id_hash(tenants.value(row), ids.value(row)))
        .collect();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in family.schema().fields() {
        columns.push(match (given.column_by_name(field.name()), field.name().as_str()) {
            (Some(column), _) => Arc::clone(column),
            (None, column::ID_HI) => {
                Arc::new(Int64Array::from_iter_values(hashes.iter().map(|hash| hash.hi)))
            }
            (None, column::ID_LO) => {
                Arc::new(Int64Array::from_iter_values(hashes.iter().map(|hash| hash.lo)))
            }
            (None, column::ABSENT | column::BODY) => {
                Arc::new(Int64Array::from(vec![0; given.num_rows()]))
            }
            (None, _) => new_null_array(field.data_type(), given.num_rows()),
        });
        // Columns are filled one after the other; in the end the family's own schema is asked for.
        fields.push(Field::new(field.name(), field.data_type().clone(), true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Moves members of `_extra` that the row's version declares today into their columns, and gives
/// absent fields their default. Returns for each row the fields that were null in `_extra`.
fn take_extra(
    family: &Family,
    rows: &mut Overlay,
    names: &StringArray,
) -> Result<BTreeMap<usize, Vec<String>>, ArrowError> {
    let mut told = BTreeMap::new();
    for (wanted, of_rows) in missing(family, rows, names)? {
        let mask: BooleanArray =
            (0..rows.batch().num_rows()).map(|row| Some(of_rows.contains(&row))).collect();
        let before = without(family, &wanted);
        let versions = rows.int64(column::VERSION)?.clone();
        let taken = extra::take(family, &before, &versions, rows.text(column::EXTRA)?)?;
        for found in taken.fields {
            let mask = arrow::compute::and(&mask, &found.rows)?;
            for row in of_rows.iter().filter(|row| mask.value(**row) && found.values.is_null(**row))
            {
                told.entry(*row).or_insert_with(Vec::new).push(found.name.clone());
            }
            rows.set_where(&found.name, &mask, found.values)?;
        }
        rows.set_where(column::EXTRA, &mask, taken.rest)?;
    }
    Ok(told)
}

/// Rows that may be older than some fields of their version, by those fields.
fn missing(
    family: &Family,
    rows: &Overlay,
    names: &StringArray,
) -> Result<BTreeMap<BTreeSet<String>, BTreeSet<usize>>, ArrowError> {
    let versions = rows.int64(column::VERSION)?;
    let extra = rows.text(column::EXTRA)?;
    let warnings = rows.text(column::WARNINGS)?;
    let fields = family.versions.iter().flat_map(|version| &version.fields);
    let personal: BTreeSet<&String> =
        fields.filter(|field| field.pii).map(|field| &field.name).collect();
    let mut groups: BTreeMap<BTreeSet<String>, BTreeSet<usize>> = BTreeMap::new();
    for version in &family.versions {
        let defaults = version.fields.iter().any(|field| field.default.is_some());
        if !defaults && extra.null_count() == extra.len() {
            continue;
        }
        let columns: Vec<_> = version
            .fields
            .iter()
            .filter_map(|field| Some((field, rows.batch().column_by_name(&field.name)?)))
            .filter(|(_, column)| column.null_count() > 0)
            .collect();
        for row in 0..rows.batch().num_rows() {
            if versions.value(row) != i64::from(version.version) {
                continue;
            }
            let members: Option<BTreeMap<String, IgnoredAny>> = match extra.is_valid(row) {
                true => serde_json::from_str(extra.value(row)).ok(),
                false => None,
            };
            let named = |name: &str| {
                names.is_valid(row) && names.value(row).split(',').any(|named| named == name)
            };
            let wanted: BTreeSet<String> = columns
                .iter()
                .filter(|(field, column)| {
                    let kept = members.as_ref().is_some_and(|m| m.contains_key(&field.name));
                    // What was erased does not come back as the default.
                    let erased = personal.contains(&field.name) && erase::is_erased(warnings, row);
                    let is_missing = kept || (field.default.is_some() && !erased);
                    column.is_null(row) && is_missing && !named(&field.name)
                })
                .map(|(field, _)| field.name.clone())
                .collect();
            if !wanted.is_empty() {
                groups.entry(wanted).or_default().insert(row);
            }
        }
    }
    Ok(groups)
}

/// The fields of the family as if no version had had those `wanted`.
fn without(family: &Family, wanted: &BTreeSet<String>) -> Vec<FieldBefore> {
    let known = family.fields.iter().filter(|def| !wanted.contains(&def.name));
    known
        .map(|def| {
            let has =
                |fields: &[contracts::model::Field]| fields.iter().any(|f| f.name == def.name);
            let versions = family.versions.iter().filter(|version| has(&version.fields));
            FieldBefore {
                name: def.name.clone(),
                versions: versions.map(|version| version.version).collect(),
            }
        })
        .collect()
}

fn with_told(names: &StringArray, told: &BTreeMap<usize, Vec<String>>) -> StringArray {
    if told.is_empty() {
        return names.clone();
    }
    (0..names.len())
        .map(|row| {
            let named = names.is_valid(row).then(|| names.value(row).to_owned());
            let told = told.get(&row).into_iter().flatten().cloned();
            let all: Vec<String> = named.into_iter().chain(told).collect();
            (!all.is_empty()).then(|| all.join(","))
        })
        .collect()
}

/// `values` as a column of that type.
pub(super) fn fit(values: &ArrayRef, ty: &DataType) -> Result<ArrayRef, ArrowError> {
    if values.data_type() == ty { Ok(Arc::clone(values)) } else { arrow::compute::cast(values, ty) }
}
