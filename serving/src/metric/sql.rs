//! One measure over its relations as one DuckDB statement.
//!
//! Predicates, arguments and dimensions are columns already, so a statement is nothing but
//! projections, comparisons and the aggregate. Values are always bound, never written into the
//! text: the same shape of question gives the same text, which the connection keeps prepared.
//!
//! Start at [`aggregate`].

use std::fmt::Write as _;

use contracts::model::{ColumnRef, Domain, Measure, Metric, MetricInput, Relation, column, ingest};
use contracts::types::Type;
use duckdb::types::Value as SqlValue;
use pipeline::store::INGEST_APPLIED_AT;

use super::aggregates::{Aggregate, weighted_quantile};
use super::check::{FilterValue, LATEST, Resolved, Test, timestamp};
use super::groups::Member;
use super::known::Known;
use super::{followed, sketch};
use crate::value::{date_text, time_text};

/// A statement with its bound values.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// The text, with `$1`, `$2`, ….
    pub(crate) text: String,
    /// Values in the order of their numbers.
    pub(crate) values: Vec<SqlValue>,
}

impl Query {
    /// Remembers a value and returns the name by which the text refers to it.
    pub(crate) fn bind(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// The text with the values in it, for people. No literal of the text itself has a `$`.
    pub(crate) fn inlined(&self) -> String {
        let mut parts = self.text.split('$');
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let value = part[..digits].parse::<usize>().ok();
            let value = value.and_then(|number| self.values.get(number.checked_sub(1)?));
            shown.push_str(&value.map_or_else(|| "?".to_owned(), literal));
            shown.push_str(&part[digits..]);
        }
        shown
    }
}

fn literal(value: &SqlValue) -> String {
    match value {
        SqlValue::Null => "null".to_owned(),
        SqlValue::Boolean(value) => value.to_string(),
        SqlValue::BigInt(value) => value.to_string(),
        SqlValue::Text(text) => format!("'{}'", text.replace('\'', "''")),
        SqlValue::Date32(days) => format!("date '{}'", date_text(*days)),
        // No end.
        SqlValue::Timestamp(_, LATEST) => "timestamp 'infinity'".to_owned(),
        SqlValue::Timestamp(_, micros) => format!("timestamp '{}'", time_text(*micros)),
        _ => "?".to_owned(),
    }
}

/// An identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The DuckDB type that holds a contract type.
pub(crate) fn sql_type(ty: &Type) -> String {
    match ty {
        Type::String | Type::Json => "VARCHAR".to_owned(),
        Type::Bool => "BOOLEAN".to_owned(),
        Type::Int64 => "BIGINT".to_owned(),
        Type::Float64 => "DOUBLE".to_owned(),
        Type::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        Type::Timestamp => "TIMESTAMP".to_owned(),
        Type::Date => "DATE".to_owned(),
        Type::List(inner) => format!("{}[]", sql_type(inner)),
        Type::Struct(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, ty)| format!("{} {}", quote(name), sql_type(ty)))
                .collect();
            format!("STRUCT({})", members.join(", "))
        }
    }
}

/// `and <column> in (<types>)`, or nothing when all types count.
pub(crate) fn of_types(query: &mut Query, types: &[String]) -> String {
    if types.is_empty() {
        return String::new();
    }
    let names: Vec<String> =
        types.iter().map(|name| query.bind(SqlValue::Text(name.clone()))).collect();
    format!(" and {} in ({})", quote(column::TYPE), names.join(", "))
}

/// The statement for a measure that reads rows. Its columns are the dimensions asked for, then the
/// value (for a mean: sum and count). At most `limit` groups, the first in order of dimensions.
pub(crate) fn aggregate(
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    known: Option<Known>,
    limit: usize,
) -> Query {
    let mut query = Query::default();
    let groups: Vec<String> = (0..question.group_by.len()).map(|i| format!("d{i}")).collect();
    query.text = match metric.measure.follows_keys() {
        true => followed::statement(&mut query, domain, metric, question, known, &groups),
        false => over_rows(&mut query, domain, metric, question, known, &groups),
    };
    if !groups.is_empty() {
        let order: Vec<String> = groups.iter().map(|group| format!("{group} nulls last")).collect();
        // Writing to a `String` cannot fail.
        let _ = write!(
            query.text,
            " group by {} order by {} limit {limit}",
            groups.join(", "),
            order.join(", ")
        );
    }
    query
}

