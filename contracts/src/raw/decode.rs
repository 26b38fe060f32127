//! From located trees to typed records, collecting every error on the way.
//!
//! [`record!`] declares a mapping once: the struct, its JSON Schema and its decoder come from the
//! same lines, so the three cannot differ. A value that is wrong is reported where it stands and
//! its record is dropped, after the rest of the record has been looked at too.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::diagnostic::{Position, Report, suggest};
use crate::yaml::{Node, Scalar, Value};

/// A value that can be read from a YAML node.
pub(crate) trait Decode: Sized {
    /// The value, or `None` after reporting what is wrong.
    fn decode(node: &Node, report: &mut Report) -> Option<Self>;

    /// The value of a key that is not there; `None` when the key is required.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        T::decode(node, report).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Reports that `node` is not what was expected.
pub(crate) fn unexpected(node: &Node, expected: &str, hint: &str, report: &mut Report) {
    report.error(node.at, format!("expected {expected}, found {}", node.describe()), hint);
}

/// A mapping whose keys are taken one by one.
pub(crate) struct Mapping<'a> {
    at: Position,
    what: &'static str,
    entries: &'a [(Scalar, Node)],
}

impl<'a> Mapping<'a> {
    /// The node as a mapping with no keys but `known`.
    pub(crate) fn of(
        node: &'a Node,
        what: &'static str,
        known: &[&'static str],
        report: &mut Report,
    ) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let keys = known.join(", ");
            unexpected(node, what, &format!("write `key: value` pairs; keys: {keys}"), report);
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                report.error(
                    key.at,
                    format!("unknown key `{}` in {what}", shorten(&key.text)),
                    suggest(&key.text, known.iter().copied(), "known keys"),
                );
            }
        }
        Some(Self { at: node.at, what, entries })
    }

    /// Decodes the value of `key`.
    pub(crate) fn take<T: Decode>(&self, key: &str, report: &mut Report) -> Option<T> {
        match self.entries.iter().find(|(k, _)| k.text == key) {
            Some((_, node)) => T::decode(node, report),
            None => {
                let absent = T::absent();
                if absent.is_none() {
                    report.error(
                        self.at,
                        format!("{} needs the key `{key}`", self.what),
                        format!("add `{key}: …`; docs/contracts.md describes it"),
                    );
                }
                absent
            }
        }
    }
}

