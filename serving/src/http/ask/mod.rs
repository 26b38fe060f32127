//! One function for each thing that can be asked, for the routes and for the items of a batch alike:
//! whoever may not see it is refused here, so no way to it can forget to ask. All of them block but [`kept_metric`].

mod explain;

pub(super) use explain::explain;

use std::time::Instant;

use contracts::model::{Domain, Metric};

use super::asked;
use super::body::{MetricBody, MetricProof, QueryBody, RowsBody};
use super::error::{ApiError, Code};
use super::fields::Fields;
use super::graph;
use super::query::listed;
use super::state::{AppState, Caller};
use super::time::{Time, seconds_between};
use super::warnings::WarningBody;
use crate::query::cursor;
use crate::query::guard::{self, Guarded, Relations, Source};
use crate::query::metrics::{self, MetricsAnswer, MetricsQuery, series};
use crate::query::question::{self, Meaning, NotUnderstood};
use crate::question::{EntityAnswer, EntityQuestion, MetricAnswer, MetricQuestion};

/// Rows of a page that has all.
const ALL: u64 = 10_000;
/// Rows of a page when nobody says how many.
const PAGE: u64 = 100;
/// Most rows of a page.
pub(super) const MAX_PAGE: u64 = 1_000;

/// The state of an entity.
pub(super) fn entity(
    state: &AppState,
    caller: &Caller,
    question: &EntityQuestion,
) -> Result<EntityAnswer, ApiError> {
    caller.entity(&question.entity)?;
    Ok(state.cache.entity(question)?)
}

/// The value of a metric.
pub(super) fn metric(
    state: &AppState,
    caller: &Caller,
    question: &MetricQuestion,
) -> Result<MetricAnswer, ApiError> {
    may_read(state, caller, &question.metric, question.version)?;
    Ok(state.cache.read(question)?)
}

/// Refuses what has no answer. Never blocks.
pub(super) fn check_metric(
    state: &AppState,
    caller: &Caller,
    question: &MetricQuestion,
) -> Result<(), ApiError> {
    may_read(state, caller, &question.metric, question.version)?;
    state.cache.engine().resolve(question)?;
    Ok(())
}

/// The value of a metric, and its window cut into parts.
pub(super) fn series(
    state: &AppState,
    caller: &Caller,
    question: &MetricQuestion,
    (grain, zone): (&str, Option<&str>),
) -> Result<MetricBody, ApiError> {
    may_read(state, caller, &question.metric, question.version)?;
    let (answer, points) = series::read(&state.cache, question, grain, zone)?;
    Ok(MetricBody::with_series(answer, points))
}

/// The same, if the cache has it; `None` if the store has to be asked. Never blocks.
pub(super) fn kept_metric(
    state: &AppState,
    caller: &Caller,
    question: &MetricQuestion,
) -> Result<Option<MetricAnswer>, ApiError> {
    may_read(state, caller, &question.metric, question.version)?;
    Ok(state.cache.read_kept(question)?)
}

/// Refuses who may not read the version of a metric that would answer: another one may stand on other
/// entities.
pub(super) fn may_read(
    state: &AppState,
    caller: &Caller,
    metric: &str,
    version: Option<u32>,
) -> Result<(), ApiError> {
    let found = match version {
        None => state.cache.engine().answering(metric),
        Some(version) => {
            let is_asked = |known: &&Metric| known.name == metric && known.version == version;
            state.domain.metrics.iter().find(is_asked)
        }
    };
    match found {
        Some(metric) => caller.metric(&state.domain, metric),
        // That there is none is said by whoever looks for it.
        None => Ok(()),
    }
}

/// Shortest and longest question, in characters.
const QUESTION: std::ops::RangeInclusive<usize> = 3..=1_000;

/// A query: a plain question, SQL or metrics.
#[derive(Debug, Clone)]
pub(super) struct Query {
    what: What,
    limit: u64,
    cursor: Option<String>,
    /// Rows that only the lake has, too?
    lake: bool,
}

