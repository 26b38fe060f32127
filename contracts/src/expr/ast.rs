//! The syntax tree of the dialect, and its canonical text.
//!
//! The tree holds only what the dialect has; redundant parentheses, spacing and letter case are
//! already gone. Its [`Display`](fmt::Display) form is the canonical text, and parsing that text
//! gives the same tree again.

use std::fmt;

use super::error::Pos;
use super::parser::is_reserved;
use crate::types::Type;

/// A node with its place in the text.
#[derive(Debug)]
pub struct Ast {
    pub(super) pos: Pos,
    /// What it is.
    pub kind: AstKind,
    /// Levels below and including this one.
    pub(super) depth: usize,
}

/// The forms of the dialect.
#[derive(Debug)]
pub enum AstKind {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// An optional sign, digits, an optional fraction and an optional exponent.
    Number(String),
    /// A text, without its quotes.
    Text(String),
    /// `timestamp '…'`.
    Timestamp(String),
    /// `date '…'`.
    Date(String),
    /// `interval '…'`.
    Interval(String),
    /// A name of the scope.
    Name(String),
    /// `struct.member`.
    Member(Box<Ast>, String),
    /// `list[index]`.
    Index(Box<Ast>, Box<Ast>),
    /// `-x`.
    Negate(Box<Ast>),
    /// `not x`.
    Not(Box<Ast>),
    /// Two or more terms; nested ones of the same kind are flattened.
    And(Vec<Ast>),
    /// See [`AstKind::And`].
    Or(Vec<Ast>),
    /// `a + b` and the like.
    Arithmetic(ArithmeticOp, Box<Ast>, Box<Ast>),
    /// `a || b`.
    Concat(Box<Ast>, Box<Ast>),
    /// `a < b` and the like.
    Compare(CompareOp, Box<Ast>, Box<Ast>),
    /// `x is [not] null`, `true` or `false`.
    Is {
        /// What is tested.
        operand: Box<Ast>,
        /// For what.
        test: IsTest,
        /// With `not`?
        negated: bool,
    },
    /// `x [not] in (…)`.
    In {
        /// What is looked for.
        operand: Box<Ast>,
        /// Where.
        list: Vec<Ast>,
        /// With `not`?
        negated: bool,
    },
    /// `x [not] between low and high`.
    Between {
        /// What is compared.
        operand: Box<Ast>,
        /// The lower end, which belongs to it.
        low: Box<Ast>,
        /// The upper end, which belongs to it.
        high: Box<Ast>,
        /// With `not`?
        negated: bool,
    },
    /// `x [not] like 'pattern'`, or `ilike`.
    Like {
        /// The text.
        operand: Box<Ast>,
        /// The pattern.
        pattern: Box<Ast>,
        /// Is it `ilike`?
        ignore_case: bool,
        /// With `not`?
        negated: bool,
    },
    /// `case … end`, in both forms.
    Case {
        /// What the branches are compared with, in the second form.
        operand: Option<Box<Ast>>,
        /// Condition or value, and result.
        branches: Vec<(Ast, Ast)>,
        /// After `else`.
        otherwise: Option<Box<Ast>>,
    },
    /// `cast(x as type)`.
    Cast(Box<Ast>, Type),
    /// A function of the dialect, its name in lower case.
    Call(String, Vec<Ast>),
}

impl AstKind {
    /// The nodes right below, in the order of the text.
    pub(super) fn children(&self) -> Vec<&Ast> {
        match self {
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Timestamp(_)
            | Self::Date(_)
            | Self::Interval(_)
            | Self::Name(_) => Vec::new(),
            Self::Member(one, _) | Self::Negate(one) | Self::Not(one) | Self::Cast(one, _) => {
                vec![one]
            }
            Self::Is { operand, .. } => vec![operand],
            Self::Index(one, other)
            | Self::Arithmetic(_, one, other)
            | Self::Concat(one, other)
            | Self::Compare(_, one, other) => vec![one, other],
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
            Self::And(all) | Self::Or(all) | Self::Call(_, all) => all.iter().collect(),
            Self::In { operand, list, .. } => {
                std::iter::once(&**operand).chain(list.iter()).collect()
            }
            Self::Between { operand, low, high, .. } => vec![operand, low, high],
            Self::Case { operand, branches, otherwise } => {
                let branches = branches.iter().flat_map(|(when, then)| [when, then]);
                operand.as_deref().into_iter().chain(branches).chain(otherwise.as_deref()).collect()
            }
        }
    }
}

/// Operators on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArithmeticOp {
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `%`.
    Remainder,
}

