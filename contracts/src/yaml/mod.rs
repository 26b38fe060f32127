//! YAML as a tree that remembers where everything stands.
//!
//! Built from parser events with an own stack, so that depth, size and anchors are bounded before
//! anything is built: the files may come from anywhere. Refused: anchors and aliases, tags, keys
//! that are not text, the same key twice. A syntax error ends its file, but the documents before it
//! are kept, so that their errors are shown too. Start at [`parse`].

#[cfg(test)]
mod tests;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::diagnostic::{Position, Report};

/// Longest contract file, in bytes.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 32;
/// Most keys of a mapping and items of a list. Names are compared pair by pair in several places.
const MAX_KEYS: usize = 2_000;
const MAX_ITEMS: usize = 10_000;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it starts.
    pub(crate) at: Position,
    /// What it is.
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Text, number, truth value or null: YAML tells them apart only by reading the text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(Scalar, Node)>),
}

/// A scalar as written.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// Its text after unfolding and unescaping.
    pub(crate) text: String,
    /// Not quoted: `null`, `true` and `12` then have their YAML meaning.
    pub(crate) plain: bool,
    /// Where it starts.
    pub(crate) at: Position,
    /// Where the first character of the text stands (after a quote, on the line after `|`).
    pub(crate) content: Position,
    /// Are the lines of the text the lines of the file (`|` blocks)?
    pub(crate) literal: bool,
}

/// One YAML document of a file.
#[derive(Debug)]
pub(crate) struct YamlDocument {
    /// Its only value.
    pub(crate) root: Node,
    /// Its lines, without the `---`.
    pub(crate) text: String,
}

/// Reads all documents of a file; empty ones are left out.
pub(crate) fn parse(file: u32, text: &str, report: &mut Report) -> Vec<YamlDocument> {
    let start = Position { file, line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        report.error(
            start,
            format!("the file has {} bytes, a contract file may have {MAX_FILE_BYTES}", text.len()),
            "split it into one file per contract, and keep data out of the folder",
        );
        return Vec::new();
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut builder = Builder { file, lines: &lines, stack: Vec::new(), root: None, report };
    // (first line of the document's text, its value)
    let mut found: Vec<(usize, Option<Node>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = builder.position(*error.marker());
                builder.report.error(
                    at,
                    format!("this is not YAML: {}", error.info()),
                    syntax_hint(error.info(), lines.get(at.line as usize - 1).copied()),
                );
                break;
            }
        };
        match event {
            Event::DocumentStart(explicit) => {
                builder.root = None;
                // Comments above the first document belong to it.
                let first = if explicit { span.start.line() + 1 } else { 1 };
                found.push((first, None));
            }
            Event::DocumentEnd => {
                if let Some((_, root)) = found.last_mut() {
                    *root = builder.root.take();
                }
            }
            event => {
                if builder.event(event, span).is_none() {
                    break;
                }
            }
        }
    }
    let ends: Vec<usize> = found.iter().skip(1).map(|(first, _)| first.saturating_sub(2)).collect();
    found
        .into_iter()
        .enumerate()
        .filter_map(|(i, (first, root))| {
            let end = ends.get(i).copied().unwrap_or(lines.len()).min(lines.len());
            let text = lines.get(first - 1..end).unwrap_or_default().join("\n");
            let root = root?;
            let empty = matches!(&root.value, Value::Scalar(s) if s.is_null());
            (!empty).then(|| YamlDocument { root, text: text.trim_matches('\n').to_owned() + "\n" })
        })
        .collect()
}

/// A list or mapping that is still open.
enum Open {
    List(Position, Vec<Node>),
    Map(Position, Vec<(Scalar, Node)>, Option<Scalar>),
}

struct Builder<'a> {
    file: u32,
    lines: &'a [&'a str],
    stack: Vec<Open>,
    root: Option<Node>,
    report: &'a mut Report,
}

