//! `case`, in both forms.

use std::sync::Arc;

use datafusion_physical_expr::expressions::CaseExpr;

use super::coerce::unify;
use super::{Binder, Bound, Typed};
use crate::expr::ast::Ast;
use crate::expr::error::{ExprError, Pos};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn case(
        &mut self,
        operand: Option<&Ast>,
        branches: &[(Ast, Ast)],
        otherwise: Option<&Ast>,
        pos: Pos,
    ) -> Bound {
        let mut whens = Vec::with_capacity(branches.len());
        let mut results = Vec::with_capacity(branches.len() + 1);
        let mut base = None;
        match operand {
            None => {
                for (when, _) in branches {
                    whens.push(self.bind_bool(when, "`when`")?);
                }
            }
            Some(operand) => {
                let mut values = vec![self.bind(operand)?];
                for (when, _) in branches {
                    values.push(self.bind(when)?);
                }
                let (values, ty) = unify(values, "`case … when`", pos)?;
                if matches!(ty, Type::List(_) | Type::Struct(_) | Type::Json) {
                    return Err(pos
                        .error(format!("{ty} values cannot be compared"))
                        .hint("write `case when <predicate> then … end`"));
                }
                let mut values = values.into_iter();
                base = values.next().map(|value| value.node);
                whens.extend(values);
            }
        }
        for (_, then) in branches {
            results.push(self.bind(then)?);
        }
        if let Some(otherwise) = otherwise {
            results.push(self.bind(otherwise)?);
        }
        let (results, ty) = unify(results, "the results of `case`", pos)?;
        let mut results = results.into_iter().map(|result| result.node);
        let pairs = whens
            .into_iter()
            .map(|when| when.node)
            .zip(results.by_ref().take(branches.len()))
            .collect();
        let node =
            CaseExpr::try_new(base, pairs, results.next()).map_err(|error| -> ExprError {
                pos.error(format!("`case` cannot be compiled: {error}"))
            })?;
        Ok(Typed::new(Arc::new(node), ty, pos))
    }
}
