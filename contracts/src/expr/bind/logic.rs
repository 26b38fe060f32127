//! Three-valued logic: `and`, `or`, `not`, and the tests that are never null.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::is_null;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, NotExpr};

use super::coerce::want;
use super::{Binder, Bound, Typed};
use crate::expr::ast::{Ast, IsTest};
use crate::expr::error::{ExprError, Pos};
use crate::expr::physical::{Call, Node, bool_rows, fold};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn not(&mut self, of: &Ast, pos: Pos) -> Bound {
        let of = self.bind_bool(of, "`not`")?;
        Ok(negate_if(true, of.node, pos))
    }

    /// `and` or `or` over all terms, as a balanced tree: a long chain must not become a deep one.
    pub(super) fn connect(&mut self, terms: &[Ast], all: bool, pos: Pos) -> Bound {
        let (op, what) = if all { (Operator::And, "`and`") } else { (Operator::Or, "`or`") };
        let nodes = terms
            .iter()
            .map(|term| Ok(self.bind_bool(term, what)?.node))
            .collect::<Result<Vec<_>, ExprError>>()?;
        fn balanced(nodes: &[Node], op: Operator) -> Option<Node> {
            match nodes {
                [] => None,
                [one] => Some(Arc::clone(one)),
                _ => {
                    let (left, right) = nodes.split_at(nodes.len() / 2);
                    let node = BinaryExpr::new(balanced(left, op)?, op, balanced(right, op)?);
                    Some(fold(Arc::new(node)))
                }
            }
        }
        match balanced(&nodes, op) {
            Some(node) => Ok(Typed::new(node, Type::Bool, pos)),
            None => Err(pos.error(format!("{what} without terms"))),
        }
    }

    pub(super) fn is_test(
        &mut self,
        operand: &Ast,
        test: IsTest,
        negated: bool,
        pos: Pos,
    ) -> Bound {
        let operand = if test == IsTest::Null {
            let operand = self.bind(operand)?;
            if operand.untyped_null { want(operand, &Type::Bool)? } else { operand }
        } else {
            self.bind_bool(operand, "`is true` or `is false`")?
        };
        let node =
            Call::node(
                "is",
                vec![operand.node],
                Type::Bool.arrow(),
                move |args, rows| match test {
                    IsTest::Null => {
                        let value = args[0].column(rows)?;
                        let nulls = is_null(&value)?;
                        Ok(Arc::new(if negated { invert(&nulls) } else { nulls }))
                    }
                    IsTest::True | IsTest::False => {
                        let value = args[0].bools();
                        let wanted = Some(test == IsTest::True);
                        bool_rows(rows, |row| Some((value.get(row) == wanted) != negated))
                    }
                },
            );
        Ok(Typed::new(node, Type::Bool, pos))
    }
}

fn invert(values: &BooleanArray) -> BooleanArray {
    BooleanArray::new(!values.values(), values.nulls().cloned())
}

pub(super) fn negate_if(negated: bool, node: Node, pos: Pos) -> Typed {
    let node = if negated { fold(Arc::new(NotExpr::new(node))) } else { node };
    Typed::new(node, Type::Bool, pos)
}
