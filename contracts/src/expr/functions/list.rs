//! Functions over the elements of a list.
//!
//! The inner expression (`quantity * price` in `sum_of(items, quantity * price)`) is a program of
//! its own. It runs once per batch over the elements of all rows together, and its values are
//! then folded per row. A null list gives null; nulls among the values are passed over.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, UInt32Array, UInt64Array,
    make_comparator,
};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};

use super::CallSite;
use crate::expr::ast::CompareOp;
use crate::expr::bind::{
    Binder, Bound, Frame, Input, Typed, comparable, compare_operands, float_result,
    is_exact_number, member_of, quotient_type, want,
};
use crate::expr::decimal::{self, INT64_DIGITS, MAX_PRECISION};
use crate::expr::error::ExprError;
use crate::expr::physical::{Call, Operand, Program, Result as Evaluated, bool_rows, rows_of};
use crate::types::Type;

/// The elements of a batch of lists.
struct Elements {
    /// Those of all rows, in order.
    values: ArrayRef,
    /// Where the elements of each row stand in `values`; `None` for a null list.
    rows: Vec<Option<Range<usize>>>,
    /// The row that each element belongs to.
    row_of: UInt32Array,
}

impl Elements {
    fn of(list: &dyn Array) -> Self {
        let list = list.as_list::<i32>();
        let offsets = list.value_offsets();
        // A slice of a batch keeps the values of the whole one.
        let first = offsets[0] as usize;
        let last = offsets[list.len()] as usize;
        let range = |row: usize| offsets[row] as usize - first..offsets[row + 1] as usize - first;
        Self {
            values: list.values().slice(first, last - first),
            rows: (0..list.len()).map(|row| list.is_valid(row).then(|| range(row))).collect(),
            row_of: (0..list.len()).flat_map(|row| range(row).map(move |_| row as u32)).collect(),
        }
    }

    fn range(&self, row: usize) -> Option<Range<usize>> {
        self.rows[row].clone()
    }

    /// The value at the place that `choose` picks from each row's elements.
    fn pick(
        &self,
        values: &ArrayRef,
        choose: impl Fn(Range<usize>) -> Option<usize>,
    ) -> Evaluated<ArrayRef> {
        let places: UInt64Array =
            self.rows.iter().map(|range| choose(range.clone()?).map(|at| at as u64)).collect();
        Ok(take(values, &places, None)?)
    }
}

/// The inner expressions of a call, which share one frame.
struct Inner {
    programs: Vec<Program>,
    inputs: Vec<Input>,
}

impl Inner {
    /// Their values over all elements. `outer` are the enclosing columns, in order of use.
    fn run(&self, elements: &Elements, outer: &[Operand]) -> Evaluated<Vec<ArrayRef>> {
        let rows = elements.rows.len();
        let mut outer = outer.iter();
        let columns = self
            .inputs
            .iter()
            .map(|input| match (input, &elements.values) {
                (Input::Member(at), values) => member_of(values, *at),
                (Input::Outer(_), _) => match outer.next() {
                    Some(column) => Ok(take(&column.column(rows)?, &elements.row_of, None)?),
                    None => Err(datafusion_common::DataFusionError::Internal(
                        "an outer column is missing".to_owned(),
                    )),
                },
                (Input::Element | Input::Batch(_), values) => Ok(Arc::clone(values)),
            })
            .collect::<Evaluated<Vec<_>>>()?;
        self.programs
            .iter()
            .map(|program| program.run(columns.clone(), elements.values.len()))
            .collect()
    }
}

