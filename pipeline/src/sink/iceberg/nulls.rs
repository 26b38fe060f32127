//! Which fields are null because the record said so, as names: `_absent` of the journal for readers who
//! do not know the contracts of the day.
//!
//! The journal keeps a bit for each field of the family as it is today, and moves the bits when the
//! contracts change. Rows of the lake never change, so they name the fields instead, and only those
//! that are null without being absent: there are few of them. A field that is null and not named was
//! absent, also one that the contract did not know yet.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use contracts::model::{Family, column};

use super::schema::NULLS;

/// Journal rows with the column [`NULLS`] behind the others.
pub(super) fn with_names(family: &Family, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let names = names(family, rows)?;
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(NULLS, DataType::Utf8, true)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(names));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn names(family: &Family, rows: &RecordBatch) -> Result<StringArray, ArrowError> {
    let absent = int64(rows, column::ABSENT)?;
    let mut named: Vec<Vec<&str>> = vec![Vec::new(); rows.num_rows()];
    // The loader refuses families with more than 64 fields.
    for (place, field) in family.fields.iter().enumerate().take(64) {
        let Some(values) = rows.column_by_name(&field.name) else { continue };
        if values.null_count() == 0 {
            continue;
        }
        for (row, named) in named.iter_mut().enumerate() {
            if values.is_null(row) && absent.value(row) >> place & 1 == 0 {
                named.push(&field.name);
            }
        }
    }
    Ok(named.iter().map(|names| (!names.is_empty()).then(|| names.join(","))).collect())
}

/// The bits of `_absent` for the fields of today.
pub fn absent_bits(
    family: &Family,
    rows: &RecordBatch,
    names: &StringArray,
) -> Result<Int64Array, ArrowError> {
    let versions = int64(rows, column::VERSION)?;
    // A version that is gone had any of the fields.
    let has: HashMap<i64, Vec<bool>> = family
        .versions
        .iter()
        .map(|version| {
            let has =
                family.fields.iter().map(|def| version.fields.iter().any(|f| f.name == def.name));
            (i64::from(version.version), has.collect())
        })
        .collect();
    let mut bits = vec![0_i64; rows.num_rows()];
    for (place, def) in family.fields.iter().enumerate().take(64) {
        let values = rows.column_by_name(&def.name);
        for (row, bits) in bits.iter_mut().enumerate() {
            let known = has.get(&versions.value(row)).is_none_or(|has| has[place]);
            let is_null = values.is_none_or(|values| values.is_null(row));
            let named =
                || names.is_valid(row) && names.value(row).split(',').any(|name| name == def.name);
            if !known || (is_null && !named()) {
                *bits |= 1 << place;
            }
        }
    }
    Ok(Int64Array::from(bits))
}

fn int64<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, ArrowError> {
    rows.column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| ArrowError::SchemaError(format!("rows have no column `{name}` of numbers")))
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use contracts::model::ColumnDef;
    use contracts::types::Type;

    use super::*;

    fn family(fields: &[&str]) -> Family {
        Family {
            index: 0,
            name: "f".to_owned(),
            versions: Vec::new(),
            fields: fields
                .iter()
                .map(|name| ColumnDef { name: (*name).to_owned(), ty: Type::Int64 })
                .collect(),
            enriched: Vec::new(),
            computed: Vec::new(),
        }
    }

    fn rows(fields: &[(&str, [Option<i64>; 3])], absent: [i64; 3]) -> RecordBatch {
        let number =
            |values: [Option<i64>; 3]| -> ArrayRef { Arc::new(Int64Array::from_iter(values)) };
        let mut columns = vec![
            (column::VERSION, number([Some(1); 3])),
            (column::ABSENT, number(absent.map(Some))),
        ];
        columns.extend(fields.iter().map(|(name, values)| (*name, number(*values))));
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn nulls_are_told_from_absent_fields_whatever_their_order() {
        let fields =
            [("a", [Some(1), None, None]), ("b", [None, None, Some(2)]), ("c", [None, None, None])];
        let written = rows(&fields, [0b100, 0b110, 0b000]);
        let named = with_names(&family(&["a", "b", "c"]), &written).unwrap();
        let names = named.column_by_name(NULLS).unwrap().as_string::<i32>().clone();
        let texts: Vec<_> = names.iter().collect();
        assert_eq!(texts, [Some("b"), Some("a"), Some("a,c")]);
        // Another field came first meanwhile, and the others changed places.
        let read = family(&["new", "c", "b", "a"]);
        let bits = absent_bits(&read, &named, &names).unwrap();
        assert_eq!(bits.values(), &[0b0011, 0b0111, 0b0001]);
    }
}
