//! Expressions.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DateTimeField, Expr, Interval,
    Subscript, TrimWhereField, TypedString, UnaryOperator, Value,
};

use super::limits::{CHAIN, DEPTH, JOINED};
use super::literals::{bare, data_type, name, part, value};
use super::refusal::Refusal;
use super::relations::literal;
use super::select::{Writer, nothing};
use super::weight::{Weight, bounded};

/// Longest pattern or form of a time, in characters.
const PATTERN: usize = 200;

impl Writer<'_> {
    /// Runs `write` one level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Refusal::refused(format!("the statement nests deeper than {DEPTH}")));
        }
        let result = write(self);
        self.depth -= 1;
        result
    }

    /// An expression, written so that it stands for itself wherever it is put.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<String, Refusal> {
        bounded(self.deeper(|writer| writer.any(expr))?)
    }

    fn any(&mut self, expr: &Expr) -> Result<String, Refusal> {
        Ok(match expr {
            Expr::Identifier(ident) => {
                self.check_alias(bare(ident)?)?;
                name(ident)?
            }
            Expr::CompoundIdentifier(parts) => {
                if let Some(first) = parts.first() {
                    self.check_alias(bare(first)?)?;
                    no_alias_prefix(bare(first)?)?;
                }
                parts.iter().map(name).collect::<Result<Vec<_>, _>>()?.join(".")
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain)?,
            Expr::Value(literal) => value(&literal.value)?,
            Expr::TypedString(TypedString {
                data_type: ty,
                value: text,
                uses_odbc_syntax: false,
            }) => {
                format!("cast({} as {})", value(&text.value)?, data_type(ty)?)
            }
            Expr::Interval(interval) => self.interval(interval)?,
            Expr::Nested(inner) => format!("({})", self.expr(inner)?),
            Expr::BinaryOp { .. } => self.chain(expr)?,
            Expr::UnaryOp { op, expr } => {
                let op = match op {
                    UnaryOperator::Plus => "+",
                    UnaryOperator::Minus => "-",
                    UnaryOperator::Not => "not ",
                    other => return Err(operator_refused(other)),
                };
                format!("({op}{})", self.expr(expr)?)
            }
            Expr::IsTrue(inner) => self.test(inner, "is true")?,
            Expr::IsNotTrue(inner) => self.test(inner, "is not true")?,
            Expr::IsFalse(inner) => self.test(inner, "is false")?,
            Expr::IsNotFalse(inner) => self.test(inner, "is not false")?,
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => self.test(inner, "is null")?,
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => {
                self.test(inner, "is not null")?
            }
            Expr::IsDistinctFrom(left, right) => {
                format!("({} is distinct from {})", self.expr(left)?, self.expr(right)?)
            }
            Expr::IsNotDistinctFrom(left, right) => {
                format!("({} is not distinct from {})", self.expr(left)?, self.expr(right)?)
            }
            Expr::InList { expr, list, negated } => {
                let (expr, list) = (self.expr(expr)?, self.expressions(list)?);
                format!("({expr} {}in ({list}))", not(*negated))
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let (expr, query) = (self.expr(expr)?, self.nested(subquery)?);
                format!("({expr} {}in ({query}))", not(*negated))
            }
            Expr::Between { expr, negated, low, high } => {
                // As DuckDB reads it, so that its growth is seen here.
                let before = self.weight;
                let expr = self.expr(expr)?;
                self.again(before, 1)?;
                let (low, high) = (self.expr(low)?, self.expr(high)?);
                format!("({}({expr} >= {low} and {expr} <= {high}))", not(*negated))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, "s")?
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, "si")?
            }
            Expr::Cast { kind, expr, data_type: ty, array: false, format: None } => {
                let word = match kind {
                    CastKind::Cast | CastKind::DoubleColon => "cast",
                    CastKind::TryCast | CastKind::SafeCast => "try_cast",
                };
                format!("{word}({} as {})", self.expr(expr)?, data_type(ty)?)
            }
            Expr::Extract { field, syntax: _, expr } => {
                format!("date_part('{}', {})", part(field)?, self.expr(expr)?)
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                format!("ceil({})", self.expr(expr)?)
            }
            Expr::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime),
            } => format!("floor({})", self.expr(expr)?),
            Expr::Position { expr, r#in } => {
                let (wanted, text) = (self.expr(expr)?, self.expr(r#in)?);
                format!("strpos({text}, {wanted})")
            }
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                let text = self.expr(expr)?;
                let from = match substring_from {
                    Some(from) => self.expr(from)?,
                    None => "1".to_owned(),
                };
                match substring_for {
                    Some(length) => format!("substring({text}, {from}, {})", self.expr(length)?),
                    None => format!("substring({text}, {from})"),
                }
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters } => self.trim(
                expr,
                trim_where.as_ref(),
                trim_what.as_deref(),
                trim_characters.as_deref(),
            )?,
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            Expr::Exists { subquery, negated } => {
                format!("({}exists ({}))", not(*negated), self.nested(subquery)?)
            }
            Expr::Subquery(query) => format!("({})", self.nested(query)?),
            Expr::Function(function) => self.function(function)?,
            _ => {
                let text: String = expr.to_string().chars().take(60).collect();
                return Err(Refusal::refused(format!("`{text}` is not let through")).hint(
                    "statements are made of columns, literals, operators and listed functions",
                ));
            }
        })
    }

    /// `a op b op c …`, which is nested to the left, without going as deep as it is long.
    fn chain(&mut self, expr: &Expr) -> Result<String, Refusal> {
        let mut steps = Vec::new();
        let mut left = expr;
        while let Expr::BinaryOp { left: next, op, right } = left {
            steps.push((op, right));
            left = next;
            if steps.len() > CHAIN {
                return Err(Refusal::refused(format!(
                    "a chain of operators has more than {CHAIN} links"
                )));
            }
        }
        let mut text = self.expr(left)?;
        for (op, right) in steps.into_iter().rev() {
            let right = self.expr(right)?;
            text = match binary(op)? {
                Some(op) => format!("({text} {op} {right})"),
                None => {
                    self.add(Weight { joins: 1, ..Weight::default() }, 1)?;
                    format!("left(cast({text} as varchar) || cast({right} as varchar), {JOINED})")
                }
            };
            text = bounded(text)?;
        }
        Ok(text)
    }

    fn test(&mut self, inner: &Expr, test: &str) -> Result<String, Refusal> {
        Ok(format!("({} {test})", self.expr(inner)?))
    }

    /// `like`, as a regular expression: DuckDB's own takes a time that is exponential in the number
    /// of signs for any text.
    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        negated: bool,
        options: &str,
    ) -> Result<String, Refusal> {
        let text = self.expr(expr)?;
        let pattern = short_text(pattern, "the pattern of `like`")?;
        let mut regex = String::with_capacity(2 * pattern.len());
        for sign in pattern.chars() {
            match sign {
                '%' => regex.push_str(".*"),
                '_' => regex.push('.'),
                sign if sign.is_ascii() && !sign.is_ascii_alphanumeric() => {
                    regex.push('\\');
                    regex.push(sign);
                }
                sign => regex.push(sign),
            }
        }
        let not = not(negated);
        Ok(format!("({not}regexp_full_match({text}, {}, '{options}'))", literal(&regex)))
    }

    fn access(&mut self, root: &Expr, chain: &[AccessExpr]) -> Result<String, Refusal> {
        let mut inner = root;
        while let Expr::Nested(nested) = inner {
            inner = nested;
        }
        if let Expr::Identifier(ident) = inner {
            no_alias_prefix(bare(ident)?)?;
        }
        let mut text = format!("({})", self.expr(root)?);
        for access in chain {
            match access {
                AccessExpr::Dot(Expr::Identifier(member)) => {
                    text = format!("({text}.{})", name(member)?);
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    text = format!("({text}[{}])", self.expr(index)?);
                }
                AccessExpr::Dot(_) | AccessExpr::Subscript(Subscript::Slice { .. }) => {
                    return Err(Refusal::refused(
                        "only members and single elements are let through",
                    ));
                }
            }
        }
        Ok(text)
    }

    fn interval(&mut self, interval: &Interval) -> Result<String, Refusal> {
        let Interval {
            value: amount,
            leading_field,
            leading_precision,
            last_field,
            fractional_seconds_precision,
        } = interval;
        nothing(leading_precision, "the precision of an interval")?;
        nothing(last_field, "`to` in an interval")?;
        nothing(fractional_seconds_precision, "the precision of an interval")?;
        let (sign, amount) = match &**amount {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => ("-", &**expr),
            other => ("", other),
        };
        let Expr::Value(amount) = amount else {
            return Err(Refusal::refused("an interval must be a literal")
                .hint("write `interval '15 minutes'`"));
        };
        let amount = match &amount.value {
            Value::Number(digits, false) => digits,
            Value::SingleQuotedString(text) => text,
            _ => return Err(Refusal::refused("an interval must be a number or a text")),
        };
        let unit = match leading_field {
            Some(field) => format!(" {}", part(field)?),
            None => String::new(),
        };
        Ok(format!("cast({} as interval)", literal(&format!("{sign}{amount}{unit}"))))
    }

    fn trim(
        &mut self,
        expr: &Expr,
        place: Option<&TrimWhereField>,
        what: Option<&Expr>,
        characters: Option<&[Expr]>,
    ) -> Result<String, Refusal> {
        let word = match place {
            None | Some(TrimWhereField::Both) => "trim",
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
        };
        let text = self.expr(expr)?;
        let what = match (what, characters) {
            (None, None) => return Ok(format!("{word}({text})")),
            (Some(what), None) | (None, Some([what])) => self.expr(what)?,
            _ => return Err(Refusal::refused("`trim` takes one text of signs")),
        };
        Ok(format!("{word}({text}, {what})"))
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<String, Refusal> {
        let mut text = String::from("(case");
        // DuckDB compares the operand anew in each condition; written so, its growth is seen here.
        let before = self.weight;
        let operand = operand.map(|operand| self.expr(operand)).transpose()?;
        if operand.is_some() {
            self.again(before, conditions.len().saturating_sub(1))?;
        }
        for CaseWhen { condition, result } in conditions {
            let (condition, result) = (self.expr(condition)?, self.expr(result)?);
            let condition = match &operand {
                Some(operand) => format!("({operand} = {condition})"),
                None => condition,
            };
            text = bounded(format!("{text} when {condition} then {result}"))?;
        }
        if let Some(otherwise) = otherwise {
            text.push_str(&format!(" else {}", self.expr(otherwise)?));
        }
        text.push_str(" end)");
        Ok(text)
    }
}