/// The list argument, and the type of its elements.
fn list_argument(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Result<(Typed, Type), ExprError> {
    let list = site.bind(binder, 0)?;
    match &list.ty {
        Type::List(element) if !list.untyped_null => {
            let element = (**element).clone();
            Ok((list, element))
        }
        _ => Err(site
            .wrong_type(0, "a list", &list)
            .hint("functions that end in `_of` go over the elements of one list of the event")),
    }
}

/// The inner expression; for a list of plain values, the element itself unless one is written.
fn inner_value(binder: &mut Binder<'_>, site: &CallSite<'_>, element: &Type) -> Bound {
    if site.args.len() > 1 {
        return site.bind(binder, 1);
    }
    if matches!(element, Type::Struct(_)) {
        return Err(site
            .pos
            .error(format!("`{}` needs a value to take from each element", site.function.name))
            .hint(format!("write it as `{}`", site.function.usage)));
    }
    binder.element(site.pos)
}

/// Builds the call of a bound list function. `extra` are further arguments of the outer frame.
fn call(
    site: &CallSite<'_>,
    list: Typed,
    extra: Vec<Typed>,
    (values, frame): (Vec<Typed>, Frame<'_>),
    ty: Type,
    fold: impl Fn(&Elements, &[Operand], &[ArrayRef]) -> Evaluated<ArrayRef> + Send + Sync + 'static,
) -> Typed {
    let inner = Inner {
        programs: values.into_iter().map(|v| frame.program(v)).collect(),
        inputs: frame.inputs,
    };
    let extras = extra.len();
    // The outer columns are arguments like any other, so that DataFusion sees what is read here.
    let outer = inner.inputs.iter().filter_map(|input| match input {
        Input::Outer(index) => Some(Binder::column(*index)),
        _ => None,
    });
    let args = std::iter::once(list.node)
        .chain(extra.into_iter().map(|value| value.node))
        .chain(outer)
        .collect();
    let node = Call::node(site.function.name, args, ty.arrow(), move |args, rows| {
        let elements = Elements::of(&args[0].column(rows)?);
        let (extra, outer) = args[1..].split_at(extras);
        let values = inner.run(&elements, outer)?;
        fold(&elements, extra, &values)
    });
    Typed::new(node, ty, site.pos)
}

/// A call with one inner value.
fn over_values<'a>(
    binder: &mut Binder<'a>,
    site: &CallSite<'_>,
) -> Result<(Typed, Typed, Frame<'a>), ExprError> {
    let (list, element) = list_argument(binder, site)?;
    let (value, frame) =
        binder.bind_elements(element.clone(), |binder| inner_value(binder, site, &element))?;
    Ok((list, value, frame))
}

fn needs(site: &CallSite<'_>, what: &str, value: &Typed) -> ExprError {
    value.pos.error(format!(
        "`{}` needs {what} from each element, found {}",
        site.function.name,
        value.describe()
    ))
}

pub(super) fn sum_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = over_values(binder, site)?;
    let ty = match value.ty {
        _ if value.untyped_null => return Err(needs(site, "a number", &value)),
        Type::Int64 | Type::Float64 => value.ty.clone(),
        Type::Decimal { scale, .. } => Type::Decimal { precision: MAX_PRECISION, scale },
        _ => return Err(needs(site, "a number", &value)),
    };
    let kind = ty.clone();
    let arrow = ty.arrow();
    let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| match kind {
        Type::Int64 => per_row::<Int64Type>(elements, &arrow, |range| {
            // 128 bits hold the sum of any list that fits in memory.
            let all = present::<Int64Type>(&values[0], range);
            i64::try_from(all.map(i128::from).sum::<i128>()).ok()
        }),
        Type::Float64 => per_row::<Float64Type>(elements, &arrow, |range| {
            float_result(present::<Float64Type>(&values[0], range).sum())
        }),
        _ => per_row::<Decimal128Type>(elements, &arrow, |range| {
            decimal::fit(decimal_sum(&values[0], range)?, MAX_PRECISION)
        }),
    };
    Ok(call(site, list, vec![], (vec![value], frame), ty, fold))
}

fn per_row<O: ArrowPrimitiveType>(
    elements: &Elements,
    ty: &DataType,
    f: impl Fn(Range<usize>) -> Option<O::Native>,
) -> Evaluated<ArrayRef> {
    rows_of::<O>(elements.rows.len(), ty, |row| f(elements.range(row)?))
}

/// The values of a range that are not null.
fn present<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    range: Range<usize>,
) -> impl Iterator<Item = T::Native> {
    let values: &PrimitiveArray<T> = values.as_primitive();
    range.filter(|&at| values.is_valid(at)).map(|at| values.value(at))
}

fn decimal_sum(values: &ArrayRef, range: Range<usize>) -> Option<i128> {
    present::<Decimal128Type>(values, range).try_fold(0_i128, i128::checked_add)
}

