//! Rows of events: whose they are, and what is left of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::{and, cast, or};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use contracts::model::{EnrichValue, EventContract, Family, Relation, column};

use super::naming::Naming;
use super::{ERASED_BODY, Eraser, MARK};
use crate::deduplicate::hash;
use crate::overlay::Overlay;
use crate::sink::iceberg::NULLS;

/// Rows of which some were erased.
#[derive(Debug)]
pub struct ErasedRows {
    /// Those that were.
    pub which: BooleanArray,
    /// All rows, in their order.
    pub rows: RecordBatch,
    /// Names of the columns that differ.
    pub changed: Vec<String>,
}

impl Eraser {
    /// Notes the keys one level further down that rows of `level` name. To be called for every row of
    /// every family, level by level.
    pub fn learn(
        &mut self,
        level: usize,
        family: usize,
        rows: &RecordBatch,
    ) -> Result<(), ArrowError> {
        let Some(entities) = self.chain.get(level + 1) else { return Ok(()) };
        let contract = &self.domain.families[family];
        let inputs = entities.iter().flat_map(|entity| &self.domain.entities[*entity].inputs);
        let keys: BTreeSet<&str> = inputs
            .filter(|input| input.relation == Relation::Family(family))
            .map(|input| input.key.name.as_str())
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let named = self.naming_of(level, family, rows)?;
        let in_scope = self.in_scope(rows)?;
        let mut found = Vec::new();
        for key in keys {
            let texts = text(contract, rows, key)?;
            for row in (0..rows.num_rows()).filter(|row| in_scope.value(*row)) {
                let is_named = named.iter().any(|(_, column)| {
                    column.is_valid(row) && self.has_key(level, column.value(row))
                });
                if is_named && texts.is_valid(row) {
                    found.push(texts.value(row).to_owned());
                }
            }
        }
        self.order.below[level].extend(found);
        Ok(())
    }

    /// Columns of the family that tell whether a row is concerned.
    pub fn columns_to_tell(&self, family: usize) -> BTreeSet<&str> {
        let contract = &self.domain.families[family];
        let Naming { levels, lookups, .. } = &self.naming[family];
        let mut columns: BTreeSet<&str> =
            levels.iter().flatten().flat_map(|name| sources(contract, name)).collect();
        for lookup in lookups {
            columns.insert(&lookup.column);
            columns.extend(lookup.key.columns().iter().map(String::as_str));
        }
        columns
    }

    /// Rows (columns under the journal's names) that have something to be erased.
    pub fn concerned(&self, family: usize, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let mut all = self.belonging(family, rows)?;
        for (_, which) in self.looked_up(family, rows)? {
            all = or(&all, &which)?;
        }
        Ok(all)
    }

    /// Rows that belong to the subject and are not erased yet.
    fn belonging(&self, family: usize, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let in_scope = self.in_scope(rows)?;
        let levels = (0..self.chain.len())
            .map(|level| self.naming_of(level, family, rows))
            .collect::<Result<Vec<_>, _>>()?;
        let marks = rows.column_by_name(column::WARNINGS).and_then(|c| c.as_string_opt::<i32>());
        let is_erased = |row: usize| marks.is_some_and(|marks| is_erased(marks, row));
        let belongs = |row: usize| {
            let mut names = levels[0].iter().filter(|(_, column)| column.is_valid(row)).peekable();
            if names.peek().is_some() {
                return names.any(|(_, column)| self.has_key(0, column.value(row)));
            }
            let below = levels.iter().enumerate().skip(1);
            !is_erased(row)
                && below.into_iter().any(|(level, columns)| {
                    columns.iter().any(|(_, column)| {
                        column.is_valid(row) && self.has_key(level, column.value(row))
                    })
                })
        };
        Ok((0..rows.num_rows()).map(|row| Some(in_scope.value(row) && belongs(row))).collect())
    }

