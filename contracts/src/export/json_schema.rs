//! An event contract as a JSON Schema, draft 2020-12.
//!
//! It asks for the plainest way of writing each value (an epoch time as a whole number), of which
//! the decoder takes some more. It leaves to the decoder what JSON Schema says badly or not at all:
//! how many digits a decimal may have (`multipleOf` goes through doubles), the range of an int64.
//! Members that the contract does not name are allowed, as they are in a record.

use serde_json::{Map, Number, Value, json};

use super::record::{self, Member, Shape, unit};
use crate::check::parse_decimal;
use crate::model::{Constraints, Domain, EventContract, TimeForm};

/// The schema of one record.
pub fn json_schema(domain: &Domain, contract: &EventContract) -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), format!("{} v{}", contract.name, contract.version).into());
    schema.insert("description".to_owned(), record::about(contract).into());
    schema.extend(object(&record::members(domain, contract), false));
    Value::Object(schema)
}

fn object(members: &[Member], nullable: bool) -> Map<String, Value> {
    let properties: Map<String, Value> = members
        .iter()
        .map(|member| (member.name.clone(), Value::Object(property(member))))
        .collect();
    let must_be_there = |member: &&Member| member.required && member.default.is_none();
    let required: Vec<&str> =
        members.iter().filter(must_be_there).map(|member| member.name.as_str()).collect();
    let mut schema = typed(&["object"], nullable);
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), true.into());
    schema
}

fn property(member: &Member) -> Map<String, Value> {
    let mut schema = Map::new();
    if let Some(description) = &member.description {
        schema.insert("description".to_owned(), description.as_str().into());
    }
    let nullable = !member.required;
    schema.extend(value(&member.shape, &member.bounds, nullable));
    // A record of this version says this version, as a number or as its digits.
    let version = match (&member.shape, member.version) {
        (Shape::Int64, Some(version)) => Some(json!(version)),
        (Shape::Text, Some(version)) => Some(json!(version.to_string())),
        _ => None,
    };
    match version {
        Some(version) if nullable => schema.insert("enum".to_owned(), json!([version, null])),
        Some(version) => schema.insert("const".to_owned(), version),
        None => None,
    };
    let default = member.default.as_ref().map(|default| match (&member.shape, default) {
        // The model keeps the digits of a decimal as text.
        (Shape::Decimal { .. }, Value::String(text)) => number(text).unwrap_or(Value::Null),
        _ => default.clone(),
    });
    schema.extend(default.map(|default| ("default".to_owned(), default)));
    schema
}

/// The schema of a value. Elements of lists may be null, and bounds are those of the list itself.
fn value(shape: &Shape, bounds: &Constraints, nullable: bool) -> Map<String, Value> {
    let mut schema = match shape {
        Shape::Text => text(bounds, nullable),
        Shape::Id => {
            let mut schema = typed(&["string", "integer"], nullable);
            schema.insert("minLength".to_owned(), 1.into());
            schema
        }
        Shape::Bool => typed(&["boolean"], nullable),
        Shape::Int64 => typed(&["integer"], nullable),
        Shape::Float64 | Shape::Time(TimeForm::EpochS) => typed(&["number"], nullable),
        // As text a decimal keeps all of its digits on the way.
        Shape::Decimal { .. } => typed(&["number", "string"], nullable),
        Shape::Time(TimeForm::Rfc3339) => formatted("date-time", nullable),
        Shape::Time(_) => typed(&["integer"], nullable),
        Shape::Date => formatted("date", nullable),
        Shape::Json if nullable => Map::new(),
        Shape::Json => typed(&["object", "array", "string", "number", "boolean"], false),
        Shape::List(inner) => {
            let mut schema = typed(&["array"], nullable);
            let items = value(inner, &Constraints::default(), true);
            schema.insert("items".to_owned(), items.into());
            schema
        }
        Shape::Record(members) => object(members, nullable),
    };
    for (key, bound) in [
        ("exclusiveMinimum", &bounds.above),
        ("exclusiveMaximum", &bounds.below),
        ("minimum", &bounds.min),
        ("maximum", &bounds.max),
    ] {
        let bound = bound.as_deref().and_then(number);
        schema.extend(bound.map(|bound| (key.to_owned(), bound)));
    }
    for (key, length) in [("minItems", bounds.min_items), ("maxItems", bounds.max_items)] {
        schema.extend(length.map(|length| (key.to_owned(), length.into())));
    }
    let comment = match shape {
        Shape::Decimal { precision, scale } => Some(format!("decimal({precision},{scale})")),
        Shape::Time(form) => unit(*form).map(str::to_owned),
        _ => None,
    };
    schema.extend(comment.map(|comment| ("$comment".to_owned(), comment.into())));
    schema
}

