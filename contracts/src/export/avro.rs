//! An event contract as an Avro schema.
//!
//! Types are exact: decimals are bytes with a logical type, times long where the contract counts
//! them and text where it writes them. Bounds, patterns and allowed values have no place in Avro;
//! they are checked when a record arrives. Versions of a contract have one name, as registries and
//! readers expect of schemas that follow one another.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::ExportError;
use super::record::{self, Member, Shape, unit};
use crate::check::parse_decimal;
use crate::model::{Domain, EventContract, TimeForm};

/// The schema of one record: namespace of the domain, name of the contract.
///
/// # Errors
/// A member of the envelope or of a struct whose name Avro does not allow.
pub fn avro(domain: &Domain, contract: &EventContract) -> Result<Value, ExportError> {
    let mut writer = Writer { contract, names: HashSet::new() };
    let name = contract.name.replace('.', "_");
    let mut schema = writer.record(&name, &record::members(domain, contract))?;
    let namespace = Some(namespace(&domain.name)).filter(|words| !words.is_empty());
    schema.extend(namespace.map(|words| ("namespace".to_owned(), words.into())));
    schema.insert("doc".to_owned(), record::about(contract).into());
    // For people: what a schema is comes before what is in it.
    let fields = schema.shift_remove("fields");
    schema.extend(fields.map(|fields| ("fields".to_owned(), fields)));
    Ok(Value::Object(schema))
}

/// The nearest namespace: names of letters, digits and underscores with dots between them.
fn namespace(domain: &str) -> String {
    let word = |word: &str| {
        let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let word: String = word.chars().map(fits).collect();
        if word.starts_with(|c: char| c.is_ascii_digit()) { format!("_{word}") } else { word }
    };
    let words: Vec<String> = domain.split('.').filter(|w| !w.is_empty()).map(word).collect();
    words.join(".")
}

/// Can Avro call a field so?
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Writer<'a> {
    contract: &'a EventContract,
    /// Names of records so far; each may be defined once.
    names: HashSet<String>,
}

impl Writer<'_> {
    fn record(
        &mut self,
        name: &str,
        members: &[Member],
    ) -> Result<Map<String, Value>, ExportError> {
        self.names.insert(name.to_owned());
        let fields: Vec<Value> =
            members.iter().map(|member| self.field(name, member)).collect::<Result<_, _>>()?;
        let mut record = Map::new();
        record.insert("type".to_owned(), "record".into());
        record.insert("name".to_owned(), name.into());
        record.insert("fields".to_owned(), fields.into());
        Ok(record)
    }

    fn field(&mut self, record: &str, member: &Member) -> Result<Value, ExportError> {
        if !is_name(&member.name) {
            return Err(ExportError {
                message: format!(
                    "`{}` of the contract `{}` version {} cannot be the name of a field in Avro",
                    member.name, self.contract.name, self.contract.version
                ),
                hint: "names in Avro have letters, digits and underscores and do not start with a \
                       digit; rename the member, or keep that part of the envelope in a header"
                    .to_owned(),
            });
        }
        let value = self.shape(&format!("{record}_{}", member.name), &member.shape)?;
        let mut field = Map::new();
        field.insert("name".to_owned(), member.name.as_str().into());
        if let Some(doc) = doc(member) {
            field.insert("doc".to_owned(), doc.into());
        }
        let default = member.default.as_ref().and_then(|json| default(json, &member.shape));
        // The default of a union is a value of its first branch.
        let (ty, default) = match (member.required, default) {
            (true, default) => (value, default),
            (false, Some(default)) => (json!([value, "null"]), Some(default)),
            (false, None) => (json!(["null", value]), Some(Value::Null)),
        };
        field.insert("type".to_owned(), ty);
        field.extend(default.map(|default| ("default".to_owned(), default)));
        Ok(Value::Object(field))
    }

    /// The type of a value; `name` is for the record that it may be.
    fn shape(&mut self, name: &str, shape: &Shape) -> Result<Value, ExportError> {
        Ok(match shape {
            Shape::Text | Shape::Id | Shape::Json | Shape::Time(TimeForm::Rfc3339) => {
                json!("string")
            }
            Shape::Bool => json!("boolean"),
            Shape::Int64 | Shape::Time(TimeForm::EpochS | TimeForm::EpochNs) => json!("long"),
            Shape::Float64 => json!("double"),
            Shape::Decimal { precision, scale } => json!({
                "type": "bytes",
                "logicalType": "decimal",
                "precision": precision,
                "scale": scale,
            }),
            Shape::Time(TimeForm::EpochMs) => {
                json!({"type": "long", "logicalType": "timestamp-millis"})
            }
            Shape::Time(TimeForm::EpochUs) => {
                json!({"type": "long", "logicalType": "timestamp-micros"})
            }
            Shape::Date => json!({"type": "int", "logicalType": "date"}),
            Shape::List(inner) => json!({"type": "array", "items": self.shape(name, inner)?}),
            Shape::Record(members) => {
                let name = self.free(name);
                Value::Object(self.record(&name, members)?)
            }
        })
    }

    /// `name`, or `name_2` and so on when a member of another record has led to it already: the
    /// struct `b` in `a` and the struct `a_b` do.
    fn free(&self, name: &str) -> String {
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !self.names.contains(name))
            .unwrap_or_default()
    }
}

