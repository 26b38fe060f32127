//! Choosing among values: `coalesce`, `nullif`, `greatest`, `least`.
//!
//! Each argument is evaluated once, for all rows; that is safe because evaluation is total.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, nullif as null_where};

use super::CallSite;
use crate::expr::ast::CompareOp;
use crate::expr::bind::{Binder, Bound, Typed, compare_operands, unify};
use crate::expr::physical::{Call, Operand};
use crate::types::Type;

pub(super) fn coalesce(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (values, ty) = unify(site.bind_all(binder)?, "`coalesce`", site.pos)?;
    let nodes = values.into_iter().map(|value| value.node).collect();
    let node = Call::node("coalesce", nodes, ty.arrow(), |args, rows| {
        let mut result = args[0].column(rows)?;
        for next in &args[1..] {
            if result.null_count() == 0 {
                break;
            }
            result = zip(&is_not_null(&result)?, &result, next)?;
        }
        Ok(result)
    });
    Ok(Typed::new(node, ty, site.pos))
}

pub(super) fn nullif(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let (values, ty) = unify(site.bind_all(binder)?, "`nullif`", site.pos)?;
    refuse_unordered(site, &ty)?;
    let nodes = values.into_iter().map(|value| value.node).collect();
    let node = Call::node("nullif", nodes, ty.arrow(), |args, rows| {
        let equal = compare_operands(CompareOp::Equal, &args[0], &args[1], rows)?;
        Ok(null_where(&args[0].column(rows)?, &equal)?)
    });
    Ok(Typed::new(node, ty, site.pos))
}

pub(super) fn greatest(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    extreme(binder, site, CompareOp::Greater)
}

pub(super) fn least(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    extreme(binder, site, CompareOp::Less)
}

/// The value that is `better` than all others; nulls are passed over.
fn extreme(binder: &mut Binder<'_>, site: &CallSite<'_>, better: CompareOp) -> Bound {
    let (values, ty) = unify(site.bind_all(binder)?, site.function.name, site.pos)?;
    refuse_unordered(site, &ty)?;
    let nodes = values.into_iter().map(|value| value.node).collect();
    let node = Call::node(site.function.name, nodes, ty.arrow(), move |args, rows| {
        let mut best = args[0].column(rows)?;
        for next in &args[1..] {
            let wins = compare_operands(better, next, &Operand::full(Arc::clone(&best)), rows)?;
            let next = next.column(rows)?;
            let take_next: BooleanArray = (0..rows)
                .map(|row| {
                    let better = wins.is_valid(row) && wins.value(row);
                    Some(better || (best.is_null(row) && next.is_valid(row)))
                })
                .collect();
            best = zip(&take_next, &next, &best)?;
        }
        Ok(best)
    });
    Ok(Typed::new(node, ty, site.pos))
}

fn refuse_unordered(site: &CallSite<'_>, ty: &Type) -> Result<(), crate::expr::ExprError> {
    let refused = match ty {
        Type::List(_) | Type::Struct(_) | Type::Json => true,
        Type::Bool => site.function.name != "nullif",
        _ => false,
    };
    if refused {
        return Err(site.pos.error(format!("`{}` cannot compare {ty} values", site.function.name)));
    }
    Ok(())
}
