//! Expressions of contracts as DuckDB SQL.
//!
//! Written from `docs/expressions.md`, and sharing nothing with what evaluates expressions when an
//! event is applied: types, rounding, overflow and nulls are derived here a second time. Only the
//! tree of the text is the same. What SQL cannot say is [`Refused`], never approximated.
//!
//! **Values.** DuckDB's own decimals, times and dates have other rules for digits, rounding and range
//! than the dialect, so inside of an expression a decimal is a HUGEINT of all its digits (its scale is
//! known from the type), a timestamp a BIGINT of µs and a date a BIGINT of days. Lists and structs stay
//! as they are stored; what is taken out of them is converted then ([`of_stored`]).
//!
//! **Errors.** What the dialect makes null is made null by `try` and `try_cast`. What the dialect can
//! compute and DuckDB cannot (a step that needs more than 38 digits, letters whose case differs between
//! the two) is left to fail: the statement ends with an error, and the verifier reports what it could
//! not verify.
//!
//! Start at [`Emitter::emit`].

mod cast;
mod compare;
mod list;
mod number;
mod text;
mod time;

#[cfg(test)]
mod tests;

use std::cell::Cell;

use contracts::expr::{Ast, AstKind, Expr};
use contracts::types::Type;

pub(in crate::verify) use cast::sql_type;
pub(in crate::verify) use number::narrowed;

/// Why an expression cannot be said in SQL: a sentence without its beginning, such as `rounding a
/// double to digits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

pub(super) type Emitted<T = Sql> = Result<T, Refused>;

fn refused<T>(what: impl Into<String>) -> Emitted<T> {
    Err(Refused(what.into()))
}

/// Most digits of a decimal.
const MAX_DIGITS: i32 = 38;

/// Longest text in bytes that a function may build.
const MAX_TEXT: usize = 65_536;

/// A piece of SQL with the type of its value.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) ty: Type,
    note: Note,
}

/// What matters of a value besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    None,
    /// A bare `null`, which takes the type that its place asks for.
    Null,
    /// A whole number that is written out, of so many digits.
    Whole(i32),
}

impl Sql {
    pub(super) fn new(text: impl Into<String>, ty: Type) -> Self {
        Self { text: text.into(), ty, note: Note::None }
    }

    fn is_null(&self) -> bool {
        self.note == Note::Null
    }

    /// Digits and scale of a whole number or a decimal.
    fn exact(&self) -> Option<(i32, i32)> {
        match (&self.ty, self.note) {
            (Type::Decimal { precision, scale }, _) => {
                Some((i32::from(*precision), i32::from(*scale)))
            }
            (Type::Int64, Note::Whole(digits)) => Some((digits, 0)),
            (Type::Int64, _) => Some((19, 0)),
            _ => None,
        }
    }
}

fn decimal(precision: i32, scale: i32) -> Type {
    // Both are at most 38.
    Type::Decimal { precision: precision.clamp(1, MAX_DIGITS) as u8, scale: scale as i8 }
}

/// A column that an expression may name.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// SQL of the column.
    pub(super) text: String,
    /// Its type.
    pub(super) ty: Type,
    /// Is it held as the store holds it, or already as expressions hold values?
    pub(super) stored: bool,
}

/// Where names are looked up.
enum Frame<'a> {
    /// The columns of a row, by name.
    Row(&'a dyn Fn(&str) -> Option<Column>),
    /// The element of a list that is called so in SQL.
    Element(String, Type),
}

/// Writes SQL over the rows of one relation.
pub(super) struct Emitter<'a> {
    frames: Vec<Frame<'a>>,
    variables: Cell<usize>,
}

/// The SQL of `expr`, whose columns `column` gives by the name of the batch column; a value of the
/// expression's own type.
pub(super) fn emit(expr: &Expr, column: &dyn Fn(&str) -> Option<Column>) -> Emitted {
    let names = expr.names();
    let by_name = |name: &str| {
        let known = names.iter().find(|known| known.name == name)?;
        column(&known.column)
    };
    let mut emitter = Emitter { frames: vec![Frame::Row(&by_name)], variables: Cell::new(0) };
    let root = emitter.emit(expr.tree())?;
    cast::wanted(&emitter, root, expr.ty())
}

