//! Reads that may concern what the journal has given up.

use std::collections::BTreeMap;

use duckdb::Connection;

use super::check::Resolved;
use super::proof::counted_families;
use super::{Beyond, MetricEngine, unavailable};
use crate::question::ReadError;
use crate::store::{self, Trimmed};

impl MetricEngine {
    /// Runs `read` in one read-only transaction, with what the journal has given up where it `concerns`
    /// the question: a function of that.
    pub(crate) fn across<T>(
        &self,
        context: &str,
        concerns: impl Fn(&Trimmed) -> bool,
        read: impl Fn(&Connection, Option<&Beyond<'_>>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let is_concerned = || self.readers.trimmed().is_some_and(|trimmed| concerns(&trimmed));
        loop {
            let concerned = is_concerned();
            let answer = self.in_snapshot(context, |conn| {
                let trimmed = match concerned {
                    true => store::trimmed::read(conn).map_err(unavailable(context))?,
                    false => None,
                };
                let Some(trimmed) = trimmed else { return read(conn, None) };
                let beyond = Beyond::new(&self.domain, &self.readers, trimmed);
                read(conn, Some(&beyond)).map_err(|error| beyond.explain(error))
            });
            // What the process knows to be given up is never behind what a snapshot sees. If it did not
            // concern the question until now, the snapshot had all that it needs.
            if concerned || !is_concerned() {
                return answer;
            }
        }
    }

    /// Late events that the journal has given up, in the families that the metric stands on.
    pub(super) fn late_before(&self, question: &Resolved<'_>, trimmed: &Trimmed) -> i64 {
        let families = counted_families(&self.domain, question.metric).into_iter();
        let families = families
            .filter_map(|family| trimmed.families.get(&self.domain.families[family].table()));
        families.map(|family| count_of(&family.late, question.tenant)).sum()
    }
}

/// The count of a tenant.
pub(super) fn count_of(counts: &BTreeMap<String, u64>, tenant: &str) -> i64 {
    counts.get(tenant).map_or(0, |n| i64::try_from(*n).unwrap_or(i64::MAX))
}
