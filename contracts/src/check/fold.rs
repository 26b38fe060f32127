//! Folds: how the values of many rows become one field of an entity.

use crate::check::call::{Call, parse_call};
use crate::model::FoldOp;
use crate::raw::decode::Text;
use crate::types::Type;

/// The folds by name.
const FOLDS: &[(&str, FoldOp)] = &[
    ("last", FoldOp::Last),
    ("first", FoldOp::First),
    ("min", FoldOp::Min),
    ("max", FoldOp::Max),
    ("count", FoldOp::Count),
    ("sum", FoldOp::Sum),
    ("count_distinct", FoldOp::CountDistinct),
    ("mode", FoldOp::Mode),
    ("arg_max", FoldOp::ArgMax),
    ("arg_min", FoldOp::ArgMin),
];

/// A field's text, read.
#[derive(Debug)]
pub(crate) enum FieldText {
    /// A fold with its arguments; a bare name stands for the field's own name as argument.
    Fold {
        /// Which fold.
        op: FoldOp,
        /// The value; `None` for a plain `count`.
        value: Option<Text>,
        /// What `arg_max` and `arg_min` order by.
        by: Option<Text>,
    },
    /// Anything else: an expression over the entity's own fields.
    Derived,
    /// A fold with a wrong number of arguments; what it takes.
    WrongArguments(&'static str),
}

/// Reads the text of the field `name`.
pub(crate) fn read(name: &str, text: &Text) -> FieldText {
    let Some(Call { name: called, args }) = parse_call(text) else { return FieldText::Derived };
    let Some((_, op)) = FOLDS.iter().find(|(fold, _)| *fold == called) else {
        return FieldText::Derived;
    };
    let op = *op;
    let fold = |value, by| FieldText::Fold { op, value, by };
    match (op, args.as_deref()) {
        (FoldOp::Count, None | Some([])) => fold(None, None),
        (FoldOp::ArgMax | FoldOp::ArgMin, Some([value, by])) => {
            fold(Some(value.clone()), Some(by.clone()))
        }
        (FoldOp::ArgMax, _) => FieldText::WrongArguments("arg_max(value, ordered_by)"),
        (FoldOp::ArgMin, _) => FieldText::WrongArguments("arg_min(value, ordered_by)"),
        (_, Some([value])) => fold(Some(value.clone()), None),
        (_, None) => fold(Some(text.part(name, 0)), None),
        (_, Some(_)) => FieldText::WrongArguments("one argument, such as `max(price)`"),
    }
}

/// The name of a fold.
pub(crate) fn name(op: FoldOp) -> &'static str {
    FOLDS.iter().find(|(_, other)| *other == op).map_or("", |(name, _)| name)
}

/// Can an entity that is folded from another entity use it? When a row of the source changes, its old
/// values are taken back, and `last` and `first` cannot say what was there before.
pub(crate) fn can_retract(op: FoldOp) -> bool {
    !matches!(op, FoldOp::Last | FoldOp::First)
}

/// The type of the result, or what the argument should have been.
pub(crate) fn result_type(op: FoldOp, value: Option<&Type>) -> Result<Type, &'static str> {
    let Some(value) = value else { return Ok(Type::Int64) };
    if matches!(value, Type::List(_) | Type::Struct(_)) {
        return Err("a single value; use an expression that takes one out of the list or struct");
    }
    match op {
        FoldOp::Count => Ok(Type::Int64),
        FoldOp::CountDistinct => Ok(Type::Int64),
        FoldOp::Sum => sum_type(value).ok_or("a number"),
        FoldOp::Min | FoldOp::Max if *value == Type::Json => Err("a number, text or time"),
        _ => Ok(value.clone()),
    }
}

/// The type of a sum: wide enough to be exact.
pub(crate) fn sum_type(value: &Type) -> Option<Type> {
    match value {
        Type::Int64 => Some(Type::Decimal { precision: 38, scale: 0 }),
        Type::Decimal { scale, .. } => Some(Type::Decimal { precision: 38, scale: *scale }),
        Type::Float64 => Some(Type::Float64),
        _ => None,
    }
}
