//! What the pipeline asks before it commits: known event ids and entity states.
//!
//! SQL finds rows by hash (see [`super::keys`]); ids and keys are then compared in full here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use contracts::model::column;
use duckdb::types::Value;
use duckdb::{Connection, params_from_iter};
use pipeline::sink::iceberg::{HistoryRange, HistoryTable};
use pipeline::store::{EntityKey, EventId, IdHash, Seen, StoreError};

use super::archive::Archive;
use super::schema::{Table, Tables, quoted};
use super::trimmed::Trimmed;
use super::{keys, rows};

/// Values in one statement of [`rows_where`].
const VALUES_PER_QUERY: usize = 500;

/// Which of these ids does the journal know?
pub(super) fn find_seen(
    conn: &Connection,
    tables: &Tables,
    ids: &[IdHash],
) -> duckdb::Result<Vec<Seen>> {
    if ids.is_empty() || tables.families.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: HashSet<IdHash> = ids.iter().copied().collect();
    let hashes = keys::set(conn, ids.iter().map(|id| id.hi))?;
    let sql = over_families(tables, "_id_hi, _id_lo, _body, _seq", &format!("_id_hi in {hashes}"));
    let mut statement = conn.prepare(&sql)?;
    let found = statement.query_map([], |row| {
        let id = IdHash { hi: row.get(0)?, lo: row.get(1)? };
        Ok(Seen { id, body: row.get(2)?, seq: row.get(3)? })
    })?;
    found.filter(|seen| seen.as_ref().map_or(true, |seen| wanted.contains(&seen.id))).collect()
}

/// Ids that the lake is asked for at once.
const IDS_PER_SCAN: usize = 1_000;