/// What the type alone does not say.
fn doc(member: &Member) -> Option<String> {
    let note = match (&member.shape, &member.bounds.values) {
        (Shape::Time(TimeForm::Rfc3339), _) => {
            Some("RFC 3339, such as 2026-01-31T10:00:00Z".to_owned())
        }
        (Shape::Time(form), _) => unit(*form).map(str::to_owned),
        (Shape::Json, _) => Some("JSON text".to_owned()),
        (_, Some(values)) => Some(format!("one of: {}", values.join(", "))),
        (_, None) => member.version.map(|version| format!("{version} for this schema")),
    };
    match (&member.description, note) {
        (Some(said), Some(note)) => Some(format!("{}; {note}", said.trim_end_matches('.'))),
        (Some(said), None) => Some(said.clone()),
        (None, note) => note,
    }
}

/// A default as Avro writes it; `None` where it cannot be carried over.
fn default(value: &Value, shape: &Shape) -> Option<Value> {
    match (shape, value) {
        (Shape::Text | Shape::Id | Shape::Time(TimeForm::Rfc3339), Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Float64, Value::Number(_)) => Some(value.clone()),
        (Shape::Int64 | Shape::Time(_), Value::Number(number)) => {
            // `3.0` is a whole number in a record, but no long in Avro.
            let (digits, scale) = parse_decimal(&number.to_string())?;
            let unit = 10_i128.checked_pow(scale)?;
            (digits % unit == 0)
                .then_some(digits / unit)
                .and_then(|n| i64::try_from(n).ok())
                .map(Value::from)
        }
        (Shape::Date, Value::String(text)) => {
            let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(day.signed_duration_since(chrono::NaiveDate::default()).num_days().into())
        }
        (Shape::Json, value) => Some(value.to_string().into()),
        (Shape::List(inner), Value::Array(items)) => {
            items.iter().map(|item| default(item, inner)).collect()
        }
        // The members of a struct are unions that begin with null, so a default could write nothing
        // but nulls there. Defaults of decimals are refused by `apache_avro`, which reads the schema
        // on our side.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_made_of_names() {
        for (domain, expected) in [
            ("shop", "shop"),
            ("acme.shop-eu", "acme.shop_eu"),
            ("2026", "_2026"),
            ("..", ""),
            ("a..b", "a.b"),
            ("лавка", "_____"),
        ] {
            assert_eq!(namespace(domain), expected, "{domain}");
        }
    }
}
