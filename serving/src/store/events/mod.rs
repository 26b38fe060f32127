//! Events out of the journal in order of position, over several families at once: what streams send.
//!
//! A page looks at few columns first and reads whole rows only of the events that somebody wants, so
//! what nobody wants costs little. All of a page is read in one snapshot. What has just been committed needs no
//! reading ([`EventReader::fresh`]). Start at [`EventReader::page`].

mod newest;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use contracts::model::{Domain, column};
use duckdb::{Connection, params_from_iter};
use pipeline::store::StoreError;

use super::fresh::Follows;
use super::readers::Readers;
use super::rows;
use super::trimmed::Trimmed;
pub(crate) use newest::Newest;
use table::EventTable;

/// Most positions that one page looks at.
const SPAN: i64 = 1 << 16;

/// Most events that one page holds, about.
const PAGE: usize = 2_048;

/// A stretch this short is read whole: looking first would cost more.
const SHORT: i64 = 256;

/// Most bytes of rows in one page; its last statement may go over it.
const PAGE_BYTES: usize = 4 << 20;

/// Rows that the first statement of a page reads: a row may be as long as a record. Later ones read as many as
/// fit into a page, going by those before, and no more than [`MOST_ROWS`].
const FIRST_ROWS: usize = 16;

/// Most rows that one statement reads.
const MOST_ROWS: usize = 256;

/// Column of a page's rows: the value of the contract's `key` as text, null where there is none.
pub(crate) const ENTITY: &str = "_entity";

/// Reads events for streams.
pub(crate) struct EventReader {
    readers: Readers,
    tables: Vec<EventTable>,
    /// Names of source partitions by their number; they never change.
    partitions: RwLock<HashMap<i64, Arc<str>>>,
}

/// The columns by which is decided who wants an event.
pub(crate) struct Heads<'a> {
    /// Positions.
    pub(crate) seqs: &'a [i64],
    /// Tenants.
    pub(crate) tenants: &'a StringArray,
    /// Event types.
    pub(crate) types: &'a StringArray,
    /// Values of the contract's `key`.
    pub(crate) entities: &'a StringArray,
}

/// Limits a page to some events, where it is read for one reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Only<'a> {
    pub(crate) tenant: &'a str,
    /// Event types; `None`: all.
    pub(crate) types: Option<&'a [String]>,
    pub(crate) entity: Option<&'a str>,
}

