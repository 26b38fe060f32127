//! `agentflow verify`: every number a second time, by other means.
//!
//! Everything that the store derives from the journal is computed again in plain SQL over the journal's
//! rows and compared: columns of expressions, what lookups saw, entities row by row, the answers of every
//! metric over every window, whole and by each dimension, and the bookkeeping. Nothing here uses the
//! expressions' evaluator, the folds or the metric engine's statements; what is shared is the contract
//! itself, its parser, and DuckDB as the place where the rows lie.
//!
//! What SQL cannot recompute is reported as not verified, with the reason. All statements, and the answers
//! that they are compared with, see one snapshot of the store at one reference time, so what comes in
//! meanwhile makes no difference.
//!
//! Start at [`verify`].

mod answers;
mod books;
mod columns;
mod compare;
mod entity;
mod estimate;
mod fold;
mod followed;
mod journal;
mod lookup;
mod metric;
mod report;
mod runs;
mod session;
mod sql;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contracts::model::{Domain, EnrichValue, Relation};
use duckdb::Connection;

pub use self::report::{Checked, Difference, NotVerified, Report};
pub use self::runs::{Verification, Verifications};

use self::journal::Rows;
use self::metric::Views;
use self::session::{Failed, Session};
use crate::metric::{MetricEngine, check_time, hint};
use crate::question::ReadError;
use crate::store;
use crate::value::time_text;

/// A statement has at least so much time, so that there is a report however short the limit is.
const SHORTEST: Duration = Duration::from_secs(5);

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Only rows of this tenant; without it, of all.
    pub tenant: Option<String>,
    /// Only this metric, with what it stands on.
    pub metric: Option<String>,
    /// Answers as of this time, µs; without it live ones.
    pub as_of: Option<i64>,
    /// Longest time that it may take. What was not reached by then is reported as not verified.
    pub time_limit: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { tenant: None, metric: None, as_of: None, time_limit: Duration::from_secs(600) }
    }
}

