//! Functions over the elements of a list: the inner expression becomes the body of a lambda.

use contracts::expr::Ast;
use contracts::types::Type;

use super::number::{digits, divided, fit, narrow};
use super::{Emitted, Emitter, Frame, Sql, compare, decimal, refused, text};

/// A list with what an expression makes of each element.
struct Mapped {
    /// The list.
    list: String,
    /// The values, in order: a list in SQL.
    values: String,
    /// One value, as the body of the lambda.
    value: Sql,
    /// What the element is called in it.
    variable: String,
}

impl Mapped {
    /// The same with another body over each value.
    fn with(&self, body: &str) -> String {
        format!("list_transform({}, lambda {}: {body})", self.list, self.variable)
    }
}

fn list_of(emitter: &mut Emitter<'_>, list: &Ast) -> Emitted<(String, Type)> {
    let list = emitter.emit(list)?;
    match list.ty {
        Type::List(element) => Ok((list.text, *element)),
        _ => refused("a function over no list"),
    }
}

/// Runs `inner` where the element of the list is known by name.
fn over(
    emitter: &mut Emitter<'_>,
    element: Type,
    inner: impl FnOnce(&mut Emitter<'_>) -> Emitted,
) -> Emitted<(Sql, String)> {
    let variable = emitter.variable();
    emitter.frames.push(Frame::Element(variable.clone(), element));
    let value = inner(emitter);
    emitter.frames.pop();
    Ok((value?, variable))
}

fn mapped(emitter: &mut Emitter<'_>, list: &Ast, inner: Option<&Ast>) -> Emitted<Mapped> {
    let (list, element) = list_of(emitter, list)?;
    let (value, variable) = over(emitter, element, |emitter| match inner {
        Some(inner) => emitter.emit(inner),
        None => emitter.name("item"),
    })?;
    let value = if value.is_null() { Sql::new("null::boolean", Type::Bool) } else { value };
    let values = format!("list_transform({list}, lambda {variable}: {})", value.text);
    Ok(Mapped { list, values, value, variable })
}

pub(super) fn function(
    emitter: &mut Emitter<'_>,
    function: &str,
    list: &Ast,
    values: &[Ast],
) -> Emitted {
    if function == "max_by_of" {
        return max_by(emitter, list, values);
    }
    if function == "count_of" && values.is_empty() {
        let (list, _) = list_of(emitter, list)?;
        return Ok(Sql::new(format!("len({list})"), Type::Int64));
    }
    let mapped = mapped(emitter, list, values.first())?;
    let ty = mapped.value.ty.clone();
    let values = &mapped.values;
    match function {
        "sum_of" => sum(emitter, &mapped),
        "avg_of" => average(emitter, &mapped),
        "min_of" => Ok(Sql::new(format!("list_min({values})"), ty)),
        "max_of" => Ok(Sql::new(format!("list_max({values})"), ty)),
        "first_of" => {
            let variable = emitter.variable();
            let present =
                format!("list_filter({values}, lambda {variable}: {variable} is not null)");
            Ok(Sql::new(format!("({present})[1]"), ty))
        }
        "count_of" => {
            let variable = emitter.variable();
            let hits =
                format!("list_filter({values}, lambda {variable}: coalesce({variable}, false))");
            Ok(Sql::new(format!("len({hits})"), Type::Int64))
        }
        "distinct_of" => Ok(Sql::new(format!("len(list_distinct({values}))"), Type::Int64)),
        "any_of" => Ok(decided(emitter, values, true)),
        "all_of" => Ok(decided(emitter, values, false)),
        _ => refused(format!("the function `{function}`")),
    }
}

/// The sum of the values, 0 for none of them; null for a null list.
fn total(emitter: &Emitter<'_>, values: &str, zero: &str) -> String {
    emitter.bind(values, |v| {
        format!("(case when {v} is not null then coalesce(list_sum({v}), {zero}) end)")
    })
}

fn sum(emitter: &Emitter<'_>, mapped: &Mapped) -> Emitted {
    match &mapped.value.ty {
        Type::Int64 => {
            let values = mapped.with(&format!("({})::hugeint", mapped.value.text));
            let sum = total(emitter, &values, "0::hugeint");
            Ok(narrow(&sum))
        }
        Type::Float64 => {
            let sum = total(emitter, &mapped.values, "0::double");
            Ok(emitter.clean(Sql::new(sum, Type::Float64)))
        }
        Type::Decimal { scale, .. } => {
            // Only the sum may be too large: what fails within the values still does.
            let sum = emitter
                .bind(&mapped.values, |v| format!("try({})", total(emitter, v, "0::hugeint")));
            Ok(Sql::new(fit(&sum, 38), decimal(38, i32::from(*scale))))
        }
        ty => refused(format!("a sum of {ty}")),
    }
}

fn average(emitter: &Emitter<'_>, mapped: &Mapped) -> Emitted {
    let value = &mapped.value;
    if value.ty == Type::Float64 {
        let text = emitter.bind(&mapped.values, |v| {
            format!("(case when list_count({v}) > 0 then list_sum({v}) / list_count({v}) end)")
        });
        return Ok(emitter.clean(Sql::new(text, Type::Float64)));
    }
    let (precision, scale) = match value.ty {
        Type::Int64 => (19, 0),
        _ => match value.exact() {
            Some(exact) => exact,
            None => return refused(format!("a mean of {}", value.ty)),
        },
    };
    let values = mapped.with(&digits(value.clone()).text);
    let quotient = (scale + 4).clamp(6, 38);
    let mut result = Sql::new("", decimal(precision - scale + quotient, quotient));
    result.text = emitter.bind(&values, |v| {
        let count = format!("list_count({v})::hugeint");
        let sum = format!("list_sum({v})");
        let divided = divided(
            emitter,
            &sum,
            38,
            &count,
            quotient - scale,
            precision - scale + quotient,
            quotient,
        );
        fit(&divided.text, (precision - scale + quotient).min(38))
    });
    Ok(result)
}

/// The value of the element with the highest `by`, the first among equals.
fn max_by(emitter: &mut Emitter<'_>, list: &Ast, values: &[Ast]) -> Emitted {
    let [value, by] = values else { return refused("`max_by_of` without its arguments") };
    let values = mapped(emitter, list, Some(value))?;
    let by = mapped(emitter, list, Some(by))?;
    let text = emitter.bind(&by.values, |by| {
        let place = format!(
            "case when list_max({by}) is not null then list_position({by}, list_max({by})) end"
        );
        format!("({})[{place}]", values.values)
    });
    Ok(Sql::new(text, values.value.ty))
}

/// `decisive` as soon as one value is that, else null if one is, else the opposite.
fn decided(emitter: &Emitter<'_>, values: &str, decisive: bool) -> Sql {
    let text = emitter.bind(values, |v| {
        format!(
            "(case when {v} is null then null when list_contains({v}, {decisive}) then {decisive} \
             when list_count({v}) < len({v}) then null else {} end)",
            !decisive
        )
    });
    Sql::new(text, Type::Bool)
}

/// `contains`: a part of a text, or an element of a list.
pub(super) fn contains(emitter: &mut Emitter<'_>, list: &Ast, wanted: &Ast) -> Emitted {
    let of = emitter.emit(list)?;
    let Type::List(element) = of.ty.clone() else { return text::contains(emitter, of, wanted) };
    let wanted = emitter.emit(wanted)?;
    let (equal, variable) = over(emitter, *element, |emitter| {
        let item = emitter.name("item")?;
        Ok(Sql::new(compare::equal(item, wanted)?, Type::Bool))
    })?;
    let values = format!("list_transform({}, lambda {variable}: {})", of.text, equal.text);
    Ok(decided(emitter, &values, true))
}