/// Events of a stretch of the journal.
#[derive(Debug, Default)]
pub(crate) struct EventPage {
    /// Rows by family, ascending by position within each batch.
    pub(crate) rows: Vec<(usize, RecordBatch)>,
    /// Everything up to here was looked at.
    pub(crate) reached: i64,
    /// Ends of the commits that the rows are of, ascending, each with its time in µs.
    applied: Vec<(i64, i64)>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    /// The journal has given up events of these families after the position asked for.
    #[error("events up to position {until} are no longer in the journal")]
    Gone {
        /// Highest position of them.
        until: i64,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EventPage {
    /// A stretch with no event in it.
    pub(crate) fn empty(reached: i64) -> Self {
        Self { reached, ..Self::default() }
    }

    /// When the event at `seq` was committed, µs; `None` when that is not known any more.
    pub(crate) fn applied_at(&self, seq: i64) -> Option<i64> {
        let at = self.applied.partition_point(|(end, _)| *end < seq);
        self.applied.get(at).map(|(_, at)| *at)
    }

    /// All rows in order of position: position, place in `rows`, row.
    pub(crate) fn in_order(&self) -> Vec<(i64, usize, usize)> {
        let mut order = Vec::new();
        for (place, (_, batch)) in self.rows.iter().enumerate() {
            let seqs = seqs(batch);
            order.extend(seqs.iter().enumerate().map(|(row, seq)| (*seq, place, row)));
        }
        order.sort_unstable();
        order
    }
}

impl EventReader {
    pub(crate) fn new(readers: Readers) -> Self {
        let tables = readers.domain().families.iter().map(EventTable::of).collect();
        Self { readers, tables, partitions: RwLock::default() }
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        self.readers.domain()
    }

    /// Events of `families` with `after < position <= until` that `pick` chooses, as many as a page
    /// takes. Everything up to `until` must have been committed.
    pub(crate) fn page(
        &self,
        families: &[usize],
        after: i64,
        until: i64,
        only: Option<Only<'_>>,
        pick: &dyn Fn(&Heads<'_>, &mut Vec<i64>),
    ) -> Result<EventPage, PageError> {
        let page = self.readers.snapshot("read events", |conn| {
            let end = until.min(after.saturating_add(SPAN));
            let mut page = EventPage::empty(end);
            if only.is_none() && end - after <= SHORT {
                for &family in families {
                    let table = &self.tables[family];
                    let range = between(after, end);
                    let rows = rows::query_once(conn, &table.select(&range), [], &table.rows.1)?;
                    page.rows.push((family, rows));
                }
            } else {
                let mut picked = Vec::new();
                for &family in families {
                    let table = &self.tables[family];
                    let (sql, values) = table.look(&between(after, end), only.as_ref());
                    let params = params_from_iter(values);
                    let heads = rows::query_once(conn, &sql, params, &table.heads.1)?;
                    let mut seqs = Vec::new();
                    pick(&Heads::of(&heads), &mut seqs);
                    picked.extend(seqs.into_iter().map(|seq| (seq, family)));
                }
                picked.sort_unstable();
                if picked.len() > PAGE {
                    picked.truncate(PAGE);
                    page.reached = picked[PAGE - 1].0;
                }
                self.read(conn, &picked, &mut page)?;
            }
            page.rows.retain(|(_, rows)| rows.num_rows() > 0);
            if !page.rows.is_empty() {
                page.applied = applied(conn, after, page.reached)?;
            }
            Ok(page)
        })?;
        self.check(families, after)?;
        Ok(page)
    }

    /// While this is held, what is committed can be had from [`Self::fresh`].
    pub(crate) fn follow(&self) -> Follows {
        self.readers.fresh().follow()
    }

    /// The same as a page of all events, out of memory: `None` where that does not have all of the stretch.
    /// What it has of it is given once.
    pub(crate) fn fresh(&self, families: &[usize], after: i64, until: i64) -> Option<EventPage> {
        let mut page = EventPage::empty(until);
        for commit in self.readers.fresh().take(after, until)? {
            page.applied.push((commit.until, commit.applied_at));
            for (family, rows) in &commit.rows {
                if families.contains(family) && rows.num_rows() > 0 {
                    page.rows.push((*family, self.tables[*family].of_written(rows)?));
                }
            }
        }
        Some(page)
    }

    /// Reads whole rows. Ends early, and says so in `page.reached`, when they are large.
    fn read(
        &self,
        conn: &Connection,
        picked: &[(i64, usize)],
        page: &mut EventPage,
    ) -> duckdb::Result<()> {
        let (mut bytes, mut done) = (0, 0);
        while done < picked.len() {
            if bytes > PAGE_BYTES {
                page.reached = picked[done - 1].0;
                break;
            }
            let rows = match done {
                0 => FIRST_ROWS,
                _ => (PAGE_BYTES / (bytes / done).max(1)).clamp(1, MOST_ROWS),
            };
            let some = &picked[done..picked.len().min(done + rows)];
            done += some.len();
            let mut families: Vec<usize> = some.iter().map(|(_, family)| *family).collect();
            families.sort_unstable();
            families.dedup();
            for family in families {
                let seqs = some.iter().filter(|(_, of)| *of == family).map(|(seq, _)| *seq);
                let seqs: Vec<i64> = seqs.collect();
                let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { continue };
                // The bounds let DuckDB skip row groups.
                let mut range = between(first - 1, *last);
                if (last - first + 1) as usize > seqs.len() {
                    let list: Vec<String> = seqs.iter().map(i64::to_string).collect();
                    range.push_str(&format!(" and _seq in ({})", list.join(",")));
                }
                let table = &self.tables[family];
                let rows = rows::query_once(conn, &table.select(&range), [], &table.rows.1)?;
                bytes += rows.get_array_memory_size();
                page.rows.push((family, rows));
            }
        }
        Ok(())
    }

    /// Refuses a reader that begins before what the journal still holds of `families`. To be asked
    /// after rows were read, so nothing can have been given up in between.
    pub(crate) fn check(&self, families: &[usize], after: i64) -> Result<(), PageError> {
        let Some(trimmed) = self.readers.trimmed() else { return Ok(()) };
        let gone = |trimmed: &Trimmed, family: &usize| {
            trimmed.families.get(&self.tables[*family].name).map_or(0, |family| family.seq)
        };
        match families.iter().map(|family| gone(&trimmed, family)).max() {
            Some(until) if after < until => Err(PageError::Gone { until }),
            _ => Ok(()),
        }
    }

    /// Name of a source partition.
    pub(crate) fn partition(&self, id: i64) -> Arc<str> {
        let known = |names: &HashMap<i64, Arc<str>>| names.get(&id).cloned();
        if let Some(name) = known(&self.partitions.read().unwrap_or_else(PoisonError::into_inner)) {
            return name;
        }
        let mut names = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(partitions) = self.readers.partitions() {
            names.extend(partitions.into_iter().map(|state| (state.id, Arc::from(state.name))));
        }
        known(&names).unwrap_or_else(|| Arc::from(""))
    }
}

impl<'a> Heads<'a> {
    /// Of rows that were looked at first, and of whole ones.
    pub(crate) fn of(rows: &'a RecordBatch) -> Self {
        let text = |name: &str| {
            rows.column_by_name(name)
                .and_then(|column| column.as_string_opt::<i32>())
                .expect("the statement selects it as text")
        };
        Self {
            seqs: seqs(rows),
            tenants: text(column::TENANT),
            types: text(column::TYPE),
            entities: text(ENTITY),
        }
    }

    /// Tenant, type and entity of a row.
    pub(crate) fn row(&self, row: usize) -> (&'a str, &'a str, Option<&'a str>) {
        let entity = self.entities.is_valid(row).then(|| self.entities.value(row));
        (self.tenants.value(row), self.types.value(row), entity)
    }
}

fn between(after: i64, until: i64) -> String {
    format!("_seq > {after} and _seq <= {until}")
}

fn seqs(rows: &RecordBatch) -> &[i64] {
    let column = rows.column_by_name(column::SEQ);
    column.map_or(&[], |column| column.as_primitive::<Int64Type>().values())
}

/// Ends of the commits from `after` to the one that `until` is of, with their times.
fn applied(conn: &Connection, after: i64, until: i64) -> duckdb::Result<Vec<(i64, i64)>> {
    // A later commit that brought no event has the same end: the first one counts.
    let sql = format!(
        "select _seq, min(_applied_at) from ingest where _seq > {after}
         and _seq <= coalesce((select min(_seq) from ingest where _seq >= {until}), {until})
         group by _seq order by _seq"
    );
    let at = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let fields = vec![Field::new("seq", DataType::Int64, true), Field::new("at", at, true)];
    let rows = rows::query_once(conn, &sql, [], &Arc::new(Schema::new(fields)))?;
    let seqs = rows.column(0).as_primitive::<Int64Type>();
    let times = rows.column(1).as_primitive::<TimestampMicrosecondType>();
    Ok(seqs.values().iter().copied().zip(times.values().iter().copied()).collect())
}
