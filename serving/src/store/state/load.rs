//! At a start: what the store has of the state, and whether it is whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use contracts::model::Domain;
use duckdb::Connection;
use pipeline::store::StoreError;
use xxhash_rust::xxh3::xxh3_64;

use super::{HEAD, Keeping, Missing, NUMBER, TIMELESS, forget_specs};
use crate::state::{Delta, Keeper, Spec, specs};
use crate::store::error::failed;

impl Keeping {
    /// Loads what the store has, and finds out what is missing. Without `is_on` the store gives up its
    /// state: what is not kept with each commit is worth nothing.
    pub(in crate::store) fn open(
        conn: &Connection,
        domain: &Domain,
        keeper: Keeper,
        is_on: bool,
    ) -> Result<Self, StoreError> {
        let mut keeping = Self {
            keeper,
            kept: BTreeMap::new(),
            missing: VecDeque::new(),
            log_bytes: 0,
            hour_bytes: 0,
            dead_bytes: 0,
            next_spec: 1,
        };
        let wanted = if is_on { specs(domain) } else { Vec::new() };
        keeping.load(conn, wanted).map_err(|e| failed("load the state of metrics", &e))?;
        Ok(keeping)
    }

    fn load(&mut self, conn: &Connection, wanted: Vec<Arc<Spec>>) -> duckdb::Result<()> {
        let stored = stored_specs(conn)?;
        let sql = "select greatest((select coalesce(max(spec), 0) from metric_state_specs),
                                   (select coalesce(max(spec), 0) from metric_state)) + 1";
        self.next_spec = conn.query_row(sql, [], |row| row.get(0))?;
        let mut gone: Vec<i64> = Vec::new();
        let mut begun = BTreeMap::new();
        for spec in &stored {
            let same = |wanted: &&Arc<Spec>| {
                wanted.name == spec.name && wanted.fingerprint == spec.fingerprint
            };
            match wanted.iter().find(same) {
                Some(wanted) => {
                    self.keeper.keep(spec.number, Arc::clone(wanted), spec.fine_from, None);
                    self.kept.insert(spec.number, Arc::clone(wanted));
                    begun.insert(spec.number, (spec.done, spec.until));
                }
                None => gone.push(spec.number),
            }
        }
        let (at, damaged) = self.load_hours(conn)?;
        self.keeper.starts_at(at);
        gone.extend(damaged);
        gone.extend(self.load_log(conn, at)?);
        gone.sort_unstable();
        gone.dedup();
        for number in &gone {
            if let Some(spec) = self.kept.remove(number) {
                tracing::warn!(
                    state = spec.name,
                    "the state of a metric is damaged and is built anew"
                );
            }
        }
        self.keeper.forget(gone.iter().copied());
        if !gone.is_empty() {
            forget_specs(conn, &gone)?;
        }
        let now = self.keeper.applied();
        for (number, (done, until)) in begun {
            let Some(spec) = self.kept.get(&number) else { continue };
            if done >= until {
                self.keeper.is_whole(number, now);
            } else {
                let (spec, begun) = (Arc::clone(spec), Some((number, done, until)));
                self.missing.push_back(Missing { spec, begun });
            }
        }
        let is_kept = |spec: &Arc<Spec>| self.kept.values().any(|kept| kept.name == spec.name);
        let missing: Vec<_> = wanted.into_iter().filter(|spec| !is_kept(spec)).collect();
        if !missing.is_empty() && is_empty(conn)? {
            // Nothing is in it, so nothing is missing.
            for spec in missing {
                self.begin(conn, &spec, 0, 0)?;
            }
        } else {
            let missing = missing.into_iter().map(|spec| Missing { spec, begun: None });
            self.missing.extend(missing);
        }
        Ok(())
    }

    /// The number up to which hours are written, and specs whose hours are damaged.
    fn load_hours(&mut self, conn: &Connection) -> duckdb::Result<(i64, Vec<i64>)> {
        let at = conn
            .query_row("select coalesce(max(n), 0) from metric_state_at", [], |row| row.get(0))?;
        let mut damaged = Vec::new();
        // Heads are first: they name the groups of the hours.
        let sql = "select spec, tenant, hour, cells, checksum from metric_state order by hour";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (spec, tenant): (i64, String) = (row.get(0)?, row.get(1)?);
            let (hour, bytes, checksum): (i64, Vec<u8>, u64) =
                (row.get(2)?, row.get(3)?, row.get(4)?);
            self.hour_bytes += bytes.len();
            if !self.kept.contains_key(&spec) || damaged.contains(&spec) {
                continue;
            }
            let fits = xxh3_64(&bytes) == checksum
                && match hour {
                    HEAD => postcard::from_bytes(&bytes)
                        .is_ok_and(|head| self.keeper.load(spec, &tenant, Some(head), None)),
                    hour => postcard::from_bytes(&bytes).is_ok_and(|chunk| {
                        let hour = (hour != TIMELESS).then_some(hour);
                        self.keeper.load(spec, &tenant, None, Some((hour, chunk)))
                    }),
                };
            if !fits {
                damaged.push(spec);
            }
        }
        Ok((at, damaged))
    }

    /// Puts in what was committed since; the specs that it does not fit, all of them when the log has a
    /// hole.
    fn load_log(&mut self, conn: &Connection, at: i64) -> duckdb::Result<Vec<i64>> {
        let sql = "select n, changes, checksum from metric_state_log order by n";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        let (mut unfit, mut next) = (Vec::new(), at + 1);
        while let Some(row) = rows.next()? {
            let (n, bytes, checksum): (i64, Vec<u8>, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            self.log_bytes += bytes.len();
            let delta = (n == next && xxh3_64(&bytes) == checksum)
                .then(|| postcard::from_bytes::<Delta>(&bytes).ok())
                .flatten();
            let Some(delta) = delta else {
                tracing::warn!(n, next, "the log of the state of metrics is damaged");
                return self.empty_log(conn);
            };
            self.next_spec = self.next_spec.max(delta.specs().max().unwrap_or(0) + 1);
            unfit.extend(self.keeper.load_delta(&delta));
            next += 1;
        }
        Ok(unfit)
    }

    /// Gives up a log that is damaged, and with it all that is kept. What comes gets numbers after all that
    /// there were.
    fn empty_log(&mut self, conn: &Connection) -> duckdb::Result<Vec<i64>> {
        let last: i64 = conn.query_row(&format!("select {NUMBER}"), [], |row| row.get(0))?;
        let last = last.max(self.keeper.applied());
        conn.execute_batch(&format!(
            "begin; delete from metric_state_log; delete from metric_state_at;
             insert into metric_state_at values ({last}); commit"
        ))?;
        self.keeper.starts_at(last);
        self.log_bytes = 0;
        Ok(self.kept.keys().copied().collect())
    }
}

/// A spec as the store has it.
struct StoredSpec {
    number: i64,
    name: String,
    fingerprint: u64,
    fine_from: i64,
    done: i64,
    until: i64,
}

fn stored_specs(conn: &Connection) -> duckdb::Result<Vec<StoredSpec>> {
    let sql = "select spec, name, fingerprint, fine_from, done_seq, until_seq \
               from metric_state_specs order by spec";
    let mut statement = conn.prepare(sql)?;
    let specs = statement.query_map([], |row| {
        Ok(StoredSpec {
            number: row.get(0)?,
            name: row.get(1)?,
            fingerprint: row.get(2)?,
            fine_from: row.get(3)?,
            done: row.get(4)?,
            until: row.get(5)?,
        })
    })?;
    specs.collect()
}

/// Was nothing ever received?
fn is_empty(conn: &Connection) -> duckdb::Result<bool> {
    let sql = "select not exists (from ingest) and not exists (from dead_letters) \
               and not exists (from source_partitions)";
    conn.query_row(sql, [], |row| row.get(0))
}
