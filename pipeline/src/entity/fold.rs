//! Folds: how the values of many rows become one.
//!
//! A fold over events only ever grows, and its result does not depend on the order of arrival:
//! `first` and `last` remember (event time, position), so an event that comes late never overwrites
//! newer state but may move a `first`. (Sums of doubles are the exception: they depend on the order
//! of application in the last bits.)
//!
//! A fold over another entity's rows also shrinks: a changed row is taken out and put in again.
//! Counts, sums and frequencies do that exactly; an extreme that is taken away cannot be known from
//! the state alone, so [`FoldState::remove`] says [`Removed::Recompute`] and the engine folds the
//! current rows again.

use std::collections::BTreeMap;

use contracts::model::FoldOp;
use contracts::types::Type;
use serde::{Deserialize, Serialize};

use super::scalar::Scalar;

/// Order of rows within a key: event time (µs), then journal position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order {
    /// Event time, µs.
    pub time: i64,
    /// Journal sequence number.
    pub seq: i64,
}

/// What one row gives to one fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// The argument; for a `count` of rows anything.
    pub value: Scalar,
    /// What `arg_max` and `arg_min` order by.
    pub by: Scalar,
}

/// The memory of one fold. Stored in the entity's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FoldState {
    /// `first`, `last`.
    Picked(Option<(Order, Scalar)>),
    /// `min`, `max`.
    Extreme(Option<Scalar>),
    /// `count`.
    Count(i64),
    /// `sum` of integers and decimals: all digits. `None` after an overflow of 128 bits.
    Sum(Option<i128>),
    /// `sum` of doubles.
    FloatSum(f64),
    /// `count_distinct`, `mode`: how often each value occurs.
    Frequencies(BTreeMap<Scalar, i64>),
    /// `arg_max`, `arg_min`: (by, order, value).
    Best(Option<(Scalar, Order, Scalar)>),
}

/// Could a contribution be taken out?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Yes.
    Done,
    /// The state cannot know what comes next: fold the remaining rows again.
    Recompute,
}

impl FoldState {
    /// The fold of no rows. `ty` is the type of the result.
    pub fn empty(op: FoldOp, ty: &Type) -> Self {
        match op {
            FoldOp::First | FoldOp::Last => Self::Picked(None),
            FoldOp::Min | FoldOp::Max => Self::Extreme(None),
            FoldOp::Count => Self::Count(0),
            FoldOp::Sum if *ty == Type::Float64 => Self::FloatSum(0.0),
            FoldOp::Sum => Self::Sum(Some(0)),
            FoldOp::CountDistinct | FoldOp::Mode => Self::Frequencies(BTreeMap::new()),
            FoldOp::ArgMax | FoldOp::ArgMin => Self::Best(None),
        }
    }

