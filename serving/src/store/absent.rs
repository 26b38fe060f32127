//! The bits of `_absent` of stored rows, when the list of fields changed.
//!
//! Bit `i` stands for field `i` of the family, so a field more in the middle moves all bits after
//! it.

use arrow::array::Int64Array;
use contracts::model::Family;

use super::contract_state::FieldBefore;
use super::extra::{Taken, had};

/// What a row's bit for a field of today is.
enum Bit {
    /// The version does not have the field.
    Set,
    /// The version requires the field.
    Clear,
    /// As it was, at this place.
    Old(usize),
    /// The version has it now and had it not before: clear if a value was found.
    Found(usize),
}

/// Bits for the fields of today, from the bits for the fields `before`.
pub(super) fn bits(
    family: &Family,
    before: &[FieldBefore],
    versions: &Int64Array,
    old: &Int64Array,
    taken: &Taken,
) -> Int64Array {
    let place = |name: &str| before.iter().position(|old| old.name == name);
    let mut plans: Vec<(i64, Vec<Bit>)> = Vec::with_capacity(family.versions.len());
    for version in &family.versions {
        let bits = family.fields.iter().map(|def| {
            let Some(field) = version.fields.iter().find(|field| field.name == def.name) else {
                return Bit::Set;
            };
            if had(before, &def.name, version.version) {
                return place(&def.name).map_or(Bit::Clear, Bit::Old);
            }
            if field.required {
                return Bit::Clear;
            }
            let found = taken.fields.iter().position(|found| found.name == def.name);
            found.map_or(Bit::Set, Bit::Found)
        });
        plans.push((i64::from(version.version), bits.collect()));
    }
    // Rows of a version that is gone: their bits only move.
    let moved: Vec<Bit> =
        family.fields.iter().map(|def| place(&def.name).map_or(Bit::Set, Bit::Old)).collect();
    let of_row = |row: usize| {
        let plan = plans.iter().find(|(version, _)| *version == versions.value(row));
        let plan = plan.map_or(&moved, |(_, plan)| plan);
        // The loader refuses families with more than 64 fields.
        plan.iter().enumerate().take(64).fold(0i64, |bits, (at, bit)| {
            let absent = match bit {
                Bit::Set => true,
                Bit::Clear => false,
                Bit::Old(place) => *place < 64 && old.value(row) >> place & 1 == 1,
                Bit::Found(field) => !taken.fields[*field].rows.value(row),
            };
            bits | i64::from(absent) << at
        })
    };
    Int64Array::from_iter_values((0..old.len()).map(of_row))
}
