//! Entities folded again from the journal's rows, and compared row by row.

use std::collections::BTreeMap;

use contracts::expr::Expr;
use contracts::model::{Entity, EntityFieldKind, Relation, column};
use contracts::types::Type;

use super::compare::{differs, shown};
use super::fold;
use super::journal::Rows;
use super::report::Difference;
use super::session::{Failed, Ran, Session};
use super::sql::{Column, Refused, emit, name, narrowed, of_stored};

/// Most rows of a difference that are shown.
const SHOWN: usize = 5;

const HINT: &str = "the row is not what its events make of it; rebuild the store from the lake \
                    (`agentflow rebuild`), or start with the entity's contract as a new version";

/// Columns by name, with their types.
pub(super) type Columns = BTreeMap<String, (String, Type)>;

/// The recomputed rows of an entity.
pub(super) struct EntityRows {
    /// The temporary table.
    pub(super) table: String,
    open: Columns,
    closed: Columns,
    /// Columns that SQL cannot compute, with the reason.
    pub(super) missing: BTreeMap<String, String>,
}

impl EntityRows {
    /// A column of an entity that is open.
    pub(super) fn open(&self, wanted: &str) -> Option<String> {
        self.open.get(wanted).map(|(text, _)| text.clone())
    }

    /// A column at the reference time.
    pub(super) fn at(
        &self,
        wanted: &str,
        depends_on_closed: bool,
        reference: i64,
    ) -> Option<String> {
        let open = self.open(wanted)?;
        if !depends_on_closed {
            return Some(open);
        }
        let (closed, _) = self.closed.get(wanted)?;
        Some(format!("(case when closes_at <= {reference} then {closed} else {open} end)"))
    }
}

/// Those that could be recomputed, and why the others could not.
#[derive(Default)]
pub(super) struct Entities(BTreeMap<usize, Result<EntityRows, String>>);

impl Entities {
    pub(super) fn get(&self, entity: usize) -> Result<&EntityRows, String> {
        match self.0.get(&entity) {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the entity was not recomputed".to_owned()),
        }
    }
}

/// Adds the derived fields and the computed columns to rows of folds, under one assumption about
/// `closed`. Gives the statement and its columns; what SQL cannot say is left out.
pub(super) fn with_derived(
    entity: &Entity,
    from: String,
    closed: bool,
) -> Result<(String, Columns), String> {
    let mut missing = BTreeMap::new();
    Ok(derived(entity, from, "f", closed, &mut missing))
}

fn derived(
    entity: &Entity,
    mut from: String,
    prefix: &str,
    closed: bool,
    missing: &mut BTreeMap<String, String>,
) -> (String, Columns) {
    let mut columns = Columns::new();
    for field in fold::fields(entity) {
        let text = name(&format!("f_{}", field.name));
        columns.insert(field.name.clone(), (text, field.ty.clone()));
    }
    columns.entry(entity.key.clone()).or_insert(("k".to_owned(), Type::String));
    columns.insert(column::CLOSED.to_owned(), (closed.to_string(), Type::Bool));
    let fields = entity.fields.iter().filter_map(|field| match &field.kind {
        EntityFieldKind::Derived(expr) => Some((&field.name, expr, &field.ty)),
        EntityFieldKind::Fold(_) => None,
    });
    let computed = entity.computed.iter().map(|c| (&c.name, &c.expr, c.expr.ty()));
    for (field, expr, ty) in fields.chain(computed) {
        if missing.contains_key(field) {
            continue;
        }
        let resolve = |name: &str| {
            let (text, ty) = columns.get(name)?;
            Some(Column { text: text.clone(), ty: ty.clone(), stored: false })
        };
        match of_type(expr, ty, &resolve) {
            Ok(sql) => {
                let text = name(&format!("{prefix}_{field}"));
                from = format!("select *, {sql} as {text} from ({from})");
                columns.insert(field.clone(), (text, ty.clone()));
            }
            Err(Refused(why)) => {
                missing.insert(field.clone(), format!("SQL has no form for {why}"));
            }
        }
    }
    (from, columns)
}

fn of_type(
    expr: &Expr,
    ty: &Type,
    resolve: &dyn Fn(&str) -> Option<Column>,
) -> Result<String, Refused> {
    let sql = emit(expr, resolve)?;
    if sql.ty == *ty { Ok(sql.text) } else { Err(Refused(format!("{} as {ty}", sql.ty))) }
}