/// A measure to which each row counts by itself; ends where a `group by` over `groups` may follow.
fn over_rows(
    query: &mut Query,
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    known: Option<Known>,
    groups: &[String],
) -> String {
    let weighted = metric.inputs.iter().any(|input| input.relation == Relation::Ingest);
    let needs = Needs { weight: weighted, order: matches!(metric.measure, Measure::Latest) };
    let rows: Vec<String> = metric
        .inputs
        .iter()
        .map(|input| project(query, domain, metric, input, question, known, &needs))
        .collect();
    let rows = rows.join(" union all ");
    let measure = Aggregate::of(metric);

    match (&metric.measure, weighted) {
        (Measure::Quantile(q), true) => weighted_quantile(*q, &rows, groups),
        (Measure::ApproxQuantile(_), weighted) => sketch::classes(&rows, groups, weighted),
        (Measure::ApproxCountDistinct, _) => sketch::distinct(&rows, groups),
        (_, weighted) => {
            let mut columns = groups.to_vec();
            columns.extend(if weighted { measure.weighted() } else { measure.plain() });
            format!("select {} from ({rows}) r", columns.join(", "))
        }
    }
}

/// What the aggregate needs of a row besides dimensions and argument.
struct Needs {
    /// `n`: the number of records that the row stands for.
    weight: bool,
    /// `k`: the row's place in (time, position).
    order: bool,
}

/// The rows of one input that the question is about: dimensions as `d0`, `d1`, …, the argument as
/// `a`.
fn project(
    query: &mut Query,
    domain: &Domain,
    metric: &Metric,
    input: &MetricInput,
    question: &Resolved<'_>,
    known: Option<Known>,
    needs: &Needs,
) -> String {
    let source = Source::of(input, question);
    let mut columns = Vec::new();
    for (i, dimension) in question.group_by.iter().enumerate() {
        let value = source.dimension(query, metric, input, &dimension.name);
        columns.push(format!("{value} as d{i}"));
    }
    if let Some(arg) = &input.arg {
        columns.push(format!("{} as a", source.column(query, arg)));
    }
    if needs.weight {
        columns.push(format!("{} as n", quote(ingest::N)));
    }
    if needs.order {
        let time = source.column(query, &input.time);
        let arg = input.arg.as_ref().map(|arg| source.column(query, arg));
        columns.push(format!("{} as k", source.order(domain, &time, arg.as_deref())));
    }
    if columns.is_empty() {
        columns.push("1 as one".to_owned());
    }
    let is_bounded = !question.window.is_now();
    let ends = question.span.map(|(_, to)| to).into_iter();
    let ends = ends.chain(question.as_of.filter(|_| is_bounded)).collect();
    let bounds = Bounds { start: question.start(), ends };
    let mut text = rows(query, domain, input, question, known, (&columns, &bounds));
    for test in tests(query, &source, metric, input, question) {
        text.push_str(&format!(" and {test}"));
    }
    text
}

/// Between which times rows are read.
pub(super) struct Bounds {
    /// From, µs.
    pub(super) start: Option<i64>,
    /// Before each of them, µs.
    pub(super) ends: Vec<i64>,
}