fn text(bounds: &Constraints, nullable: bool) -> Map<String, Value> {
    let mut schema = typed(&["string"], nullable);
    if let Some(values) = &bounds.values {
        let mut allowed: Vec<Value> = values.iter().map(|text| text.as_str().into()).collect();
        allowed.extend(nullable.then_some(Value::Null));
        schema.insert("enum".to_owned(), allowed.into());
    }
    if let Some(pattern) = &bounds.pattern {
        // Anchored by the loader.
        let pattern = pattern.as_str();
        match is_ecma(pattern) {
            true => schema.insert("pattern".to_owned(), pattern.into()),
            false => schema.insert("$comment".to_owned(), format!("matches {pattern}").into()),
        };
    }
    for (key, length) in [("minLength", bounds.min_length), ("maxLength", bounds.max_length)] {
        schema.extend(length.map(|length| (key.to_owned(), length.into())));
    }
    schema
}

fn typed(names: &[&str], nullable: bool) -> Map<String, Value> {
    let mut names = names.to_vec();
    names.extend(nullable.then_some("null"));
    let ty = match names.as_slice() {
        [one] => json!(one),
        several => json!(several),
    };
    Map::from_iter([("type".to_owned(), ty)])
}

fn formatted(format: &str, nullable: bool) -> Map<String, Value> {
    let mut schema = typed(&["string"], nullable);
    schema.insert("format".to_owned(), format.into());
    schema
}

/// A bound as JSON has it: whole numbers exactly, others as the nearest double, which is what
/// validators compare with.
fn number(text: &str) -> Option<Value> {
    let (digits, scale) = parse_decimal(text)?;
    let whole = 10_i128.checked_pow(scale).filter(|unit| digits % unit == 0);
    match whole.and_then(|unit| i64::try_from(digits / unit).ok()) {
        Some(whole) => Some(whole.into()),
        None => Number::from_f64(text.parse().ok()?).map(Value::Number),
    }
}

/// Does a pattern of the `regex` crate mean the same in ECMA-262, the dialect of JSON Schema? A
/// validator refuses a whole schema for one pattern that it cannot read.
fn is_ecma(pattern: &str) -> bool {
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '\\' => match chars.next() {
                Some('-') if in_class => {}
                Some(c) if "^$\\.*+?()[]{}|/dDwWsSnrtfv".contains(c) => {}
                Some('b' | 'B') if !in_class && next_is_not_brace(&chars) => {}
                _ => return false,
            },
            // Flags and names; other groups than `(?:` are rare in patterns of fields.
            '(' if !in_class && next == Some('?') => {
                chars.next();
                if chars.next() != Some(':') {
                    return false;
                }
            }
            '[' if in_class => return false,
            '[' => {
                in_class = true;
                if next == Some('^') {
                    chars.next();
                }
                // Here a member of the set, there the end of an empty one.
                if chars.peek() == Some(&']') {
                    return false;
                }
            }
            ']' => in_class = false,
            '&' | '-' | '~' if in_class && next == Some(c) => return false,
            '{' if !in_class && next == Some(',') => return false,
            _ => {}
        }
    }
    true
}

/// `\b{start}` is a border of a word in one dialect only.
fn next_is_not_brace(chars: &std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    chars.clone().next() != Some('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_both_dialects_are_told_from_those_of_one() {
        for pattern in [
            r"^(?:ORD-\d{8}-\d{4,})$",
            r"^(?:[A-Z0-9]{2})$",
            r"^(?:[^\s@]+@[^\s@]+\.[a-z\-]+|\bnone\b)$",
        ] {
            assert!(is_ecma(pattern), "{pattern}");
        }
        for pattern in [
            r"(?i)abc",
            r"(?P<year>\d{4})",
            r"\p{Greek}+",
            r"\Aabc\z",
            r"[[:alpha:]]+",
            r"[a-z&&[^b]]",
            r"[]a]",
            r"a\@b",
            r"\x{61}",
            r"\b{start}a",
            r"a{,3}",
        ] {
            assert!(!is_ecma(pattern), "{pattern}");
        }
    }

    #[test]
    fn bounds_keep_their_digits_as_far_as_json_can() {
        for (text, expected) in [
            ("0", "0"),
            ("+5", "5"),
            ("10.0", "10"),
            ("0.50", "0.5"),
            (".5", "0.5"),
            ("-1e3", "-1000"),
            ("9223372036854775807", "9223372036854775807"),
        ] {
            assert_eq!(number(text).map(|n| n.to_string()).as_deref(), Some(expected), "{text}");
        }
    }
}
