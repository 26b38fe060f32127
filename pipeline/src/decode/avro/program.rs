//! How records of one schema become the JSON text that one contract reads, worked out once.
//!
//! The schema's graph and what the contract wants of each place are folded into one table of steps;
//! what names, symbols and logical types mean is settled here, so a record costs one pass over its
//! bytes. Types with a name are compiled once where nothing in particular is wanted of them, so a
//! schema that refers to itself has an end; what a contract wants is finite.

use std::collections::HashMap;

use super::schema::{Field, Logical, Name, NodeId, Schema, Shape};
use super::want::Want;
use crate::decode::time;

/// Index of a step in [`Program::steps`].
pub(super) type StepId = usize;

/// The steps for one schema and contract.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) root: StepId,
}

/// How one type is read and written.
#[derive(Debug)]
pub(super) enum Step {
    Null,
    Boolean,
    Int(Number),
    Long(Number),
    /// `float`; says whether the contract gives it a type.
    Float {
        declared: bool,
    },
    /// `double`; the same.
    Double {
        declared: bool,
    },
    Bytes(Binary),
    Fixed(usize, Binary),
    Text,
    /// A `string` that may be the text of a value in JSON.
    JsonText,
    /// JSON texts of an enum's symbols.
    Symbols(Vec<Box<[u8]>>),
    Array(StepId),
    /// Steps for keys that are wanted, and for all others.
    Map(Vec<(Box<str>, StepId)>, StepId),
    Union(Vec<StepId>),
    Record(Record),
}

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) members: Vec<Member>,
}

/// A member of a record.
#[derive(Debug)]
pub(super) struct Member {
    /// `,"name":` as it stands in the text; the first one with `{`.
    pub(super) opening: Box<[u8]>,
    /// Its name in the text.
    pub(super) name: Box<str>,
    pub(super) step: StepId,
}

/// How a whole number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// As its digits.
    Digits,
    /// An instant in units of `10^-digits` seconds, as text.
    Instant { digits: u32, local: bool, declared: bool },
    /// An instant in units of `10^-digits` seconds, as a count of `10^-to` seconds.
    Epoch { digits: u32, to: u32 },
    /// Days since 1970, as a date.
    Day { declared: bool },
    /// A time of day in units of `10^-digits` seconds, as text.
    Clock { digits: u32 },
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Base64,
    /// Digits after the point.
    Decimal(u32),
    BigDecimal,
    Uuid,
    Duration,
}

impl Program {
    /// The steps for a schema, for a contract that wants that.
    pub(super) fn new(schema: &Schema, want: &Want) -> Self {
        let mut compiler = Compiler { schema, steps: Vec::new(), plain: HashMap::new() };
        let root = compiler.step(schema.root, want);
        Self { steps: compiler.steps, root }
    }
}

struct Compiler<'s> {
    schema: &'s Schema,
    steps: Vec<Step>,
    /// Steps of types of which nothing in particular is wanted.
    plain: HashMap<NodeId, StepId>,
}

impl Compiler<'_> {
    fn step(&mut self, node: NodeId, want: &Want) -> StepId {
        if *want == Want::Any
            && let Some(known) = self.plain.get(&node)
        {
            return *known;
        }
        // The place is taken before what is inside: that may lead back here.
        let id = self.steps.len();
        self.steps.push(Step::Null);
        if *want == Want::Any {
            self.plain.insert(node, id);
        }
        self.steps[id] = self.compile(node, want);
        id
    }

    fn compile(&mut self, node: NodeId, want: &Want) -> Step {
        let schema = self.schema;
        let node = &schema.nodes[node];
        match &node.shape {
            Shape::Null => Step::Null,
            Shape::Boolean => Step::Boolean,
            Shape::Int => Step::Int(number(node.logical, want)),
            Shape::Long => Step::Long(number(node.logical, want)),
            Shape::Float => Step::Float { declared: want.is_declared() },
            Shape::Double => Step::Double { declared: want.is_declared() },
            Shape::Bytes => Step::Bytes(binary(node.logical)),
            Shape::Fixed(size) => Step::Fixed(*size, binary(node.logical)),
            Shape::String if *want == Want::Json => Step::JsonText,
            Shape::String => Step::Text,
            Shape::Enum(symbols) => {
                Step::Symbols(symbols.iter().map(|symbol| quoted(symbol)).collect())
            }
            Shape::Array(items) => Step::Array(self.step(*items, want.item())),
            Shape::Map(values) => {
                let named = want
                    .members()
                    .map(|(name, want)| (name.as_str().into(), self.step(*values, want)))
                    .collect();
                Step::Map(named, self.step(*values, &Want::Any))
            }
            Shape::Union(branches) => {
                Step::Union(branches.iter().map(|branch| self.step(*branch, want)).collect())
            }
            Shape::Record { name, fields } => {
                Step::Record(Record { name: name.clone(), members: self.members(fields, want) })
            }
        }
    }

    fn members(&mut self, fields: &[Field], want: &Want) -> Vec<Member> {
        let names = names(fields, want);
        let members = fields.iter().zip(names).enumerate();
        members
            .map(|(at, (field, name))| {
                let mut opening = vec![if at == 0 { b'{' } else { b',' }];
                opening.extend_from_slice(&quoted(name));
                opening.push(b':');
                Member {
                    opening: opening.into(),
                    name: name.into(),
                    step: self.step(field.node, want.member(name)),
                }
            })
            .collect()
    }
}

/// The names of a record's members in the text: their own, or, where the contract asks for a name
/// that no member has, that of the one member that says it once had that name.
fn names<'f>(fields: &'f [Field], want: &Want) -> Vec<&'f str> {
    let mut names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    for (wanted, _) in want.members() {
        if fields.iter().any(|field| field.name == *wanted) {
            continue;
        }
        let mut had = fields.iter().enumerate().filter_map(|(at, field)| {
            let alias = field.aliases.iter().find(|alias| *alias == wanted)?.as_str();
            // A name that the contract asks for itself is not given away.
            let is_wanted = want.members().any(|(wanted, _)| *wanted == field.name);
            (!is_wanted).then_some((at, alias))
        });
        if let (Some((at, alias)), None) = (had.next(), had.next())
            && names[at] == fields[at].name
        {
            names[at] = alias;
        }
    }
    names
}

fn number(logical: Option<Logical>, want: &Want) -> Number {
    let (digits, local) = match logical {
        Some(_) if *want == Want::Whole => return Number::Digits,
        Some(Logical::Timestamp(digits)) => (digits, false),
        Some(Logical::LocalTimestamp(digits)) => (digits, true),
        Some(Logical::Date) => return Number::Day { declared: *want == Want::Day },
        Some(Logical::Time(digits)) => return Number::Clock { digits },
        _ => return Number::Digits,
    };
    let scale = match want {
        Want::Instant(form) => time::epoch_scale(*form),
        _ => None,
    };
    match scale {
        Some(scale) => Number::Epoch { digits, to: (6 - scale).unsigned_abs() },
        None => Number::Instant { digits, local, declared: matches!(want, Want::Instant(_)) },
    }
}

fn binary(logical: Option<Logical>) -> Binary {
    match logical {
        Some(Logical::Decimal(scale)) => Binary::Decimal(scale),
        Some(Logical::BigDecimal) => Binary::BigDecimal,
        Some(Logical::Uuid) => Binary::Uuid,
        Some(Logical::Duration) => Binary::Duration,
        _ => Binary::Base64,
    }
}

fn quoted(text: &str) -> Box<[u8]> {
    serde_json::to_vec(text).expect("a text is JSON").into()
}