/// DuckDB reads `alias.b` as the column of the list that is called `b`.
fn no_alias_prefix(qualifier: &str) -> Result<(), Refusal> {
    match qualifier.eq_ignore_ascii_case("alias") {
        false => Ok(()),
        true => Err(Refusal::refused("`alias.…` names a column of the list in DuckDB")
            .hint("call the table something else than `alias`")),
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "not " } else { "" }
}

/// How DuckDB writes an operator; `None` for the one that joins texts.
fn binary(op: &BinaryOperator) -> Result<Option<&'static str>, Refusal> {
    Ok(Some(match op {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::DuckIntegerDivide => "//",
        BinaryOperator::Modulo => "%",
        BinaryOperator::Gt => ">",
        BinaryOperator::Lt => "<",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::And => "and",
        BinaryOperator::Or => "or",
        BinaryOperator::StringConcat => return Ok(None),
        other => return Err(operator_refused(other)),
    }))
}

fn operator_refused(op: &dyn std::fmt::Display) -> Refusal {
    Refusal::refused(format!("operator `{op}` is not let through"))
}

pub(super) fn short_text<'a>(expr: &'a Expr, what: &str) -> Result<&'a str, Refusal> {
    let Expr::Value(text) = expr else {
        return Err(Refusal::refused(format!("{what} must be a text in single quotes")));
    };
    match &text.value {
        Value::SingleQuotedString(text) if text.chars().count() <= PATTERN => Ok(text),
        Value::SingleQuotedString(_) => {
            Err(Refusal::refused(format!("{what} has more than {PATTERN} characters")))
        }
        _ => Err(Refusal::refused(format!("{what} must be a text in single quotes"))),
    }
}