#[derive(Debug, Clone)]
enum What {
    Question(String),
    Sql(String),
    Metrics(Box<MetricsQuery>),
}

/// What a query means to the store.
enum Understood {
    Sql(Guarded),
    /// With the most rows that are wanted of it in all.
    Metrics(Box<MetricsQuery>, Option<u64>),
}

impl Query {
    /// The query of a body; `limit` rows at most where it says nothing.
    pub(super) fn of(fields: &Fields, caller: &Caller) -> Result<Self, ApiError> {
        let ways = ["question", "sql", "metrics"];
        let given: Vec<&str> = ways.into_iter().filter(|way| fields.has(way)).collect();
        let what = match given.as_slice() {
            ["question"] => {
                let text = fields.required("question")?.trim().to_owned();
                if !QUESTION.contains(&text.chars().count()) {
                    return Err(ApiError::invalid(format!(
                        "`question` must have {} to {} characters",
                        QUESTION.start(),
                        QUESTION.end()
                    )));
                }
                What::Question(text)
            }
            ["sql"] => What::Sql(fields.required("sql")?),
            ["metrics"] => What::Metrics(Box::new(MetricsQuery {
                tenant: caller.tenant.to_string(),
                metrics: fields.names("metrics")?,
                dimensions: fields.names("dimensions")?,
                filters: fields.filters("filters")?,
                window: fields.text("window")?,
                from: fields.time("from")?,
                to: fields.time("to")?,
                grain: fields.text("grain")?,
                zone: fields.text("zone")?,
                as_of: fields.time("as_of")?,
                known_at: fields.time("known_at")?,
                max_staleness: fields.micros("max_staleness")?,
                order_by: fields.order("order_by")?,
                named: named(fields)?,
                compare: asked::compared(fields.text("compare")?.as_deref())?,
            })),
            [] => {
                return Err(ApiError::invalid("`question`, `metrics` or `sql` is missing")
                    .hint(r#"send {"question": "…"}, {"metrics": ["…"]} or {"sql": "select …"}"#));
            }
            _ => {
                return Err(ApiError::invalid(
                    "`question`, `sql` and `metrics` exclude each other",
                ));
            }
        };
        let limit = match &what {
            // How many groups are named says how many rows there are.
            What::Metrics(query) if query.named.is_some() => ALL,
            _ => fields.number("limit", PAGE, 1..=MAX_PAGE)?,
        };
        let cursor = fields.text("cursor")?;
        Ok(Self { what, limit, cursor, lake: fields.flag("lake")? })
    }

    /// The query as people would read it.
    pub(super) fn shown(&self) -> String {
        match &self.what {
            What::Question(text) | What::Sql(text) => text.clone(),
            What::Metrics(query) => query.metrics.join(", "),
        }
    }

    /// What a cursor is bound to: the query, whatever page of it.
    fn text(&self) -> String {
        match &self.what {
            What::Question(text) => format!("question {text}"),
            What::Sql(sql) if self.lake => format!("lake {sql}"),
            What::Sql(sql) => format!("sql {sql}"),
            What::Metrics(query) => format!("metrics {query:?}"),
        }
    }

    fn offset(&self, caller: &Caller) -> Result<u64, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(0) };
        cursor::read(&caller.tenant, &self.text(), cursor).ok_or_else(|| {
            ApiError::new(Code::InvalidCursor, "`cursor` is none of this query")
                .hint("send `next_cursor` of an answer to the very same query, or leave it out")
        })
    }

