//! Measures that follow a key from row to row: conversions, and states over time.
//!
//! Each row of a key is told what comes after it, `u`: of a conversion when the next second step was taken,
//! of a state when it ended. After that a row counts by itself, in whichever windows and groups it lies.
//! What held before a window began needs no rule of its own: it is a row that ends within the window.

use contracts::model::{Followed, Measure, Metric, Step, column};
use contracts::types::Type;

use super::metric::{Window, as_double};
use super::session::Session;
use super::sql::quoted;

/// Columns of a row beside those of all measures: the key `e` and the steps `s1` and `s2`. `named` gives the
/// SQL of a column.
pub(super) fn columns(
    followed: &Followed,
    named: impl Fn(&contracts::model::ColumnRef) -> Result<String, String>,
) -> Result<String, String> {
    // Of several families the key may be a number in one and a text in another.
    let mut list = format!(", ({})::varchar as e", named(&followed.key)?);
    for (i, step) in followed.steps.iter().flatten().enumerate() {
        let is_step = match step {
            Step::EventType(name) => format!("{} = {}", column::TYPE, quoted(name)),
            Step::Where(condition) => named(condition)?,
        };
        list.push_str(&format!(", coalesce({is_step}, false) as s{}", i + 1));
    }
    Ok(list)
}

/// `rows` with `u`, µs: of a conversion null where no second step came, of a state at most the reference
/// time, beyond which nothing is known. Rows without a key or a time follow nothing.
pub(super) fn rows(session: &Session<'_>, metric: &Metric, rows: &str) -> String {
    let after = "partition by tenant, e order by tm, s rows between 1 following and";
    let end = session.reference();
    let (next, until) = match metric.measure {
        Measure::Conversion { .. } => (
            format!("min(case when s2 then tm end) over ({after} unbounded following)"),
            session.as_of,
        ),
        _ => (
            format!("least(coalesce(min(tm) over ({after} 1 following), {end}), {end})"),
            Some(end),
        ),
    };
    let known = until.map(|until| format!(" and tm < {until}")).unwrap_or_default();
    format!(
        "select *, {next} as u from ({rows}) followed \
         where e is not null and tm is not null{known}"
    )
}

/// How long a state held within a window, µs; not above zero where it did not.
fn length(window: &Window) -> String {
    match window.start {
        Some(start) => format!("(u - greatest(tm, {start}))"),
        None => "(u - tm)".to_owned(),
    }
}

/// The condition that a row counts in a window; `within`: that it lies there.
pub(super) fn counts(measure: &Measure, window: &Window, within: &str) -> String {
    match measure {
        Measure::Conversion { .. } => format!("s1 and {within}"),
        _ => format!("a is not null and {} > 0", length(window)),
    }
}

/// The aggregates over the rows that `counts` in a window. Of a conversion: keys that converted, keys that
/// entered. Of a mean over time: sum, sum of magnitudes, weight. Of a duration: µs.
pub(super) fn aggregates(
    measure: &Measure,
    argument: Option<&Type>,
    window: &Window,
    counts: &str,
) -> Vec<String> {
    let w = length(window);
    let a = as_double("a", argument);
    match measure {
        Measure::Conversion { within } => vec![
            format!("count(distinct e) filter (where {counts} and u - tm <= {within})"),
            format!("count(distinct e) filter (where {counts})"),
        ],
        Measure::TimeWeighted => vec![
            format!("sum({a} * {w}) filter (where {counts})"),
            format!("sum(abs({a}) * {w}) filter (where {counts})"),
            format!("sum({w}) filter (where {counts})"),
        ],
        _ => vec![format!("sum(case when a then {w} else 0 end) filter (where {counts})")],
    }
}
