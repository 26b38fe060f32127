//! Answers to queries as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::ProofBody;
use crate::http::warnings::WarningBody;
use crate::query::{Column, Row};
use crate::question::MetricAnswer;

/// Rows and their columns.
pub(in crate::http) struct RowsBody {
    pub(in crate::http) columns: Vec<Column>,
    pub(in crate::http) rows: Vec<Row>,
}

/// The answer to a query. The rows stand under two names, as published clients expect them.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryBody {
    /// The rows.
    #[schema(value_type = Vec<BTreeMap<String, serde_json::Value>>)]
    pub answer: Arc<Vec<Row>>,
    /// The rows.
    #[schema(value_type = Vec<BTreeMap<String, serde_json::Value>>)]
    pub rows: Arc<Vec<Row>>,
    /// The statements as they ran, over the rows of the caller's tenant only.
    pub sql: String,
    /// How many rows there are in all; null beyond 10,000.
    pub total_count: Option<u64>,
    /// Leads to the next page, when there is one.
    pub next_cursor: Option<String>,
    /// Is there a next page?
    pub has_more: bool,
    /// Most rows of a page.
    pub page_size: u64,
    /// About the answer.
    pub metadata: QueryMetadata,
    /// Columns in order.
    pub columns: Vec<ColumnBody>,
    /// `sql`, `metric`, or `rule_based` for a plain question.
    pub engine: &'static str,
    /// Relations or tables that were read.
    pub tables_accessed: Vec<String>,
    /// What shows that the values of each metric are right and current.
    pub proof: Vec<MetricProof>,
    /// What the answer does not hold, when something is left out.
    pub warning: Option<String>,
    /// What to know before building on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningBody>,
    /// Places in `rows`, from 0, of those that stand for groups without a name of their own: their dimensions
    /// say `__other__`, which a value of that name does, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_rows: Vec<usize>,
    /// For each of `other_rows` the dimensions that say so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_dimensions: Vec<Vec<String>>,
    /// How a plain question was read: as metrics in the form of this very request, or as rows of an
    /// entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpretation: Option<serde_json::Value>,
}

/// About the answer to a query.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryMetadata {
    /// Rows of this page.
    pub rows_returned: usize,
    /// How long it took.
    pub execution_time_ms: f64,
    /// Seconds since the time up to which every source has delivered; null for a historical answer
    /// and before the first event.
    pub data_freshness_seconds: Option<f64>,
    /// As above.
    pub total_count: Option<u64>,
    /// As above.
    pub next_cursor: Option<String>,
    /// As above.
    pub has_more: bool,
    /// As above.
    pub page_size: u64,
}

/// A column of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnBody {
    /// Name.
    pub name: String,
    /// Type of its values, as contracts write types.
    #[serde(rename = "type")]
    pub ty: String,
}

/// What shows that the values of one metric are right and current.
#[derive(Debug, Serialize, ToSchema)]
pub struct MetricProof {
    /// The metric.
    pub metric: String,
    /// Unit of its values.
    pub unit: String,
    /// The window, or the span of time, that all its values cover.
    pub window: String,
    /// Of all its values: the lowest position, the sum of what was rejected and late.
    #[serde(flatten)]
    pub proof: ProofBody,
}

impl MetricProof {
    pub(in crate::http) fn new(answer: MetricAnswer) -> Self {
        let MetricAnswer { metric, unit, window, proof, .. } = answer;
        Self { proof: ProofBody::new(&metric, proof), metric, unit, window }
    }
}

impl QueryBody {
    /// Without its place among the pages.
    pub(in crate::http) fn new(
        engine: &'static str,
        sql: String,
        rows: RowsBody,
        freshness: Option<f64>,
    ) -> Self {
        let columns = rows.columns.into_iter().map(|Column { name, ty }| ColumnBody { name, ty });
        let metadata = QueryMetadata {
            rows_returned: rows.rows.len(),
            execution_time_ms: 0.0,
            data_freshness_seconds: freshness,
            total_count: None,
            next_cursor: None,
            has_more: false,
            page_size: 0,
        };
        let rows = Arc::new(rows.rows);
        Self {
            answer: Arc::clone(&rows),
            rows,
            sql,
            total_count: None,
            next_cursor: None,
            has_more: false,
            page_size: 0,
            metadata,
            columns: columns.collect(),
            engine,
            tables_accessed: Vec::new(),
            proof: Vec::new(),
            warning: None,
            warnings: Vec::new(),
            interpretation: None,
            other_rows: Vec::new(),
            other_dimensions: Vec::new(),
        }
    }

    /// Says where the page stands; both places that clients look in agree.
    pub(in crate::http) fn turn(&mut self, page_size: u64, next: Option<String>, took: Duration) {
        self.page_size = page_size;
        self.next_cursor = next;
        self.metadata.execution_time_ms = took.as_micros() as f64 / 1_000.0;
        self.metadata.total_count = self.total_count;
        self.metadata.next_cursor.clone_from(&self.next_cursor);
        self.metadata.has_more = self.has_more;
        self.metadata.page_size = page_size;
    }
}
