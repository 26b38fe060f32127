//! An Avro schema as a graph, from its JSON text.
//!
//! Only what reading needs: shapes, names, logical types and aliases of fields. Defaults, docs and
//! the reader's side of the specification play no part, so a schema whose defaults do not fit is
//! none the worse. Names are kept as they are written.
//!
//! Our own parser and not `apache-avro`'s: that one panics on a name that it does not like, and what
//! a registry says is foreign text.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Index of a node in [`Schema::nodes`].
pub(super) type NodeId = usize;

/// Nodes of one schema with all that it refers to. Real ones have a few hundred.
const MOST_NODES: usize = 100_000;
/// Most digits after the point of a decimal that are believed.
const MOST_SCALE: u64 = 10_000;

/// A schema, and those that it refers to.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// One type of a schema.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shape: Shape,
    /// What its values mean; `None` also for meanings that are not known, as the specification
    /// wants it.
    pub(super) logical: Option<Logical>,
}

/// How values are encoded.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Record { name: Name, fields: Vec<Field> },
    Enum(Vec<String>),
    Fixed(usize),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
}

/// What values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    /// Digits after the point.
    Decimal(u32),
    BigDecimal,
    Uuid,
    Date,
    /// Time of day in units of `10^-n` seconds.
    Time(u32),
    /// Instant in units of `10^-n` seconds.
    Timestamp(u32),
    /// The same without a time zone.
    LocalTimestamp(u32),
    Duration,
}

/// A member of a record.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) node: NodeId,
}

/// The name of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// With its namespace.
    pub(super) full: String,
    /// Length of the namespace and its dot.
    short_from: usize,
}

impl Name {
    fn new(name: &str, namespace: Option<&str>) -> Self {
        let full = match namespace {
            Some(space) if !name.contains('.') && !space.is_empty() => format!("{space}.{name}"),
            _ => name.to_owned(),
        };
        let short_from = full.rfind('.').map_or(0, |dot| dot + 1);
        Self { full, short_from }
    }

    /// Without its namespace.
    pub(super) fn short(&self) -> &str {
        &self.full[self.short_from..]
    }

    fn namespace(&self) -> &str {
        &self.full[..self.short_from.saturating_sub(1)]
    }
}

impl Schema {
    /// Parses a schema after those that it refers to, each behind what it refers to itself.
    pub(super) fn parse<'t>(
        text: &'t str,
        references: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, String> {
        let mut parser = Parser { nodes: Vec::new(), named: HashMap::new() };
        for text in references {
            parser.text(text)?;
        }
        let root = parser.text(text)?;
        Ok(Self { nodes: parser.nodes, root })
    }
}

struct Parser {
    nodes: Vec<Node>,
    named: HashMap<String, NodeId>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<NodeId, String> {
        // Bounded in depth by serde_json, so the recursion below is too.
        let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        self.any(&value, "")
    }

    fn add(&mut self, shape: Shape, logical: Option<Logical>) -> Result<NodeId, String> {
        if self.nodes.len() >= MOST_NODES {
            return Err(format!("more than {MOST_NODES} types"));
        }
        self.nodes.push(Node { shape, logical });
        Ok(self.nodes.len() - 1)
    }

    fn any(&mut self, value: &Value, space: &str) -> Result<NodeId, String> {
        match value {
            Value::String(name) => self.by_name(name, space),
            Value::Array(branches) => {
                let mut nodes = Vec::with_capacity(branches.len());
                for branch in branches {
                    let node = self.any(branch, space)?;
                    // Refused by the specification; and a union in itself would have no end.
                    if matches!(self.nodes[node].shape, Shape::Union(_)) {
                        return Err("a union directly in a union".to_owned());
                    }
                    nodes.push(node);
                }
                self.add(Shape::Union(nodes), None)
            }
            Value::Object(object) => self.object(object, space),
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<NodeId, String> {
        if let Some(shape) = primitive(name) {
            return self.add(shape, None);
        }
        let full = Name::new(name, Some(space)).full;
        // As Java's parser does it: else a name without a namespace.
        let known = self.named.get(&full).or_else(|| self.named.get(name));
        known.copied().ok_or_else(|| format!("unknown type `{full}`"))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Result<NodeId, String> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // `{"type": {"type": "long", …}}`: a shell around a type.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.any(inner, space),
            _ => return Err("a type without `type`".to_owned()),
        };
        if let Some(shape) = primitive(kind) {
            let logical = logical(object, &shape);
            return self.add(shape, logical);
        }
        match kind {
            "record" | "error" => self.record(object, space),
            "enum" => {
                let symbols = list(object, "symbols")?.iter().map(|symbol| {
                    symbol.as_str().map(str::to_owned).ok_or("a symbol that is no text".to_owned())
                });
                let symbols = symbols.collect::<Result<_, _>>()?;
                self.named(object, space, |_| Shape::Enum(symbols), None).map(|(node, _)| node)
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64);
                let size = size.and_then(|size| u32::try_from(size).ok());
                let shape = Shape::Fixed(size.ok_or("a fixed without `size`")? as usize);
                let logical = logical(object, &shape);
                self.named(object, space, |_| shape, logical).map(|(node, _)| node)
            }
            "array" => {
                let items = self.any(part(object, "items")?, space)?;
                self.add(Shape::Array(items), None)
            }
            "map" => {
                let values = self.any(part(object, "values")?, space)?;
                self.add(Shape::Map(values), None)
            }
            name => self.by_name(name, space),
        }
    }