/// Recomputes what the store derives, and says what differs. Blocks; takes one read connection
/// meanwhile, and temporary tables that hold the entities.
///
/// # Errors
/// There is no such metric, the time lies in the future, or the store cannot be read at all.
pub fn verify(engine: &MetricEngine, options: &VerifyOptions) -> Result<Report, ReadError> {
    let domain = engine.domain();
    if let Some(name) = &options.metric
        && domain.metric(name).is_none()
    {
        return Err(ReadError::NotFound {
            message: format!("no metric is named `{name}`"),
            hint: hint(name, domain.metrics.iter().map(|metric| metric.name.as_str())),
        });
    }
    let now = engine.now();
    let as_of = check_time("as_of", options.as_of, now)?;
    let started = Instant::now();
    let unavailable = |message: String| ReadError::Unavailable { message };
    let mut failed = BTreeMap::new();
    let mut report = loop {
        // A statement that runs into the limit is interrupted; what was found before it is still told.
        let limit = options.time_limit.saturating_sub(started.elapsed()).max(SHORTEST);
        let found = engine
            .readers()
            .snapshot_within("verify", limit, |conn| {
                run(conn, engine, options, (now, as_of), started, &failed)
            })
            .map_err(|error| unavailable(error.to_string()))?;
        match found.map_err(|Failed(why)| unavailable(format!("verify: {why}")))? {
            (report, None) => break report,
            // In the snapshot of a statement that failed nothing else is answered: all others are
            // computed in another one, without that metric.
            (report, Some((metric, why))) => {
                if started.elapsed() >= options.time_limit || failed.insert(metric, why).is_some() {
                    break report;
                }
            }
        }
    };
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn run(
    conn: &Connection,
    engine: &MetricEngine,
    options: &VerifyOptions,
    (now, as_of): (i64, Option<i64>),
    started: Instant,
    failed: &BTreeMap<usize, String>,
) -> Result<(Report, Option<(usize, String)>), Failed> {
    let domain = engine.domain();
    let mut session = Session {
        conn,
        domain,
        now,
        as_of,
        tenant: options.tenant.as_deref(),
        trimmed: store::trimmed::read(conn)?,
        until: started + options.time_limit,
        failed,
        aborted: None,
        report: Report {
            at: time_text(as_of.unwrap_or(now)),
            as_of: as_of.map(time_text),
            ..Report::default()
        },
    };
    session.report.position =
        session.number("select coalesce(max(last_seq), 0) from source_partitions")?;
    if let Err(failed) = whole(&mut session, engine, options) {
        // The limit ends whatever runs; anything else is worth an error only if nothing was found.
        if !session.is_over() {
            return Err(failed);
        }
        session.report.skip("the rest", "the time was up");
    }
    if session.aborted.is_some() && session.is_over() {
        session.report.skip("the rest", "the time was up");
    }
    Ok((session.report, session.aborted))
}

fn whole(
    session: &mut Session<'_>,
    engine: &MetricEngine,
    options: &VerifyOptions,
) -> Result<(), Failed> {
    let domain = session.domain;
    let wanted = Wanted::of(domain, options.metric.as_deref());
    if options.metric.is_none() {
        books::verify(session)?;
    }
    let backfilling = engine.backfilling();
    let is_whole = backfilling.all().is_none();
    if !is_whole {
        session.report.skip("versions that are being backfilled", "they are not whole yet");
    }
    let mut families: BTreeMap<usize, Rows> = BTreeMap::new();
    for family in order(domain) {
        if wanted.relations.contains(&Relation::Family(family)) {
            let rows = journal::prepare(session, &families, Relation::Family(family))?;
            families.insert(family, rows);
        }
    }
    let ingest = match wanted.relations.contains(&Relation::Ingest) {
        true => Some(journal::prepare(session, &families, Relation::Ingest)?),
        false => None,
    };
    let entities = entity::prepare(session, &families, |index| {
        if !wanted.relations.contains(&Relation::Entity(index)) {
            return Some("it was not asked for".to_owned());
        }
        backfilling.entity(index).map(|_| "it is being backfilled".to_owned())
    })?;
    let views = Views { families, ingest, entities };
    answers::verify(session, engine, &views, &wanted.metrics)
}

/// What has to be recomputed.
struct Wanted {
    relations: std::collections::BTreeSet<Relation>,
    /// Indices of metrics, parts before what is made of them.
    metrics: Vec<usize>,
}

impl Wanted {
    fn of(domain: &Domain, metric: Option<&str>) -> Self {
        let Some(name) = metric else {
            let families = (0..domain.families.len()).map(Relation::Family);
            let entities = (0..domain.entities.len()).map(Relation::Entity);
            return Self {
                relations: families.chain(entities).chain([Relation::Ingest]).collect(),
                metrics: (0..domain.metrics.len()).collect(),
            };
        };
        let named = domain.metrics.iter().filter(|metric| metric.name == name);
        let metrics: Vec<usize> = named.map(|metric| metric.index).collect();
        let mut relations: std::collections::BTreeSet<Relation> = metrics
            .iter()
            .filter_map(|metric| domain.graph.relations_of.get(*metric))
            .flatten()
            .copied()
            .collect();
        // What the events look up is made of other events.
        for family in order(domain).into_iter().rev() {
            if relations.contains(&Relation::Family(family)) {
                relations.extend(feeding(domain, family).map(Relation::Family));
            }
        }
        Self { relations, metrics }
    }
}

/// Families whose events change what events of `family` look up.
fn feeding(domain: &Domain, family: usize) -> impl Iterator<Item = usize> + '_ {
    let enrich = domain.families[family].versions.iter().flat_map(|contract| &contract.enrich);
    let entities = enrich.filter_map(|enrich| match &enrich.value {
        EnrichValue::Lookup { entity, .. } => Some(*entity),
        EnrichValue::Expr(_) => None,
    });
    entities.flat_map(move |entity| &domain.entities[entity].inputs).filter_map(|input| match input
        .relation
    {
        Relation::Family(family) => Some(family),
        _ => None,
    })
}

/// Families, each after those that feed what it looks up.
fn order(domain: &Domain) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(domain.families.len());
    while order.len() < domain.families.len() {
        let left = (0..domain.families.len()).filter(|family| !order.contains(family));
        let ready =
            left.clone().find(|family| feeding(domain, *family).all(|f| order.contains(&f)));
        // The contract lets no lookup go in a circle.
        let next = ready.or_else(|| left.clone().next());
        order.extend(next);
    }
    order
}
