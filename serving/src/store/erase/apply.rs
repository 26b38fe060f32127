//! The transaction of an erasure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use contracts::model::{Domain, Relation};
use duckdb::{Connection, params};
use hashbrown::HashSet;
use pipeline::entity::keys_fed;
use pipeline::erase::letters::{ERASED_DETAIL, Letter};
use pipeline::erase::{ErasedRows, Eraser, Order};
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};
use pipeline::store::{Committed, EntityKey, StoreError};
use pipeline::{clock, fail_point};
use uuid::Uuid;

use super::super::dead_letters::{self, DeadLetterFilter, Page};
use super::super::error::{failed, refused};
use super::super::fill::{self, ROW};
use super::super::schema::{Table, quoted, stored_columns};
use super::super::wal::Due;
use super::super::writer::Writer;
use super::super::{bookkeeping, rows};
use super::{Asked, EraseFailure, EraseRequest, Erasure, ErasureState, audit};
use crate::store::Trimmed;

/// Sequence numbers that are looked through at a time.
const SEQS_PER_STEP: i64 = if cfg!(test) { 40 } else { 1 << 17 };

/// Dead letters that are looked through at a time: each may have a megabyte.
const LETTERS_PER_STEP: usize = if cfg!(test) { 5 } else { 64 };

/// Keys by level, and keys of entities, for statements of this transaction.
const KEYS: &str = "erase_keys";

impl Writer {
    /// Does what it was asked for, if anything; true when it did something.
    pub(in crate::store) fn erase_next(&mut self) -> bool {
        let Some(asked) = self.erasures.next() else { return false };
        // Whoever asked may have gone meanwhile.
        match asked {
            Asked::Erase(request, given_up, _) if given_up.load(Ordering::Relaxed) => {
                tracing::debug!(entity = request.subject.entity, "nobody waits for it any more");
            }
            Asked::Erase(request, _, reply) => drop(reply.send(self.erase(&request))),
            Asked::Note(id, files, reply) => drop(reply.send(self.erasing(id, files))),
            Asked::Finish(id, lake_rows, reply) => drop(reply.send(self.erased(id, &lake_rows))),
        }
        true
    }

    /// Erases in one transaction what the store has of the subject, and notes what is left to be done.
    /// A dry run does the same and takes it back.
    pub fn erase(&mut self, request: &EraseRequest) -> Result<Erasure, EraseFailure> {
        if !self.backfill.is_done() {
            return Err(EraseFailure::Backfilling);
        }
        match self.wal_due() {
            Due::Nothing => {}
            Due::Checkpoint => drop(self.checkpoint()),
            Due::NoRoom(shortage) => return Err(shortage.failure("erase rows").into()),
        }
        let domain = Arc::clone(self.erasures.domain());
        let until =
            bookkeeping::last_seq(&self.conn).map_err(|e| failed("read the journal's end", &e))?;
        let eraser = Eraser::new(
            Arc::clone(&domain),
            request.subject.clone(),
            until,
            self.last_dead_letter,
        )?;
        self.conn.execute_batch("begin")?;
        let outcome = self.erase_within(&domain, eraser, request).and_then(|done| {
            if !request.dry_run {
                // Sums do not say whose rows they have.
                self.state.drop_all(&self.conn)?;
            }
            Ok(done)
        });
        let mut told = match outcome {
            Ok(done) if !request.dry_run => {
                fail_point::hit("erase_before_commit");
                // Before it is visible: no reader may see in the lake what it does not see here.
                let before = self.erasures.pending();
                let committed = self
                    .erasures
                    .load_pending(&self.conn)
                    .and_then(|()| self.conn.execute_batch("commit"));
                if let Err(error) = committed {
                    self.rollback();
                    self.erasures.set_pending(before);
                    return Err(error.into());
                }
                fail_point::hit("erase_after_commit");
                done
            }
            other => {
                self.rollback();
                return other.map(|done| done.erasure);
            }
        };
        // A backup that begins now must not leave it out.
        self.logged(until);
        let rows: u64 = told.erasure.store_rows.values().sum();
        self.count_deleted(usize::try_from(rows).unwrap_or(usize::MAX));
        self.has_rewritten = true;
        told.committed.last_seq = until;
        self.erasures.tell(&told.committed);
        let Erasure { id, entity, .. } = &told.erasure;
        tracing::info!(%id, entity, rows, "erased in the store; the lake is next");
        Ok(told.erasure)
    }