/// Recomputes every entity, those below first, and compares live ones with the store.
pub(super) fn prepare(
    session: &mut Session<'_>,
    families: &BTreeMap<usize, Rows>,
    wanted: impl Fn(usize) -> Option<String>,
) -> Ran<Entities> {
    let mut entities = Entities::default();
    for index in 0..session.domain.entities.len() {
        let domain = session.domain;
        let entity = &domain.entities[index];
        let label = format!("entity `{}` v{}", entity.name, entity.version);
        let made = match wanted(index) {
            Some(why) => Err(why),
            None if session.is_over() => Err("the time was up".to_owned()),
            None => make(session, families, &entities, entity),
        };
        match &made {
            Ok(rows) => {
                for (column, why) in &rows.missing {
                    let title = entity.computed.iter().find(|c| c.name == *column);
                    let title = title.map_or(column.as_str(), |c| c.expr.canonical());
                    session.report.skip(format!("{label}, `{title}`"), why.clone());
                }
                if session.as_of.is_none() {
                    compare(session, rows, entity, &label)?;
                }
            }
            Err(why) => session.report.skip(label, why.clone()),
        }
        entities.0.insert(index, made);
    }
    Ok(entities)
}

fn make(
    session: &Session<'_>,
    families: &BTreeMap<usize, Rows>,
    entities: &Entities,
    entity: &Entity,
) -> Result<EntityRows, String> {
    let failed = |Failed(why): Failed| format!("DuckDB: {why}");
    for input in &entity.inputs {
        if let Relation::Family(family) = input.relation
            && let Some(why) = session.given_up(family, None)
        {
            return Err(why);
        }
    }
    let rows = fold::rows(session, families, entities, entity, session.as_of)?;
    let folds = format!("verify_a{}", entity.index);
    let mut folded = fold::folded(entity, &rows)?;
    let closes = match entity.closes_after {
        Some(after) => narrowed(&format!("(updated_at::hugeint + {after})"), "bigint"),
        None => "null::bigint".to_owned(),
    };
    folded = format!("select *, {closes} as closes_at from ({folded})");
    session.run(&format!("create or replace temp table {folds} as {folded}")).map_err(failed)?;

    let (view, table) = (format!("verify_v{}", entity.index), format!("verify_e{}", entity.index));
    let mut missing = BTreeMap::new();
    loop {
        let from = format!("select * from {folds}");
        let (from, open) = derived(entity, from, "f", false, &mut missing);
        let (from, mut closed) = match entity.closes_after {
            Some(_) => derived(entity, from, "c", true, &mut missing),
            None => (from, open.clone()),
        };
        closed.retain(|column, _| open.contains_key(column));
        session.run(&format!("create or replace temp view {view} as {from}")).map_err(failed)?;
        // A field over which DuckDB fails must not take the others with it.
        let all: Vec<(&String, &String)> = open
            .iter()
            .chain(&closed)
            .filter(|(column, _)| column.as_str() != column::CLOSED)
            .map(|(column, (text, _))| (column, text))
            .collect();
        let counts: Vec<String> = all.iter().map(|(_, text)| format!("count({text})")).collect();
        let whole = format!("select {} from {view}", counts.join(", "));
        let Err(all_failed) = session.rows(&whole, &[], |_| Ok(())) else {
            session
                .run(&format!("create or replace temp table {table} as select * from {view}"))
                .map_err(failed)?;
            let mut rows = EntityRows { table, open, closed, missing };
            rows.add_product_columns();
            return Ok(rows);
        };
        if session.is_over() {
            return Err(failed(all_failed));
        }
        let culprit = all.iter().find_map(|(column, text)| {
            let one = format!("select count({text}) from {view}");
            let error = session.rows(&one, &[], |_| Ok(())).err()?;
            Some(((*column).clone(), failed(error)))
        });
        match culprit {
            Some((column, why)) if !missing.contains_key(&column) => {
                missing.insert(column, why);
            }
            _ => return Err(failed(all_failed)),
        }
    }
}

