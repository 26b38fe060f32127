//! Following changed contracts when a store is opened: decide with [`contract_state::plan`], then do.
//!
//! Each step is recorded in the transaction that completes it, so a process that dies on the way
//! does only the rest at its next start. A step that changes what rows had before must be finished under
//! the contracts it was begun with: half of its rows are new, half are old. One that is done beside what
//! comes in ([`super::backfill`]) only adds, so under other contracts it is forgotten.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use contracts::model::{Domain, Relation};
use duckdb::Connection;
use pipeline::store::StoreError;

use super::archive::Archive;
use super::backfill::{Backfill, Task, Work};
use super::contract_state::beside::{Split, split};
use super::contract_state::{self, Definitions, Step};
use super::error::{OpenError, failed};
use super::schema::{Tables, quoted};
use super::{bookkeeping, fill, in_transaction, rebuild};

/// How contracts are followed.
pub(super) struct Following<'a> {
    /// Told about long work.
    pub progress: &'a dyn Fn(&str, u64, u64),
    /// Where the rows are that the journal has given up.
    pub archive: Option<&'a dyn Archive>,
    /// Leave to the writer what can be done beside what comes in.
    pub beside: bool,
}

/// What stored rows need before anything is answered.
#[derive(Debug, Default)]
pub struct Needed {
    /// What has to be made anew, in words.
    pub what: Vec<String>,
    /// Positions of the journal that it goes over.
    pub rows: u64,
}

/// What [`contracts()`] would do at once under the contracts of `domain`, rather than beside what comes in.
pub(super) fn needs_before(
    conn: &Connection,
    dir: &Path,
    domain: &Domain,
) -> Result<Needed, OpenError> {
    let recorded = contract_state::load(conn)?;
    let steps = contract_state::plan(&recorded, domain)
        .map_err(|changes| OpenError::ContractsChanged { dir: dir.to_path_buf(), changes })?;
    let last_seq = bookkeeping::last_seq(conn).map_err(|e| failed("read the journal's end", &e))?;
    if last_seq == 0 {
        return Ok(Needed::default());
    }
    let before = split(steps, &recorded, domain).before;
    let what = before.iter().map(|step| match step {
        Step::Fill { relation: contract_state::Filled::Family(family), .. } => {
            format!("columns of stored events of `{}`", domain.families[*family].name)
        }
        Step::Fill { relation: contract_state::Filled::Ingest, .. } => {
            "columns of received records".to_owned()
        }
        Step::Fill { relation: contract_state::Filled::Entity(entity), .. } => {
            format!("columns of entity `{}`", domain.entities[*entity].name)
        }
        Step::Rebuild { entity } => {
            let entity = &domain.entities[*entity];
            format!("rows of entity `{}` v{}", entity.name, entity.version)
        }
    });
    Ok(Needed { what: what.collect(), rows: last_seq.unsigned_abs() })
}

/// Creates missing tables and brings stored rows in line with the domain's contracts. Returns what is
/// left to be done beside what comes in.
pub(super) fn contracts(
    conn: &Connection,
    dir: &Path,
    domain: &Arc<Domain>,
    tables: &Tables,
    how: &Following<'_>,
) -> Result<Backfill, OpenError> {
    let recorded = contract_state::load(conn)?;
    let wanted = contract_state::definitions(domain);
    let steps = contract_state::plan(&recorded, domain)
        .map_err(|changes| OpenError::ContractsChanged { dir: dir.to_path_buf(), changes })?;
    let mut begun = fill::begun(conn)?;
    if let Some(table) = interrupted(&begun, &steps, domain, tables, &wanted) {
        return Err(OpenError::ChangeInterrupted { dir: dir.to_path_buf(), table });
    }
    let last_seq = bookkeeping::last_seq(conn).map_err(|e| failed("read the journal's end", &e))?;
    let is_begun = |step: &Step| match step {
        Step::Fill { relation, fill } => {
            let job = job(relation, fill, domain, tables, &wanted);
            begun.get(&job.table.name).is_some_and(|begun| begun.until_seq.is_none())
        }
        Step::Rebuild { .. } => false,
    };
    // An empty journal is followed in no time.
    let Split { mut before, beside } = match how.beside && last_seq > 0 {
        true => split(steps, &recorded, domain),
        false => Split { before: steps, ..Split::default() },
    };
    let (begun_before, beside): (Vec<_>, Vec<_>) = beside.into_iter().partition(is_begun);
    before.splice(0..0, begun_before);

    let create = tables.all().map(|table| table.create()).collect::<Result<Vec<_>, _>>()?;
    in_transaction(conn, "create tables", || conn.execute_batch(&create.join(";")))?;
    for step in &before {
        match step {
            Step::Fill { relation, fill } => {
                let job = job(relation, fill, domain, tables, &wanted);
                let done = begun.remove(&job.table.name).filter(|b| b.target == job.target());
                job.run(conn, done.map(|begun| begun.done_seq), how.progress)?;
            }
            Step::Rebuild { entity } => {
                let key = contract_state::entity_key(&domain.entities[*entity]);
                let definition = &wanted[&key];
                let (archive, progress) = (how.archive, how.progress);
                rebuild::rebuild(conn, domain, tables, *entity, definition, archive, progress)?;
                begun.remove(&tables.entities[*entity].name);
            }
        }
    }
    let tasks = tasks(conn, domain, tables, &wanted, beside, &mut begun, last_seq)?;
    let backfill = Backfill::new(Arc::clone(domain), tasks, wanted);
    in_transaction(conn, "record the contracts", || {
        for stray in begun.keys() {
            fill::forget(conn, stray)?;
        }
        contract_state::save_all(conn, &recorded, backfill.definitions(), &backfill.waiting())
    })?;
    Ok(backfill)
}