    /// Adds a type with a name; it can be used from then on, also inside itself.
    fn named(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        shape: impl FnOnce(&Name) -> Shape,
        logical: Option<Logical>,
    ) -> Result<(NodeId, Name), String> {
        let name = part(object, "name")?.as_str().ok_or("a name that is no text")?;
        let space = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let name = Name::new(name, Some(space));
        let node = self.add(shape(&name), logical)?;
        if self.named.insert(name.full.clone(), node).is_some() {
            return Err(format!("`{}` is defined twice", name.full));
        }
        Ok((node, name))
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str) -> Result<NodeId, String> {
        let empty = |name: &Name| Shape::Record { name: name.clone(), fields: Vec::new() };
        let (node, name) = self.named(object, space, empty, None)?;
        let mut fields: Vec<Field> = Vec::new();
        for field in list(object, "fields")? {
            let field = field.as_object().ok_or("a field that is no object")?;
            let known = part(field, "name")?.as_str().ok_or("a field's name that is no text")?;
            if fields.iter().any(|other| other.name == known) {
                return Err(format!("field `{known}` of `{}` stands twice", name.full));
            }
            let inside = |problem: String| format!("field `{known}` of `{}`: {problem}", name.full);
            let ty = part(field, "type").map_err(inside)?;
            let aliases = field.get("aliases").and_then(Value::as_array).into_iter().flatten();
            fields.push(Field {
                name: known.to_owned(),
                aliases: aliases.filter_map(Value::as_str).map(str::to_owned).collect(),
                node: self.any(ty, name.namespace()).map_err(inside)?,
            });
        }
        self.nodes[node].shape = Shape::Record { name, fields };
        Ok(node)
    }
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::String,
        _ => return None,
    })
}

fn part<'o>(object: &'o Map<String, Value>, key: &str) -> Result<&'o Value, String> {
    object.get(key).ok_or_else(|| format!("`{key}` is missing"))
}

fn list<'o>(object: &'o Map<String, Value>, key: &str) -> Result<&'o [Value], String> {
    let list = part(object, key)?.as_array();
    list.map(Vec::as_slice).ok_or_else(|| format!("`{key}` is no list"))
}

/// The logical type of a shape, if it is one that goes with it.
fn logical(object: &Map<String, Value>, shape: &Shape) -> Option<Logical> {
    let number = |key: &str| object.get(key).map(|value| value.as_u64());
    Some(match (object.get("logicalType")?.as_str()?, shape) {
        ("decimal", Shape::Bytes | Shape::Fixed(_)) => {
            let precision = number("precision")??;
            let scale = number("scale").unwrap_or(Some(0))?;
            if precision == 0 || scale > precision || scale > MOST_SCALE {
                return None;
            }
            Logical::Decimal(scale as u32)
        }
        ("big-decimal", Shape::Bytes) => Logical::BigDecimal,
        ("uuid", Shape::String | Shape::Fixed(16)) => Logical::Uuid,
        ("date", Shape::Int) => Logical::Date,
        ("time-millis", Shape::Int) => Logical::Time(3),
        ("time-micros", Shape::Long) => Logical::Time(6),
        ("timestamp-millis", Shape::Long) => Logical::Timestamp(3),
        ("timestamp-micros", Shape::Long) => Logical::Timestamp(6),
        ("timestamp-nanos", Shape::Long) => Logical::Timestamp(9),
        ("local-timestamp-millis", Shape::Long) => Logical::LocalTimestamp(3),
        ("local-timestamp-micros", Shape::Long) => Logical::LocalTimestamp(6),
        ("local-timestamp-nanos", Shape::Long) => Logical::LocalTimestamp(9),
        ("duration", Shape::Fixed(12)) => Logical::Duration,
        _ => return None,
    })
}
