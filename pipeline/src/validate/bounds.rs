//! The declared bounds of one field, compiled for its Arrow column.

use std::ops::Deref;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use contracts::model::{Constraints, Field};
use contracts::types::Type;
use hashbrown::HashSet;
use regex::Regex;

use crate::decode::clip;
use crate::outcome::Reason;

use super::{Failure, Open};

/// Bounds of one field.
#[derive(Debug)]
pub(super) struct FieldBounds {
    name: String,
    private: bool,
    column: usize,
    checks: Vec<Check>,
}

#[derive(Debug)]
enum Check {
    Pattern(Regex),
    Values {
        set: HashSet<String>,
        list: String,
    },
    /// Smallest and largest allowed integer or unscaled decimal, both included.
    Exact {
        low: i128,
        high: i128,
        text: String,
    },
    Float {
        bounds: Vec<(Side, f64)>,
        text: String,
    },
    Length {
        min: usize,
        max: usize,
    },
    Items {
        min: usize,
        max: usize,
    },
}

/// A side of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Min,
    Below,
    Max,
}

impl FieldBounds {
    /// The bounds of a field, if it has any.
    pub(super) fn new(field: &Field, column: usize) -> Option<Self> {
        let constraints = &field.constraints;
        let mut checks = Vec::new();
        if let Some(pattern) = &constraints.pattern {
            checks.push(Check::Pattern(pattern.clone()));
        }
        if let Some(values) = &constraints.values {
            let set = values.iter().cloned().collect();
            checks.push(Check::Values { set, list: values.join(", ") });
        }
        checks.extend(range(&field.ty, constraints));
        let both = |min: Option<usize>, max: Option<usize>| {
            (min.is_some() || max.is_some()).then(|| (min.unwrap_or(0), max.unwrap_or(usize::MAX)))
        };
        if let Some((min, max)) = both(constraints.min_length, constraints.max_length) {
            checks.push(Check::Length { min, max });
        }
        if let Some((min, max)) = both(constraints.min_items, constraints.max_items) {
            checks.push(Check::Items { min, max });
        }
        (!checks.is_empty()).then(|| Self {
            name: field.name.clone(),
            private: field.pii,
            column,
            checks,
        })
    }

