//! Comparison: operators, `between`, `in`, `like`.

use std::sync::Arc;

use arrow::array::{BooleanArray, Datum};
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::expressions::{LikeExpr, in_list};

use super::arithmetic::{Numbers, numbers};
use super::coerce::{mixing_hint, unify, want};
use super::logic::negate_if;
use super::{Binder, Bound, Typed, literals};
use crate::expr::ast::{Ast, CompareOp};
use crate::expr::decimal::Alignment;
use crate::expr::error::{ExprError, Pos};
use crate::expr::physical::{Call, Node, Operand, Result as Evaluated, fold, literal};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn compare(&mut self, op: CompareOp, left: &Ast, right: &Ast, pos: Pos) -> Bound {
        let (left, right) = (self.bind(left)?, self.bind(right)?);
        let (left, right) = comparable(op.symbol(), op.is_equality(), left, right)?;
        let node = Call::node(
            op.symbol(),
            vec![left.node, right.node],
            Type::Bool.arrow(),
            move |args, rows| Ok(Arc::new(compare_operands(op, &args[0], &args[1], rows)?)),
        );
        Ok(Typed::new(node, Type::Bool, pos))
    }

    pub(super) fn between(
        &mut self,
        operand: &Ast,
        low: &Ast,
        high: &Ast,
        negated: bool,
        pos: Pos,
    ) -> Bound {
        let (operand, low, high) = (self.bind(operand)?, self.bind(low)?, self.bind(high)?);
        let (operand, low) = comparable("between", false, operand, low)?;
        let (operand, high) = comparable("between", false, operand, high)?;
        // The first pair may have been brought to another type than the second one.
        let (operand, low) = comparable("between", false, operand, low)?;
        let node = Call::node(
            "between",
            vec![operand.node, low.node, high.node],
            Type::Bool.arrow(),
            |args, rows| {
                let above = compare_operands(CompareOp::GreaterOrEqual, &args[0], &args[1], rows)?;
                let below = compare_operands(CompareOp::LessOrEqual, &args[0], &args[2], rows)?;
                Ok(Arc::new(and_kleene(&above, &below)?))
            },
        );
        Ok(negate_if(negated, node, pos))
    }

    pub(super) fn in_list(
        &mut self,
        operand: &Ast,
        list: &[Ast],
        negated: bool,
        pos: Pos,
    ) -> Bound {
        let mut values = vec![self.bind(operand)?];
        for item in list {
            values.push(self.bind(item)?);
        }
        let (values, ty) = unify(values, "`in`", pos)?;
        if matches!(ty, Type::List(_) | Type::Struct(_) | Type::Json) {
            return Err(pos
                .error(format!("{ty} values cannot be compared"))
                .hint("compare a member, or go over a list with `any_of(list, predicate)`"));
        }
        let schema = self.frame().schema();
        let mut nodes: Vec<Node> = values.into_iter().map(|value| value.node).collect();
        if nodes.len() < 2 {
            return Err(pos.error("`in ()` has an empty list"));
        }
        // `in_list` takes for constant whatever gives one value for a batch without rows, as a `case` over a
        // column does. So it gets those lists only that are written out.
        if nodes[1..].iter().any(|item| literal(item).is_none()) {
            let node = Call::node("in", nodes, Type::Bool.arrow(), |args, rows| {
                let operand = Operand::full(args[0].column(rows)?);
                let mut found = BooleanArray::from(vec![false; rows]);
                for item in &args[1..] {
                    let is_it = compare_operands(CompareOp::Equal, &operand, item, rows)?;
                    found = or_kleene(&found, &is_it)?;
                }
                Ok(Arc::new(found))
            });
            return Ok(negate_if(negated, node, pos));
        }
        let first = nodes.remove(0);
        let node = in_list(first, nodes, &negated, &schema)
            .map_err(|error| pos.error(format!("`in` cannot be compiled: {error}")))?;
        Ok(Typed::new(fold(node), Type::Bool, pos))
    }

    pub(super) fn like(
        &mut self,
        operand: &Ast,
        pattern: &Ast,
        ignore_case: bool,
        negated: bool,
        pos: Pos,
    ) -> Bound {
        let operand = self.bind(operand)?;
        if !operand.untyped_null && operand.ty != Type::String {
            return Err(operand
                .pos
                .error(format!("`like` needs string, found {}", operand.ty))
                .hint("convert it with `cast(x as string)`"));
        }
        let operand = want(operand, &Type::String)?;
        let pattern = self.bind(pattern)?;
        if !matches!(pattern.literal(), Some(ScalarValue::Utf8(Some(_)))) {
            return Err(pattern
                .pos
                .error("the pattern of `like` is a text in quotes")
                .hint("compare two fields with `contains`, `starts_with` or `ends_with`"));
        }
        let like =
            |operand: Node| LikeExpr::new(negated, ignore_case, operand, pattern.node.clone());
        // A pattern that Arrow refuses is refused here, not for every row.
        let probe = fold(Arc::new(like(literals::text("", pos).node)));
        if literal(&probe).is_none() {
            return Err(pattern.pos.error("the pattern of `like` cannot be compiled"));
        }
        let node = like(operand.node);
        Ok(Typed::new(fold(Arc::new(node)), Type::Bool, pos))
    }
}