    /// Keeps the files that are to be removed until it is done.
    pub fn erasing(&mut self, id: Uuid, files: BTreeSet<String>) -> Result<(), StoreError> {
        audit::note(&self.conn, id, files)
            .map_err(|error| failed("note which files are to be removed", &error))?;
        self.logged(bookkeeping::last_seq(&self.conn).map_err(|e| failed("read the end", &e))?);
        Ok(())
    }

    /// The lake has nothing of it any more.
    pub fn erased(
        &mut self,
        id: Uuid,
        lake_rows: &BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        audit::finish(&self.conn, id, clock::now(), lake_rows)
            .and_then(|()| self.erasures.load_pending(&self.conn))
            .map_err(|error| failed("note that an erasure is done", &error))?;
        self.logged(bookkeeping::last_seq(&self.conn).map_err(|e| failed("read the end", &e))?);
        fail_point::hit("erase_finished");
        tracing::info!(%id, "erased in the lake");
        Ok(())
    }

    fn erase_within(
        &mut self,
        domain: &Arc<Domain>,
        mut eraser: Eraser,
        request: &EraseRequest,
    ) -> Result<Done, EraseFailure> {
        let trimmed = self.horizon.get();
        let lost = Lost { writer: self, trimmed: trimmed.as_deref() };
        for level in 0..eraser.levels_below() {
            lost.learn(domain, &mut eraser, level)?;
        }
        let mut done = Done::new(request);
        let touched = lost.erase_events(domain, &eraser, &mut done)?;
        let refolded = self.fold_again(domain, &eraser, touched)?;
        for (entity, rows) in refolded {
            let tenant = request.subject.tenant.clone();
            done.committed.touched.push((Relation::Entity(entity), vec![tenant]));
            done.erasure.store_rows.insert(self.tables.entities[entity].name.clone(), rows);
        }
        let letters = self.erase_letters(&eraser, &request.subject.tenant)?;
        if letters > 0 {
            done.erasure.store_rows.insert(self.tables.dead_letters.name.clone(), letters);
        }
        if !request.dry_run {
            audit::insert(&self.conn, &done.erasure, eraser.order())?;
        }
        Ok(done)
    }

    /// Dead letters keep their place and their reason.
    fn erase_letters(&self, eraser: &Eraser, tenant: &str) -> Result<u64, EraseFailure> {
        let table = &self.tables.dead_letters;
        let filter = DeadLetterFilter { tenant: Some(tenant.to_owned()), reason: None };
        let mut page = Page { newest_first: false, after: None, limit: LETTERS_PER_STEP };
        let mut erased = 0;
        loop {
            let letters = dead_letters::query(&self.conn, table, &filter, &page)?;
            let Some(last) = letters.last() else { return Ok(erased) };
            page.after = Some(last.id);
            for letter in &letters {
                let concerned = eraser.concerns_letter(&Letter {
                    tenant: &letter.tenant,
                    id: letter.id,
                    payload: &letter.payload,
                    key: letter.key.as_deref(),
                    headers: letter.headers.as_deref(),
                    detail: &letter.detail,
                    event_id: letter.event_id.as_deref(),
                });
                if !concerned {
                    continue;
                }
                let sql = format!(
                    "update {} set payload = ''::blob, key = null, headers = null, detail = ?, \
                     event_id = null where id = ?",
                    quoted(&table.name)
                );
                self.conn.prepare_cached(&sql)?.execute(params![ERASED_DETAIL, letter.id])?;
                self.conn.execute("delete from dead_letter_pieces where id = ?", [letter.id])?;
                erased += 1;
            }
        }
    }
}

/// What a transaction did.
struct Done {
    erasure: Erasure,
    committed: Committed,
}

impl Done {
    fn new(request: &EraseRequest) -> Self {
        let id = Uuid::now_v7();
        let subject = &request.subject;
        Self {
            erasure: Erasure {
                id,
                requested_at: clock::now(),
                finished_at: None,
                tenant: subject.tenant.clone(),
                entity: subject.entity.clone(),
                key_digest: audit::digest(id, subject),
                reason: request.reason.clone(),
                state: match request.dry_run {
                    true => ErasureState::DryRun,
                    false => ErasureState::LakePending,
                },
                store_rows: BTreeMap::new(),
                lake_rows: BTreeMap::new(),
            },
            committed: Committed::default(),
        }
    }
}

/// Keys of entities that took something from erased rows, by entity.
pub(super) type TouchedKeys = BTreeMap<usize, HashSet<EntityKey>>;

