//! Sums that would lie: of metrics in which the same thing may be counted twice, of ranks, and of amounts in
//! different currencies.

use crate::check::money;
use crate::diagnostic::{Position, Report};
use crate::expr::Expr;
use crate::expr::sums::Term;
use crate::model::{Measure, Metric};

/// Refuses additions in `expr` whose terms are metrics that do not add up. `column` gives the name
/// of a part's column.
pub(super) fn refuse(
    expr: &Expr,
    parts: &[&Metric],
    column: impl Fn(&Metric) -> String,
    at: Position,
    report: &mut Report,
) {
    let of = |term: &Term| -> Vec<&Metric> {
        parts.iter().copied().filter(|metric| term.columns.contains(&column(metric))).collect()
    };
    for terms in expr.sums() {
        let mut pairs = Vec::new();
        for (place, left) in terms.iter().enumerate() {
            for right in &terms[place + 1..] {
                let is_added = left.is_negative == right.is_negative;
                for one in of(left) {
                    pairs.extend(of(right).into_iter().map(|other| (one, other, is_added)));
                }
            }
        }
        let is_distinct =
            |metric: &Metric| metric.measure.is_count() && !metric.measure.additivity().dimension;
        let is_rank = |metric: &Metric| {
            matches!(metric.measure, Measure::Quantile(_) | Measure::ApproxQuantile(_))
        };
        // Twice the same one is a multiple of it.
        let added =
            || pairs.iter().filter(|(one, other, is_added)| *is_added && one.index != other.index);
        let twice = added().find(|(one, other, _)| is_distinct(one) && is_distinct(other));
        let ranks =
            added().find_map(|(one, other, _)| [one, other].into_iter().find(|m| is_rank(m)));
        let mixed = pairs.iter().find(|(one, other, _)| {
            let is_amount = |metric: &Metric| money::is_currency_code(&metric.unit);
            is_amount(one) && is_amount(other) && one.unit != other.unit
        });
        if let Some((one, other, _)) = twice {
            report.error(
                at,
                format!(
                    "this adds `{}` and `{}`: whatever both of them count would be counted twice",
                    one.name, other.name
                ),
                "count both in one metric: name both sources under `from`",
            );
        } else if let Some(metric) = ranks {
            report.error(
                at,
                format!("this adds `{}`, and quantiles do not add up", metric.name),
                "take the quantile of the sum: add the fields inside one `quantile(…)`",
            );
        } else if let Some((one, other, _)) = mixed {
            report.error(
                at,
                format!(
                    "this mixes `{}`, which is in {}, and `{}`, which is in {}",
                    one.name, one.unit, other.name, other.unit
                ),
                "convert one of them: multiply it by a rate",
            );
        }
    }
}
