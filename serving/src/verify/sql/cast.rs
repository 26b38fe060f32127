//! Conversions, those that happen by themselves and those that are written.

use contracts::types::Type;

use super::number::{digits, fit, narrow, rounded, scaled};
use super::{Emitted, Emitter, Sql, decimal, name, power, refused, time};

/// The one type that all of `values` turn into, and the values as that type.
pub(super) fn unify(values: Vec<Sql>) -> Emitted<(Vec<Sql>, Type)> {
    let typed: Vec<&Sql> = values.iter().filter(|value| !value.is_null()).collect();
    let Some(first) = typed.first() else { return refused("nothing but bare nulls") };
    let ty = if typed.iter().all(|value| value.ty == first.ty) {
        first.ty.clone()
    } else {
        let exact: Option<Vec<(i32, i32)>> = typed.iter().map(|value| value.exact()).collect();
        match exact {
            None => Type::Float64,
            Some(exact) => {
                let scale = exact.iter().map(|(_, scale)| *scale).max().unwrap_or(0);
                let whole = exact.iter().map(|(digits, s)| digits - s).max().unwrap_or(0);
                decimal(whole + scale, scale)
            }
        }
    };
    let values = values.into_iter().map(|value| brought(value, &ty)).collect::<Emitted<_>>()?;
    Ok((values, ty))
}

/// A value as a type that holds all of its values.
fn brought(value: Sql, ty: &Type) -> Emitted {
    if value.is_null() {
        return Ok(Sql::new(format!("null::{}", sql_type(ty)), ty.clone()));
    }
    if value.ty == *ty {
        return Ok(value);
    }
    match (ty, value.exact()) {
        (Type::Float64, _) => to_float(value),
        (Type::Decimal { scale, .. }, Some((_, from))) => {
            let text = scaled(&digits(value).text, from, i32::from(*scale));
            Ok(Sql::new(text, ty.clone()))
        }
        _ => refused(format!("{} beside {ty}", value.ty)),
    }
}

/// What a contract declares for the whole expression.
pub(super) fn wanted(emitter: &Emitter<'_>, value: Sql, ty: &Type) -> Emitted {
    if value.is_null() {
        return brought(value, ty);
    }
    cast(emitter, value, ty)
}

/// The DuckDB type in which expressions hold values of `ty`.
pub(in crate::verify) fn sql_type(ty: &Type) -> String {
    match ty {
        Type::String | Type::Json => "varchar".to_owned(),
        Type::Bool => "boolean".to_owned(),
        Type::Int64 | Type::Timestamp | Type::Date => "bigint".to_owned(),
        Type::Float64 => "double".to_owned(),
        Type::Decimal { .. } => "hugeint".to_owned(),
        Type::List(_) | Type::Struct(_) => stored_type(ty),
    }
}

/// The DuckDB type in which the store holds values of `ty`.
fn stored_type(ty: &Type) -> String {
    match ty {
        Type::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        Type::Timestamp => "timestamp".to_owned(),
        Type::Date => "date".to_owned(),
        Type::List(element) => format!("{}[]", stored_type(element)),
        Type::Struct(members) => {
            let members = members.iter().map(|(n, ty)| format!("{} {}", name(n), stored_type(ty)));
            format!("struct({})", members.collect::<Vec<_>>().join(", "))
        }
        _ => sql_type(ty),
    }
}

/// The double nearest to a number.
pub(super) fn to_float(value: Sql) -> Emitted {
    let text = match &value.ty {
        Type::Float64 => return Ok(value),
        Type::Int64 => format!("({})::double", value.text),
        // Reading the digits rounds once; dividing by a power of ten would round twice.
        Type::Decimal { scale, .. } => {
            format!("(({})::varchar || 'e-{scale}')::double", value.text)
        }
        _ => return refused("a double of no number"),
    };
    Ok(Sql::new(text, Type::Float64))
}