/// A stored value of `ty` as expressions hold it. Text that stands for more than a column is bound to
/// a name where it is needed twice.
pub(super) fn of_stored(text: &str, ty: &Type) -> String {
    match ty {
        Type::Decimal { scale: 0, .. } => format!("({text})::hugeint"),
        Type::Decimal { precision, scale } if i32::from(*precision) + i32::from(*scale) < 38 => {
            let one = format!("1{}", "0".repeat(usize::from(scale.unsigned_abs())));
            format!("(({text}) * {one}::decimal({}, 0))::hugeint", one.len())
        }
        Type::Decimal { .. } => format!("replace(({text})::varchar, '.', '')::hugeint"),
        Type::Timestamp => format!("epoch_us({text})"),
        Type::Date => format!("(({text}) - date '1970-01-01')"),
        _ => text.to_owned(),
    }
}

/// A text literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL takes it literally.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// 10^n as SQL.
fn power(n: i32) -> String {
    format!("'1{}'::hugeint", "0".repeat(n.max(0) as usize))
}

impl<'a> Emitter<'a> {
    /// `body` over a name for `text`, which is evaluated once.
    fn bind(&self, text: &str, body: impl FnOnce(&str) -> String) -> String {
        let is_name = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.\"".contains(&b));
        if is_name {
            return body(text);
        }
        let variable = self.variable();
        let body = body(&variable);
        format!("list_transform([{text}], lambda {variable}: {body})[1]")
    }

    /// A name that nothing else has.
    fn variable(&self) -> String {
        self.variables.set(self.variables.get() + 1);
        format!("v_{}", self.variables.get())
    }

    fn emit(&mut self, ast: &Ast) -> Emitted {
        match &ast.kind {
            AstKind::Null => Ok(Sql { note: Note::Null, ..Sql::new("null", Type::String) }),
            AstKind::Bool(value) => Ok(Sql::new(value.to_string(), Type::Bool)),
            AstKind::Number(text) => number::literal(text),
            AstKind::Text(text) => Ok(text::literal(text)),
            AstKind::Timestamp(text) => time::timestamp_literal(text),
            AstKind::Date(text) => time::date_literal(text),
            AstKind::Interval(_) => refused("an interval by itself"),
            AstKind::Name(name) => self.name(name),
            AstKind::Member(of, member) => {
                let of = self.emit(of)?;
                self.member(&of.text, &of.ty, member)
            }
            AstKind::Index(of, index) => {
                let (of, index) = (self.emit(of)?, self.emit(index)?);
                let Type::List(element) = of.ty else { return refused("an index into no list") };
                // DuckDB counts negative places from the end.
                let picked = self.bind(&index.text, |at| {
                    format!("({})[case when {at} >= 1 then {at} end]", of.text)
                });
                Ok(self.value(picked, *element))
            }
            AstKind::Negate(of) => number::negate(self, of),
            AstKind::Not(of) => {
                let of = self.bool(of)?;
                Ok(Sql::new(format!("(not {})", of.text), Type::Bool))
            }
            AstKind::And(terms) => self.connect(terms, " and "),
            AstKind::Or(terms) => self.connect(terms, " or "),
            AstKind::Arithmetic(op, left, right) => number::arithmetic(self, *op, left, right),
            AstKind::Concat(left, right) => text::join(self, left, right),
            AstKind::Compare(op, left, right) => compare::compare(self, *op, left, right),
            AstKind::Is { operand, test, negated } => {
                compare::is_test(self, operand, *test, *negated)
            }
            AstKind::In { operand, list, negated } => {
                compare::in_list(self, operand, list, *negated)
            }
            AstKind::Between { operand, low, high, negated } => {
                compare::between(self, operand, low, high, *negated)
            }
            AstKind::Like { operand, pattern, ignore_case, negated } => {
                text::like(self, operand, pattern, *ignore_case, *negated)
            }
            AstKind::Case { operand, branches, otherwise } => {
                compare::case(self, operand.as_deref(), branches, otherwise.as_deref())
            }
            AstKind::Cast(of, ty) => {
                let of = self.emit(of)?;
                cast::cast(self, of, ty)
            }
            AstKind::Call(function, args) => self.call(function, args),
        }
    }

    fn bool(&mut self, ast: &Ast) -> Emitted {
        let value = self.emit(ast)?;
        if value.is_null() {
            return Ok(Sql::new("null::boolean", Type::Bool));
        }
        if value.ty == Type::Bool { Ok(value) } else { refused("a condition that is no bool") }
    }

    fn connect(&mut self, terms: &[Ast], word: &str) -> Emitted {
        let terms =
            terms.iter().map(|term| Ok(self.bool(term)?.text)).collect::<Emitted<Vec<_>>>()?;
        Ok(Sql::new(format!("({})", terms.join(word)), Type::Bool))
    }

    /// Looks a name up from the innermost list outwards.
    fn name(&mut self, wanted: &str) -> Emitted {
        for frame in self.frames.iter().rev() {
            match frame {
                Frame::Row(columns) => {
                    if let Some(column) = columns(wanted) {
                        return Ok(match column.stored {
                            true => self.value(column.text, column.ty),
                            false => self.clean(Sql::new(column.text, column.ty)),
                        });
                    }
                }
                Frame::Element(variable, ty) => {
                    let is_member = match ty {
                        Type::Struct(members) => members.iter().any(|(name, _)| name == wanted),
                        _ => false,
                    };
                    if is_member {
                        let (variable, ty) = (variable.clone(), ty.clone());
                        return self.member(&variable, &ty, wanted);
                    }
                    if wanted == "item" {
                        return Ok(self.value(variable.clone(), ty.clone()));
                    }
                }
            }
        }
        refused(format!("the name `{wanted}`"))
    }

    fn member(&self, of: &str, ty: &Type, wanted: &str) -> Emitted {
        let Type::Struct(members) = ty else { return refused("a member of no struct") };
        let Some((_, ty)) = members.iter().find(|(name, _)| name == wanted) else {
            return refused(format!("the member `{wanted}`"));
        };
        Ok(self.value(format!("struct_extract({of}, {})", quoted(wanted)), ty.clone()))
    }

    /// A stored value.
    fn value(&self, text: String, ty: Type) -> Sql {
        let text = of_stored(&text, &ty);
        self.clean(Sql::new(text, ty))
    }

    /// Doubles are finite or null, and zero has no sign.
    fn clean(&self, value: Sql) -> Sql {
        if value.ty != Type::Float64 {
            return value;
        }
        let text = self
            .bind(&value.text, |v| format!("(case when isfinite({v}) then {v} + 0.0::double end)"));
        Sql::new(text, Type::Float64)
    }

    fn call(&mut self, function: &str, args: &[Ast]) -> Emitted {
        match (function, args) {
            ("abs" | "round" | "floor" | "ceil", [of, ..]) => {
                number::function(self, function, of, args.get(1))
            }
            ("coalesce" | "nullif" | "greatest" | "least", _) => {
                compare::choose(self, function, args)
            }
            ("date_trunc" | "date_part" | "iso_weekday", _) => time::function(self, function, args),
            ("seconds_between" | "minutes_between", [start, end]) => {
                time::between(self, function, start, end)
            }
            ("length", [of]) => {
                let of = self.emit(of)?;
                let function = if matches!(of.ty, Type::List(_)) { "len" } else { "length" };
                Ok(Sql::new(format!("{function}({})", of.text), Type::Int64))
            }
            ("contains", [list, wanted]) => list::contains(self, list, wanted),
            (name, [list, values @ ..]) if name.ends_with("_of") => {
                list::function(self, function, list, values)
            }
            _ => text::function(self, function, args),
        }
    }
}