/// `columns` of the rows of one input that lie within bounds, were known, and of which the contract's
/// condition is true.
pub(super) fn rows(
    query: &mut Query,
    domain: &Domain,
    input: &MetricInput,
    question: &Resolved<'_>,
    known: Option<Known>,
    (columns, bounds): (&[String], &Bounds),
) -> String {
    let source = Source::of(input, question);
    let tenant = query.bind(SqlValue::Text(question.tenant.to_owned()));
    let mut text = format!(
        "select {} from {} where {} = {tenant}",
        columns.join(", "),
        quote(&source.table(domain)),
        quote(column::TENANT),
    );
    if source.is_family() {
        text.push_str(&of_types(query, &input.event_types));
    }
    let ends = bounds.ends.iter().map(|end| ("<", *end));
    for (compare, bound) in bounds.start.map(|start| (">=", start)).into_iter().chain(ends) {
        let time = source.column(query, &input.time);
        let bound = query.bind(timestamp(bound));
        text.push_str(&format!(" and {time} {compare} {bound}"));
    }
    // What happened at or after `as_of` is not known then, whatever other time it speaks of. An
    // entity holds this already: it was folded from the events before.
    if let (Some(end), Some(happened)) = (question.as_of, source.happened_at())
        && (!bounds.ends.contains(&end) || input.time.name != happened)
    {
        let end = query.bind(timestamp(end));
        text.push_str(&format!(" and {} < {end}", quote(happened)));
    }
    if let Some(known) = known {
        match input.relation {
            Relation::Family(_) => {
                let position = query.bind(SqlValue::BigInt(known.position));
                text.push_str(&format!(" and {} <= {position}", quote(column::SEQ)));
            }
            Relation::Ingest => {
                let at = query.bind(timestamp(known.at));
                text.push_str(&format!(" and {} <= {at}", quote(INGEST_APPLIED_AT)));
            }
            // Folded from what was known.
            Relation::Entity(_) => {}
        }
    }
    if let Some(filter) = &input.filter {
        text.push_str(&format!(" and {}", source.column(query, filter)));
    }
    text
}

/// The conditions that the question's filters put on rows of one input.
pub(super) fn tests(
    query: &mut Query,
    source: &Source,
    metric: &Metric,
    input: &MetricInput,
    question: &Resolved<'_>,
) -> Vec<String> {
    let mut tests = Vec::with_capacity(question.filters.len());
    for filter in &question.filters {
        let value = source.dimension(query, metric, input, &filter.dimension.name);
        tests.push(tested(query, &value, &filter.test));
    }
    if !question.without.is_empty() {
        let dimensions = question.without.iter();
        let columns: Vec<String> = dimensions
            .map(|dimension| source.dimension(query, metric, input, &dimension.name))
            .collect();
        let groups: Vec<String> = question
            .without_groups
            .iter()
            .map(|key| {
                let typed = key.iter().zip(&question.without).map(|(member, dimension)| {
                    format!("{}::{}", query.bind(member_sql(member)), sql_type(&dimension.ty))
                });
                format!("row({})", typed.collect::<Vec<_>>().join(", "))
            })
            .collect();
        // Within rows nothing is equal to nothing.
        tests.push(format!("row({}) not in ({})", columns.join(", "), groups.join(", ")));
    }
    tests
}

fn member_sql(member: &Member) -> SqlValue {
    match member {
        Member::Bool(value) => SqlValue::Boolean(*value),
        Member::Int(value) => SqlValue::BigInt(*value),
        Member::Date(days) => SqlValue::Date32(*days),
        Member::Text(text) => SqlValue::Text(text.clone()),
        Member::None | Member::Other => SqlValue::Null,
    }
}