/// A cast that is written: null where it fails.
pub(super) fn cast(emitter: &Emitter<'_>, value: Sql, ty: &Type) -> Emitted {
    if value.is_null() {
        return brought(value, ty);
    }
    if value.ty == *ty {
        return Ok(value);
    }
    let from = value.ty.clone();
    match (&from, ty) {
        (Type::Float64, Type::Int64) => {
            Ok(Sql::new(format!("try_cast(round({}) as bigint)", value.text), Type::Int64))
        }
        (Type::Decimal { scale, .. }, Type::Int64) => {
            let whole = match *scale {
                0 => value.text,
                scale => rounded(emitter, &value.text, &power(i32::from(scale))),
            };
            Ok(narrow(&whole))
        }
        (Type::Int64 | Type::Decimal { .. }, Type::Decimal { precision, scale }) => {
            let (digits_before, before) = value.exact().unwrap_or((38, 0));
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            let input = digits(value).text;
            let text = if scale >= before {
                if digits_before + scale - before <= 38 {
                    scaled(&input, before, scale)
                } else {
                    emitter.bind(&input, |v| format!("try({})", scaled(v, before, scale)))
                }
            } else {
                rounded(emitter, &input, &power(before - scale))
            };
            Ok(Sql::new(fit(&text, precision), ty.clone()))
        }
        (Type::Int64 | Type::Decimal { .. }, Type::Float64) => to_float(value),
        (Type::Float64, Type::Decimal { .. }) => {
            // A double counts as its shortest digits, which is how DuckDB writes it.
            Ok(from_text(&format!("({})::varchar", value.text), ty))
        }
        (Type::String, _) => of_text(emitter, value, ty),
        (_, Type::String) => to_text(emitter, value),
        (Type::Timestamp, Type::Date) => {
            Ok(Sql::new(time::day_of(emitter, &value.text), Type::Date))
        }
        (Type::Date, Type::Timestamp) => {
            Ok(Sql::new(format!("({} * 86400000000)", value.text), Type::Timestamp))
        }
        _ => refused(format!("a cast from {from} to {ty}")),
    }
}

/// A text of digits as a decimal, rounded half away from zero, null where it does not fit.
fn from_text(text: &str, ty: &Type) -> Sql {
    let Type::Decimal { precision, scale } = ty else { return Sql::new("null", ty.clone()) };
    let read = format!("try_cast({text} as decimal({precision}, {scale}))");
    Sql::new(format!("replace({read}::varchar, '.', '')::hugeint"), ty.clone())
}

fn of_text(emitter: &Emitter<'_>, value: Sql, ty: &Type) -> Emitted {
    let guarded = |pattern: &str, then: &dyn Fn(&str) -> String| {
        emitter.bind(&value.text, |v| {
            let then = then(v);
            format!("(case when regexp_full_match({v}, '{pattern}') then {then} end)")
        })
    };
    let text = match ty {
        Type::Int64 => guarded("[+-]?[0-9]+", &|v| format!("try_cast({v} as bigint)")),
        Type::Decimal { .. } => guarded(r"[+-]?[0-9]+(\.[0-9]+)?", &|v| from_text(v, ty).text),
        Type::Float64 => {
            let pattern = r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?";
            let text = guarded(pattern, &|v| format!("try_cast({v} as double)"));
            return Ok(emitter.clean(Sql::new(text, Type::Float64)));
        }
        Type::Bool => emitter.bind(&value.text, |v| {
            format!("(case lower({v}) when 'true' then true when 'false' then false end)")
        }),
        Type::Timestamp => time::parsed(emitter, &value.text),
        Type::Date => guarded("[0-9]{4}-[0-9]{2}-[0-9]{2}", &|v| {
            format!("(try_cast({v} as date) - date '1970-01-01')")
        }),
        _ => return refused(format!("a cast from string to {ty}")),
    };
    Ok(Sql::new(text, ty.clone()))
}

fn to_text(emitter: &Emitter<'_>, value: Sql) -> Emitted {
    let text = match &value.ty {
        Type::Int64 | Type::Bool | Type::Json => format!("({})::varchar", value.text),
        Type::Decimal { scale: 0, .. } => format!("({})::varchar", value.text),
        Type::Decimal { scale, .. } => emitter.bind(&value.text, |v| {
            let digits = format!("lpad(abs({v})::varchar, greatest({}, length(abs({v})::varchar)::bigint)::integer, '0')", scale + 1);
            format!(
                "((case when {v} < 0 then '-' else '' end) || left({digits}, -{scale}) || '.' || \
                 right({digits}, {scale}))"
            )
        }),
        // Outside of these bounds DuckDB writes the exponent otherwise.
        Type::Float64 => emitter.bind(&value.text, |v| {
            format!(
                "(case when {v} = 0 or abs({v}) between 1e-4::double and 1e15::double \
                 then {v}::varchar when {v} is not null \
                 then error('the text of the double ' || {v}::varchar) end)"
            )
        }),
        Type::Timestamp => time::text(emitter, &value.text),
        Type::Date => time::date_text(emitter, &value.text),
        ty => return refused(format!("a cast from {ty} to string")),
    };
    Ok(Sql::new(text, Type::String))
}