/// Brings two values to types that compare. Decimals keep their own scales.
pub(in crate::expr) fn comparable(
    symbol: &str,
    equality: bool,
    left: Typed,
    right: Typed,
) -> Result<(Typed, Typed), ExprError> {
    let pos = right.pos;
    if left.untyped_null || right.untyped_null {
        return Err(pos
            .error(format!("`{symbol}` with `null` is always null"))
            .hint("write `is null` or `is not null`"));
    }
    if left.ty.is_numeric() && right.ty.is_numeric() {
        return Ok(match numbers(symbol, left, right, pos)? {
            Numbers::Int(left, right)
            | Numbers::Float(left, right)
            | Numbers::Decimal(left, right, ..) => (left, right),
        });
    }
    if left.ty != right.ty {
        return Err(pos
            .error(format!("`{symbol}` compares {} with {}", left.ty, right.ty))
            .hint(mixing_hint(&left.ty, &right.ty)));
    }
    match left.ty {
        Type::List(_) | Type::Struct(_) | Type::Json => Err(pos
            .error(format!("{} values cannot be compared", left.ty))
            .hint("compare a member, or go over a list with `any_of(list, predicate)`")),
        Type::Bool if !equality => Err(pos
            .error(format!("`{symbol}` needs an order, and bool has none"))
            .hint("compare with `=` or `<>`")),
        _ => Ok((left, right)),
    }
}

/// Compares two operands of one Arrow type, or two decimals of any scale.
pub(in crate::expr) fn compare_operands(
    op: CompareOp,
    left: &Operand,
    right: &Operand,
    rows: usize,
) -> Evaluated<BooleanArray> {
    if let (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) =
        (left.get().0.data_type(), right.get().0.data_type())
        && let Some(align) = Alignment::of(*a, *b)
    {
        let (left, right) =
            (left.primitive::<Decimal128Type>(), right.primitive::<Decimal128Type>());
        return Ok((0..rows)
            .map(|row| {
                let order = align.compare(left.get(row)?, right.get(row)?);
                Some(match op {
                    CompareOp::Equal => order.is_eq(),
                    CompareOp::NotEqual => order.is_ne(),
                    CompareOp::Less => order.is_lt(),
                    CompareOp::LessOrEqual => order.is_le(),
                    CompareOp::Greater => order.is_gt(),
                    CompareOp::GreaterOrEqual => order.is_ge(),
                })
            })
            .collect());
    }
    Ok(match op {
        CompareOp::Equal => cmp::eq(left, right)?,
        CompareOp::NotEqual => cmp::neq(left, right)?,
        CompareOp::Less => cmp::lt(left, right)?,
        CompareOp::LessOrEqual => cmp::lt_eq(left, right)?,
        CompareOp::Greater => cmp::gt(left, right)?,
        CompareOp::GreaterOrEqual => cmp::gt_eq(left, right)?,
    })
}
