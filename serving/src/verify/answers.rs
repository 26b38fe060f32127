//! The answers of the metric engine against the recomputed ones.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{ColumnRef, Measure, Metric, Relation, column, ingest};
use contracts::types::Type;

use super::compare::Expected;
use super::metric::{self, Found, Member, Views, empty, settled};
use super::report::Difference;
use super::session::{Failed, Session};
use super::sql::{Column, Refused, emit};
use crate::metric::MetricEngine;
use crate::question::{Group, MetricQuestion};
use crate::value::Value;

const HINT: &str = "ask the metric again and compare; if it stays, the store's rows or state are damaged: \
                    rebuild the store from the lake (`agentflow rebuild`) and report this";

/// What is known of each metric over rows, or why nothing is.
type Known = BTreeMap<usize, Result<Found, String>>;

/// Compares every answer of `metrics`.
pub(super) fn verify(
    session: &mut Session<'_>,
    engine: &MetricEngine,
    views: &Views,
    metrics: &[usize],
) -> Result<(), Failed> {
    let domain = session.domain;
    let windows = metric::windows_needed(&domain.metrics, session.reference());
    if session.is_lost() {
        session.report.skip("all metrics", "a statement about what they stand on failed");
        return Ok(());
    }
    let tenants = tenants(session)?;
    let mut known = Known::new();
    for index in metrics {
        let metric = &domain.metrics[*index];
        let label = label(metric);
        let mut leaves = BTreeSet::new();
        below(session, *index, &mut leaves);
        let failed = leaves.iter().chain([index]).find_map(|one| session.failed.get(one));
        if let Some(why) = failed {
            session.report.skip(label, why.clone());
            continue;
        }
        for leaf in &leaves {
            if !known.contains_key(leaf) {
                let found = recompute(session, engine, views, *leaf, &windows[*leaf]);
                if let Err(why) = &found
                    && session.is_lost()
                {
                    session.aborted = Some((*leaf, why.clone()));
                    return Ok(());
                }
                known.insert(*leaf, found);
            }
        }
        let why = leaves.iter().find_map(|leaf| match known.get(leaf) {
            Some(Err(why)) => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = why {
            session.report.skip(label, why);
            continue;
        }
        doubts(session, views, &leaves, &label);
        session.report.checked.metrics += 1;
        for window in &metric.windows {
            if session.is_over() {
                session.report.skip(format!("{label}, window {}", window.text), "the time was up");
                continue;
            }
            if let Some(why) = given_up(session, &leaves, window.start(session.reference())) {
                session.report.skip(format!("{label}, window {}", window.text), why);
                continue;
            }
            for tenant in &tenants {
                let dimensions = metric.dimensions.iter().map(|d| Some(d.name.as_str()));
                for dimension in [None].into_iter().chain(dimensions) {
                    let window = window.text.as_str();
                    let asked = Asked {
                        metric,
                        label: &label,
                        tenant,
                        window,
                        dimension,
                        verified: metrics,
                    };
                    asked.compare(session, engine, &known)?;
                    if session.aborted.is_some() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// All tenants of which there are rows.
fn tenants(session: &Session<'_>) -> Result<Vec<String>, Failed> {
    if let Some(tenant) = session.tenant {
        return Ok(vec![tenant.to_owned()]);
    }
    let mut parts = vec!["select _tenant from main.ingest".to_owned()];
    let families = (0..session.domain.families.len()).map(Relation::Family);
    let entities = (0..session.domain.entities.len()).map(Relation::Entity);
    for relation in families.chain(entities) {
        parts.push(format!("select _tenant from main.{}", session.table(relation)));
    }
    session.rows(&format!("{} order by 1", parts.join(" union ")), &[], |row| row.get(0))
}

/// The metrics over rows that a metric is made of.
fn below(session: &Session<'_>, index: usize, leaves: &mut BTreeSet<usize>) {
    let parts = session.domain.metrics[index].measure.parts();
    if parts.is_empty() {
        leaves.insert(index);
    }
    for part in parts {
        below(session, part, leaves);
    }
}

fn recompute(
    session: &Session<'_>,
    engine: &MetricEngine,
    views: &Views,
    leaf: usize,
    windows: &[metric::Window],
) -> Result<Found, String> {
    if session.is_over() {
        return Err("the time was up".to_owned());
    }
    if engine.backfilling().metric(leaf).is_some() {
        return Err("it is being backfilled".to_owned());
    }
    metric::recompute(session, views, &session.domain.metrics[leaf], windows)
}

/// Says which columns of the metric were taken as they are stored.
fn doubts(session: &mut Session<'_>, views: &Views, leaves: &BTreeSet<usize>, label: &str) {
    let domain = session.domain;
    for input in leaves.iter().flat_map(|leaf| &domain.metrics[*leaf].inputs) {
        let rows = match input.relation {
            Relation::Family(family) => views.families.get(&family),
            Relation::Ingest => views.ingest.as_ref(),
            Relation::Entity(_) => None,
        };
        let Some(rows) = rows else { continue };
        for ColumnRef { name, .. } in input.columns() {
            if let Some(why) = rows.as_stored(name) {
                session.report.skip(
                    format!("{label}: a column that it reads"),
                    format!("{why}; the stored value is used"),
                );
            }
        }
    }
}

/// Why a window cannot be recomputed: rows that it needs are gone.
fn given_up(session: &Session<'_>, leaves: &BTreeSet<usize>, start: Option<i64>) -> Option<String> {
    let trimmed = session.trimmed.as_ref()?;
    let metrics = leaves.iter().map(|leaf| &session.domain.metrics[*leaf]);
    let inputs = metrics.flat_map(|metric| metric.inputs.iter().map(move |input| (metric, input)));
    inputs
        .filter_map(|(metric, input)| {
            match input.relation {
                Relation::Family(family) => {
                    // What held when the window began may have been said at any time before it.
                    let is_state =
                        matches!(metric.measure, Measure::TimeWeighted | Measure::DurationInState);
                    // What is known of the rows that are gone is their own time, and no other.
                    let is_own = input.time.name == column::TIME && !is_state;
                    let start = start.filter(|_| is_own);
                    session.given_up(family, start)
                }
                Relation::Ingest => {
                    let latest = trimmed.latest_arrived_at?;
                    let start = start.filter(|_| input.time.name == ingest::ARRIVED_AT);
                    let concerns = start.is_none_or(|start| latest >= start);
                    concerns.then(|| "rows of `ingest` are in the lake only".to_owned())
                }
                // Such an entity was not recomputed.
                Relation::Entity(_) => None,
            }
        })
        .next()
}

/// A metric as differences name it.
fn label(metric: &Metric) -> String {
    format!("metric `{}` v{}", metric.name, metric.version)
}

/// One question.
struct Asked<'a> {
    metric: &'a Metric,
    label: &'a str,
    tenant: &'a str,
    window: &'a str,
    dimension: Option<&'a str>,
    /// The metrics that are verified, this one among them.
    verified: &'a [usize],
}

impl Asked<'_> {
    fn compare(
        &self,
        session: &mut Session<'_>,
        engine: &MetricEngine,
        known: &Known,
    ) -> Result<(), Failed> {
        let found =
            engine.values_in(session.conn, &self.question(session, self.metric), session.now);
        let (value, groups, truncated) = match found {
            Ok(answer) => answer,
            Err(error) => {
                let what = format!("{}, window {}", self.label, self.window);
                let why = format!("the engine has no answer: {error}");
                if session.is_lost() {
                    session.aborted = Some((self.metric.index, format!("{why} ({what})")));
                }
                session.report.skip(what, why);
                return Ok(());
            }
        };
        let mut beyond = Vec::new();
        let of = self.metric.index;
        let mut expected = match values(session, engine, known, of, self, &mut beyond) {
            Ok(expected) => expected,
            Err(why) => {
                if session.is_lost() {
                    session.aborted = Some((self.metric.index, why.clone()));
                }
                session.report.skip(format!("{}, window {}", self.label, self.window), why);
                return Ok(());
            }
        };
        beyond.into_iter().for_each(|difference| session.report.differs(difference));
        session.report.checked.answers += 1;
        let Some(dimension) = self.dimension else {
            let expected = expected.remove(&None).unwrap_or_else(|| empty(self.metric));
            let found = value.unwrap_or(Value::Null);
            session.report.checked.values += 1;
            if !expected.is(&found) {
                self.report(session, BTreeMap::new(), expected.to_string(), found.to_string());
            }
            return Ok(());
        };
        self.groups(session, dimension, expected, &groups, truncated);
        Ok(())
    }

    /// The same question to a metric.
    fn question(&self, session: &Session<'_>, metric: &Metric) -> MetricQuestion {
        MetricQuestion {
            metric: metric.name.clone(),
            version: Some(metric.version),
            tenant: self.tenant.to_owned(),
            window: Some(self.window.to_owned()),
            as_of: session.as_of,
            group_by: self.dimension.iter().map(|name| (*name).to_owned()).collect(),
            ..MetricQuestion::default()
        }
    }

    fn groups(
        &self,
        session: &mut Session<'_>,
        dimension: &str,
        mut expected: BTreeMap<Member, Expected>,
        groups: &[Group],
        truncated: bool,
    ) {
        // The rest beyond the declared number of groups is one group, whose rows nothing else tells apart.
        for group in groups.iter().filter(|group| !group.is_other()) {
            let member = group.dimensions.first().and_then(|(_, member)| member.clone());
            session.report.checked.values += 1;
            let of = || BTreeMap::from([(dimension.to_owned(), member.clone())]);
            match expected.remove(&member) {
                Some(value) if value.is(&group.value) => {}
                Some(value) => {
                    self.report(session, of(), value.to_string(), group.value.to_string());
                }
                None => {
                    self.report(session, of(), "no such group".to_owned(), group.value.to_string());
                }
            }
        }
        // Those beyond the declared number of groups are left out of the answer, and it says so.
        if truncated {
            return;
        }
        for (member, value) in expected {
            let of = BTreeMap::from([(dimension.to_owned(), member)]);
            self.report(session, of, value.to_string(), "no such group".to_owned());
        }
    }

    fn report(
        &self,
        session: &mut Session<'_>,
        dimensions: BTreeMap<String, Member>,
        expected: String,
        found: String,
    ) {
        session.report.differs(self.difference(self.label, dimensions, expected, found));
    }

    fn difference(
        &self,
        label: &str,
        dimensions: BTreeMap<String, Member>,
        expected: String,
        found: String,
    ) -> Difference {
        let mut difference = Difference::new(label, expected, found, HINT).of(self.tenant);
        difference.window = Some(self.window.to_owned());
        difference.dimensions = dimensions;
        difference
    }
}

/// What the engine says of an estimate that others are made of: what is made of it is exact again. What is not
/// `within` its bounds goes to `beyond`, unless the estimate itself is verified, too, where that is found.
fn estimated(
    session: &Session<'_>,
    engine: &MetricEngine,
    part: usize,
    asked: &Asked<'_>,
    within: BTreeMap<Member, Expected>,
    beyond: &mut Vec<Difference>,
) -> Result<BTreeMap<Member, Expected>, String> {
    let metric = &session.domain.metrics[part];
    let question = asked.question(session, metric);
    let (value, groups, truncated) =
        engine.values_in(session.conn, &question, session.now).map_err(|error| {
            format!("the engine has no answer of the estimate `{}`: {error}", metric.name)
        })?;
    if truncated {
        return Err(format!("not all groups of the estimate `{}` are named", metric.name));
    }
    let groups = groups.into_iter().map(|group| {
        let member = group.dimensions.into_iter().next().and_then(|(_, member)| member);
        (member, group.value)
    });
    let found =
        groups.chain(value.map(|value| (None, value)).filter(|_| asked.dimension.is_none()));
    let found: BTreeMap<Member, Value> = found.collect();
    let of = |member: &Member| -> Result<Expected, String> {
        match found.get(member) {
            Some(Value::Int(digits)) => Ok(Expected::Exact { digits: *digits, scale: 0 }),
            Some(Value::Float(value)) => {
                Ok(Expected::Float { value: *value, magnitude: value.abs() })
            }
            Some(Value::Null) | None => Ok(Expected::Null),
            Some(other) => Err(format!("the estimate `{}` is no number: {other}", metric.name)),
        }
    };
    if !asked.verified.contains(&part) {
        for (member, bounds) in &within {
            let value = found.get(member).unwrap_or(&Value::Null);
            if !bounds.is(value) {
                let name = asked.dimension.map(str::to_owned);
                let dimensions = name.into_iter().map(|name| (name, member.clone())).collect();
                let (expected, found) = (bounds.to_string(), value.to_string());
                let difference = asked.difference(&label(metric), dimensions, expected, found);
                // It may be a part of several parts.
                if !beyond.contains(&difference) {
                    beyond.push(difference);
                }
            }
        }
    }
    let members: Vec<Member> = within.into_keys().collect();
    members.into_iter().map(|member| of(&member).map(|value| (member, value))).collect()
}

/// The values of a metric by group.
fn values(
    session: &Session<'_>,
    engine: &MetricEngine,
    known: &Known,
    index: usize,
    asked: &Asked<'_>,
    beyond: &mut Vec<Difference>,
) -> Result<BTreeMap<Member, Expected>, String> {
    let metric = &session.domain.metrics[index];
    let parts = metric.measure.parts();
    if parts.is_empty() {
        let Some(Ok(found)) = known.get(&index) else {
            return Err("it was not computed".to_owned());
        };
        let mut groups = found.of(asked.tenant, asked.dimension, asked.window);
        if asked.dimension.is_none() {
            groups.entry(None).or_insert_with(|| empty(metric));
        }
        return Ok(groups);
    }
    let columns = parts
        .iter()
        .map(|part| {
            let values = values(session, engine, known, *part, asked, beyond)?;
            match values.values().any(Expected::is_near) {
                true => estimated(session, engine, *part, asked, values, beyond),
                false => Ok(values),
            }
        })
        .collect::<Result<Vec<_>, String>>()?;
    let members: BTreeSet<&Member> = columns.iter().flat_map(BTreeMap::keys).collect();
    // A group that one part does not have is an empty window of that part.
    let rows: Vec<(Member, Vec<Expected>)> = members
        .into_iter()
        .map(|member| {
            let row = parts.iter().zip(&columns).map(|(part, column)| {
                let part = &session.domain.metrics[*part];
                column.get(member).cloned().unwrap_or_else(|| empty(part))
            });
            (member.clone(), row.collect())
        })
        .collect();
    let values: Vec<Expected> = match &metric.measure {
        Measure::Ratio { .. } => rows.iter().map(|(_, row)| quotient(&row[0], &row[1])).collect(),
        Measure::Derived { parts, expr } => {
            let names: Vec<String> =
                parts.iter().map(|part| session.domain.metrics[*part].versioned_name()).collect();
            derived(session, expr, &names, &rows)?
        }
        _ => return Err("this measure has no form in SQL here".to_owned()),
    };
    Ok(rows
        .into_iter()
        .zip(values)
        .map(|((member, _), value)| (member, settled(metric, value)))
        .collect())
}

fn quotient(a: &Expected, b: &Expected) -> Expected {
    let (Some(x), Some(y)) = (a.number(), b.number()) else { return Expected::Null };
    if y == 0.0 {
        return Expected::Null;
    }
    let magnitude = a.magnitude() / y.abs() * (b.magnitude() / y.abs()).max(1.0);
    Expected::finite(x / y, magnitude)
}

/// An expression over the values of metrics, evaluated by DuckDB.
fn derived(
    session: &Session<'_>,
    expr: &contracts::expr::Expr,
    names: &[String],
    rows: &[(Member, Vec<Expected>)],
) -> Result<Vec<Expected>, String> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let resolve = |wanted: &str| {
        let at = names.iter().position(|name| *name == wanted)?;
        Some(Column { text: format!("p{at}"), ty: Type::Float64, stored: false })
    };
    let sql = emit(expr, &resolve).map_err(|Refused(why)| format!("SQL has no form for {why}"))?;
    let tuples: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(i, (_, row))| {
            let values = row.iter().map(|value| match value.number() {
                Some(value) => format!("'{value:e}'::double"),
                None => "null::double".to_owned(),
            });
            format!("({i}, {})", values.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let columns: Vec<String> = (0..names.len()).map(|i| format!("p{i}")).collect();
    let statement = format!(
        "select ({})::double from (values {}) v(i, {}) order by i",
        sql.text,
        tuples.join(", "),
        columns.join(", ")
    );
    let values = session
        .rows(&statement, &[], |row| row.get::<_, Option<f64>>(0))
        .map_err(|Failed(why)| format!("DuckDB: {why}"))?;
    Ok(values
        .into_iter()
        .zip(rows)
        .map(|(value, (_, row))| match value {
            Some(value) => {
                let magnitude: f64 = row.iter().map(Expected::magnitude).sum();
                Expected::finite(value, magnitude.max(value.abs()))
            }
            None => Expected::Null,
        })
        .collect())
}
