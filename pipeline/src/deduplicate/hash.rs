//! When two records are the same event: same (tenant, event id), same decoded fields.
//!
//! Hashes are over decoded values, column by column, so the order of keys, spaces and escapes in
//! the record do not matter. A member that is absent and one that is null are the same.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use contracts::model::{EventContract, column};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::store::IdHash;

/// Hash of (tenant, event id).
pub fn id_hash(tenant: &str, id: &str) -> IdHash {
    let mut hasher = Xxh3::new();
    hasher.update(tenant.as_bytes());
    hasher.update(&[0]);
    hasher.update(id.as_bytes());
    let hash = hasher.digest128();
    IdHash { hi: (hash >> 64) as i64, lo: hash as i64 }
}

/// Hash over type, time and declared fields of each row of a decoded batch.
pub fn body_hashes(contract: &EventContract, rows: &RecordBatch) -> Vec<i64> {
    let mut hashes = vec![u64::from(contract.version); rows.num_rows()];
    let envelope = [column::TYPE, column::TIME].into_iter();
    for name in envelope.chain(contract.fields.iter().map(|field| field.name.as_str())) {
        if let Some(column) = rows.column_by_name(name) {
            mix(column, &mut hashes);
        }
    }
    hashes.into_iter().map(|hash| hash as i64).collect()
}

const NULL: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(array: &ArrayRef, hashes: &mut [u64]) {
    macro_rules! each {
        ($get:expr) => {
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = if array.is_null(row) {
                    hash.wrapping_mul(NULL).rotate_left(5)
                } else {
                    $get(row, *hash)
                };
            }
        };
    }
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            each!(|row, seed| xxh3_64_with_seed(texts.value(row).as_bytes(), seed));
        }
        DataType::Boolean => {
            let values = array.as_boolean();
            each!(|row, seed| xxh3_64_with_seed(&[u8::from(values.value(row))], seed));
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            each!(|row, seed| xxh3_64_with_seed(&values.value(row).to_le_bytes(), seed));
        }
        DataType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            each!(|row, seed| xxh3_64_with_seed(&values.value(row).to_le_bytes(), seed));
        }
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>();
            each!(|row, seed| xxh3_64_with_seed(&values.value(row).to_le_bytes(), seed));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            each!(|row, seed| xxh3_64_with_seed(&values.value(row).to_bits().to_le_bytes(), seed));
        }
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            each!(|row, seed| xxh3_64_with_seed(&values.value(row).to_le_bytes(), seed));
        }
        DataType::Struct(_) => {
            let members = array.as_struct();
            let mut inner = vec![0; members.len()];
            members.columns().iter().for_each(|member| mix(member, &mut inner));
            each!(|row: usize, seed| xxh3_64_with_seed(&u64::to_le_bytes(inner[row]), seed));
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let mut inner = vec![0; lists.values().len()];
            mix(lists.values(), &mut inner);
            let offsets = lists.value_offsets();
            each!(|row: usize, seed| {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                inner[from..to].iter().fold(xxh3_64_with_seed(&[1], seed), |hash, item: &u64| {
                    xxh3_64_with_seed(&item.to_le_bytes(), hash)
                })
            });
        }
        // `Type::arrow` gives no other type.
        other => unreachable!("no contract type is held as {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn hash(columns: &[ArrayRef]) -> Vec<u64> {
        let mut hashes = vec![7; columns[0].len()];
        columns.iter().for_each(|column| mix(column, &mut hashes));
        hashes
    }

    #[test]
    fn a_value_in_the_next_column_is_another_body() {
        let texts = |a: Option<&str>| Arc::new(StringArray::from(vec![a])) as ArrayRef;
        assert_ne!(hash(&[texts(Some("a")), texts(None)]), hash(&[texts(None), texts(Some("a"))]));
        assert_ne!(hash(&[texts(Some("")), texts(None)]), hash(&[texts(None), texts(None)]));
        assert_eq!(hash(&[texts(Some("a"))]), hash(&[texts(Some("a"))]));
    }

    #[test]
    fn rows_do_not_depend_on_their_neighbours() {
        let all: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let together = hash(std::slice::from_ref(&all));
        for (row, hashed) in together.iter().enumerate() {
            assert_eq!(hash(&[all.slice(row, 1)])[0], *hashed);
        }
    }

    #[test]
    fn ids_of_two_tenants_differ() {
        assert_ne!(id_hash("a", "1"), id_hash("b", "1"));
        assert_ne!(id_hash("a", "b1"), id_hash("ab", "1"));
    }
}
