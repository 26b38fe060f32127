//! How DuckDB would run a statement, told to whoever may know it.
//!
//! DuckDB estimates from all rows of a table. A tenant is told estimates in proportion to its own rows: how
//! many others have is nobody's business.

use duckdb::Connection;

use crate::metric::quote;

/// How DuckDB would run a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlPlan {
    /// The plan as DuckDB shows it.
    pub text: String,
    /// Rows of the answer, as DuckDB estimates them.
    pub estimated_rows: Option<u64>,
    /// Rows of each relation read, as DuckDB knows or estimates them, in the order of the plan.
    pub scanned_rows: Vec<u64>,
}

/// Whose numbers a plan may tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Everybody's.
    All,
    /// Those of one tenant.
    Tenant(&'a str),
}

impl SqlPlan {
    /// From what `explain` and `explain (format json)` say.
    pub(super) fn of(text: String, json: &str) -> Self {
        let (estimated_rows, scanned_rows) = estimates(json);
        Self { text, estimated_rows, scanned_rows }
    }

    /// As far as it concerns the rows that `tenant` has in `tables`.
    pub(super) fn of_tenant(
        self,
        conn: &Connection,
        tables: &[String],
        tenant: &str,
    ) -> duckdb::Result<Self> {
        let mut share = 1.0;
        for table in tables {
            let name = quote(table);
            let sql = format!("select count(*) filter (where _tenant = ?), count(*) from {name}");
            let counts = |row: &duckdb::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
            let (own, all) = conn.prepare_cached(&sql)?.query_row([tenant], counts)?;
            share *= if all == 0 { 1.0 } else { own as f64 / all as f64 };
        }
        let scaled = |rows: u64| (rows as f64 * share).ceil() as u64;
        Ok(Self {
            text: without_estimates(&self.text),
            estimated_rows: self.estimated_rows.map(scaled),
            scanned_rows: self.scanned_rows.into_iter().map(scaled).collect(),
        })
    }
}

/// The plan without the lines that tell numbers of rows (`~1,000 rows`), with the frame around them kept.
fn without_estimates(plan: &str) -> String {
    let mut told = String::with_capacity(plan.len());
    for line in plan.split_inclusive('\n') {
        let mut rest = line;
        while let Some(at) = rest.find('~') {
            let (before, after) = rest.split_at(at);
            told.push_str(before);
            let digits =
                after[1..].bytes().take_while(|b| b.is_ascii_digit() || *b == b',').count();
            let word = &after[1 + digits..];
            let word = [" rows", " row"].into_iter().find(|unit| word.starts_with(unit));
            match word {
                Some(word) if digits > 0 => {
                    let length = 1 + digits + word.len();
                    told.extend(std::iter::repeat_n(' ', length));
                    rest = &after[length..];
                }
                _ => {
                    told.push('~');
                    rest = &after[1..];
                }
            }
        }
        told.push_str(rest);
    }
    told
}

pub(super) fn plan_text(conn: &Connection, sql: &str) -> duckdb::Result<String> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(1))?;
    Ok(rows.collect::<duckdb::Result<Vec<_>>>()?.join("\n"))
}

/// The estimated rows of the topmost operator that has an estimate, and of each scan.
fn estimates(plan: &str) -> (Option<u64>, Vec<u64>) {
    let Ok(plan) = serde_json::from_str::<serde_json::Value>(plan) else {
        return (None, Vec::new());
    };
    let (mut top, mut scans) = (None, Vec::new());
    let mut open: Vec<&serde_json::Value> = match &plan {
        serde_json::Value::Array(roots) => roots.iter().rev().collect(),
        root => vec![root],
    };
    while let Some(node) = open.pop() {
        let estimate = &node["extra_info"]["Estimated Cardinality"];
        let estimate = estimate.as_str().and_then(|text| text.parse().ok()).or(estimate.as_u64());
        top = top.or(estimate);
        let is_scan = node["name"].as_str().is_some_and(|name| name.contains("SCAN"));
        if is_scan {
            scans.extend(estimate);
        }
        open.extend(node["children"].as_array().into_iter().flatten().rev());
    }
    (top, scans)
}
