//! Folding an entity again from the journal, when its contract is new or changed. What the journal has
//! given up is folded from the lake.
//!
//! The whole rebuild is one transaction, so a process that dies in it starts it again.

use std::sync::Arc;

use contracts::model::Domain;
use duckdb::Connection;
use pipeline::entity::Replay;
use pipeline::fail_point;
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};
use pipeline::store::StoreError;

use super::archive::{Archive, ArchiveError};
use super::contract_state::{self, Definition};
use super::error::{failed, refused};
use super::schema::{Tables, quoted};
use super::{bookkeeping, fill, in_transaction, journal, trimmed};

/// Journal rows folded between two reports of progress.
const ROWS_PER_STEP: i64 = if cfg!(test) { 40 } else { 65_536 };

/// Replaces the rows of `entity` by what the journal says, and records `definition`.
pub(super) fn rebuild(
    conn: &Connection,
    domain: &Arc<Domain>,
    tables: &Tables,
    entity: usize,
    definition: &Definition,
    archive: Option<&dyn Archive>,
    progress: &dyn Fn(&str, u64, u64),
) -> Result<(), StoreError> {
    let table = &tables.entities[entity];
    let contract = &domain.entities[entity];
    let context = format!("rebuild entity `{}` v{}", contract.name, contract.version);
    let until = bookkeeping::last_seq(conn).map_err(|e| failed(&context, &e))?;

    let mut replay = Replay::new(Arc::clone(domain), entity);
    let families = replay.wants();
    let trimmed = trimmed::read(conn).map_err(|e| failed(&context, &e))?;
    let mut after = 0;
    if let Some(trimmed) = trimmed {
        for &family in &families {
            if !trimmed.families.contains_key(&tables.families[family].name) {
                continue;
            }
            let Some(archive) = archive else {
                let message = format!(
                    "the events up to position {} are in the lake only, the journal has given them \
                     up, and there is no lake here: make the store anew with `agentflow rebuild \
                     --from lake --replace`",
                    trimmed.seq
                );
                return Err(refused(context, message));
            };
            let range = HistoryRange { until: trimmed.seq, ..HistoryRange::default() };
            let mut folded = Ok(());
            let read = archive.each(&trimmed, HistoryTable::Family(family), &range, &mut |rows| {
                folded = replay.feed(family, rows);
                if folded.is_ok() { Ok(()) } else { Err(ArchiveError::Enough) }
            });
            folded.map_err(|e| refused(&context, e.to_string()))?;
            read.map_err(|e| refused(&context, e.to_string()))?;
        }
        after = trimmed.seq;
        progress(&context, after as u64, until as u64);
    }
    while after < until {
        let end = until.min(after + ROWS_PER_STEP);
        for &family in &families {
            let rows = journal::between(conn, (&tables.families[family], "_seq"), after, end)
                .map_err(|e| failed(&context, &e))?;
            replay.feed(family, &rows).map_err(|e| refused(&context, e.to_string()))?;
        }
        after = end;
        progress(&context, after as u64, until as u64);
    }
    fail_point::hit("store_rebuild");
    let batches = replay.finish().map_err(|e| refused(&context, e.to_string()))?;

    let create = table.create()?;
    in_transaction(conn, &context, || {
        conn.execute_batch(&format!("drop table if exists {}", quoted(&table.name)))?;
        conn.execute_batch(&create)?;
        for rows in &batches {
            table.append(conn, rows)?;
        }
        fill::forget(conn, &table.name)?;
        contract_state::save(conn, &contract_state::entity_key(contract), definition)
    })
}