/// The journal, and what of it only the lake has.
struct Lost<'a> {
    writer: &'a Writer,
    trimmed: Option<&'a Trimmed>,
}

impl Lost<'_> {
    /// Finds the keys one level further down.
    fn learn(
        &self,
        domain: &Domain,
        eraser: &mut Eraser,
        level: usize,
    ) -> Result<(), EraseFailure> {
        for family in 0..domain.families.len() {
            if !eraser.concerns(family) {
                continue;
            }
            let order = eraser.order().clone();
            let conditions = self.conditions(family, eraser)?;
            self.each_candidate(family, &order, &conditions, &mut |found| {
                Ok(eraser.learn(level, family, &found.rows)?)
            })?;
            self.writer.each_trimmed(self.trimmed, family, &order, &mut |rows| {
                Ok(eraser.learn(level, family, rows)?)
            })?;
        }
        Ok(())
    }

    /// Changes the rows of all families, and tells which entities took something from them.
    fn erase_events(
        &self,
        domain: &Domain,
        eraser: &Eraser,
        done: &mut Done,
    ) -> Result<TouchedKeys, EraseFailure> {
        let mut touched = TouchedKeys::new();
        for (family, table) in self.writer.tables.families.iter().enumerate() {
            if !eraser.concerns(family) {
                continue;
            }
            let mut erased = 0;
            let conditions = self.conditions(family, eraser)?;
            self.each_candidate(family, eraser.order(), &conditions, &mut |found| {
                let Some(after) = eraser.erase(family, &found.rows)? else { return Ok(()) };
                touch(domain, family, &found.rows, &after.which, &mut touched)?;
                // An event can feed something only now.
                touch(domain, family, &after.rows, &after.which, &mut touched)?;
                erased += after.which.true_count() as u64;
                found.write(&self.writer.conn, table, &after)
            })?;
            let mut beyond = 0;
            self.writer.each_trimmed(self.trimmed, family, eraser.order(), &mut |rows| {
                let Some(after) = eraser.erase(family, rows)? else { return Ok(()) };
                beyond += after.which.true_count() as u64;
                touch(domain, family, rows, &after.which, &mut touched)?;
                touch(domain, family, &after.rows, &after.which, &mut touched)
            })?;
            if erased + beyond > 0 {
                let tenant = eraser.order().subject.tenant.clone();
                done.committed.touched.push((Relation::Family(family), vec![tenant]));
            }
            if erased > 0 {
                done.erasure.store_rows.insert(table.name.clone(), erased);
            }
            if beyond > 0 && done.erasure.state == ErasureState::DryRun {
                // Those that only the lake has; the others it has too.
                done.erasure.lake_rows.insert(domain.families[family].name.clone(), beyond);
            }
        }
        Ok(touched)
    }

    /// The SQL condition that a journal row must meet to be concerned; the rule itself is stricter.
    fn conditions(&self, family: usize, eraser: &Eraser) -> Result<String, EraseFailure> {
        keys_table(&self.writer.conn, (0..=eraser.levels_below()).map(|l| (l, eraser.keys(l))))?;
        let named = eraser.key_columns(family).map(|(level, name)| is_key(name, level));
        // Which key a value was looked up by is computed; few columns are looked up.
        let looked_up = eraser.looked_up_columns(family);
        let looked_up = looked_up.map(|name| format!("{} is not null", quoted(name)));
        Ok(named.chain(looked_up).collect::<Vec<_>>().join(" or "))
    }

    /// Hands over the journal's rows that meet the conditions, in stretches.
    fn each_candidate(
        &self,
        family: usize,
        order: &Order,
        conditions: &str,
        take: &mut dyn FnMut(&Found) -> Result<(), EraseFailure>,
    ) -> Result<(), EraseFailure> {
        let table = &self.writer.tables.families[family];
        let mut fields = vec![Arc::new(Field::new(ROW, DataType::Int64, false))];
        fields.extend(table.schema.fields().iter().cloned());
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut after = self.trimmed.map_or(0, |trimmed| trimmed.seq);
        while after < order.until_seq {
            let until = order.until_seq.min(after + SEQS_PER_STEP);
            let sql = format!(
                "select rowid, {} from {} where _tenant = ? and _seq > {after} and _seq <= {until} \
                 and ({conditions})",
                table.columns,
                quoted(&table.name),
            );
            let rows = rows::query_once(&self.writer.conn, &sql, [&order.subject.tenant], &schema)?;
            if rows.num_rows() > 0 {
                take(&Found::of(rows)?)?;
            }
            after = until;
        }
        Ok(())
    }
}