impl EntityRows {
    fn add_product_columns(&mut self) {
        let product = [
            (column::KEY, "k", Type::String),
            (column::TENANT, "t", Type::String),
            (column::UPDATED_AT, "updated_at", Type::Timestamp),
            (column::UPDATED_SEQ, "updated_seq", Type::Int64),
            (column::CLOSES_AT, "closes_at", Type::Timestamp),
        ];
        for columns in [&mut self.open, &mut self.closed] {
            for (name, text, ty) in &product {
                columns.insert((*name).to_owned(), ((*text).to_owned(), ty.clone()));
            }
        }
    }
}

/// Compares the recomputed rows with those of the store.
fn compare(session: &mut Session<'_>, rows: &EntityRows, entity: &Entity, label: &str) -> Ran {
    let stored = session.table(Relation::Entity(entity.index));
    let joined = format!(
        "(select *, true as is_there from {} where true{}) e full join \
         (select *, true as was_there from main.{stored} where true{}) s \
         on e.t = s._tenant and e.k = s._key",
        rows.table,
        session.of_tenant("t"),
        session.of_tenant("_tenant"),
    );
    let total = session.number(&format!("select count(*) from {}", rows.table))?;
    session.report.checked.entities += total.max(0) as u64;

    let absent = format!("{joined} where was_there is null");
    let extra = format!("{joined} where is_there is null");
    for (from, tenant, key, expected, found) in
        [(&absent, "t", "k", "a row", "none"), (&extra, "_tenant", "_key", "none", "a row")]
    {
        let count = session.number(&format!("select count(*) from {from}"))?;
        let samples = session.rows(
            &format!("select {tenant}, {key} from {from} order by 1, 2 limit {SHOWN}"),
            &[],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        session.report.more_differences += (count.max(0) as u64) - samples.len() as u64;
        for (tenant, key) in samples {
            let what = format!("{label}, key `{key}`");
            session.report.differs(Difference::new(what, expected, found, HINT).of(&tenant));
        }
    }

    let both = format!("{joined} where is_there and was_there");
    let tests = columns_to_compare(entity, rows);
    if tests.is_empty() {
        return Ok(());
    }
    let counts: Vec<String> = tests
        .iter()
        .map(|(_, expected, found, ty)| {
            format!("count(*) filter (where {})", differs(expected, found, ty))
        })
        .collect();
    let counted =
        session.rows(&format!("select {} from {both}", counts.join(", ")), &[], |row| {
            (0..tests.len()).map(|i| row.get::<_, i64>(i)).collect::<duckdb::Result<Vec<_>>>()
        })?;
    for ((column, expected, found, ty), count) in tests.iter().zip(counted.into_iter().flatten()) {
        if count == 0 {
            continue;
        }
        let sql = format!(
            "select t, k, {}, {} from {both} and {} order by 1, 2 limit {SHOWN}",
            shown(expected, ty),
            shown(found, ty),
            differs(expected, found, ty)
        );
        let samples = session.rows(&sql, &[], |row| {
            let text = |i| row.get::<_, Option<String>>(i);
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, text(2)?, text(3)?))
        })?;
        session.report.more_differences += (count as u64) - samples.len() as u64;
        for (tenant, key, expected, found) in samples {
            let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
            let what = format!("{label}, key `{key}`, `{column}`");
            session
                .report
                .differs(Difference::new(what, text(expected), text(found), HINT).of(&tenant));
        }
    }
    Ok(())
}

/// Title, recomputed and stored SQL, type.
fn columns_to_compare(entity: &Entity, rows: &EntityRows) -> Vec<(String, String, String, Type)> {
    let mut all = Vec::new();
    let mut add = |title: &str, stored: &str, from: Option<&(String, Type)>| {
        if let Some((text, ty)) = from {
            let found = of_stored(&format!("s.{}", name(stored)), ty);
            all.push((title.to_owned(), format!("e.{text}"), found, ty.clone()));
        }
    };
    for product in [column::UPDATED_AT, column::UPDATED_SEQ, column::CLOSES_AT] {
        add(product, product, rows.open.get(product));
    }
    let fields = entity.fields.iter().map(|f| (&f.name, f.name.as_str(), f.depends_on_closed));
    let computed =
        entity.computed.iter().map(|c| (&c.name, c.expr.canonical(), c.depends_on_closed));
    for (column, title, twin) in fields.chain(computed) {
        add(title, column, rows.open.get(column));
        if twin {
            let stored = format!("{column}{}", column::CLOSED_SUFFIX);
            add(&format!("{title} (closed)"), &stored, rows.closed.get(column));
        }
    }
    all
}
