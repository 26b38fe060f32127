//! Why one value did not decode.

use crate::outcome::Reason;

use super::json::{Kind, Raw, Syntax};

/// Longest piece of a value that a message shows, in characters.
const SHOWN: usize = 40;

/// Why a value did not decode, and where in its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    /// Path of the value from the top of the record: `items[0].quantity`. Built from the inside
    /// out, while the fault is on its way up.
    pub(super) path: String,
    /// What was expected; never a part of the value.
    pub(super) expected: String,
    /// What was found; left out of messages about personal data.
    pub(super) found: String,
}

impl Fault {
    pub(super) fn new(reason: Reason, expected: impl Into<String>, found: Raw<'_>) -> Box<Self> {
        Box::new(Self {
            reason,
            path: String::new(),
            expected: expected.into(),
            found: show(found),
        })
    }

    /// A fault that no single value shows.
    fn plain(reason: Reason, path: &str, detail: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            reason,
            path: path.to_owned(),
            expected: detail.into(),
            found: String::new(),
        })
    }

    /// A required value that is absent or null.
    pub(super) fn missing(path: &str, null: bool) -> Box<Self> {
        let detail = if null { "required, but null" } else { "required, but absent" };
        Self::plain(Reason::MissingField, path, detail)
    }

    /// A member that occurs twice.
    pub(super) fn twice(path: &str) -> Box<Self> {
        Self::plain(Reason::DuplicateKey, path, "the member occurs twice")
    }

    /// A text that is not a JSON object.
    pub(super) fn not_json(detail: impl Into<String>) -> Box<Self> {
        Self::plain(Reason::NotJson, "", detail)
    }

    /// Bytes that are no record in Avro.
    pub(super) fn not_avro(detail: impl Into<String>) -> Box<Self> {
        Self::plain(Reason::NotAvro, "", detail)
    }

    /// A record whose writer's schema nobody knows.
    pub(super) fn unknown_schema(detail: impl Into<String>) -> Box<Self> {
        Self::plain(Reason::UnknownSchema, "", detail)
    }

    /// A value that JSON has no form for that its type could be.
    pub(super) fn odd(reason: Reason, expected: &str, found: String) -> Box<Self> {
        Box::new(Self { reason, path: String::new(), expected: expected.to_owned(), found })
    }

    /// A record in Avro whose text in JSON would be too long.
    pub(super) fn too_long_as_json(limit: usize) -> Box<Self> {
        let detail = format!("as JSON longer than {limit} bytes, the limit for one record");
        Self::plain(Reason::TooLarge, "", detail)
    }

    /// A record that is not read because of its size.
    pub(super) fn too_large(len: usize, limit: usize) -> Box<Self> {
        let detail = format!("{len} bytes, the limit for one record is {limit}");
        Self::plain(Reason::TooLarge, "", detail)
    }

    /// An event type that no contract names.
    pub(super) fn unknown_type(event_type: &str) -> Box<Self> {
        let detail = format!("no contract names event type `{}`", clip(event_type));
        Self::plain(Reason::UnknownEventType, "", detail)
    }

    /// A version that the contracts of the event type do not have.
    pub(super) fn unknown_version(
        path: &str,
        version: &str,
        event_type: &str,
        known: &str,
    ) -> Box<Self> {
        let version = clip(version);
        let detail = format!("event type `{event_type}` has versions {known}, not {version}");
        Self::plain(Reason::UnknownVersion, path, detail)
    }

    /// The same fault, one level further out.
    pub(super) fn inside(mut self: Box<Self>, outer: &str) -> Box<Self> {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{outer}{joint}{}", self.path);
        self
    }

    /// The message for people. Values of personal data stay out of it.
    pub(super) fn detail(&self, private: bool) -> String {
        if self.found.is_empty() || private {
            self.expected.clone()
        } else {
            format!("{}, found {}", self.expected, self.found)
        }
    }
}

impl From<Syntax> for Box<Fault> {
    fn from(syntax: Syntax) -> Self {
        Fault::not_json(format!("{} at byte {}", syntax.what, syntax.at))
    }
}

/// A value in a message: its kind, and its text if that is short.
fn show(value: Raw<'_>) -> String {
    match value.kind {
        Kind::Null => "null".to_owned(),
        Kind::Array | Kind::Object => value.kind.name().to_owned(),
        Kind::Bool(is) => is.to_string(),
        Kind::Number => clip(value.text),
        Kind::String { .. } => format!("text `{}`", clip(value.inner())),
    }
}

/// The beginning of a text, for messages.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