    /// Takes one row in. Nulls count only for `first` and `last` (an explicit null overwrites);
    /// the caller leaves out rows whose argument is absent.
    pub fn add(&mut self, op: FoldOp, order: Order, given: &Contribution) {
        let value = &given.value;
        match self {
            Self::Picked(picked) => {
                let takes_over = match picked {
                    None => true,
                    Some((held, _)) if op == FoldOp::First => order < *held,
                    Some((held, _)) => order > *held,
                };
                if takes_over {
                    *picked = Some((order, value.clone()));
                }
            }
            _ if value.is_null() => {}
            Self::Extreme(extreme) => {
                let takes_over = match extreme {
                    None => true,
                    Some(held) if op == FoldOp::Min => value < held,
                    Some(held) => value > held,
                };
                if takes_over {
                    *extreme = Some(value.clone());
                }
            }
            Self::Count(count) => *count += 1,
            Self::Sum(sum) => *sum = sum.and_then(|sum| sum.checked_add(digits(value))),
            Self::FloatSum(sum) => *sum += float(value),
            Self::Frequencies(counts) => match counts.get_mut(value) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(value.clone(), 1);
                }
            },
            Self::Best(_) if given.by.is_null() => {}
            Self::Best(best) => {
                let takes_over = match best {
                    None => true,
                    Some((by, held, _)) if op == FoldOp::ArgMin => (&given.by, order) < (by, *held),
                    Some((by, held, _)) => (&given.by, order) > (by, *held),
                };
                if takes_over {
                    *best = Some((given.by.clone(), order, value.clone()));
                }
            }
        }
    }

    /// Takes out a row that was taken in before.
    pub fn remove(&mut self, given: &Contribution) -> Removed {
        let value = &given.value;
        match self {
            Self::Picked(_) => return Removed::Recompute,
            _ if value.is_null() => {}
            Self::Extreme(extreme) => {
                if extreme.as_ref() == Some(value) {
                    return Removed::Recompute;
                }
            }
            Self::Count(count) => *count -= 1,
            Self::Sum(sum) => match sum.and_then(|sum| sum.checked_sub(digits(value))) {
                Some(less) => *sum = Some(less),
                None => return Removed::Recompute,
            },
            // Taking a double out again would leave its rounding behind.
            Self::FloatSum(_) => return Removed::Recompute,
            Self::Frequencies(counts) => {
                if let Some(count) = counts.get_mut(value) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(value);
                    }
                }
            }
            Self::Best(best) => {
                let held = best.as_ref().is_some_and(|(by, _, _)| *by == given.by);
                if held {
                    return Removed::Recompute;
                }
            }
        }
        Removed::Done
    }

    /// A row gives what it gave before, but its place among those of equal `by` is another one now.
    pub fn reorder(
        &mut self,
        op: FoldOp,
        (before, after): (Order, Order),
        given: &Contribution,
    ) -> Removed {
        let Self::Best(best) = &*self else { return Removed::Done };
        // Towards the end that is looked for it stays the best, or may become it.
        let is_nearer = if op == FoldOp::ArgMin { after < before } else { after > before };
        if is_nearer {
            self.add(op, after, given);
            return Removed::Done;
        }
        let is_held = best.as_ref().is_some_and(|(by, order, value)| {
            (by, *order, value) == (&given.by, before, &given.value)
        });
        if is_held && after != before { Removed::Recompute } else { Removed::Done }
    }

    /// The fold's value.
    pub fn result(&self, op: FoldOp, ty: &Type) -> Scalar {
        match self {
            Self::Picked(picked) => picked.as_ref().map_or(Scalar::Null, |(_, v)| v.clone()),
            Self::Extreme(extreme) => extreme.clone().unwrap_or(Scalar::Null),
            Self::Count(count) => Scalar::Int(*count),
            Self::Sum(sum) => match (sum, ty) {
                (None, _) => Scalar::Null,
                (Some(sum), Type::Int64) => i64::try_from(*sum).map_or(Scalar::Null, Scalar::Int),
                (Some(sum), Type::Decimal { precision, .. })
                    if sum.unsigned_abs() >= 10u128.pow(u32::from(*precision)) =>
                {
                    Scalar::Null
                }
                (Some(sum), _) => Scalar::Decimal(*sum),
            },
            Self::FloatSum(sum) => Scalar::Float(*sum),
            Self::Frequencies(counts) if op == FoldOp::CountDistinct => {
                Scalar::Int(i64::try_from(counts.len()).unwrap_or(i64::MAX))
            }
            // Ascending values and a strict comparison: ties go to the smaller value.
            Self::Frequencies(counts) => counts
                .iter()
                .fold(None, |best: Option<(&Scalar, i64)>, (value, count)| match best {
                    Some((_, most)) if *count <= most => best,
                    _ => Some((value, *count)),
                })
                .map_or(Scalar::Null, |(value, _)| value.clone()),
            Self::Best(best) => best.as_ref().map_or(Scalar::Null, |(_, _, v)| v.clone()),
        }
    }
}

fn digits(value: &Scalar) -> i128 {
    match value {
        Scalar::Int(v) => i128::from(*v),
        Scalar::Decimal(v) => *v,
        _ => 0,
    }
}