/// Begins what is done beside, or finds how far it is. Takes out of `begun` what goes on.
fn tasks(
    conn: &Connection,
    domain: &Domain,
    tables: &Tables,
    wanted: &Definitions,
    steps: Vec<Step>,
    begun: &mut BTreeMap<String, fill::Begun>,
    last_seq: i64,
) -> Result<Vec<Task>, StoreError> {
    let mut tasks: Vec<Task> = Vec::new();
    for step in steps {
        match step {
            Step::Fill { relation, fill } => {
                let job = job(&relation, &fill, domain, tables, wanted);
                let found = begun.remove(&job.table.name).filter(|b| b.target == job.target());
                let (done, until) = match found {
                    Some(begun) => (begun.done_seq, begun.until_seq.unwrap_or(last_seq)),
                    None => (job.begin(conn, Some(last_seq))?, last_seq),
                };
                let table = job.table.name.clone();
                tasks.push(Task { work: Work::Fill { relation, fill }, table, done, until });
            }
            Step::Rebuild { entity } => {
                let below = domain.entities[entity].inputs.iter().find_map(|i| match i.relation {
                    Relation::Entity(below) => Some(below),
                    _ => None,
                });
                let of_below = tasks.iter_mut().find_map(|task| match &mut task.work {
                    Work::Fold { entities, .. } => {
                        below.is_some_and(|b| entities.contains(&b)).then_some(entities)
                    }
                    Work::Fill { .. } => None,
                });
                match of_below {
                    Some(entities) => entities.push(entity),
                    None => tasks.push(Task {
                        work: Work::Fold { entities: vec![entity], source: below },
                        table: tables.entities[entity].name.clone(),
                        done: 0,
                        until: last_seq,
                    }),
                }
            }
        }
    }
    for task in &mut tasks {
        let Work::Fold { entities, .. } = &task.work else { continue };
        let keys = entities.iter().map(|e| contract_state::entity_key(&domain.entities[*e]));
        let keys: Vec<_> = keys.collect();
        let target =
            fill::fold_target(domain, entities[0], keys.iter().map(|key| &wanted[key]), wanted);
        match begun.remove(&task.table) {
            Some(fill::Begun { target: of, done_seq, until_seq: Some(until) }) if of == target => {
                (task.done, task.until) = (done_seq, until);
            }
            _ => {
                let mut create = String::new();
                for table in entities.iter().map(|entity| &tables.entities[*entity]) {
                    create.push_str(&format!("drop table if exists {};", quoted(&table.name)));
                    create.push_str(&format!("{};", table.create()?));
                }
                in_transaction(conn, "begin to fold an entity", || {
                    conn.execute_batch(&create)?;
                    fill::note(conn, &task.table, &target, task.done, Some(task.until))
                })?;
            }
        }
    }
    Ok(tasks)
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
        begun.until_seq.is_some()
            || steps.iter().any(|step| match step {
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

pub(super) fn job<'a>(
    relation: &contract_state::Filled,
    fill: &'a contract_state::Fill,
    domain: &'a Domain,
    tables: &'a Tables,
    wanted: &'a Definitions,
) -> fill::Job<'a> {
    let (mut family, mut entity) = (None, None);
    let (key, table, computed) = match relation {
        contract_state::Filled::Family(index) => {
            let contract = &domain.families[*index];
            family = Some(contract);
            (contract_state::event_key(contract), &tables.families[*index], &contract.computed)
        }
        contract_state::Filled::Ingest => {
            (contract_state::ingest_key(), &tables.ingest, &domain.ingest.computed)
        }
        contract_state::Filled::Entity(index) => {
            let contract = &domain.entities[*index];
            entity = Some(contract);
            (contract_state::entity_key(contract), &tables.entities[*index], &contract.computed)
        }
    };
    fill::Job { table, fill, family, entity, computed, definition: &wanted[&key], key }
}
