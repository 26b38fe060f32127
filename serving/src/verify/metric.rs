//! Metrics over rows: one statement each, for all tenants, windows and dimensions at once.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{ColumnRef, Measure, Metric, MetricInput, OnEmpty, Relation};
use contracts::types::Type;
use duckdb::Row;
use duckdb::types::ValueRef;

use super::compare::Expected;
use super::entity::Entities;
use super::journal::Rows;
use super::session::{Failed, Session};
use super::sql::sql_type;
use super::{estimate, followed};

/// Most groups of a metric that are held.
const MOST_GROUPS: usize = 300_000;

/// The value of a dimension as text; `None` for rows without one.
pub(super) type Member = Option<String>;

/// A window at the reference time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    /// As written in the contract.
    pub(super) text: String,
    /// Its first moment, µs; `None` when it has none.
    pub(super) start: Option<i64>,
    /// Is it bounded by no time of the rows?
    is_now: bool,
}

/// What a metric gives: tenant → dimension (`None`: all rows together) → member → value per window;
/// no value where the window has no rows.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) windows: Vec<Window>,
    pub(super) tenants: BTreeMap<String, BTreeMap<Option<String>, Groups>>,
}

/// Values by member, one per window.
pub(super) type Groups = BTreeMap<Member, Vec<Option<Expected>>>;

impl Found {
    /// The groups of a tenant in a window: by dimension, or all rows as one.
    pub(super) fn of(
        &self,
        tenant: &str,
        dimension: Option<&str>,
        window: &str,
    ) -> BTreeMap<Member, Expected> {
        let Some(at) = self.windows.iter().position(|known| known.text == window) else {
            return BTreeMap::new();
        };
        let groups =
            self.tenants.get(tenant).and_then(|all| all.get(&dimension.map(str::to_owned)));
        let groups = groups.into_iter().flatten();
        groups.filter_map(|(member, values)| Some((member.clone(), values[at].clone()?))).collect()
    }
}

/// What the views of a verification are made of.
pub(super) struct Views {
    pub(super) families: BTreeMap<usize, Rows>,
    pub(super) ingest: Option<Rows>,
    pub(super) entities: Entities,
}

/// The value of an empty window.
pub(super) fn empty(metric: &Metric) -> Expected {
    match metric.on_empty {
        OnEmpty::Null => Expected::Null,
        OnEmpty::Zero => Expected::Exact { digits: 0, scale: 0 },
    }
}

/// Puts the declared value where nothing was measured.
pub(super) fn settled(metric: &Metric, value: Expected) -> Expected {
    let counts = metric.measure.is_count();
    match value {
        Expected::Null => empty(metric),
        Expected::Exact { digits: 0, .. } if counts => empty(metric),
        value => value,
    }
}