/// Long texts do not help in a message.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Declares a mapping: struct, JSON Schema and decoder.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident, $what:literal, {
        $($(#[$doc:meta])* $field:ident $(as $key:literal)? : $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        #[allow(dead_code, reason = "`at` and `kind` exist for messages and the schema")]
        pub(crate) struct $name {
            /// Where it stands.
            #[schemars(skip)]
            pub(crate) at: $crate::diagnostic::Position,
            $($(#[$doc])* $(#[schemars(rename = $key)])? pub(crate) $field: $ty,)*
        }

        impl $crate::raw::decode::Decode for $name {
            fn decode(
                node: &$crate::yaml::Node,
                report: &mut $crate::diagnostic::Report,
            ) -> Option<Self> {
                const KEYS: &[&str] =
                    &[$($crate::raw::decode::key_name!($field $($key)?)),*];
                let mapping = $crate::raw::decode::Mapping::of(node, $what, KEYS, report)?;
                $(let $field = mapping.take::<$ty>(
                    $crate::raw::decode::key_name!($field $($key)?),
                    report,
                );)*
                Some(Self { at: node.at, $($field: $field?,)* })
            }
        }
    };
}

/// The key of a record's field: its own name unless another is given.
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Declares a choice between fixed words: enum, JSON Schema and decoder.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $what:literal, {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
        pub(crate) enum $name {
            $($(#[$doc])* #[schemars(rename = $word)] $variant,)*
        }

        impl $crate::raw::decode::Decode for $name {
            fn decode(
                node: &$crate::yaml::Node,
                report: &mut $crate::diagnostic::Report,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                match $crate::raw::decode::word(node, $what, WORDS, report)? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {choice, key_name, record};

/// The scalar of `node` when it is one of `words`.
pub(crate) fn word<'a>(
    node: &'a Node,
    what: &str,
    words: &[&'static str],
    report: &mut Report,
) -> Option<&'a str> {
    let hint = format!("one of: {}", words.join(", "));
    let Value::Scalar(scalar) = &node.value else {
        unexpected(node, what, &hint, report);
        return None;
    };
    let text = if scalar.is_null() { "null" } else { scalar.text.as_str() };
    if !words.contains(&text) {
        let hint = suggest(text, words.iter().copied(), "allowed");
        report.error(node.at, format!("`{}` is not {what}", shorten(text)), hint);
        return None;
    }
    Some(text)
}

/// A text and its place. Numbers and truth values count as the text they are written as.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The text.
    pub(crate) value: String,
    /// Where the scalar starts.
    pub(crate) at: Position,
    content: Position,
    literal: bool,
}

impl Text {
    /// A text of a key.
    pub(crate) fn of(scalar: &Scalar) -> Self {
        Self {
            value: scalar.text.clone(),
            at: scalar.at,
            content: scalar.content,
            literal: scalar.literal,
        }
    }

    /// Another text that starts at the same place.
    pub(crate) fn with_value(&self, value: &str) -> Self {
        Self { value: value.to_owned(), ..self.clone() }
    }

    /// A part of this text, starting at character `offset` of its first line.
    pub(crate) fn part(&self, value: &str, offset: u32) -> Self {
        Self {
            value: value.to_owned(),
            at: self.at,
            content: self.inside(1, offset + 1),
            literal: self.literal,
        }
    }

    /// The place of a line and column (from 1) inside the text. Exact for texts on one line and
    /// for `|` blocks; for texts that YAML has folded it is where the text starts.
    pub(crate) fn inside(&self, line: u32, column: u32) -> Position {
        match (line, self.literal) {
            (0 | 1, _) => {
                Position { column: self.content.column + column.saturating_sub(1), ..self.content }
            }
            (line, true) => Position {
                file: self.content.file,
                line: self.content.line + line - 1,
                column: self.content.column + column.saturating_sub(1),
            },
            _ => self.content,
        }
    }
}

impl Decode for Text {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(Self::of(scalar)),
            _ => {
                unexpected(
                    node,
                    "a text",
                    "write a value after the colon, in quotes if in doubt",
                    report,
                );
                None
            }
        }
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// A whole number that is not negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    /// The number.
    pub(crate) value: u64,
    /// Where it stands.
    pub(crate) at: Position,
}

impl Decode for Whole {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        if let Value::Scalar(scalar) = &node.value
            && let Some(value) = scalar.as_number().and_then(|n| n.as_u64())
        {
            return Some(Self { value, at: node.at });
        }
        unexpected(node, "a whole number", "write it without quotes, sign or fraction", report);
        None
    }
}

impl JsonSchema for Whole {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

impl Decode for bool {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        if let Value::Scalar(scalar) = &node.value
            && let Some(value) = scalar.as_bool()
        {
            return Some(value);
        }
        unexpected(node, "true or false", "write `true` or `false`", report);
        None
    }
}

/// Any value, as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    /// The value.
    pub(crate) value: serde_json::Value,
    /// The text as written, when it is a scalar: a decimal's digits survive only there.
    pub(crate) text: Option<String>,
    /// Where it stands.
    pub(crate) at: Position,
}

impl Decode for Json {
    fn decode(node: &Node, _: &mut Report) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            Value::List(_) | Value::Map(_) => None,
        };
        Some(Self { value: node.to_json(), text, at: node.at })
    }
}

impl JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::List(items) = &node.value else {
            unexpected(node, "a list", "write `[a, b]`, or one item per line after `- `", report);
            return None;
        };
        // Every item is looked at, also after a bad one.
        let decoded: Vec<Option<T>> = items.iter().map(|item| T::decode(item, report)).collect();
        decoded.into_iter().collect()
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::decode(node, report).map(Self),
            Value::Scalar(_) | Value::Map(_) => T::decode(node, report).map(|one| Self(vec![one])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

/// A mapping from names that the contract chooses, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) Vec<(Text, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            unexpected(node, "a mapping", "write one `name: value` per line", report);
            return None;
        };
        // A bad entry is left out, so that the others are checked too.
        Some(Self(
            entries
                .iter()
                .filter_map(|(key, value)| Some((Text::of(key), T::decode(value, report)?)))
                .collect(),
        ))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": value})
    }
}
