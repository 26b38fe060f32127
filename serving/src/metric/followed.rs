//! Measures that follow a key from row to row: conversions, and states over time.
//!
//! Rows of a key are in the order of (time, position). The contract's `where` decides which rows there
//! are; filters and groups look at the row that begins something: a first step, a state. So the
//! groups of a question part what the whole counts, and a row that is filtered away still ends the
//! state before it.
//!
//! A state that began before the window is carried into it, so its statement reads what was before:
//! of each key the newest row.

use contracts::model::{Domain, Measure, Metric, MetricInput, Step, column};
use duckdb::types::Value as SqlValue;

use super::check::{Resolved, timestamp};
use super::known::Known;
use super::sql::{Bounds, Query, Source, quote, rows, tests};

/// The statement, up to where a `group by` over `groups` may follow. Its columns after the groups are
/// two: of a conversion the keys that took the second step and those that took the first, of a state
/// the weighted sum and the weight, µs.
pub(super) fn statement(
    query: &mut Query,
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    known: Option<Known>,
    groups: &[String],
) -> String {
    let asked = Asked { domain, metric, question, known, groups };
    match metric.measure {
        Measure::Conversion { within } => asked.conversion(query, within),
        _ => asked.state(query),
    }
}

struct Asked<'a> {
    domain: &'a Domain,
    metric: &'a Metric,
    question: &'a Resolved<'a>,
    known: Option<Known>,
    groups: &'a [String],
}

impl Asked<'_> {
    /// Of the keys with a first step in the window, those with a second one after it and in time. The
    /// second step may lie behind the window's end, but not behind what was known.
    fn conversion(&self, query: &mut Query, within: i64) -> String {
        let start = self.question.start();
        let end = self.question.span.map(|(_, to)| to);
        let behind = end.map(|end| end.saturating_add(within).min(super::check::LATEST));
        let known_until = self.question.as_of;
        let bounds = Bounds { start, ends: behind.into_iter().chain(known_until).collect() };
        let union = self.union(query, &bounds);
        let mut window = String::new();
        for (compare, bound) in [(">=", start), ("<", end)] {
            if let Some(bound) = bound {
                window.push_str(&format!(" and t {compare} {}", query.bind(timestamp(bound))));
            }
        }
        let prefix = self.prefix();
        let within = query.bind(SqlValue::BigInt(within));
        format!(
            "select {prefix}count(distinct e) filter (where epoch_us(u) - epoch_us(t) <= {within}), \
             count(distinct e) from (select *, lead(case when s2 then t end ignore nulls) \
             over (partition by e order by k) as u from ({union}) steps) r \
             where s1 and f{window}"
        )
    }

    /// Values of a state, each with the time for which it held within the window.
    fn state(&self, query: &mut Query) -> String {
        let start = self.question.start();
        // A state holds until the next one, but the future is not known.
        let end = match self.question.span {
            Some((_, to)) => to.min(self.question.reference),
            None => self.question.reference,
        };
        let within = self.union(query, &Bounds { start, ends: vec![end] });
        let rows = match start {
            None => within,
            Some(start) => {
                let before = self.union(query, &Bounds { start: None, ends: vec![start.min(end)] });
                let names: Vec<&str> =
                    ["e", "t", "k", "f", "a"].into_iter().chain(self.names()).collect();
                let packed: Vec<String> =
                    names.iter().map(|name| format!("{name} := {name}")).collect();
                let unpacked: Vec<String> =
                    names.iter().map(|name| format!("r.{name} as {name}")).collect();
                let plain = names.join(", ");
                format!(
                    "select {} from (select arg_max(struct_pack({}), k) as r from ({before}) rows \
                     group by e) carried union all select {plain} from ({within}) rows",
                    unpacked.join(", "),
                    packed.join(", ")
                )
            }
        };
        let end = query.bind(timestamp(end));
        let from = match start {
            Some(start) => format!("greatest(t, {})", query.bind(timestamp(start))),
            None => "t".to_owned(),
        };
        let prefix = self.prefix();
        let sum = match self.metric.measure {
            Measure::DurationInState => "sum(case when a then w else 0 end)",
            _ => "fsum(a::double * w)",
        };
        format!(
            "select {prefix}{sum}, sum(w) from (\
             select {prefix}a, epoch_us(least(coalesce(u, {end}), {end})) - epoch_us({from}) as w \
             from (select *, lead(t) over (partition by e order by k) as u from ({rows}) rows) states \
             where f and a is not null) r where w > 0"
        )
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    fn prefix(&self) -> String {
        self.names().map(|name| format!("{name}, ")).collect()
    }

    /// The rows of all inputs: key `e`, time `t`, order `k`, `f` (does it pass the filters?), and
    /// the argument `a` or the steps `s1` and `s2`, and the groups.
    fn union(&self, query: &mut Query, bounds: &Bounds) -> String {
        let inputs = self.metric.inputs.iter();
        let all: Vec<String> = inputs.map(|input| self.rows(query, input, bounds)).collect();
        all.join(" union all ")
    }

    fn rows(&self, query: &mut Query, input: &MetricInput, bounds: &Bounds) -> String {
        let source = Source::of(input, self.question);
        let time = source.column(query, &input.time);
        let arg = input.arg.as_ref().map(|arg| source.column(query, arg));
        let mut columns = vec![
            format!("{time} as t"),
            format!("{} as k", source.order(self.domain, &time, arg.as_deref())),
        ];
        let tests = tests(query, &source, self.metric, input, self.question);
        columns.push(match tests.as_slice() {
            [] => "true as f".to_owned(),
            tests => format!("({}) as f", tests.join(" and ")),
        });
        columns.extend(arg.map(|arg| format!("{arg} as a")));
        for (name, dimension) in self.names().zip(&self.question.group_by) {
            let value = source.dimension(query, self.metric, input, &dimension.name);
            columns.push(format!("{value} as {name}"));
        }
        let mut has_key = String::new();
        if let Some(followed) = &input.followed {
            let key = source.column(query, &followed.key);
            // Two sources may give the same key as a number and as a text.
            columns.push(format!("{key}::varchar as e"));
            has_key = format!(" and {key} is not null");
            // What has no time is in no order. Bounds leave it out already.
            if bounds.start.is_none() && bounds.ends.is_empty() {
                has_key.push_str(&format!(" and {time} is not null"));
            }
            for (n, step) in followed.steps.iter().flatten().enumerate() {
                let is_step = match step {
                    Step::Where(condition) => source.column(query, condition),
                    Step::EventType(name) => {
                        let name = query.bind(SqlValue::Text(name.clone()));
                        format!("{} = {name}", quote(column::TYPE))
                    }
                };
                columns.push(format!("coalesce({is_step}, false) as s{}", n + 1));
            }
        }
        let rows = rows(query, self.domain, input, self.question, self.known, (&columns, bounds));
        rows + &has_key
    }
}