/// Recomputes a metric over rows, in these windows.
pub(super) fn recompute(
    session: &Session<'_>,
    views: &Views,
    metric: &Metric,
    windows: &[Window],
) -> Result<Found, String> {
    let rows = metric
        .inputs
        .iter()
        .map(|input| rows_of(session, views, metric, input))
        .collect::<Result<Vec<_>, String>>()?
        .join(" union all ");
    let rows = match metric.measure.follows_keys() {
        true => followed::rows(session, metric, &rows),
        false => rows,
    };
    let weighted = metric.inputs.iter().any(|input| input.relation == Relation::Ingest);
    let argument = metric.inputs.iter().find_map(|input| input.arg.as_ref()).map(|arg| &arg.ty);
    let dimensions = metric.dimensions.len();
    let mut list = "tenant".to_owned();
    let mut sets = "(tenant)".to_owned();
    for i in 0..dimensions {
        list.push_str(&format!(", grouping(d{i}), d{i}::varchar"));
        sets.push_str(&format!(", (tenant, d{i})"));
    }
    for window in windows {
        let within = within(session, window);
        let (counts, columns) = match metric.measure.follows_keys() {
            true => {
                let counts = followed::counts(&metric.measure, window, &within);
                let columns = followed::aggregates(&metric.measure, argument, window, &counts);
                (counts, columns)
            }
            false => {
                let columns = measure(&metric.measure, argument, weighted, &within)?;
                (within, columns)
            }
        };
        list.push_str(&format!(", count(*) filter (where {counts})"));
        for column in columns {
            list.push_str(&format!(", {column}"));
        }
    }
    let sql = format!("select {list} from ({rows}) r group by grouping sets ({sets})");
    let width = width(&metric.measure);
    let mut found = Found { windows: windows.to_vec(), tenants: BTreeMap::new() };
    let mut held = 0;
    let read = session.rows(&sql, &[], |row| {
        held += 1;
        if held > MOST_GROUPS {
            return Ok(());
        }
        let tenant: String = row.get(0)?;
        let mut key = (None, None);
        for i in 0..dimensions {
            let grouped: i64 = row.get(1 + 2 * i)?;
            if grouped == 0 {
                let member: Member = row.get(2 + 2 * i)?;
                key = (Some(metric.dimensions[i].name.clone()), member);
            }
        }
        let mut values = Vec::with_capacity(windows.len());
        for window in 0..windows.len() {
            let at = 1 + 2 * dimensions + window * (1 + width);
            let rows: i64 = row.get(at)?;
            let value = value_of(&metric.measure, argument, row, at + 1)?;
            values.push((rows > 0).then(|| settled(metric, value)));
        }
        let groups = found.tenants.entry(tenant).or_default().entry(key.0).or_default();
        groups.insert(key.1, values);
        Ok(())
    });
    read.map_err(|Failed(why)| format!("DuckDB: {why}"))?;
    if held > MOST_GROUPS {
        return Err(format!("it has more than {MOST_GROUPS} groups"));
    }
    Ok(found)
}

/// Rows of an input: `tenant`, the dimensions, the argument `a`, the weight `n`, the time `tm` and the
/// position `s`, and what a measure needs that follows keys.
fn rows_of(
    session: &Session<'_>,
    views: &Views,
    metric: &Metric,
    input: &MetricInput,
) -> Result<String, String> {
    let reference = session.reference();
    let missing = || "a column could not be computed".to_owned();
    // What is needed of the relation: its rows, how to name a column, and the bounds.
    type Named<'a> = Box<dyn Fn(&ColumnRef) -> Option<String> + 'a>;
    let (from, named, tenant, position, weight, happened): (_, Named<'_>, _, _, _, Option<&str>) =
        match input.relation {
            Relation::Family(family) => {
                let rows = views.families.get(&family).ok_or_else(missing)?;
                let named: Named<'_> = Box::new(|column: &ColumnRef| rows.column(column));
                (rows.view.clone(), named, "_tenant", "_seq", "1", Some("epoch_us(_time)"))
            }
            Relation::Ingest => {
                let rows = views.ingest.as_ref().ok_or_else(missing)?;
                let named: Named<'_> = Box::new(|column: &ColumnRef| rows.column(column));
                (rows.view.clone(), named, "_tenant", "_seq", "_n", Some("epoch_us(arrived_at)"))
            }
            Relation::Entity(entity) => {
                let rows = views.entities.get(entity)?;
                let named: Named<'_> = Box::new(move |column: &ColumnRef| {
                    rows.at(&column.name, column.depends_on_closed, reference)
                });
                (rows.table.clone(), named, "t", "updated_seq", "1", None)
            }
        };
    let column = |wanted: &ColumnRef| named(wanted).ok_or_else(missing);
    let mut list = format!("{tenant} as tenant");
    for (i, dimension) in metric.dimensions.iter().enumerate() {
        let value = match input.dimensions.get(i) {
            Some(wanted) => match wanted.ty {
                Type::Date => format!("(date '1970-01-01' + ({})::integer)", column(wanted)?),
                _ => column(wanted)?,
            },
            None => format!("null::{}", sql_type(&dimension.ty)),
        };
        list.push_str(&format!(", {value} as d{i}"));
    }
    let argument = match &input.arg {
        Some(arg) => column(arg)?,
        None => "null".to_owned(),
    };
    let time = column(&input.time)?;
    list.push_str(&format!(
        ", {argument} as a, ({weight})::bigint as n, {time} as tm, {position} as s"
    ));
    if let Some(followed) = &input.followed {
        list.push_str(&followed::columns(followed, column)?);
    }
    let mut sql = format!("select {list} from {from} where true{}", session.of_tenant(tenant));
    if matches!(input.relation, Relation::Family(_)) && !input.event_types.is_empty() {
        let types: Vec<String> =
            input.event_types.iter().map(|ty| super::sql::quoted(ty)).collect();
        sql.push_str(&format!(" and _type in ({})", types.join(", ")));
    }
    if let Some(filter) = &input.filter {
        sql.push_str(&format!(" and {}", column(filter)?));
    }
    if let (Some(as_of), Some(happened)) = (session.as_of, happened) {
        sql.push_str(&format!(" and {happened} < {as_of}"));
    }
    Ok(sql)
}