pub(super) fn avg_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = over_values(binder, site)?;
    if value.untyped_null || !value.ty.is_numeric() {
        return Err(needs(site, "a number", &value));
    }
    let Some((digits, scale)) = is_exact_number(&value) else {
        let arrow = Type::Float64.arrow();
        let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
            per_row::<Float64Type>(elements, &arrow, |range| {
                let count = present::<Float64Type>(&values[0], range.clone()).count();
                let sum: f64 = present::<Float64Type>(&values[0], range).sum();
                (count > 0).then(|| float_result(sum / count as f64))?
            })
        };
        let inner = (vec![value], frame);
        return Ok(call(site, list, vec![], inner, Type::Float64, fold));
    };
    let is_int = value.ty == Type::Int64;
    let digits = if is_int { INT64_DIGITS } else { digits };
    let (precision, quotient_scale) = quotient_type((digits, scale), (1, 0));
    let ty = Type::Decimal { precision, scale: quotient_scale };
    let arrow = ty.arrow();
    let shift = u32::from(quotient_scale.abs_diff(scale));
    let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        per_row::<Decimal128Type>(elements, &arrow, |range| {
            let values = &values[0];
            let count = range.clone().filter(|at| values.is_valid(*at)).count();
            let sum = if is_int {
                present::<Int64Type>(values, range).map(i128::from).sum()
            } else {
                decimal_sum(values, range)?
            };
            decimal::fit(decimal::divide(sum, count as i128, shift)?, precision)
        })
    };
    Ok(call(site, list, vec![], (vec![value], frame), ty, fold))
}

pub(super) fn min_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    extreme(binder, site, false)
}

pub(super) fn max_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    extreme(binder, site, true)
}

fn extreme(binder: &mut Binder<'_>, site: &CallSite<'_>, highest: bool) -> Bound {
    let (list, value, frame) = over_values(binder, site)?;
    if !has_order(&value) {
        return Err(needs(site, "a number, a text or a time", &value));
    }
    let ty = value.ty.clone();
    let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        let best = chooser(&values[0], highest)?;
        elements.pick(&values[0], best)
    };
    Ok(call(site, list, vec![], (vec![value], frame), ty, fold))
}

fn has_order(value: &Typed) -> bool {
    let time_or_text = matches!(value.ty, Type::String | Type::Timestamp | Type::Date);
    !value.untyped_null && (value.ty.is_numeric() || time_or_text)
}

/// Finds the highest or lowest value of a range; the first one among equals.
fn chooser(
    values: &ArrayRef,
    highest: bool,
) -> Evaluated<impl Fn(Range<usize>) -> Option<usize> + use<>> {
    let compare = make_comparator(values, values, SortOptions::default())?;
    let values = Arc::clone(values);
    Ok(move |range: Range<usize>| {
        range.filter(|at| values.is_valid(*at)).reduce(|best, next| {
            let order = compare(next, best);
            let better = if highest { order.is_gt() } else { order.is_lt() };
            if better { next } else { best }
        })
    })
}

pub(super) fn first_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = over_values(binder, site)?;
    if value.untyped_null {
        return Err(needs(site, "a value", &value));
    }
    let ty = value.ty.clone();
    let fold = |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        elements.pick(&values[0], |mut range| range.find(|at| values[0].is_valid(*at)))
    };
    Ok(call(site, list, vec![], (vec![value], frame), ty, fold))
}

pub(super) fn max_by_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, element) = list_argument(binder, site)?;
    let ((value, by), frame) = binder
        .bind_elements(element, |binder| Ok((site.bind(binder, 1)?, site.bind(binder, 2)?)))?;
    if value.untyped_null {
        return Err(needs(site, "a value", &value));
    }
    if !has_order(&by) {
        return Err(needs(site, "a number, a text or a time to order by", &by));
    }
    let ty = value.ty.clone();
    let fold = |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        elements.pick(&values[0], chooser(&values[1], true)?)
    };
    Ok(call(site, list, vec![], (vec![value, by], frame), ty, fold))
}

