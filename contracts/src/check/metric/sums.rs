//! Sums that would lie: of metrics in which the same thing may be counted twice, and of ranks.

use crate::diagnostic::{Position, Report};
use crate::expr::Expr;
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
    for terms in expr.sums() {
        let of = |is: fn(&Measure) -> bool| -> Vec<&&Metric> {
            parts.iter().filter(|m| is(&m.measure) && terms.contains(&column(m))).collect()
        };
        let distinct = of(|measure| measure.is_count() && !measure.additivity().dimension);
        let quantiles = of(|m| matches!(m, Measure::Quantile(_) | Measure::ApproxQuantile(_)));
        if let [one, other, ..] = distinct.as_slice() {
            report.error(
                at,
                format!(
                    "this adds `{}` and `{}`, which count the same thing twice where it is in both",
                    one.name, other.name
                ),
                "count both in one metric: name both sources under `from`",
            );
        } else if let (Some(metric), true) = (quantiles.first(), terms.len() > 1) {
            report.error(
                at,
                format!("this adds `{}`, and quantiles do not add up", metric.name),
                "take the quantile of the sum: add the fields inside one `quantile(…)`",
            );
        }
    }
}