/// Which of these ids are among the events that were given up?
///
/// Ids are not bound to a day: the same id may have come with another time, which is a conflict and
/// must be found. So all files are looked at, but only the column of ids is read of most.
pub(super) fn find_given_up(
    archive: &dyn Archive,
    trimmed: &Trimmed,
    tables: &Tables,
    ids: &[EventId<'_>],
) -> Result<Vec<Seen>, StoreError> {
    let wanted: HashSet<IdHash> = ids.iter().map(|id| id.hash).collect();
    let mut texts: Vec<&str> = ids.iter().map(|id| id.text).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut found = Vec::new();
    for (family, table) in tables.families.iter().enumerate() {
        if !trimmed.families.contains_key(&table.name) {
            continue;
        }
        for some in texts.chunks(IDS_PER_SCAN) {
            let range =
                HistoryRange { until: trimmed.seq, ids: Some(some), ..HistoryRange::default() };
            archive.each(trimmed, HistoryTable::Family(family), &range, &mut |rows| {
                let numbers = |name: &str| {
                    rows.column_by_name(name).map(|column| column.as_primitive::<Int64Type>())
                };
                let columns =
                    [column::ID_HI, column::ID_LO, column::BODY, column::SEQ].map(numbers);
                let [Some(hi), Some(lo), Some(body), Some(seq)] = columns else { return Ok(()) };
                for row in 0..rows.num_rows() {
                    let id = IdHash { hi: hi.value(row), lo: lo.value(row) };
                    if wanted.contains(&id) {
                        found.push(Seen { id, body: body.value(row), seq: seq.value(row) });
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok(found)
}

/// 0001-01-01 and the end of 9999, the bounds of an event time (µs).
const EARLIEST: i64 = -62_135_596_800_000_000;
const LATEST: i64 = 253_402_300_799_999_999;

/// Hands over the ids of all journal rows with an event time at or after `since`.
pub(super) fn scan_ids(
    conn: &Connection,
    tables: &Tables,
    since: i64,
    each: &mut dyn FnMut(&[IdHash]),
) -> duckdb::Result<()> {
    if tables.families.is_empty() {
        return Ok(());
    }
    // DuckDB's timestamps do not reach as far as 64 bits do.
    let since = since.clamp(EARLIEST, LATEST);
    let sql = over_families(tables, "_id_hi, _id_lo", &format!("_time >= make_timestamp({since})"));
    let schema = schema_of(&[(column::ID_HI, DataType::Int64), (column::ID_LO, DataType::Int64)]);
    let mut ids = Vec::new();
    rows::stream(conn, &sql, [], &schema, |batch| {
        let hi = batch.column(0).as_primitive::<Int64Type>();
        let lo = batch.column(1).as_primitive::<Int64Type>();
        ids.clear();
        ids.extend(hi.values().iter().zip(lo.values()).map(|(&hi, &lo)| IdHash { hi, lo }));
        each(&ids);
    })
}

/// Hands over the key hashes of all rows of an entity table.
pub(super) fn scan_keys(
    conn: &Connection,
    table: &Table,
    each: &mut dyn FnMut(&[i64]),
) -> duckdb::Result<()> {
    let sql = format!("select _key_hash from {}", quoted(&table.name));
    let schema = schema_of(&[(column::KEY_HASH, DataType::Int64)]);
    rows::stream(conn, &sql, [], &schema, |batch| {
        each(batch.column(0).as_primitive::<Int64Type>().values());
    })
}

/// Fold states by key, in the order of `keys`.
pub(super) fn load_states(
    conn: &Connection,
    table: &Table,
    keys: &[EntityKey],
) -> duckdb::Result<Vec<Option<Vec<u8>>>> {
    let mut states = vec![None; keys.len()];
    if keys.is_empty() {
        return Ok(states);
    }
    let mut places: HashMap<i64, Vec<usize>> = HashMap::with_capacity(keys.len());
    for (place, key) in keys.iter().enumerate() {
        places.entry(key.hash64()).or_default().push(place);
    }
    let schema = schema_of(&[
        (column::KEY_HASH, DataType::Int64),
        (column::TENANT, DataType::Utf8),
        (column::KEY, DataType::Utf8),
        (column::STATE, DataType::Binary),
    ]);
    let select = format!("select _key_hash, _tenant, _key, _state from {}", quoted(&table.name));
    let found = if let [key] = keys {
        rows::query(conn, &format!("{select} where _key_hash = ?"), [key.hash64()], &schema)?
    } else {
        let hashes = keys::set(conn, places.keys().copied())?;
        rows::query_once(conn, &format!("{select} where _key_hash in {hashes}"), [], &schema)?
    };
    let hash = found.column(0).as_primitive::<Int64Type>();
    let tenant = found.column(1).as_string::<i32>();
    let key = found.column(2).as_string::<i32>();
    let state = found.column(3).as_binary::<i32>();
    for row in 0..found.num_rows() {
        for &place in places.get(&hash.value(row)).into_iter().flatten() {
            if *keys[place].tenant == *tenant.value(row) && *keys[place].key == *key.value(row) {
                states[place] = Some(state.value(row).to_vec());
            }
        }
    }
    Ok(states)
}

/// Current rows whose `field` has one of `values`, each within its tenant.
pub(super) fn rows_where(
    conn: &Connection,
    table: &Table,
    field: &Field,
    values: &[EntityKey],
) -> duckdb::Result<Vec<RecordBatch>> {
    let mut by_tenant: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for value in values {
        by_tenant.entry(&value.tenant).or_default().push(&value.key);
    }
    let name = quoted(field.name());
    // Keys are text; a text column is compared as it is, so that DuckDB can skip row groups.
    let text = match field.data_type() {
        DataType::Utf8 => name,
        _ => format!("cast({name} as varchar)"),
    };
    let mut found = Vec::new();
    for (tenant, values) in by_tenant {
        for some in values.chunks(VALUES_PER_QUERY) {
            let marks = vec!["?"; some.len()].join(",");
            let sql = format!(
                "select {} from {} where _tenant = ? and {text} in ({marks})",
                table.columns,
                quoted(&table.name),
            );
            let params = std::iter::once(&tenant).chain(some).map(|v| Value::Text((*v).to_owned()));
            let rows = rows::query_once(conn, &sql, params_from_iter(params), &table.schema)?;
            if rows.num_rows() > 0 {
                found.push(rows);
            }
        }
    }
    Ok(found)
}

/// Hashes out of the set that more than one row of an entity table has.
pub(super) fn ambiguous_hashes(
    conn: &Connection,
    table: &Table,
    hashes: &str,
) -> duckdb::Result<HashSet<i64>> {
    let mut statement = conn.prepare(&format!(
        "select _key_hash from {} where _key_hash in {hashes} group by all having count(*) > 1",
        quoted(&table.name)
    ))?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The same query over every journal table.
fn over_families(tables: &Tables, select: &str, filter: &str) -> String {
    tables
        .families
        .iter()
        .map(|table| format!("select {select} from {} where {filter}", quoted(&table.name)))
        .collect::<Vec<_>>()
        .join(" union all ")
}

fn schema_of(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, ty)| Field::new(*name, ty.clone(), false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
