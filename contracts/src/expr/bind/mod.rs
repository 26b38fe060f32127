//! Syntax tree to typed, compiled nodes.
//!
//! One walk does both: [`Binder::bind`] types a node against its [`Frame`] and builds the
//! physical node from its typed children. Every child is built exactly once, so a short text
//! cannot grow into a large tree. Start at [`bind_root`].

mod arithmetic;
mod case;
mod coerce;
mod comparison;
mod literals;
mod logic;

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{nullif, take};
use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::expressions::{Column, Literal};

pub(super) use arithmetic::quotient_type;
pub(super) use coerce::{cast, float_result, is_exact_number, unify, want};
pub(super) use comparison::{comparable, compare_operands};
use literals::clean;

use super::ast::{Ast, AstKind};
use super::error::{ExprError, Pos};
use super::functions;
use super::physical::{Call, Node, Program, literal};
use super::suggest::nearest;
use super::{Scope, ScopeColumn};
use crate::types::Type;

pub(super) type Bound = Result<Typed, ExprError>;

/// A compiled node with its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) ty: Type,
    pub(super) pos: Pos,
    /// A bare `null`, which takes the type that its place asks for; `ty` means nothing yet.
    pub(super) untyped_null: bool,
}

impl Typed {
    pub(super) fn new(node: Node, ty: Type, pos: Pos) -> Self {
        Self { node, ty, pos, untyped_null: false }
    }

    pub(super) fn literal(&self) -> Option<&ScalarValue> {
        literal(&self.node)
    }

    /// How an error message names its type.
    pub(super) fn describe(&self) -> String {
        if self.untyped_null { "null".to_owned() } else { self.ty.to_string() }
    }
}

/// What one column of a frame's batch holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// A column of the caller's batch, by name.
    Batch(String),
    /// A member of the list's struct elements, by position.
    Member(usize),
    /// The list's element itself.
    Element,
    /// A column of the enclosing frame, repeated for each element.
    Outer(usize),
}

/// Where names are looked up.
#[derive(Debug)]
enum Names<'a> {
    /// The rows of the caller's batch.
    Batch(&'a Scope),
    /// The elements of a list.
    Elements(Type),
}

/// The rows that an expression runs over, and the columns found to be needed so far.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    names: Names<'a>,
    pub(super) inputs: Vec<Input>,
    types: Vec<Type>,
}

impl<'a> Frame<'a> {
    fn new(names: Names<'a>) -> Self {
        Self { names, inputs: Vec::new(), types: Vec::new() }
    }

    /// The position of an input, added when it is new.
    fn input(&mut self, input: Input, ty: &Type) -> usize {
        if let Some(at) = self.inputs.iter().position(|known| *known == input) {
            return at;
        }
        self.inputs.push(input);
        self.types.push(ty.clone());
        self.inputs.len() - 1
    }

    fn lookup(&self, name: &str) -> Option<(Input, Type)> {
        match &self.names {
            Names::Batch(scope) => {
                scope.columns.iter().find(|column| column.name == name).map(
                    |ScopeColumn { column, ty, .. }| (Input::Batch(column.clone()), ty.clone()),
                )
            }
            Names::Elements(element) => {
                if let Type::Struct(members) = element
                    && let Some(at) = members.iter().position(|(member, _)| member == name)
                {
                    return Some((Input::Member(at), members[at].1.clone()));
                }
                (name == ELEMENT).then(|| (Input::Element, element.clone()))
            }
        }
    }

    fn known_names(&self) -> Vec<&str> {
        match &self.names {
            Names::Batch(scope) => scope.columns.iter().map(|c| c.name.as_str()).collect(),
            Names::Elements(Type::Struct(members)) => {
                members.iter().map(|(name, _)| name.as_str()).collect()
            }
            Names::Elements(_) => vec![ELEMENT],
        }
    }

    /// The schema of the inputs found so far.
    fn schema(&self) -> Schema {
        let field = |(i, ty): (usize, &Type)| Field::new(format!("c{i}"), ty.arrow(), true);
        Schema::new(self.types.iter().enumerate().map(field).collect::<Vec<_>>())
    }

    /// The program that computes `root` over this frame's rows.
    pub(super) fn program(&self, root: Typed) -> Program {
        Program { ty: root.ty.arrow(), root: root.node, schema: Arc::new(self.schema()) }
    }
}

/// The name of a list's element inside the functions over lists.
pub(super) const ELEMENT: &str = "item";

/// The frames from the caller's batch to the innermost list.
pub(super) struct Binder<'a> {
    frames: Vec<Frame<'a>>,
}

