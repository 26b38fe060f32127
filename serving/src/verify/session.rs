//! The statements of one verification: all of them in one snapshot, with temporary tables that go with
//! it, and within one limit of time.

use std::collections::BTreeMap;
use std::time::Instant;

use contracts::model::{Domain, Relation, column, ingest};
use duckdb::{Connection, Row, ToSql};

use super::report::Report;
use super::sql::name;
use crate::store::Trimmed;

/// A statement that DuckDB did not answer, in its words.
#[derive(Debug, Clone)]
pub(super) struct Failed(pub(super) String);

impl From<duckdb::Error> for Failed {
    fn from(error: duckdb::Error) -> Self {
        Self(crate::store::duckdb_message(&error))
    }
}

pub(super) type Ran<T = ()> = Result<T, Failed>;

/// One verification under way.
pub(super) struct Session<'a> {
    pub(super) conn: &'a Connection,
    pub(super) domain: &'a Domain,
    /// Reference time of live windows, µs.
    pub(super) now: i64,
    /// A past time to verify instead, µs.
    pub(super) as_of: Option<i64>,
    /// Only this tenant.
    pub(super) tenant: Option<&'a str>,
    pub(super) trimmed: Option<Trimmed>,
    pub(super) until: Instant,
    /// Metrics that an earlier attempt could not compute, by index, and why.
    pub(super) failed: &'a BTreeMap<usize, String>,
    /// The metric of which a statement failed so that this snapshot answers nothing more, and why.
    pub(super) aborted: Option<(usize, String)>,
    pub(super) report: Report,
}

impl Session<'_> {
    /// Reference time, µs.
    pub(super) fn reference(&self) -> i64 {
        self.as_of.unwrap_or(self.now)
    }

    /// Has the time run out?
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Does the snapshot answer nothing more? DuckDB ends a transaction in which certain statements failed.
    pub(super) fn is_lost(&self) -> bool {
        self.run("select 1").is_err()
    }

    pub(super) fn run(&self, sql: &str) -> Ran {
        Ok(self.conn.execute_batch(sql)?)
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        mut each: impl FnMut(&Row<'_>) -> duckdb::Result<T>,
    ) -> Ran<Vec<T>> {
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(each(row)?);
        }
        Ok(all)
    }

    pub(super) fn number(&self, sql: &str) -> Ran<i64> {
        let rows = self.rows(sql, &[], |row| row.get::<_, Option<i64>>(0))?;
        Ok(rows.into_iter().next().flatten().unwrap_or(0))
    }

    /// `and` conditions: rows of the tenant that is verified.
    pub(super) fn of_tenant(&self, column: &str) -> String {
        match self.tenant {
            Some(tenant) => format!(" and {column} = {}", super::sql::quoted(tenant)),
            None => String::new(),
        }
    }

    /// The table of a relation.
    pub(super) fn table(&self, relation: Relation) -> String {
        name(&match relation {
            Relation::Family(family) => self.domain.families[family].table(),
            Relation::Entity(entity) => self.domain.entities[entity].table(),
            Relation::Ingest => ingest::TABLE.to_owned(),
        })
    }

    /// Why rows of a family that are gone matter to a window that begins at `start` (µs, without: at the
    /// beginning of time).
    pub(super) fn given_up(&self, family: usize, start: Option<i64>) -> Option<String> {
        let trimmed = self.trimmed.as_ref()?;
        let lost = trimmed.families.get(&self.domain.families[family].table())?;
        let concerns = start.is_none_or(|start| lost.latest >= start);
        concerns.then(|| {
            format!(
                "events of `{}` up to position {} are in the lake only",
                self.domain.families[family].name, lost.seq
            )
        })
    }
}

/// The columns that every journal row has and that metrics and entities may name.
pub(super) const OF_EVERY_EVENT: [&str; 7] = [
    column::SEQ,
    column::TENANT,
    column::TYPE,
    column::ID,
    column::TIME,
    column::ARRIVED_AT,
    column::VERSION,
];
