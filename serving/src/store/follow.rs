//! Following changed contracts when a store is opened: decide with [`contract_state::plan`], then do.
//!
//! Each step is recorded in the transaction that completes it, so a process that dies on the way
//! does only the rest at its next start. A step that was begun must be finished under the
//! contracts it was begun with: half of its rows are new, half are old.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use contracts::model::Domain;
use duckdb::Connection;

use super::contract_state::{self, Definitions, Step};
use super::error::OpenError;
use super::schema::Tables;
use super::{fill, in_transaction, rebuild};

/// Creates missing tables and brings stored rows in line with the domain's contracts.
pub(super) fn contracts(
    conn: &Connection,
    dir: &Path,
    domain: &Arc<Domain>,
    tables: &Tables,
    progress: &dyn Fn(&str, u64, u64),
) -> Result<(), OpenError> {
    let recorded = contract_state::load(conn)?;
    let wanted = contract_state::definitions(domain);
    let steps = contract_state::plan(&recorded, domain)
        .map_err(|changes| OpenError::ContractsChanged { dir: dir.to_path_buf(), changes })?;
    let begun = fill::begun(conn)?;
    if let Some(table) = interrupted(&begun, &steps, domain, tables, &wanted) {
        return Err(OpenError::ChangeInterrupted { dir: dir.to_path_buf(), table });
    }
    let create = tables.all().map(|table| table.create()).collect::<Result<Vec<_>, _>>()?;
    in_transaction(conn, "create tables", || conn.execute_batch(&create.join(";")))?;
    for step in &steps {
        match step {
            Step::Fill { relation, fill } => {
                let job = job(relation, fill, domain, tables, &wanted);
                let done = begun.get(&job.table.name).map(|begun| begun.done_seq);
                job.run(conn, done, progress)?;
            }
            Step::Rebuild { entity } => {
                let key = contract_state::entity_key(&domain.entities[*entity]);
                rebuild::rebuild(conn, domain, tables, *entity, &wanted[&key], progress)?;
            }
        }
    }
    in_transaction(conn, "record the contracts", || {
        contract_state::save_all(conn, &recorded, &wanted)
    })?;
    Ok(())
}

/// The table in which an earlier change was interrupted that is not the one to be made now.
fn interrupted(
    begun: &BTreeMap<String, fill::Begun>,
    steps: &[Step],
    domain: &Domain,
    tables: &Tables,
    wanted: &Definitions,
) -> Option<String> {
    let continues = |table: &str, begun: &fill::Begun| {
        steps.iter().any(|step| match step {
            Step::Fill { relation, fill } => {
                let job = job(relation, fill, domain, tables, wanted);
                job.table.name == table && job.target() == begun.target
            }
            Step::Rebuild { .. } => false,
        })
    };
    let stray = begun.iter().find(|(table, begun)| !continues(table, begun));
    stray.map(|(table, _)| table.clone())
}

fn job<'a>(
    relation: &contract_state::Filled,
    fill: &'a contract_state::Fill,
    domain: &'a Domain,
    tables: &'a Tables,
    wanted: &'a Definitions,
) -> fill::Job<'a> {
    let (key, table, family, computed) = match relation {
        contract_state::Filled::Family(family) => {
            let contract = &domain.families[*family];
            let table = &tables.families[*family];
            (contract_state::event_key(contract), table, Some(contract), &contract.computed)
        }
        contract_state::Filled::Ingest => {
            (contract_state::ingest_key(), &tables.ingest, None, &domain.ingest.computed)
        }
    };
    fill::Job { table, fill, family, computed, definition: &wanted[&key], key }
}
