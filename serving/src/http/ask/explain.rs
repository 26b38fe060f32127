//! How a query would be answered.

use super::{Query, Understood, given_up, statements, tables};
use crate::http::error::ApiError;
use crate::http::graph;
use crate::http::state::{AppState, Caller};
use crate::query::guard::Source;
use crate::query::metrics;
use crate::query::{SqlPlan, Whose};

/// How a query would be answered. Nothing is run.
pub(in super::super) struct Explained {
    /// `sql`, `metric` or `rule_based`.
    pub(in super::super) engine: &'static str,
    /// The statements.
    pub(in super::super) sql: String,
    /// Relations or tables that are read.
    pub(in super::super) tables: Vec<String>,
    /// Entities among them.
    pub(in super::super) entities: Vec<String>,
    /// Metrics that are asked.
    pub(in super::super) metrics: Vec<String>,
    /// DuckDB's plans.
    pub(in super::super) plan: String,
    /// Rows of the answer, as far as DuckDB can tell.
    pub(in super::super) estimated_rows: Option<u64>,
    /// What should be thought of first.
    pub(in super::super) warning: Option<String>,
    /// How a plain question was read.
    pub(in super::super) interpretation: Option<serde_json::Value>,
}

/// A relation with more rows than this is worth a warning when all of it is read.
const MANY_ROWS: u64 = 100_000;

/// Explains a query.
pub(in super::super) fn explain(
    state: &AppState,
    caller: &Caller,
    query: &Query,
) -> Result<Explained, ApiError> {
    let (understood, meaning) = query.understood(state, caller)?;
    let mut explained = explain_understood(state, caller, understood)?;
    if let Some(meaning) = meaning {
        explained.engine = "rule_based";
        explained.interpretation = Some(meaning.to_json());
    }
    Ok(explained)
}

fn explain_understood(
    state: &AppState,
    caller: &Caller,
    understood: Understood,
) -> Result<Explained, ApiError> {
    let whose = match caller.is_operator {
        true => Whose::All,
        false => Whose::Tenant(&caller.tenant),
    };
    match understood {
        Understood::Sql(guarded) => {
            let SqlPlan { text, estimated_rows, scanned_rows } =
                state.queries.explain(&guarded, whose)?;
            let relations = &guarded.relations;
            let entity = |source: Source| match source {
                Source::Entity(entity) => Some(state.domain.entities[entity].name.clone()),
                Source::Family(_) => None,
            };
            let is_large = scanned_rows.iter().any(|rows| *rows > MANY_ROWS);
            let first = relations.first().filter(|_| is_large).map(|first| {
                format!(
                    "all rows of `{}` are read: a metric of the contracts costs less",
                    first.name
                )
            });
            Ok(Explained {
                engine: "sql",
                sql: guarded.sql(),
                tables: relations.iter().map(|relation| relation.name.clone()).collect(),
                entities: relations.iter().filter_map(|r| entity(r.source)).collect(),
                metrics: Vec::new(),
                plan: text,
                estimated_rows,
                warning: given_up(state, &guarded).or(first),
                interpretation: None,
            })
        }
        Understood::Metrics(asked, _) => {
            let planned = metrics::plan(&state.cache, &asked)?;
            let tables = tables(&state.domain, &planned);
            let (mut plans, mut rows) = (Vec::new(), None);
            for question in planned.first_questions() {
                for (_, sql) in state.cache.engine().statements(&question)? {
                    let plan = state.queries.explain_ours(&sql, &tables, whose)?;
                    rows = rows.max(plan.estimated_rows);
                    if !plans.contains(&plan.text) {
                        plans.push(plan.text);
                    }
                }
            }
            let windows = planned.windows() as u64;
            Ok(Explained {
                engine: "metric",
                sql: statements(state, &planned)?,
                tables,
                entities: graph::entities(&state.domain, planned.metrics()),
                metrics: planned.metrics().map(|metric| metric.name.clone()).collect(),
                plan: plans.join("\n"),
                // One row per window at least, whatever the metric reads for it.
                estimated_rows: rows.map(|rows| rows.max(1).saturating_mul(windows)),
                warning: (windows > 1).then(|| {
                    format!(
                        "{windows} windows are read one by one; the statement is that of the first"
                    )
                }),
                interpretation: None,
            })
        }
    }
}