    /// Rows of whomever that have a value looked up in what belongs to the subject, by column.
    fn looked_up(
        &self,
        family: usize,
        rows: &RecordBatch,
    ) -> Result<Vec<(&str, BooleanArray)>, ArrowError> {
        // Rows of a version that is gone may have been looked up like any other.
        let contract = &self.domain.families[family];
        let is_of_version = |found: i64, version: u32| {
            let mut known = contract.versions.iter();
            found == i64::from(version) || !known.any(|known| i64::from(known.version) == found)
        };
        let mut found = Vec::new();
        for lookup in &self.naming[family].lookups {
            let Some(values) = rows.column_by_name(&lookup.column) else { continue };
            let versions = rows
                .column_by_name(column::VERSION)
                .and_then(|c| c.as_primitive_opt::<Int64Type>());
            let keys = cast(&lookup.key.evaluate(rows), &DataType::Utf8)?;
            let (keys, in_scope) = (keys.as_string::<i32>(), self.in_scope(rows)?);
            let is_of = |row: usize| {
                in_scope.value(row)
                    && values.is_valid(row)
                    && versions.is_some_and(|v| is_of_version(v.value(row), lookup.version))
                    && keys.is_valid(row)
                    && self.has_key(lookup.level, keys.value(row))
            };
            let which = (0..rows.num_rows()).map(|row| Some(is_of(row))).collect();
            found.push((lookup.column.as_str(), which));
        }
        Ok(found)
    }

    /// The rows after the erasure; `None` when none of them is concerned. The columns are those of the
    /// journal or a part of them that has all fields and enriched columns.
    pub fn erase(
        &self,
        family: usize,
        rows: &RecordBatch,
    ) -> Result<Option<ErasedRows>, ArrowError> {
        let concerned = self.concerned(family, rows)?;
        if concerned.true_count() == 0 {
            return Ok(None);
        }
        let which = self.belonging(family, rows)?;
        let contract = &self.domain.families[family];
        // By the rows as they are: what names the subject is gone afterwards.
        let looked_up = self.looked_up(family, rows)?;
        let mut rows = Overlay::of(rows.clone());
        for (name, which) in looked_up {
            null_where(&mut rows, name, &which)?;
        }
        let fields = self.fields(family, &mut rows, &which)?;
        null_where(&mut rows, column::EXTRA, &which)?;
        mark(&mut rows, &which)?;
        absent(contract, &mut rows, &fields)?;
        self.enriched(family, &mut rows, &which, &concerned)?;
        for computed in &contract.computed {
            if rows.batch().column_by_name(&computed.name).is_some()
                && depends(computed.expr.columns(), &rows)
            {
                let values = computed.expr.evaluate(rows.batch());
                rows.set_where(&computed.name, &concerned, values)?;
            }
        }
        if rows.batch().column_by_name(column::BODY).is_some() {
            let body = Int64Array::from(vec![ERASED_BODY; which.len()]);
            rows.set_where(column::BODY, &which, Arc::new(body))?;
        }
        let changed = rows.changed().to_vec();
        Ok(Some(ErasedRows { which: concerned, rows: rows.batch().clone(), changed }))
    }

