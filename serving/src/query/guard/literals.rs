//! Names, literals and types, written so that DuckDB can read them in one way only.

use sqlparser::ast::{
    DataType, DateTimeField, ExactNumberInfo, Ident, ObjectName, ObjectNamePart, TimezoneInfo,
    Value,
};

use super::limits::NAME_BYTES;
use super::refusal::Refusal;
use super::relations::literal;
use crate::metric::quote;

/// A name in quotes.
pub(super) fn name(ident: &Ident) -> Result<String, Refusal> {
    Ok(quote(bare(ident)?))
}

/// The name itself.
pub(super) fn bare(ident: &Ident) -> Result<&str, Refusal> {
    let Ident { value, quote_style, span: _ } = ident;
    match quote_style {
        None | Some('"') => {}
        Some(sign) => {
            return Err(Refusal::refused(format!(
                "`{value}` stands in {sign} where a name should"
            ))
            .hint("write names plainly or in double quotes; files cannot be read"));
        }
    }
    if value.is_empty() || value.len() > NAME_BYTES || value.chars().any(char::is_control) {
        return Err(Refusal::refused("a name is empty, too long, or has control characters"));
    }
    Ok(value)
}

/// A name of one part.
pub(super) fn single(name: &ObjectName) -> Result<&Ident, Refusal> {
    let ObjectName(parts) = name;
    match parts.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Ok(ident),
        _ => Err(Refusal::refused(format!("`{name}` is qualified by a schema or a catalog"))
            .hint("name the relation alone")),
    }
}

/// A literal.
pub(super) fn value(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Number(digits, false) if is_number(digits) => Ok(digits.clone()),
        Value::SingleQuotedString(text) => Ok(literal(text)),
        Value::Boolean(true) => Ok("true".to_owned()),
        Value::Boolean(false) => Ok("false".to_owned()),
        Value::Null => Ok("null".to_owned()),
        other => Err(Refusal::refused(format!("the literal `{other}` is not let through"))
            .hint("write numbers in digits and texts in single quotes")),
    }
}

/// A whole number, as a limit is.
pub(super) fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let number = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !number.is_empty() && number.len() <= 3 && digits(number)
    });
    !(whole.is_empty() && fraction.is_empty()) && digits(whole) && digits(fraction) && exponent_fits
}

/// A type to cast to.
pub(super) fn data_type(ty: &DataType) -> Result<String, Refusal> {
    let text = match ty {
        DataType::Varchar(None) | DataType::Text | DataType::String(None) => "varchar",
        DataType::TinyInt(None) => "tinyint",
        DataType::SmallInt(None) | DataType::Int2(None) => "smallint",
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => "integer",
        DataType::BigInt(None) | DataType::Int8(None) | DataType::Int64 => "bigint",
        DataType::HugeInt => "hugeint",
        DataType::Float(ExactNumberInfo::None) | DataType::Real => "float",
        DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision => "double",
        DataType::Boolean | DataType::Bool => "boolean",
        DataType::Date => "date",
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            "timestamp"
        }
        DataType::Decimal(size) | DataType::Numeric(size) => return decimal(size),
        other => {
            return Err(Refusal::refused(format!("type `{other}` is not let through")).hint(
                "types are varchar, bigint, integer, double, decimal(p,s), boolean, date and \
                 timestamp",
            ));
        }
    };
    Ok(text.to_owned())
}

fn decimal(size: &ExactNumberInfo) -> Result<String, Refusal> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => (18, 3),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let fits =
        (1..=38).contains(&precision) && u64::try_from(scale).is_ok_and(|scale| scale <= precision);
    match fits {
        true => Ok(format!("decimal({precision},{scale})")),
        false => {
            Err(Refusal::refused("a decimal has 1 to 38 digits, no more of them after the point"))
        }
    }
}

/// A part of a time, as `extract` and intervals name it.
pub(super) fn part(field: &DateTimeField) -> Result<&'static str, Refusal> {
    Ok(match field {
        DateTimeField::Year | DateTimeField::Years => "year",
        DateTimeField::Quarter => "quarter",
        DateTimeField::Month | DateTimeField::Months => "month",
        DateTimeField::Week(None) | DateTimeField::Weeks => "week",
        DateTimeField::Day | DateTimeField::Days => "day",
        DateTimeField::Hour | DateTimeField::Hours => "hour",
        DateTimeField::Minute | DateTimeField::Minutes => "minute",
        DateTimeField::Second | DateTimeField::Seconds => "second",
        DateTimeField::Millisecond | DateTimeField::Milliseconds => "millisecond",
        DateTimeField::Microsecond | DateTimeField::Microseconds => "microsecond",
        DateTimeField::Dow | DateTimeField::DayOfWeek => "dow",
        DateTimeField::Isodow => "isodow",
        DateTimeField::Doy | DateTimeField::DayOfYear => "doy",
        DateTimeField::Epoch => "epoch",
        other => {
            return Err(Refusal::refused(format!("`{other}` is no part of a time")).hint(
                "parts are year, quarter, month, week, day, hour, minute, second and epoch",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_numbers() {
        for text in ["0", "12", "1.5", ".5", "5.", "1e3", "1.5E-12"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", ".", "0x10", "1_000", "1e", "1e+", "1e1000", "--1", "1;", "٣"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