/// Whether `value` passes the test; null means no.
fn tested(query: &mut Query, value: &str, test: &Test) -> String {
    let listed = |query: &mut Query, values: &[FilterValue]| {
        let values: Vec<String> = values.iter().map(|value| query.bind(value.to_sql())).collect();
        values.join(", ")
    };
    match test {
        Test::In { values, or_none } => match (values.as_slice(), or_none) {
            ([], _) => format!("{value} is null"),
            ([one], false) => format!("{value} = {}", query.bind(one.to_sql())),
            (_, false) => format!("{value} in ({})", listed(query, values)),
            (_, true) => format!("({value} in ({}) or {value} is null)", listed(query, values)),
        },
        Test::NotIn { values, or_none } => match (values.as_slice(), or_none) {
            ([], _) => format!("{value} is not null"),
            (_, true) => format!("{value} not in ({})", listed(query, values)),
            (_, false) => {
                format!("({value} not in ({}) or {value} is null)", listed(query, values))
            }
        },
        Test::Above { bound, or_equal } => {
            let compare = if *or_equal { ">=" } else { ">" };
            format!("{value} {compare} {}", query.bind(bound.to_sql()))
        }
        Test::Below { bound, or_equal } => {
            let compare = if *or_equal { "<=" } else { "<" };
            format!("{value} {compare} {}", query.bind(bound.to_sql()))
        }
    }
}

/// A relation as a question at `reference` sees it.
pub(super) struct Source {
    relation: Relation,
    reference: i64,
}

impl Source {
    /// What an input reads.
    pub(super) fn of(input: &MetricInput, question: &Resolved<'_>) -> Self {
        Self { relation: input.relation, reference: question.reference }
    }

    fn table(&self, domain: &Domain) -> String {
        match self.relation {
            Relation::Family(family) => domain.families[family].table(),
            Relation::Entity(entity) => domain.entities[entity].table(),
            Relation::Ingest => ingest::TABLE.to_owned(),
        }
    }

    fn is_family(&self) -> bool {
        matches!(self.relation, Relation::Family(_))
    }

    /// Column with the time at which a row came to be; entities have none.
    fn happened_at(&self) -> Option<&'static str> {
        match self.relation {
            Relation::Family(_) => Some(column::TIME),
            Relation::Entity(_) => None,
            Relation::Ingest => Some(ingest::ARRIVED_AT),
        }
    }

    /// A column's value; where it depends on `closed`, the value at the reference time.
    pub(super) fn column(&self, query: &mut Query, column: &ColumnRef) -> String {
        let open = quote(&column.name);
        if !column.depends_on_closed {
            return open;
        }
        let closed = quote(&format!("{}{}", column.name, column::CLOSED_SUFFIX));
        let reference = query.bind(timestamp(self.reference));
        let closes_at = quote(column::CLOSES_AT);
        format!("(case when {closes_at} <= {reference} then {closed} else {open} end)")
    }

    /// The value of the dimension `name` of `metric`. Dimensions are looked up by name because the
    /// parts of a ratio may declare them in another order than the ratio.
    pub(super) fn dimension(
        &self,
        query: &mut Query,
        metric: &Metric,
        input: &MetricInput,
        name: &str,
    ) -> String {
        let index = metric.dimensions.iter().position(|dimension| dimension.name == name);
        match index.and_then(|index| input.dimensions.get(index)) {
            Some(column) => self.column(query, column),
            // A contract that loads gives every part the dimensions of its ratio.
            None => "null".to_owned(),
        }
    }

    /// A value that orders rows by (time, position).
    pub(super) fn order(&self, domain: &Domain, time: &str, arg: Option<&str>) -> String {
        let position = match self.relation {
            Relation::Family(_) | Relation::Ingest => column::SEQ,
            Relation::Entity(_) => column::UPDATED_SEQ,
        };
        let unique = match self.relation {
            Relation::Family(_) => true,
            // One event moves one row of an entity over events, but may move two of an entity over
            // an entity: the one that a source row left and the one that it joined.
            Relation::Entity(entity) => domain.entities[entity]
                .inputs
                .iter()
                .all(|input| matches!(input.relation, Relation::Family(_))),
            Relation::Ingest => false,
        };
        let position = quote(position);
        match (unique, arg) {
            // One wide integer: DuckDB compares it several times faster than a row of two.
            (true, _) | (_, None) => {
                format!("(epoch_us({time})::hugeint * 9223372036854775808 + {position})")
            }
            (false, Some(arg)) => format!("row({time}, {position}, {arg})"),
        }
    }
}