/// The condition that a row lies in a window.
fn within(session: &Session<'_>, window: &Window) -> String {
    let start = window.start.map(|start| format!("tm >= {start}"));
    let end = session.as_of.filter(|_| !window.is_now).map(|as_of| format!("tm < {as_of}"));
    let bounds: Vec<String> = start.into_iter().chain(end).collect();
    if bounds.is_empty() { "true".to_owned() } else { bounds.join(" and ") }
}

/// Columns that a measure takes of a window.
fn width(measure: &Measure) -> usize {
    match measure {
        Measure::Sum | Measure::Conversion { .. } => 2,
        Measure::Avg | Measure::TimeWeighted | Measure::ApproxQuantile(_) => 3,
        _ => 1,
    }
}

/// The nearest double of a number, as expressions hold it.
pub(super) fn as_double(value: &str, ty: Option<&Type>) -> String {
    match ty {
        Some(Type::Decimal { scale, .. }) => format!("({value}::varchar || 'e-{scale}')::double"),
        _ => format!("{value}::double"),
    }
}

fn measure(
    measure: &Measure,
    argument: Option<&Type>,
    weighted: bool,
    within: &str,
) -> Result<Vec<String>, String> {
    let rows = format!("filter (where {within})");
    let present = format!("filter (where {within} and a is not null)");
    let is_float = argument == Some(&Type::Float64);
    let sum = match is_float {
        true => format!("sum(a * n) {rows}"),
        false => format!("sum(a::hugeint * n) {rows}"),
    };
    let magnitude = match is_float {
        true => format!("sum(abs(a) * n) {rows}"),
        false => "0.0::double".to_owned(),
    };
    Ok(match measure {
        Measure::Count if argument.is_some() => vec![format!("coalesce(sum(n) {present}, 0)")],
        Measure::Count => vec![format!("coalesce(sum(n) {rows}, 0)")],
        Measure::Sum => vec![sum, magnitude],
        Measure::Avg => vec![sum, magnitude, format!("coalesce(sum(n) {present}, 0)")],
        Measure::Min => vec![format!("min(a) {rows}")],
        Measure::Max => vec![format!("max(a) {rows}")],
        // Rows of one time and position are told apart by their value.
        Measure::Latest => vec![format!("arg_max(a, row(tm, s, a)) {present}")],
        Measure::CountDistinct | Measure::Active | Measure::ApproxCountDistinct => {
            vec![format!("count(distinct a) {rows}")]
        }
        Measure::Quantile(q) | Measure::ApproxQuantile(q) => {
            if argument.is_none() {
                return Err("a quantile of nothing".to_owned());
            }
            if weighted {
                return Err("a quantile over rows that stand for several records".to_owned());
            }
            let sorted = format!("list_sort(list({}) {present})", as_double("a", argument));
            // Linear between the two ranks around the place `p`.
            let of_sorted = |value: &str| {
                format!(
                    "list_transform([{sorted}], lambda l: \
                     list_transform([{q:?} * (len(l) - 1)], lambda p: {value})[1])[1]"
                )
            };
            let (below, above) = ("l[floor(p)::bigint + 1]", "l[ceil(p)::bigint + 1]");
            let value = of_sorted(&format!("{below} + ({above} - {below}) * (p - floor(p))"));
            match measure {
                Measure::Quantile(_) => vec![value],
                _ => vec![value, of_sorted(below), of_sorted(above)],
            }
        }
        _ => return Err("this measure has no form in SQL here".to_owned()),
    })
}