impl Writer {
    /// Hands over rows of the tenant that only the lake has.
    pub(super) fn each_trimmed(
        &self,
        trimmed: Option<&Trimmed>,
        family: usize,
        order: &Order,
        take: &mut dyn FnMut(&RecordBatch) -> Result<(), EraseFailure>,
    ) -> Result<(), EraseFailure> {
        let Some(trimmed) = trimmed else { return Ok(()) };
        let Some(lost) = trimmed.families.get(&self.tables.families[family].name) else {
            return Ok(());
        };
        let Some(archive) = &self.archive else {
            return Err(refused(
                "erase rows",
                "the journal has given up events that only the lake has, and there is no lake here",
            )
            .into());
        };
        let range = HistoryRange {
            until: lost.seq,
            tenant: Some(&order.subject.tenant),
            ..HistoryRange::default()
        };
        let mut failure = None;
        archive.each(trimmed, HistoryTable::Family(family), &range, &mut |rows| {
            failure = failure.take().or(take(rows).err());
            Ok(())
        })?;
        failure.map_or(Ok(()), Err)
    }
}

/// Makes the keys of each level (or of entities) the current ones of this connection.
pub(super) fn keys_table<'a>(
    conn: &Connection,
    levels: impl Iterator<Item = (usize, Box<dyn Iterator<Item = &'a str> + 'a>)>,
) -> duckdb::Result<()> {
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for (level, keys) in levels {
        for key in keys {
            numbers.push(level as i64);
            texts.push(key);
        }
    }
    conn.execute_batch(&format!(
        "create or replace temp table {KEYS} (level bigint, key varchar)"
    ))?;
    let schema = Schema::new(vec![
        Field::new("level", DataType::Int64, false),
        Field::new("key", DataType::Utf8, false),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
    let rows = RecordBatch::try_new(Arc::new(schema), columns).map_err(rows::conversion)?;
    let mut appender = conn.appender_to_catalog_and_db(KEYS, "temp", "main")?;
    appender.append_record_batch(rows)?;
    appender.flush()
}

/// The text of an SQL condition: the column's text is one of [`keys_table`]'s of that level.
pub(super) fn is_key(column: &str, level: usize) -> String {
    format!("{}::varchar in (select key from temp.{KEYS} where level = {level})", quoted(column))
}

/// Journal rows with their row numbers.
struct Found {
    numbers: ArrayRef,
    rows: RecordBatch,
}

impl Found {
    fn of(rows: RecordBatch) -> Result<Self, ArrowError> {
        let numbers = Arc::clone(rows.column(0));
        let rest: Vec<usize> = (1..rows.num_columns()).collect();
        Ok(Self { numbers, rows: rows.project(&rest)? })
    }

    /// Writes the changed columns of the erased rows back, and empties columns that no contract has.
    fn write(
        &self,
        conn: &Connection,
        table: &Table,
        erased: &ErasedRows,
    ) -> Result<(), EraseFailure> {
        let ErasedRows { which, rows, changed } = erased;
        let mut fields = vec![Field::new(ROW, DataType::Int64, false)];
        let mut columns = vec![filter(&self.numbers, which)?];
        for name in changed {
            let place = rows.schema_ref().index_of(name)?;
            fields.push(rows.schema_ref().field(place).clone().with_nullable(true));
            columns.push(filter(rows.column(place), which)?);
        }
        let changed = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let known: BTreeSet<&str> =
            table.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let stored = stored_columns(conn, &table.name)?;
        let gone: Vec<&str> =
            stored.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        fill::update(conn, table, &changed, &gone, "true")?;
        Ok(())
    }
}

/// Notes the keys of entities that take something from the rows of `which`.
fn touch(
    domain: &Domain,
    family: usize,
    rows: &RecordBatch,
    which: &BooleanArray,
    touched: &mut TouchedKeys,
) -> Result<(), EraseFailure> {
    if which.true_count() == 0 {
        return Ok(());
    }
    let rows = filter_record_batch(rows, which)?;
    for entity in &domain.entities {
        let keys = keys_fed(domain, entity.index, family, &rows)?;
        if !keys.is_empty() {
            touched.entry(entity.index).or_default().extend(keys);
        }
    }
    Ok(())
}