    /// Of the tenant and not later than the erasure.
    fn in_scope(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("no column `{name}`"));
        let tenants = rows.column_by_name(column::TENANT).and_then(|c| c.as_string_opt::<i32>());
        let tenants = tenants.ok_or_else(|| missing(column::TENANT))?;
        let seqs = rows.column_by_name(column::SEQ).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let seqs = seqs.ok_or_else(|| missing(column::SEQ))?;
        let tenant = &self.order.subject.tenant;
        let is_in =
            |row: usize| tenants.value(row) == tenant && seqs.value(row) <= self.order.until_seq;
        Ok((0..rows.num_rows()).map(|row| Some(is_in(row))).collect())
    }

    /// The columns that name a key of the level, as text.
    fn naming_of(
        &self,
        level: usize,
        family: usize,
        rows: &RecordBatch,
    ) -> Result<Vec<(&str, StringArray)>, ArrowError> {
        let contract = &self.domain.families[family];
        let columns = self.naming[family].levels[level].iter();
        columns.map(|name| Ok((name.as_str(), text(contract, rows, name)?))).collect()
    }

    /// Makes fields null: personal ones in every concerned row, naming ones where they name the subject.
    /// Returns which rows of which field.
    fn fields(
        &self,
        family: usize,
        rows: &mut Overlay,
        which: &BooleanArray,
    ) -> Result<Vec<(String, BooleanArray)>, ArrowError> {
        let contract = &self.domain.families[family];
        let mut changed = Vec::new();
        for (name, texts) in self.naming_of(0, family, rows.batch())? {
            let is_subject = |row: usize| texts.is_valid(row) && self.has_key(0, texts.value(row));
            let naming: BooleanArray = (0..texts.len()).map(|row| Some(is_subject(row))).collect();
            let naming = and(which, &naming)?;
            for name in sources(contract, name) {
                null_where(rows, name, &naming)?;
                changed.push((name.to_owned(), naming.clone()));
            }
        }
        for name in &self.naming[family].personal {
            null_where(rows, name, which)?;
            changed.push((name.clone(), which.clone()));
        }
        Ok(changed)
    }

    /// What was computed from other columns is computed again; what was looked up in the subject's
    /// entities is gone, and so is what cannot be computed any more.
    fn enriched(
        &self,
        family: usize,
        rows: &mut Overlay,
        which: &BooleanArray,
        concerned: &BooleanArray,
    ) -> Result<(), ArrowError> {
        let contract = &self.domain.families[family];
        for lookup in &self.naming[family].lookups {
            null_where(rows, &lookup.column, which)?;
        }
        for version in &contract.versions {
            let these = and(concerned, &rows.of_version(version.version)?)?;
            if these.true_count() == 0 {
                continue;
            }
            for enrich in &version.enrich {
                if let EnrichValue::Expr(expr) = &enrich.value
                    && depends(expr.columns(), rows)
                {
                    let values = expr.evaluate(rows.batch());
                    rows.set_where(&enrich.name, &these, values)?;
                }
            }
        }
        let versions = rows.int64(column::VERSION)?;
        let is_known = |version: i64| {
            contract.versions.iter().any(|known| i64::from(known.version) == version)
        };
        let gone: BooleanArray = versions.iter().map(|v| Some(!v.is_some_and(is_known))).collect();
        let gone = and(which, &gone)?;
        if gone.true_count() > 0 {
            for def in &contract.enriched {
                null_where(rows, &def.name, &gone)?;
            }
        }
        Ok(())
    }
}

/// Body hashes of rows, but for those that were erased: see [`ERASED_BODY`].
pub fn body_hashes(version: &EventContract, rows: &RecordBatch) -> Vec<i64> {
    let mut hashes = hash::body_hashes(version, rows);
    let marks = rows.column_by_name(column::WARNINGS).and_then(|c| c.as_string_opt::<i32>());
    for (row, hash) in hashes.iter_mut().enumerate() {
        if marks.is_some_and(|marks| is_erased(marks, row)) {
            *hash = ERASED_BODY;
        }
    }
    hashes
}