impl Builder<'_> {
    /// Takes one event; `None` means that the rest of the file is not worth reading.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let at = self.position(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some())?;
                let scalar = self.scalar(text.into_owned(), style, at);
                self.value(Node { at, value: Value::Scalar(scalar) })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some())?;
                self.open(at, Open::List(at, Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some())?;
                self.open(at, Open::Map(at, Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop()? {
                Open::List(at, items) => self.value(Node { at, value: Value::List(items) }),
                Open::Map(at, entries, _) => self.value(Node { at, value: Value::Map(entries) }),
            },
            Event::Alias(_) => self.refuse_extras(at, 1, false),
            _ => Some(()),
        }
    }

    fn open(&mut self, at: Position, open: Open) -> Option<()> {
        if self.stack.len() >= MAX_DEPTH {
            self.report.error(
                at,
                format!("lists and mappings are nested more than {MAX_DEPTH} deep"),
                "a contract needs five levels; is this a contract file?",
            );
            return None;
        }
        if let Some(Open::Map(_, _, key @ None)) = self.stack.last_mut() {
            // Keeps the pairs in step while the list or mapping that stands as a key is read.
            *key = None;
            self.report.error(
                at,
                "a key must be a plain text",
                "write `key: value`; texts that start with `{` or `[` need quotes",
            );
            return None;
        }
        self.stack.push(open);
        Some(())
    }

    fn value(&mut self, node: Node) -> Option<()> {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(at, items)) if items.len() >= MAX_ITEMS => {
                self.report.error(
                    *at,
                    format!("the list has more than {MAX_ITEMS} items"),
                    "keep data out of contract files",
                );
                return None;
            }
            Some(Open::Map(at, entries, _)) if entries.len() >= MAX_KEYS => {
                self.report.error(
                    *at,
                    format!("the mapping has more than {MAX_KEYS} keys"),
                    "split the contract, or keep rare members in one `json` field",
                );
                return None;
            }
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some(scalar),
                    Value::List(_) | Value::Map(_) => return None,
                },
                Some(name) => match entries.iter().find(|(k, _)| k.text == name.text) {
                    Some((first, _)) => self.report.error(
                        name.at,
                        format!("the key `{}` stands here twice", name.text),
                        format!("remove one; the first is in line {}", first.at.line),
                    ),
                    None => entries.push((name, node)),
                },
            },
        }
        Some(())
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tag: bool) -> Option<()> {
        if anchor != 0 {
            self.report.error(
                at,
                "anchors and aliases (`&name`, `*name`) are not part of contract files",
                "write the value out; a text that starts with `&` or `*` needs quotes",
            );
            return None;
        }
        if tag {
            self.report.error(
                at,
                "tags (`!name`) are not part of contract files",
                "leave the tag out; a text that starts with `!` needs quotes",
            );
            return None;
        }
        Some(())
    }

    fn scalar(&self, text: String, style: ScalarStyle, at: Position) -> Scalar {
        let literal = style == ScalarStyle::Literal;
        let content = match style {
            ScalarStyle::Plain => at,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                Position { column: at.column + 1, ..at }
            }
            ScalarStyle::Literal | ScalarStyle::Folded => self.block_content(at),
        };
        Scalar { text, plain: style == ScalarStyle::Plain, at, content, literal }
    }

    /// Where the text of a block scalar starts: the first line with something in it below `at`.
    fn block_content(&self, at: Position) -> Position {
        let header = at.line as usize;
        let from = if self.lines.get(header - 1).is_some_and(|l| l.contains(['|', '>'])) {
            header
        } else {
            header - 1
        };
        self.lines.iter().enumerate().skip(from).find(|(_, line)| !line.trim().is_empty()).map_or(
            at,
            |(i, line)| Position {
                line: i as u32 + 1,
                column: line.chars().take_while(|c| *c == ' ').count() as u32 + 1,
                ..at
            },
        )
    }

    fn position(&self, marker: Marker) -> Position {
        Position {
            file: self.file,
            line: (marker.line() as u32).max(1),
            column: marker.col() as u32 + 1,
        }
    }
}

fn syntax_hint(info: &str, line: Option<&str>) -> String {
    if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        return "indent with spaces; YAML does not allow tabs there".to_owned();
    }
    if info.contains("mapping values are not allowed") {
        return "put quotes around a text that contains `: `, and check the indentation".to_owned();
    }
    "check indentation, quotes and brackets in this line and the one before".to_owned()
}

impl Scalar {
    /// Does YAML read it as null?
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Does YAML read it as a truth value?
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// The number as JSON writes it, when YAML reads it as a decimal number.
    pub(crate) fn as_number(&self) -> Option<serde_json::Number> {
        if !self.plain {
            return None;
        }
        let text = self.text.strip_prefix('+').unwrap_or(&self.text);
        serde_json::from_str(text).ok()
    }
}

impl Node {
    /// "a list", "a mapping", … for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(s) if s.is_null() => "nothing",
            Value::Scalar(s) if s.as_bool().is_some() => "a truth value",
            Value::Scalar(s) if s.as_number().is_some() => "a number",
            Value::Scalar(_) => "a text",
        }
    }

    /// The value as JSON: what a default or an example event says.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(s) if s.is_null() => serde_json::Value::Null,
            Value::Scalar(s) => match (s.as_bool(), s.as_number()) {
                (Some(b), _) => serde_json::Value::Bool(b),
                (None, Some(n)) => serde_json::Value::Number(n),
                (None, None) => serde_json::Value::String(s.text.clone()),
            },
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(k, v)| (k.text.clone(), v.to_json())).collect(),
            ),
        }
    }
}