fn float(value: &Scalar) -> f64 {
    match value {
        Scalar::Float(v) => *v,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn int(v: i64) -> Contribution {
        Contribution { value: Scalar::Int(v), by: Scalar::Int(v % 3) }
    }

    /// Folds (time, value) pairs whose position is their index.
    fn fold(op: FoldOp, rows: &[(i64, Contribution)]) -> Scalar {
        let mut state = FoldState::empty(op, &Type::Int64);
        for (seq, (time, given)) in rows.iter().enumerate() {
            state.add(op, Order { time: *time, seq: seq as i64 }, given);
        }
        state.result(op, &Type::Int64)
    }

    #[track_caller]
    fn check(op: FoldOp, rows: &[(i64, Option<i64>)], expected: Scalar) {
        let rows: Vec<_> = rows
            .iter()
            .map(|(time, value)| match value {
                Some(v) => (*time, int(*v)),
                None => (*time, Contribution { value: Scalar::Null, by: Scalar::Null }),
            })
            .collect();
        assert_eq!(fold(op, &rows), expected);
    }

    #[test]
    fn last_goes_by_event_time_then_position() {
        check(FoldOp::Last, &[(2, Some(20)), (1, Some(10))], Scalar::Int(20));
        check(FoldOp::Last, &[(1, Some(10)), (1, Some(11))], Scalar::Int(11));
    }

    #[test]
    fn a_late_event_moves_first() {
        check(FoldOp::First, &[(5, Some(50)), (3, Some(30)), (4, Some(40))], Scalar::Int(30));
    }

    #[test]
    fn an_explicit_null_overwrites_last_and_is_left_out_elsewhere() {
        check(FoldOp::Last, &[(1, Some(1)), (2, None)], Scalar::Null);
        check(FoldOp::Min, &[(1, Some(1)), (2, None)], Scalar::Int(1));
        check(FoldOp::Count, &[(1, Some(1)), (2, None)], Scalar::Int(1));
        check(FoldOp::Sum, &[(1, None)], Scalar::Int(0));
    }

    #[test]
    fn ties_do_not_depend_on_arrival() {
        check(
            FoldOp::Mode,
            &[(1, Some(9)), (2, Some(4)), (3, Some(9)), (4, Some(4))],
            Scalar::Int(4),
        );
        check(FoldOp::ArgMax, &[(1, Some(2)), (2, Some(5))], Scalar::Int(5));
        check(FoldOp::ArgMin, &[(1, Some(3)), (2, Some(6))], Scalar::Int(3));
    }

    #[test]
    fn an_integer_sum_beyond_64_bits_is_null_not_wrapped() {
        check(FoldOp::Sum, &[(1, Some(i64::MAX)), (2, Some(1))], Scalar::Null);
    }

    proptest! {
        #[test]
        fn order_of_arrival_does_not_matter(
            rows in prop::collection::vec((0i64..20, -5i64..5), 0..30),
            seed in any::<u64>(),
        ) {
            for op in [FoldOp::Last, FoldOp::First, FoldOp::Min, FoldOp::Max, FoldOp::Count,
                       FoldOp::Sum, FoldOp::CountDistinct, FoldOp::Mode, FoldOp::ArgMax, FoldOp::ArgMin] {
                let numbered: Vec<_> = rows.iter().enumerate()
                    .map(|(seq, (time, v))| (Order { time: *time, seq: seq as i64 }, int(*v))).collect();
                let mut shuffled = numbered.clone();
                let mut state = seed | 1;
                for i in (1..shuffled.len()).rev() {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    shuffled.swap(i, (state >> 33) as usize % (i + 1));
                }
                let run = |rows: &[(Order, Contribution)]| {
                    let mut fold = FoldState::empty(op, &Type::Int64);
                    for (order, given) in rows { fold.add(op, *order, given); }
                    fold
                };
                prop_assert_eq!(run(&numbered), run(&shuffled));
            }
        }

        #[test]
        fn a_row_that_is_reordered_stands_where_it_would_from_the_start(
            rows in prop::collection::vec((0i64..6, -5i64..5), 1..12),
            moves in prop::collection::vec((any::<prop::sample::Index>(), 0i64..40), 0..12),
        ) {
            for op in [FoldOp::ArgMax, FoldOp::ArgMin, FoldOp::Max, FoldOp::Count, FoldOp::Mode] {
                // No two rows have one place.
                let mut orders: Vec<Order> = rows.iter().enumerate()
                    .map(|(seq, (time, _))| Order { time: *time, seq: seq as i64 }).collect();
                let all = |orders: &[Order]| {
                    let mut state = FoldState::empty(op, &Type::Int64);
                    for (order, (_, v)) in orders.iter().zip(&rows) { state.add(op, *order, &int(*v)); }
                    state
                };
                let mut state = all(&orders);
                for (step, (row, time)) in moves.iter().enumerate() {
                    let row = row.index(rows.len());
                    let after = Order { time: *time, seq: (100 + step) as i64 };
                    let before = std::mem::replace(&mut orders[row], after);
                    if state.reorder(op, (before, after), &int(rows[row].1)) == Removed::Recompute {
                        state = all(&orders);
                    }
                    prop_assert_eq!(&state, &all(&orders));
                }
            }
        }

        #[test]
        fn what_is_taken_out_was_never_there(
            keep in prop::collection::vec(-5i64..5, 0..20),
            gone in prop::collection::vec(-5i64..5, 0..20),
        ) {
            for op in [FoldOp::Min, FoldOp::Max, FoldOp::Count, FoldOp::Sum,
                       FoldOp::CountDistinct, FoldOp::Mode, FoldOp::ArgMax, FoldOp::ArgMin] {
                let order = Order { time: 0, seq: 0 };
                let mut expected = FoldState::empty(op, &Type::Int64);
                for v in &keep { expected.add(op, order, &int(*v)); }
                let mut state = FoldState::empty(op, &Type::Int64);
                for v in keep.iter().chain(&gone) { state.add(op, order, &int(*v)); }
                let all_removed = gone.iter().all(|v| state.remove(&int(*v)) == Removed::Done);
                if all_removed {
                    prop_assert_eq!(state.result(op, &Type::Int64), expected.result(op, &Type::Int64));
                }
            }
        }
    }
}