impl ArithmeticOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`.
    Equal,
    /// `<>`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
}

impl CompareOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// What `is` tests for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IsTest {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
}

/// How tightly a form binds. A form stands in parentheses where something tighter is needed.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARE: u8 = 4;
    pub(super) const ADD: u8 = 5;
    pub(super) const MULTIPLY: u8 = 6;
    pub(super) const NEGATE: u8 = 7;
    pub(super) const PRIMARY: u8 = 8;
}

impl AstKind {
    fn level(&self) -> u8 {
        match self {
            Self::Or(_) => level::OR,
            Self::And(_) => level::AND,
            Self::Not(_) => level::NOT,
            Self::Compare(..)
            | Self::Is { .. }
            | Self::In { .. }
            | Self::Between { .. }
            | Self::Like { .. } => level::COMPARE,
            Self::Concat(..) | Self::Arithmetic(ArithmeticOp::Add | ArithmeticOp::Subtract, ..) => {
                level::ADD
            }
            Self::Arithmetic(..) => level::MULTIPLY,
            Self::Negate(_) => level::NEGATE,
            _ => level::PRIMARY,
        }
    }
}

/// Writes `ast`, in parentheses when it binds less tightly than `needed`.
struct AtLeast<'a>(u8, &'a Ast);

impl fmt::Display for AtLeast<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.kind.level() < self.0 {
            write!(f, "({})", self.1)
        } else {
            write!(f, "{}", self.1)
        }
    }
}

struct Separated<'a>(&'a str, u8, &'a [Ast]);

impl fmt::Display for Separated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ast) in self.2.iter().enumerate() {
            if i > 0 {
                f.write_str(self.0)?;
            }
            write!(f, "{}", AtLeast(self.1, ast))?;
        }
        Ok(())
    }
}

/// A text literal, quotes doubled.
struct TextLiteral<'a>(&'a str);

impl fmt::Display for TextLiteral<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// A name, in double quotes when it would not be read as a name without them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_')
            && !is_reserved(self.0);
        if plain { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) }
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "not " } else { "" }
}

impl fmt::Display for Ast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operand = |ast| AtLeast(level::ADD, ast);
        match &self.kind {
            AstKind::Null => f.write_str("null"),
            AstKind::Bool(value) => write!(f, "{value}"),
            AstKind::Number(number) => f.write_str(number),
            AstKind::Text(text) => write!(f, "{}", TextLiteral(text)),
            AstKind::Timestamp(text) => write!(f, "timestamp {}", TextLiteral(text)),
            AstKind::Date(text) => write!(f, "date {}", TextLiteral(text)),
            AstKind::Interval(text) => write!(f, "interval {}", TextLiteral(text)),
            AstKind::Name(name) => write!(f, "{}", Name(name)),
            AstKind::Member(of, name) => {
                write!(f, "{}.{}", AtLeast(level::PRIMARY, of), Name(name))
            }
            AstKind::Index(of, index) => write!(f, "{}[{index}]", AtLeast(level::PRIMARY, of)),
            // With a blank, or the two signs would start a comment.
            AstKind::Negate(of) if matches!(of.kind, AstKind::Negate(_)) => write!(f, "- {of}"),
            AstKind::Negate(of) => write!(f, "-{}", AtLeast(level::PRIMARY, of)),
            AstKind::Not(of) => write!(f, "not {}", AtLeast(level::NOT, of)),
            AstKind::And(terms) => write!(f, "{}", Separated(" and ", level::NOT, terms)),
            AstKind::Or(terms) => write!(f, "{}", Separated(" or ", level::AND, terms)),
            AstKind::Arithmetic(op, left, right) => {
                let level = self.kind.level();
                write!(f, "{} {} {}", AtLeast(level, left), op.symbol(), AtLeast(level + 1, right))
            }
            AstKind::Concat(left, right) => {
                write!(f, "{} || {}", operand(left), AtLeast(level::MULTIPLY, right))
            }
            AstKind::Compare(op, left, right) => {
                write!(f, "{} {} {}", operand(left), op.symbol(), operand(right))
            }
            AstKind::Is { operand: of, test, negated } => {
                let test = match test {
                    IsTest::Null => "null",
                    IsTest::True => "true",
                    IsTest::False => "false",
                };
                write!(f, "{} is {}{test}", AtLeast(level::COMPARE, of), not(*negated))
            }
            AstKind::In { operand: of, list, negated } => {
                write!(f, "{} {}in ({})", operand(of), not(*negated), Separated(", ", 0, list))
            }
            AstKind::Between { operand: of, low, high, negated } => write!(
                f,
                "{} {}between {} and {}",
                operand(of),
                not(*negated),
                operand(low),
                operand(high)
            ),
            AstKind::Like { operand: of, pattern, ignore_case, negated } => write!(
                f,
                "{} {}{} {}",
                operand(of),
                not(*negated),
                if *ignore_case { "ilike" } else { "like" },
                operand(pattern)
            ),
            AstKind::Case { operand, branches, otherwise } => {
                f.write_str("case")?;
                if let Some(operand) = operand {
                    write!(f, " {operand}")?;
                }
                for (when, then) in branches {
                    write!(f, " when {when} then {then}")?;
                }
                if let Some(otherwise) = otherwise {
                    write!(f, " else {otherwise}")?;
                }
                f.write_str(" end")
            }
            AstKind::Cast(of, ty) => write!(f, "cast({of} as {ty})"),
            AstKind::Call(name, args) => write!(f, "{name}({})", Separated(", ", 0, args)),
        }
    }
}