/// A whole expression: its program, its type and the columns that the program reads, in order.
pub(super) fn bind_root(
    ast: &Ast,
    scope: &Scope,
    wanted: Option<&Type>,
) -> Result<(Program, Type, Vec<Input>), ExprError> {
    let mut binder = Binder { frames: vec![Frame::new(Names::Batch(scope))] };
    let mut root = binder.bind(ast)?;
    if let Some(wanted) = wanted {
        root = want(root, wanted)?;
    } else if root.untyped_null {
        return Err(root
            .pos
            .error("the type of `null` is not known here")
            .hint("write `cast(null as type)`"));
    }
    let ty = root.ty.clone();
    let frame = binder.frame();
    Ok((frame.program(root), ty, frame.inputs.clone()))
}

impl<'a> Binder<'a> {
    fn frame(&mut self) -> &mut Frame<'a> {
        // The first frame is never removed.
        self.frames.last_mut().expect("a binder has a frame")
    }

    pub(super) fn bind(&mut self, ast: &Ast) -> Bound {
        let pos = ast.pos;
        match &ast.kind {
            AstKind::Null => Ok(Typed {
                node: Arc::new(Literal::new(ScalarValue::Null)),
                ty: Type::String,
                pos,
                untyped_null: true,
            }),
            AstKind::Bool(value) => Ok(literals::boolean(*value, pos)),
            AstKind::Number(text) => literals::number(text, pos),
            AstKind::Text(text) => Ok(literals::text(text, pos)),
            AstKind::Timestamp(text) => literals::timestamp(text, pos),
            AstKind::Date(text) => literals::date(text, pos),
            AstKind::Interval(_) => Err(pos
                .error("an interval is not a value of its own")
                .hint("add it to a timestamp or a date, or subtract it from one")),
            AstKind::Name(name) => self.name(name, pos),
            AstKind::Member(of, name) => self.member(of, name),
            AstKind::Index(of, index) => self.index(of, index),
            AstKind::Negate(of) => self.negate(of, pos),
            AstKind::Not(of) => self.not(of, pos),
            AstKind::And(terms) => self.connect(terms, true, pos),
            AstKind::Or(terms) => self.connect(terms, false, pos),
            AstKind::Arithmetic(op, left, right) => self.arithmetic(*op, left, right, pos),
            AstKind::Concat(left, right) => functions::text::join(self, left, right, pos),
            AstKind::Compare(op, left, right) => self.compare(*op, left, right, pos),
            AstKind::Is { operand, test, negated } => self.is_test(operand, *test, *negated, pos),
            AstKind::In { operand, list, negated } => self.in_list(operand, list, *negated, pos),
            AstKind::Between { operand, low, high, negated } => {
                self.between(operand, low, high, *negated, pos)
            }
            AstKind::Like { operand, pattern, ignore_case, negated } => {
                self.like(operand, pattern, *ignore_case, *negated, pos)
            }
            AstKind::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), pos)
            }
            AstKind::Cast(of, ty) => {
                let of = self.bind(of)?;
                cast(of, ty, pos)
            }
            AstKind::Call(name, args) => functions::bind(self, name, args, pos),
        }
    }

    pub(super) fn bind_bool(&mut self, ast: &Ast, what: &str) -> Bound {
        let typed = self.bind(ast)?;
        if typed.untyped_null || typed.ty == Type::Bool {
            return want(typed, &Type::Bool);
        }
        let hint = match typed.ty {
            Type::Int64 | Type::Float64 | Type::Decimal { .. } => "compare it, such as `x <> 0`",
            Type::String => "compare it, such as `x = 'yes'`",
            _ => "test it, such as `x is not null`",
        };
        Err(typed.pos.error(format!("{what} needs a bool, found {}", typed.ty)).hint(hint))
    }

    /// Looks a name up from the innermost frame outwards, and hands an outer column down through
    /// the frames between.
    fn name(&mut self, name: &str, pos: Pos) -> Bound {
        let found = (0..self.frames.len())
            .rev()
            .find_map(|at| self.frames[at].lookup(name).map(|found| (at, found)));
        let Some((at, (input, ty))) = found else {
            return Err(self.unknown_name(name, pos));
        };
        let mut index = self.frames[at].input(input, &ty);
        for frame in &mut self.frames[at + 1..] {
            index = frame.input(Input::Outer(index), &ty);
        }
        let node: Node = Arc::new(Column::new(name, index));
        Ok(Typed::new(clean_column(node, &ty), ty, pos))
    }

    fn unknown_name(&self, name: &str, pos: Pos) -> ExprError {
        let known: Vec<&str> = self.frames.iter().rev().flat_map(Frame::known_names).collect();
        let error = pos.error(format!("unknown name `{name}`"));
        if let Some(near) = nearest(name, known.iter().copied()) {
            return error.hint(format!("did you mean `{near}`?"));
        }
        if functions::find(name).is_some() {
            return error.hint(format!("`{name}` is a function: write `{name}(…)`"));
        }
        if known.is_empty() {
            return error.hint("no names are known here");
        }
        let shown = known.iter().take(12).copied().collect::<Vec<_>>().join(", ");
        let more = if known.len() > 12 { ", …" } else { "" };
        error.hint(format!("known names: {shown}{more}"))
    }

    fn member(&mut self, of: &Ast, name: &str) -> Bound {
        let of = self.bind(of)?;
        let pos = of.pos;
        let Type::Struct(members) = &of.ty else {
            let error = pos.error(format!("`.{name}` needs a struct, found {}", of.describe()));
            return Err(match &of.ty {
                Type::List(_) => error.hint(format!(
                    "take one element with `[1]`, or go over all with `sum_of(list, {name})` and the like"
                )),
                Type::Json => error.hint("declare the members as a struct in the contract"),
                _ => error,
            });
        };
        let Some(at) = members.iter().position(|(member, _)| member == name) else {
            let names: Vec<&str> = members.iter().map(|(member, _)| member.as_str()).collect();
            return Err(pos.error(format!("the struct has no member `{name}`")).hint(
                match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its members: {}", names.join(", ")),
                },
            ));
        };
        let ty = members[at].1.clone();
        let node = Call::node("member", vec![of.node], ty.arrow(), move |args, rows| {
            let value = args[0].column(rows)?;
            member_of(&value, at)
        });
        Ok(Typed::new(clean_column(node, &ty), ty, pos))
    }

    fn index(&mut self, of: &Ast, index: &Ast) -> Bound {
        let of = self.bind(of)?;
        let index = self.bind(index)?;
        let pos = of.pos;
        let Type::List(element) = &of.ty else {
            let error = pos.error(format!("`[…]` needs a list, found {}", of.describe()));
            return Err(match &of.ty {
                Type::String => {
                    error.hint("take a part of a text with `substr(text, start, length)`")
                }
                Type::Struct(_) => error.hint("name the member: `value.member`"),
                _ => error,
            });
        };
        if index.ty != Type::Int64 {
            return Err(index
                .pos
                .error(format!("an index is an int64, found {}", index.describe()))
                .hint("elements count from 1; a member of a struct is written `value.member`"));
        }
        let ty = (**element).clone();
        let node = Call::node("element", vec![of.node, index.node], ty.arrow(), |args, rows| {
            let list = args[0].column(rows)?;
            let list = list.as_list::<i32>();
            let index = args[1].primitive::<Int64Type>();
            let places: arrow::array::Int64Array = (0..rows)
                .map(|row| {
                    let nth = index.get(row).filter(|nth| *nth >= 1 && list.is_valid(row))?;
                    (nth <= i64::from(list.value_length(row)))
                        .then(|| i64::from(list.value_offsets()[row]) + nth - 1)
                })
                .collect();
            Ok(take(list.values(), &places, None)?)
        });
        Ok(Typed::new(clean_column(node, &ty), ty, pos))
    }

    /// Binds `asts` over the elements of a list; returns what they became and their frame.
    pub(super) fn bind_elements<T>(
        &mut self,
        element: Type,
        bind: impl FnOnce(&mut Self) -> Result<T, ExprError>,
    ) -> Result<(T, Frame<'a>), ExprError> {
        self.frames.push(Frame::new(Names::Elements(element)));
        let bound = bind(self);
        // Pushed above, and nested calls remove what they push.
        let frame = self.frames.pop().expect("the frame of the list");
        Ok((bound?, frame))
    }

    /// The element of the innermost list.
    pub(super) fn element(&mut self, pos: Pos) -> Bound {
        self.name(ELEMENT, pos)
    }

    /// The node of this frame's column number `index`.
    pub(super) fn column(index: usize) -> Node {
        Arc::new(Column::new("outer", index))
    }
}

/// A member's values: null also where the struct itself is null.
pub(super) fn member_of(
    value: &dyn Array,
    at: usize,
) -> super::physical::Result<arrow::array::ArrayRef> {
    let value = value.as_struct();
    let column = value.column(at);
    match value.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            Ok(nullif(column, &BooleanArray::new(!nulls.inner(), None))?)
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// Doubles from outside may be NaN, infinite or −0.0; none of these is a value of the dialect.
fn clean_column(node: Node, ty: &Type) -> Node {
    if *ty != Type::Float64 {
        return node;
    }
    Call::node("clean", vec![node], ty.arrow(), |args, _| {
        let values = args[0].primitive::<Float64Type>().array;
        let is_clean = |v: &f64| v.is_finite() && v.to_bits() != (-0.0_f64).to_bits();
        if values.values().iter().all(is_clean) {
            return Ok(Arc::new(values.clone()));
        }
        Ok(Arc::new(values.unary_opt::<_, Float64Type>(clean)))
    })
}