pub(super) fn count_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    if site.args.len() == 1 {
        let (list, element) = list_argument(binder, site)?;
        let ((), frame) = binder.bind_elements(element, |_| Ok(()))?;
        let arrow = Type::Int64.arrow();
        let fold = move |elements: &Elements, _: &[Operand], _: &[ArrayRef]| {
            per_row::<Int64Type>(elements, &arrow, |range| Some(range.len() as i64))
        };
        return Ok(call(site, list, vec![], (vec![], frame), Type::Int64, fold));
    }
    let (list, predicate, frame) = predicate(binder, site)?;
    let arrow = Type::Int64.arrow();
    let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        let values = values[0].as_boolean();
        per_row::<Int64Type>(elements, &arrow, |range| {
            let hits = range.filter(|at| values.is_valid(*at) && values.value(*at));
            Some(hits.count() as i64)
        })
    };
    let inner = (vec![predicate], frame);
    Ok(call(site, list, vec![], inner, Type::Int64, fold))
}

pub(super) fn distinct_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = over_values(binder, site)?;
    if !has_order(&value) && value.ty != Type::Bool {
        return Err(needs(site, "a plain value", &value));
    }
    let arrow = Type::Int64.arrow();
    let fold = move |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        let converter = RowConverter::new(vec![SortField::new(values[0].data_type().clone())])?;
        let keys = converter.convert_columns(&values[..1])?;
        per_row::<Int64Type>(elements, &arrow, |range| {
            let present = range.filter(|at| values[0].is_valid(*at));
            let distinct: HashSet<_> = present.map(|at| keys.row(at)).collect();
            Some(distinct.len() as i64)
        })
    };
    let inner = (vec![value], frame);
    Ok(call(site, list, vec![], inner, Type::Int64, fold))
}

/// A list with a predicate over its elements.
fn predicate<'a>(
    binder: &mut Binder<'a>,
    site: &CallSite<'_>,
) -> Result<(Typed, Typed, Frame<'a>), ExprError> {
    let (list, value, frame) = over_values(binder, site)?;
    if !value.untyped_null && value.ty != Type::Bool {
        return Err(needs(site, "a bool", &value).hint("compare the value, such as `x > 0`"));
    }
    let value = want(value, &Type::Bool)?;
    Ok((list, value, frame))
}

pub(super) fn any_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = predicate(binder, site)?;
    let fold = |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        decide(elements, &values[0], true)
    };
    Ok(call(site, list, vec![], (vec![value], frame), Type::Bool, fold))
}

pub(super) fn all_of(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (list, value, frame) = predicate(binder, site)?;
    let fold = |elements: &Elements, _: &[Operand], values: &[ArrayRef]| {
        decide(elements, &values[0], false)
    };
    Ok(call(site, list, vec![], (vec![value], frame), Type::Bool, fold))
}

/// Three-valued: `decisive` as soon as one element is that, else null if one is undecided, else
/// the opposite (also for an empty list).
fn decide(elements: &Elements, values: &ArrayRef, decisive: bool) -> Evaluated<ArrayRef> {
    let values = values.as_boolean();
    bool_rows(elements.rows.len(), |row| {
        let mut undecided = false;
        for at in elements.range(row)? {
            if values.is_null(at) {
                undecided = true;
            } else if values.value(at) == decisive {
                return Some(decisive);
            }
        }
        (!undecided).then_some(!decisive)
    })
}

/// `contains(list, value)` is `any_of(list, item = value)`, with the value of the outer frame.
pub(super) fn contains(binder: &mut Binder<'_>, site: &CallSite<'_>, list: Typed) -> Bound {
    let wanted = site.bind(binder, 1)?;
    let Type::List(element) = &list.ty else {
        return Err(site.wrong_type(0, "a list", &list));
    };
    let (item, frame) =
        binder.bind_elements((**element).clone(), |binder| binder.element(site.pos))?;
    let (item, wanted) = comparable(site.function.name, true, item, wanted)?;
    let fold = |elements: &Elements, extra: &[Operand], values: &[ArrayRef]| {
        let wanted = extra[0].column(elements.rows.len())?;
        let wanted = take(&wanted, &elements.row_of, None)?;
        let equal = compare_operands(
            CompareOp::Equal,
            &Operand::full(Arc::clone(&values[0])),
            &Operand::full(wanted),
            elements.values.len(),
        )?;
        decide(elements, &(Arc::new(equal) as ArrayRef), true)
    };
    let inner = (vec![item], frame);
    Ok(call(site, list, vec![wanted], inner, Type::Bool, fold))
}
