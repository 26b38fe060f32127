//! The aggregate of each measure to which a row counts by itself, as SQL over projected rows: the
//! argument is `a`, the row's place in (time, position) `k`, how often it counts `n`.

use contracts::model::{Measure, Metric};
use contracts::types::Type;

/// The aggregate of a measure over the projected rows.
pub(super) struct Aggregate<'a> {
    measure: &'a Measure,
    argument: Option<&'a Type>,
}

impl<'a> Aggregate<'a> {
    /// The one of a metric that reads rows.
    pub(super) fn of(metric: &'a Metric) -> Self {
        let argument = metric.inputs.iter().find_map(|input| input.arg.as_ref());
        Self { measure: &metric.measure, argument: argument.map(|argument| &argument.ty) }
    }

    /// Over rows that count once.
    pub(super) fn plain(&self) -> Vec<String> {
        let sum = match self.argument {
            // Compensated summation: the order of rows shows only in the last bit.
            Some(Type::Float64) => "fsum(a)",
            // Of integers HUGEINT, of decimals DECIMAL(38, s): exact, an overflow is an error.
            _ => "sum(a)",
        };
        match self.measure {
            Measure::Count if self.argument.is_some() => vec!["count(a)".to_owned()],
            Measure::Count => vec!["count(*)".to_owned()],
            Measure::Sum => vec![sum.to_owned()],
            Measure::Avg => vec![sum.to_owned(), "count(a)".to_owned()],
            Measure::Quantile(q) => vec![format!("quantile_cont(a::double, {q:?})")],
            _ => self.indifferent_to_weight(),
        }
    }

    /// Over rows that count `n` times.
    pub(super) fn weighted(&self) -> Vec<String> {
        let sum = match self.argument {
            Some(Type::Float64) => "fsum(a * n)".to_owned(),
            Some(Type::Decimal { scale, .. }) => {
                format!("sum((a::decimal(38, {scale}) * n::decimal(38, 0))::decimal(38, {scale}))")
            }
            _ => "sum(a::hugeint * n)".to_owned(),
        };
        let count = "coalesce(sum(n) filter (where a is not null), 0)".to_owned();
        match self.measure {
            Measure::Count if self.argument.is_some() => vec![count],
            Measure::Count => vec!["coalesce(sum(n), 0)".to_owned()],
            Measure::Sum => vec![sum],
            Measure::Avg => vec![sum, count],
            _ => self.indifferent_to_weight(),
        }
    }

    fn indifferent_to_weight(&self) -> Vec<String> {
        vec![match self.measure {
            Measure::Min => "min(a)".to_owned(),
            Measure::Max => "max(a)".to_owned(),
            Measure::Latest => "arg_max(a, k)".to_owned(),
            Measure::CountDistinct | Measure::Active => "count(distinct a)".to_owned(),
            // The other measures have no rows, or are written out above.
            _ => "null".to_owned(),
        }]
    }
}

/// An exact quantile over rows that count `n` times: the values at the two ranks around the
/// position are found by running totals, and interpolated as `quantile_cont` does.
pub(super) fn weighted_quantile(q: f64, rows: &str, groups: &[String]) -> String {
    let partition = if groups.is_empty() {
        String::new()
    } else {
        format!("partition by {}", groups.join(", "))
    };
    let prefix: String = groups.iter().map(|group| format!("{group}, ")).collect();
    let position = format!("({q:?} * (max(total) - 1))");
    let at = |rank: &str| format!("min(a) filter (where upto > {rank}({q:?} * (total - 1)))");
    let (low, high) = (at("floor"), at("ceil"));
    format!(
        "select {prefix}{low} + ({high} - {low}) * ({position} - floor({position})) from (\
         select {prefix}a, \
         sum(w) over ({partition} order by a nulls last rows unbounded preceding) as upto, \
         sum(w) over ({partition}) as total from (\
         select {prefix}a::double as a, case when a is null then 0 else n end as w from ({rows}) r\
         ) w) ranked",
    )
}