    /// Fails the open rows that break a bound.
    pub(super) fn check(&self, batch: &RecordBatch, open: &mut Open) {
        let values = batch.column(self.column);
        for check in &self.checks {
            match check {
                Check::Pattern(pattern) => {
                    self.texts(values, open, Reason::PatternMismatch, |text| {
                        (!pattern.is_match(text)).then(|| {
                            (format!("must match `{pattern}`"), format!("`{}`", clip(text)))
                        })
                    });
                }
                Check::Values { set, list } => {
                    self.texts(values, open, Reason::NotAllowed, |text| {
                        (!set.contains(text)).then(|| {
                            (format!("must be one of {list}"), format!("`{}`", clip(text)))
                        })
                    });
                }
                Check::Length { min, max } => {
                    self.texts(values, open, Reason::OutOfRange, |text| {
                        // Between a quarter of its bytes and all of them are characters.
                        let sure = text.len() / 4 >= *min && text.len() <= *max;
                        let count = if sure { *min } else { text.chars().count() };
                        let what = || between(*min, *max, "characters");
                        (count < *min || count > *max).then(|| (what(), count.to_string()))
                    });
                }
                Check::Exact { low, high, text } => {
                    let wrong = |value: i128| value < *low || value > *high;
                    if let Some(ints) = values.as_primitive_opt::<Int64Type>() {
                        self.each(values, open, Reason::OutOfRange, |row| {
                            let value = ints.value(row);
                            wrong(value.into()).then(|| (text.clone(), value.to_string()))
                        });
                    } else if let Some(decimals) = values.as_primitive_opt::<Decimal128Type>() {
                        self.each(values, open, Reason::OutOfRange, |row| {
                            wrong(decimals.value(row))
                                .then(|| (text.clone(), decimals.value_as_string(row)))
                        });
                    }
                }
                Check::Float { bounds, text } => {
                    if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
                        self.each(values, open, Reason::OutOfRange, |row| {
                            let value = floats.value(row);
                            let keeps = bounds.iter().all(|(side, bound)| match side {
                                Side::Above => value > *bound,
                                Side::Min => value >= *bound,
                                Side::Below => value < *bound,
                                Side::Max => value <= *bound,
                            });
                            (!keeps).then(|| (text.clone(), value.to_string()))
                        });
                    }
                }
                Check::Items { min, max } => {
                    if let Some(lists) = values.as_list_opt::<i32>() {
                        let ends = lists.offsets().deref();
                        self.each(values, open, Reason::OutOfRange, |row| {
                            let count = (ends[row + 1] - ends[row]) as usize;
                            let what = || between(*min, *max, "items");
                            (count < *min || count > *max).then(|| (what(), count.to_string()))
                        });
                    }
                }
            }
        }
    }

    fn texts(
        &self,
        values: &ArrayRef,
        open: &mut Open,
        reason: Reason,
        wrong: impl Fn(&str) -> Option<(String, String)>,
    ) {
        if let Some(texts) = values.as_string_opt::<i32>() {
            self.each(values, open, reason, |row| wrong(texts.value(row)));
        }
    }

    /// Asks `wrong` about every open row with a value: what was expected, what was found.
    #[inline]
    fn each(
        &self,
        values: &ArrayRef,
        open: &mut Open,
        reason: Reason,
        wrong: impl Fn(usize) -> Option<(String, String)>,
    ) {
        let nulls = values.nulls();
        for row in 0..values.len() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            if let Some((expected, found)) = wrong(row)
                && open.rows[row]
            {
                let detail =
                    if self.private { expected } else { format!("{expected}, found {found}") };
                let field = Some(self.name.clone());
                open.fail(Failure { row, reason, field, rule: None, detail });
            }
        }
    }
}

fn between(min: usize, max: usize, of: &str) -> String {
    match (min, max) {
        (min, usize::MAX) => format!("must have at least {min} {of}"),
        (0, max) => format!("must have at most {max} {of}"),
        (min, max) => format!("must have {min} to {max} {of}"),
    }
}

/// The numeric bounds of a field as a check of its type.
fn range(ty: &Type, constraints: &Constraints) -> Option<Check> {
    let sides = [
        (Side::Above, &constraints.above, "above"),
        (Side::Min, &constraints.min, "at least"),
        (Side::Below, &constraints.below, "below"),
        (Side::Max, &constraints.max, "at most"),
    ];
    let given: Vec<_> = sides
        .iter()
        .filter_map(|(side, text, word)| Some((*side, text.as_deref()?, word)))
        .collect();
    if given.is_empty() {
        return None;
    }
    let texts: Vec<_> = given.iter().map(|(_, text, word)| format!("{word} {text}")).collect();
    let text = format!("must be {}", texts.join(" and "));
    match ty {
        Type::Float64 => {
            let bounds =
                given.iter().filter_map(|(side, text, _)| Some((*side, text.parse().ok()?)));
            Some(Check::Float { bounds: bounds.collect(), text })
        }
        Type::Int64 | Type::Decimal { .. } => {
            let scale = match ty {
                Type::Decimal { scale, .. } => i32::from(*scale),
                _ => 0,
            };
            let (mut low, mut high) = (i128::MIN, i128::MAX);
            for (side, text, _) in given {
                let (floor, ceiling) = crate::decode::around(text, scale);
                match side {
                    Side::Above => low = low.max(floor.saturating_add(1)),
                    Side::Min => low = low.max(ceiling),
                    Side::Below => high = high.min(ceiling.saturating_sub(1)),
                    Side::Max => high = high.min(floor),
                }
            }
            Some(Check::Exact { low, high, text })
        }
        _ => None,
    }
}
