//! State of rows that are there already, by a statement each.

use contracts::model::{Relation, column};
use contracts::types::Type;
use duckdb::types::ValueRef;
use duckdb::{Connection, Row};
use hashbrown::HashMap;

use crate::metric::Member;
use crate::state::{Agg, Arithmetic, Bucket, Change, HOUR, Input, Key, MINUTE, Spec, Subject};
use crate::store::schema::{DEAD_LETTERS, Tables, quoted};

/// Time of a dead letter.
const LETTER_TIME: &str = "coalesce(event_time, arrived_at)";

/// Can its rows be put in by position? Those of a journal do not change.
pub(super) fn is_sliced(spec: &Spec) -> bool {
    let of_family = |input: &Input| matches!(input.relation, Relation::Family(_));
    !spec.inputs.is_empty() && spec.inputs.iter().all(of_family)
}

/// The newest hour of its rows; `None`: it has none.
pub(super) fn newest_hour(
    conn: &Connection,
    tables: &Tables,
    spec: &Spec,
) -> duckdb::Result<Option<i64>> {
    let mut newest = None;
    let mut look = |time: &str, table: &str| -> duckdb::Result<()> {
        let sql = format!("select epoch_us(max({time})) from {}", quoted(table));
        let time: Option<i64> = conn.query_row(&sql, [], |row| row.get(0))?;
        newest = newest.max(time.map(|time| time.div_euclid(MINUTE * HOUR)));
        Ok(())
    };
    if spec.subject == Subject::DeadLetters {
        look(LETTER_TIME, DEAD_LETTERS)?;
    }
    for input in &spec.inputs {
        look(&quoted(&input.time), table(tables, input.relation))?;
    }
    Ok(newest)
}

/// Hours before this one are kept whole.
pub(super) fn fine_from(conn: &Connection, number: i64) -> duckdb::Result<i64> {
    let sql = "select fine_from from metric_state_specs where spec = ?";
    conn.query_row(sql, [number], |row| row.get(0))
}

fn table(tables: &Tables, relation: Relation) -> &str {
    match relation {
        Relation::Family(family) => &tables.families[family].name,
        Relation::Entity(entity) => &tables.entities[entity].name,
        Relation::Ingest => &tables.ingest.name,
    }
}

/// The cells of all rows, or of those at positions after the one and up to the other.
pub(super) fn changes(
    conn: &Connection,
    tables: &Tables,
    spec: &Spec,
    number: i64,
    fine_from: i64,
    span: Option<(i64, i64)>,
) -> duckdb::Result<Vec<Change>> {
    let selects: Vec<String> = match spec.subject {
        Subject::DeadLetters => {
            let time = minute(LETTER_TIME, fine_from);
            vec![format!(
                "select tenant as tenant, {time} as minute, 1 as n, null as a from {DEAD_LETTERS}"
            )]
        }
        _ => spec.inputs.iter().map(|input| select(tables, input, fine_from, span)).collect(),
    };
    let groups: Vec<String> = (0..spec.dimensions).map(|i| format!("d{i}")).collect();
    let groups: String = groups.iter().map(|group| format!(", {group}")).collect();
    let argument = spec.inputs.iter().find_map(|input| input.arg.as_ref());
    let is_summed = spec.inputs.iter().any(|input| input.is_summed);
    let is_weighted = spec.inputs.iter().any(|input| input.weight.is_some());
    let n = match argument {
        Some(_) => "coalesce(sum(n) filter (where a is not null), 0)",
        None => "coalesce(sum(n), 0)",
    };
    let sum = match (argument.map(|(_, ty)| ty), is_weighted) {
        _ if !is_summed => "null".to_owned(),
        (Some(Type::Float64), false) => "fsum(a)".to_owned(),
        (Some(Type::Float64), true) => "fsum(a * n)".to_owned(),
        (_, false) => "sum(a)".to_owned(),
        (Some(Type::Decimal { scale, .. }), true) => {
            format!("sum((a::decimal(38, {scale}) * n::decimal(38, 0))::decimal(38, {scale}))")
        }
        (_, true) => "sum(a::hugeint * n)".to_owned(),
    };
    let sql = format!(
        "select tenant, epoch_us(minute), count(*), ({n})::bigint, {sum}{groups} from ({}) r \
         group by tenant, minute{groups} order by tenant, minute nulls last",
        selects.join(" union all ")
    );
    let mut statement = conn.prepare(&sql)?;
    let mut found = statement.query([])?;
    let mut changes: Vec<Change> = Vec::new();
    let mut index: HashMap<Key, u32> = HashMap::new();
    while let Some(row) = found.next()? {
        let tenant: String = row.get(0)?;
        if changes.last().is_none_or(|change| *change.tenant != *tenant) {
            index.clear();
            changes.push(Change::of(number, &tenant));
        }
        let minute: Option<i64> = row.get(1)?;
        let agg = agg(row, spec.arithmetic)?;
        let key: Key = (0..spec.dimensions)
            .map(|i| Ok(member(row.get_ref(5 + i)?)))
            .collect::<duckdb::Result<_>>()?;
        if let Some(change) = changes.last_mut() {
            let place = *index.entry(key).or_insert_with_key(|key| change.key(key));
            let minute = minute.map(|time| time.div_euclid(MINUTE));
            change.push(minute.map_or(Bucket::Timeless, Bucket::Minute), place, agg);
        }
    }
    Ok(changes)
}