    /// What it means; of a plain question also how it was read.
    fn understood(
        &self,
        state: &AppState,
        caller: &Caller,
    ) -> Result<(Understood, Option<Meaning>), ApiError> {
        match &self.what {
            What::Sql(sql) => Ok((guarded(state, caller, sql)?, None)),
            What::Metrics(query) => Ok((of_metrics(state, caller, (**query).clone(), None)?, None)),
            What::Question(text) => {
                let now = state.cache.engine().now();
                let meaning = question::understand(&state.domain, text, now)
                    .map_err(|why| not_understood(state, caller, &why))?;
                let understood = match &meaning {
                    Meaning::Metrics(meaning) => {
                        let query = meaning.query(&caller.tenant);
                        of_metrics(state, caller, query, meaning.limit)?
                    }
                    Meaning::Entity(meaning) => {
                        caller.entity(&meaning.entity)?;
                        let sql = meaning.sql(&state.domain);
                        let sql = sql.ok_or_else(|| ApiError::internal("an entity is gone"))?;
                        guarded(state, caller, &sql)?
                    }
                };
                Ok((understood, Some(meaning)))
            }
        }
    }
}

/// With `other`, how many groups are named.
fn named(fields: &Fields) -> Result<Option<usize>, ApiError> {
    if !fields.flag("other")? {
        return Ok(None);
    }
    for (member, is_there, hint) in [
        ("limit", fields.has("limit"), "say with `limit` how many groups are named"),
        ("dimensions", fields.has("dimensions"), "name dimensions"),
    ] {
        if !is_there {
            let message = format!("`other` gathers groups, but there is no `{member}`");
            return Err(ApiError::invalid(message).hint(hint));
        }
    }
    if fields.has("cursor") {
        return Err(ApiError::invalid(
            "with `other` all rows are on one page: there is no `cursor`",
        ));
    }
    let limit = fields.number("limit", PAGE, 1..=MAX_PAGE)?;
    Ok(usize::try_from(limit).ok())
}

fn guarded(state: &AppState, caller: &Caller, sql: &str) -> Result<Understood, ApiError> {
    let engine = state.cache.engine();
    let relations = Relations::new(engine, caller, engine.now());
    Ok(Understood::Sql(guard::check(sql, &relations)?))
}

fn of_metrics(
    state: &AppState,
    caller: &Caller,
    query: MetricsQuery,
    most: Option<u64>,
) -> Result<Understood, ApiError> {
    for metric in &query.metrics {
        may_read(state, caller, metric, None)?;
    }
    Ok(Understood::Metrics(Box::new(query), most))
}

/// Says what was not understood, and which metrics and entities that the caller may read are near.
fn not_understood(state: &AppState, caller: &Caller, why: &NotUnderstood) -> ApiError {
    let domain = &state.domain;
    let near = why.near.iter().filter(|name| {
        domain.metric(name).is_some_and(|metric| caller.sees_metric(domain, metric))
            || (domain.entity(name).is_some() && caller.sees_entity(name))
    });
    let near: Vec<&String> = near.take(12).collect();
    let error = ApiError::new(Code::NotUnderstood, why.message.clone());
    match near.is_empty() {
        true => error,
        false => error.hint(format!("ask about {}", listed(&near))),
    }
}

/// Answers a query.
pub(super) fn query(
    state: &AppState,
    caller: &Caller,
    query: &Query,
) -> Result<QueryBody, ApiError> {
    let begun = Instant::now();
    let offset = query.offset(caller)?;
    let (understood, meaning) = query.understood(state, caller)?;
    let mut body = match understood {
        Understood::Sql(guarded) => sql(state, &guarded, query.lake, query.limit, offset)?,
        Understood::Metrics(asked, most) => metrics(state, &asked, most, query.limit, offset)?,
    };
    if let Some(meaning) = meaning {
        body.engine = "rule_based";
        body.interpretation = Some(meaning.to_json());
    }
    let next = offset.saturating_add(body.rows.len() as u64);
    let next = body.has_more.then(|| cursor::write(&caller.tenant, &query.text(), next));
    body.turn(query.limit, next, begun.elapsed());
    Ok(body)
}