/// A column as text, computed where the rows do not have it.
fn text(family: &Family, rows: &RecordBatch, name: &str) -> Result<StringArray, ArrowError> {
    let values: ArrayRef = match rows.column_by_name(name) {
        Some(values) => Arc::clone(values),
        None => match family.computed.iter().find(|computed| computed.name == name) {
            Some(computed) => computed.expr.evaluate(rows),
            None => new_null_array(&DataType::Utf8, rows.num_rows()),
        },
    };
    Ok(cast(&values, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The column itself and the columns that it is computed from, directly or not, as far as the rows of
/// the lake have them.
pub(super) fn sources<'a>(family: &'a Family, name: &'a str) -> Vec<&'a str> {
    let known = |name: &str| {
        let mut known = family.fields.iter().chain(&family.enriched);
        known.find(|def| def.name == name).map(|def| def.name.as_str())
    };
    let mut found: Vec<&str> = Vec::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let column = known(name);
        if column.is_some_and(|column| found.contains(&column)) {
            continue;
        }
        found.extend(column);
        let computed = family.computed.iter().filter(|computed| computed.name == name);
        open.extend(computed.flat_map(|computed| computed.expr.columns()).map(String::as_str));
        for enrich in family.versions.iter().flat_map(|version| &version.enrich) {
            if let (true, EnrichValue::Expr(expr)) = (enrich.name == name, &enrich.value) {
                open.extend(expr.columns().iter().map(String::as_str));
            }
        }
    }
    found
}

fn depends(columns: &BTreeSet<String>, rows: &Overlay) -> bool {
    rows.changed().iter().any(|changed| columns.contains(changed))
}

/// Makes a column null where `which` is true. A column that the rows do not have is left alone.
fn null_where(rows: &mut Overlay, name: &str, which: &BooleanArray) -> Result<(), ArrowError> {
    let Some(values) = rows.batch().column_by_name(name) else { return Ok(()) };
    let nulls = new_null_array(values.data_type(), values.len());
    rows.set_where(name, which, nulls)
}

/// Was the row erased, to judge by its warnings?
pub fn is_erased(warnings: &StringArray, row: usize) -> bool {
    warnings.is_valid(row) && has_mark(warnings.value(row))
}

fn has_mark(warnings: &str) -> bool {
    warnings.split(',').any(|warning| warning == MARK)
}

/// Notes in the rows that they were erased.
fn mark(rows: &mut Overlay, which: &BooleanArray) -> Result<(), ArrowError> {
    let before = rows.text(column::WARNINGS)?;
    let marked: StringArray = (0..before.len())
        .map(|row| match before.is_valid(row).then(|| before.value(row)) {
            None => Some(MARK.to_owned()),
            Some(warnings) if has_mark(warnings) => Some(warnings.to_owned()),
            Some(warnings) => Some(format!("{warnings},{MARK}")),
        })
        .collect();
    rows.set_where(column::WARNINGS, which, Arc::new(marked))
}

/// A field that was erased counts as absent: bits in the journal, no name in the lake.
fn absent(
    family: &Family,
    rows: &mut Overlay,
    erased: &[(String, BooleanArray)],
) -> Result<(), ArrowError> {
    if rows.batch().column_by_name(column::ABSENT).is_some() {
        let mut bits: Vec<i64> = rows.int64(column::ABSENT)?.values().to_vec();
        for (name, which) in erased {
            // The loader refuses families with more than 64 fields.
            let place = family.fields.iter().take(64).position(|def| def.name == *name);
            let Some(place) = place else { continue };
            for (bits, is_erased) in bits.iter_mut().zip(which.values()) {
                *bits |= i64::from(is_erased) << place;
            }
        }
        rows.set(column::ABSENT, Arc::new(Int64Array::from(bits)))?;
    }
    if rows.batch().column_by_name(NULLS).is_some() {
        let before = rows.text(NULLS)?;
        let is_erased = |row: usize, name: &str| {
            erased.iter().any(|(erased, which)| erased == name && which.value(row))
        };
        let named: StringArray = (0..before.len())
            .map(|row| {
                let names = before.is_valid(row).then(|| before.value(row))?.split(',');
                let kept: Vec<&str> = names.filter(|name| !is_erased(row, name)).collect();
                (!kept.is_empty()).then(|| kept.join(","))
            })
            .collect();
        rows.set(NULLS, Arc::new(named))?;
    }
    Ok(())
}