/// The minute of a time, of old ones the hour.
fn minute(time: &str, fine_from: i64) -> String {
    let cut = fine_from.saturating_mul(MINUTE * HOUR);
    // Earlier than any instant that DuckDB has.
    if cut <= -9_223_372_022_400_000_000 {
        return format!("date_trunc('minute', {time})");
    }
    format!(
        "case when {time} < make_timestamp({cut}) then date_trunc('hour', {time}) \
         else date_trunc('minute', {time}) end"
    )
}

fn select(tables: &Tables, input: &Input, fine_from: i64, span: Option<(i64, i64)>) -> String {
    let mut columns = vec![
        format!("{} as tenant", quoted(column::TENANT)),
        format!("{} as minute", minute(&quoted(&input.time), fine_from)),
        format!("{} as n", input.weight.map_or_else(|| "1".to_owned(), quoted)),
        match &input.arg {
            Some((name, _)) => format!("{} as a", quoted(name)),
            None => "null as a".to_owned(),
        },
    ];
    let dimensions = input.dimensions.iter().enumerate();
    columns.extend(dimensions.map(|(i, name)| format!("{} as d{i}", quoted(name))));
    let mut sql = format!(
        "select {} from {} where true",
        columns.join(", "),
        quoted(table(tables, input.relation))
    );
    if !input.event_types.is_empty() {
        let text = |name: &String| format!("'{}'", name.replace('\'', "''"));
        let names: Vec<String> = input.event_types.iter().map(text).collect();
        sql.push_str(&format!(" and {} in ({})", quoted(column::TYPE), names.join(", ")));
    }
    if let Some(filter) = &input.filter {
        sql.push_str(&format!(" and {}", quoted(filter)));
    }
    if let Some((after, until)) = span {
        // In the text, because DuckDB skips row groups by constants.
        let seq = quoted(column::SEQ);
        sql.push_str(&format!(" and {seq} > {after} and {seq} <= {until}"));
    }
    sql
}

fn agg(row: &Row<'_>, arithmetic: Arithmetic) -> duckdb::Result<Agg> {
    let (rows, n): (i64, i64) = (row.get(2)?, row.get(3)?);
    Ok(match (row.get_ref(4)?, arithmetic) {
        (ValueRef::Double(sum), Arithmetic::Double) => Agg::double(rows, n, sum),
        (ValueRef::HugeInt(sum), _) => Agg::exact(rows, n, sum),
        (ValueRef::BigInt(sum), _) => Agg::exact(rows, n, sum.into()),
        (ValueRef::Decimal(sum), _) => Agg::exact(rows, n, sum.value()),
        _ => Agg::count(rows, n),
    })
}

fn member(value: ValueRef<'_>) -> Member {
    match value {
        ValueRef::Boolean(value) => Member::Bool(value),
        ValueRef::BigInt(value) => Member::Int(value),
        ValueRef::Date32(days) => Member::Date(days),
        ValueRef::Text(text) => Member::Text(String::from_utf8_lossy(text).into_owned()),
        _ => Member::None,
    }
}