fn value_of(
    measure: &Measure,
    argument: Option<&Type>,
    row: &Row<'_>,
    at: usize,
) -> duckdb::Result<Expected> {
    let scale = match argument {
        Some(Type::Decimal { scale, .. }) => i32::from(*scale),
        _ => 0,
    };
    let float = |i: usize| Ok::<_, duckdb::Error>(row.get::<_, Option<f64>>(i)?.unwrap_or(0.0));
    let read = |i: usize, ty: Option<&Type>, scale: i32| {
        Ok::<_, duckdb::Error>(scalar(row.get_ref(i)?, ty, scale))
    };
    match measure {
        Measure::Count | Measure::CountDistinct | Measure::Active => read(at, None, 0),
        Measure::Sum => Ok(match read(at, argument, scale)? {
            Expected::Float { value, .. } => Expected::finite(value, float(at + 1)?),
            value => value,
        }),
        Measure::Avg => {
            let count = read(at + 2, None, 0)?.number().unwrap_or(0.0);
            let sum = read(at, argument, scale)?;
            Ok(match sum.number() {
                Some(value) if count > 0.0 => {
                    let magnitude = float(at + 1)?.max(value.abs()) / count;
                    Expected::finite(value / count, magnitude)
                }
                _ => Expected::Null,
            })
        }
        Measure::TimeWeighted => {
            let weight = read(at + 2, None, 0)?.number().unwrap_or(0.0);
            Ok(match row.get::<_, Option<f64>>(at)? {
                Some(sum) if weight > 0.0 => {
                    Expected::finite(sum / weight, float(at + 1)?.max(sum.abs()) / weight)
                }
                _ => Expected::Null,
            })
        }
        Measure::Conversion { .. } => {
            let count =
                |i: usize| Ok::<_, duckdb::Error>(read(i, None, 0)?.number().unwrap_or(0.0));
            let (converted, entered) = (count(at)?, count(at + 1)?);
            Ok(match entered > 0.0 {
                true => Expected::finite(converted / entered, 1.0),
                false => Expected::Null,
            })
        }
        // Microseconds, as seconds.
        Measure::DurationInState => read(at, None, 6),
        Measure::ApproxCountDistinct => Ok(estimate::count(&read(at, None, 0)?)),
        Measure::ApproxQuantile(_) => Ok(match row.get::<_, Option<f64>>(at)? {
            Some(value) => estimate::quantile(value, float(at + 1)?, float(at + 2)?),
            None => Expected::Null,
        }),
        Measure::Quantile(_) => read(at, Some(&Type::Float64), 0),
        _ => read(at, argument, scale),
    }
}

/// A value as expressions hold it, by its type.
fn scalar(value: ValueRef<'_>, ty: Option<&Type>, scale: i32) -> Expected {
    let whole = |v: i128| match ty {
        Some(Type::Timestamp) => Expected::Time(v as i64),
        Some(Type::Date) => Expected::Date(v as i64),
        _ => Expected::Exact { digits: v, scale },
    };
    match value {
        ValueRef::Int(v) => whole(v.into()),
        ValueRef::BigInt(v) => whole(v.into()),
        ValueRef::HugeInt(v) => whole(v),
        ValueRef::Double(v) => Expected::finite(v, v.abs()),
        ValueRef::Boolean(v) => Expected::Bool(v),
        ValueRef::Text(v) => Expected::Text(String::from_utf8_lossy(v).into_owned()),
        _ => Expected::Null,
    }
}

/// The windows in which each metric over rows is needed: its own, and those of what is made of it.
pub(super) fn windows_needed(metrics: &[Metric], reference: i64) -> Vec<Vec<Window>> {
    let own = |metric: &Metric| {
        let windows = metric.windows.iter().map(|window| Window {
            text: window.text.clone(),
            start: window.start(reference),
            is_now: window.is_now(),
        });
        windows.collect::<BTreeSet<Window>>()
    };
    let mut needed: Vec<BTreeSet<Window>> = metrics.iter().map(own).collect();
    // Parts come before what is made of them.
    for metric in metrics.iter().rev() {
        for part in metric.measure.parts() {
            let own = needed[metric.index].clone();
            needed[part].extend(own);
        }
    }
    needed.into_iter().map(|windows| windows.into_iter().collect()).collect()
}