fn sql(
    state: &AppState,
    guarded: &Guarded,
    lake: bool,
    limit: u64,
    offset: u64,
) -> Result<QueryBody, ApiError> {
    let page = match lake {
        true => state.queries.page_with_lake(guarded, limit, offset)?,
        false => state.queries.page(guarded, limit, offset)?,
    };
    let engine = state.cache.engine();
    let through = engine.data_through()?;
    let freshness = through.map(|through| seconds_between(through, engine.now()).max(0.0));
    let rows = RowsBody { columns: page.columns, rows: page.rows };
    let mut body = QueryBody::new("sql", guarded.sql(), rows, freshness);
    body.total_count = page.total;
    body.has_more = page.has_more;
    body.tables_accessed = guarded.relations.iter().map(|r| r.name.clone()).collect();
    body.warning = given_up(state, guarded).filter(|_| !lake);
    Ok(body)
}

/// Says so where the journal has given up rows of a relation.
fn given_up(state: &AppState, guarded: &Guarded) -> Option<String> {
    let trimmed = state.readers.trimmed()?;
    let table = |source: Source| match source {
        Source::Family(family) => Some(state.domain.families[family].table()),
        Source::Entity(_) => None,
    };
    let lost = guarded.relations.iter().find_map(|relation| {
        let lost = trimmed.families.get(&table(relation.source)?)?;
        Some((relation, lost))
    });
    let (relation, lost) = lost?;
    Some(format!(
        "the journal has given up the oldest rows of `{}`, up to {} of event time: they are in the \
         lake and not in this answer; `\"lake\": true` reads them too",
        relation.name,
        Time(lost.latest)
    ))
}

fn metrics(
    state: &AppState,
    asked: &MetricsQuery,
    most: Option<u64>,
    limit: u64,
    offset: u64,
) -> Result<QueryBody, ApiError> {
    let planned = metrics::plan(&state.cache, asked)?;
    let place = (planned.windows() > 1).then(|| state.queries.place_for_series()).transpose()?;
    let MetricsAnswer { columns, mut rows, others, metrics, is_truncated } =
        metrics::read(&state.cache, asked)?;
    drop(place);
    rows.truncate(most.map_or(usize::MAX, saturate));
    let now = state.cache.engine().now();
    let through = metrics.iter().map(|answer| answer.proof.data_through).min().flatten();
    let is_live = asked.as_of.is_none() && asked.known_at.is_none();
    let freshness = through.filter(|_| is_live);
    let freshness = freshness.map(|through| seconds_between(through, now).max(0.0));
    let total = rows.len() as u64;
    let shown: Vec<_> = rows.into_iter().skip(saturate(offset)).take(saturate(limit)).collect();
    let has_more = offset.saturating_add(shown.len() as u64) < total;
    let page = saturate(offset)..saturate(offset).saturating_add(shown.len());
    let others = others.into_iter().filter(|(place, _)| page.contains(place));
    let sql = statements(state, &planned)?;
    let rows = RowsBody { columns, rows: shown };
    let mut body = QueryBody::new("metric", sql, rows, freshness);
    body.total_count = Some(total);
    body.has_more = has_more;
    (body.other_rows, body.other_dimensions) =
        others.map(|(place, names)| (place - page.start, names)).unzip();
    body.tables_accessed = tables(&state.domain, &planned);
    body.warnings = metrics.iter().flat_map(WarningBody::of_answer).collect();
    body.warnings.dedup();
    body.proof = metrics.into_iter().map(MetricProof::new).collect();
    body.warning = is_truncated.then(|| {
        "there are more groups than the contracts let out, or more rows than one answer has".into()
    });
    Ok(body)
}

/// The statements that a query runs, each once: those of other windows differ in their times.
fn statements(state: &AppState, planned: &metrics::Planned<'_>) -> Result<String, ApiError> {
    let mut texts = Vec::new();
    for question in planned.first_questions() {
        for (_, text) in state.cache.engine().statements(&question)? {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    Ok(texts.join(";\n"))
}

fn tables(domain: &Domain, planned: &metrics::Planned<'_>) -> Vec<String> {
    let mut tables: Vec<String> =
        planned.metrics().flat_map(|metric| graph::tables(domain, metric)).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

fn saturate(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
