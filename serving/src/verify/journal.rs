//! The rows of a relation with everything that is computed from them, computed again.
//!
//! For each family and for `ingest` there is a temporary view: the stored columns, and behind them as
//! `r_<name>` what SQL makes of the enriched columns and of the expressions of entities and metrics. Each
//! is compared with the column that the store has. Where SQL cannot say an expression the stored column
//! stands in, and the report says so.

use std::collections::{BTreeMap, BTreeSet};

use contracts::expr::Expr;
use contracts::model::{ColumnRef, Computed, EnrichValue, Relation, column};
use contracts::types::Type;

use super::compare::{differs, shown};
use super::lookup;
use super::report::Difference;
use super::session::{OF_EVERY_EVENT, Ran, Session};
use super::sql::{Column, Refused, Sql, emit, name, of_stored};

/// Most rows of a difference that are shown.
const SHOWN: usize = 5;

/// A relation with what is computed again.
pub(super) struct Rows {
    /// Name of the view.
    pub(super) view: String,
    /// Columns by name: the recomputed one where there is one.
    columns: BTreeMap<String, Column>,
    /// Columns that are taken as stored though they are computed, with the reason.
    as_stored: BTreeMap<String, String>,
}

/// A column to compute again.
struct Wanted {
    name: String,
    ty: Type,
    from: From,
}

enum From {
    Expr(Expr),
    /// Of each version of the contract: its number and how it makes the column.
    Versions(Vec<(u32, EnrichValue)>),
}

impl Rows {
    /// The SQL of a column, as expressions hold values.
    pub(super) fn column(&self, wanted: &ColumnRef) -> Option<String> {
        self.named(&wanted.name)
    }

    /// The same by name.
    pub(super) fn named(&self, wanted: &str) -> Option<String> {
        let column = self.columns.get(wanted)?;
        Some(if column.stored { of_stored(&column.text, &column.ty) } else { column.text.clone() })
    }

    /// What expressions over the relation see under that name.
    pub(super) fn resolve(&self, wanted: &str) -> Option<Column> {
        self.columns.get(wanted).cloned()
    }

    /// Why a column is not recomputed.
    pub(super) fn as_stored(&self, column: &str) -> Option<&str> {
        self.as_stored.get(column).map(String::as_str)
    }
}

/// The columns of a relation as the store has them.
fn stored(session: &Session<'_>, relation: Relation) -> BTreeMap<String, Column> {
    let mut columns = BTreeMap::new();
    let mut add = |column: &str, ty: Type| {
        let held = Column { text: name(column), ty, stored: true };
        columns.entry(column.to_owned()).or_insert(held);
    };
    let (computed, every) = match relation {
        Relation::Family(index) => {
            let family = &session.domain.families[index];
            for def in family.fields.iter().chain(&family.enriched) {
                add(&def.name, def.ty.clone());
            }
            (&family.computed, OF_EVERY_EVENT.to_vec())
        }
        _ => (
            &session.domain.ingest.computed,
            vec![
                "_seq",
                "_tenant",
                "arrived_at",
                "outcome",
                "reason",
                "event_type",
                "source",
                "late",
            ],
        ),
    };
    for Computed { name, expr, .. } in computed {
        add(name, expr.ty().clone());
    }
    for name in every {
        let ty = match name {
            column::SEQ | column::VERSION => Type::Int64,
            column::TIME | column::ARRIVED_AT | "arrived_at" => Type::Timestamp,
            "late" => Type::Bool,
            _ => Type::String,
        };
        add(name, ty);
    }
    columns
}

fn wanted(session: &Session<'_>, relation: Relation) -> Vec<Wanted> {
    let mut all = Vec::new();
    let computed = match relation {
        Relation::Family(index) => {
            let family = &session.domain.families[index];
            for def in &family.enriched {
                let versions = family.versions.iter().filter_map(|contract| {
                    let enrich = contract.enrich.iter().find(|e| e.name == def.name)?;
                    Some((contract.version, enrich.value.clone()))
                });
                let from = From::Versions(versions.collect());
                all.push(Wanted { name: def.name.clone(), ty: def.ty.clone(), from });
            }
            &family.computed
        }
        _ => &session.domain.ingest.computed,
    };
    for Computed { name, expr, .. } in computed {
        let (ty, from) = (expr.ty().clone(), From::Expr(expr.clone()));
        all.push(Wanted { name: name.clone(), ty, from });
    }
    all
}

/// Makes the view of a relation and compares its columns. `families` are those made before it: what it
/// looks up is folded from them.
pub(super) fn prepare(
    session: &mut Session<'_>,
    families: &BTreeMap<usize, Rows>,
    relation: Relation,
) -> Ran<Rows> {
    let (view, label) = match relation {
        Relation::Family(index) => {
            (format!("verify_f{index}"), format!("event `{}`", session.domain.families[index].name))
        }
        _ => ("verify_ingest".to_owned(), "source `ingest`".to_owned()),
    };
    let wanted = wanted(session, relation);
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    // A lookup needs a table of its own, and its key may need the columns before it.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    if let Relation::Family(family) = relation {
        let is_lookup = |wanted: &&Wanted| match &wanted.from {
            From::Versions(versions) => {
                versions.iter().any(|(_, value)| matches!(value, EnrichValue::Lookup { .. }))
            }
            From::Expr(_) => false,
        };
        for column in wanted.iter().filter(is_lookup) {
            let From::Versions(versions) = &column.from else { continue };
            let mut not_yet = refused.clone();
            let (sql, columns) = view_of(session, relation, &view, &wanted, &seen, &mut not_yet);
            session.run(&sql)?;
            let rows = Rows { view: view.clone(), columns, as_stored: BTreeMap::new() };
            match lookup::prepare(session, families, &rows, family, &column.name, versions) {
                Ok(table) => {
                    seen.insert(column.name.clone(), table);
                }
                Err(why) => {
                    refused.insert(column.name.clone(), why);
                }
            }
        }
    }
    loop {
        let (sql, columns) = view_of(session, relation, &view, &wanted, &seen, &mut refused);
        session.run(&sql)?;
        let rows = Rows { view: view.clone(), columns, as_stored: refused.clone() };
        match failing(session, &rows, &wanted)? {
            Some((column, why)) => {
                refused.insert(column, why);
            }
            None => {
                for (column, why) in &refused {
                    session.skip_column(&label, column, &wanted, why);
                }
                compare(session, &rows, &label, &wanted)?;
                return Ok(rows);
            }
        }
    }
}

/// The statement that makes the view, and its columns. What SQL cannot say goes to `refused`.
fn view_of(
    session: &Session<'_>,
    relation: Relation,
    view: &str,
    wanted: &[Wanted],
    seen: &BTreeMap<String, String>,
    refused: &mut BTreeMap<String, String>,
) -> (String, BTreeMap<String, Column>) {
    let mut columns = stored(session, relation);
    let mut from = format!("select * from main.{}", session.table(relation));
    for table in seen.values() {
        from.push_str(&format!(" left join {table} on _seq = {table}_seq"));
    }
    let mut left: Vec<&Wanted> = wanted.iter().collect();
    while !left.is_empty() {
        let names: BTreeSet<&str> = left
            .iter()
            .filter(|wanted| !refused.contains_key(&wanted.name))
            .map(|wanted| wanted.name.as_str())
            .collect();
        let is_ready = |wanted: &&Wanted| {
            reads(wanted).iter().all(|read| *read == wanted.name || !names.contains(read.as_str()))
        };
        let (mut ready, mut later): (Vec<&Wanted>, Vec<&Wanted>) =
            left.iter().copied().partition(is_ready);
        // The contract lets no column stand on itself; one that did would be read as it is stored.
        if ready.is_empty() {
            std::mem::swap(&mut ready, &mut later);
        }
        left = later;
        let mut list = String::new();
        let mut made = Vec::new();
        for wanted in ready {
            if refused.contains_key(&wanted.name) {
                continue;
            }
            match sql_of(wanted, &columns, seen) {
                Ok(sql) => {
                    let alias = name(&format!("r_{}", wanted.name));
                    list.push_str(&format!(", {} as {alias}", sql.text));
                    made.push((wanted.name.clone(), alias, wanted.ty.clone()));
                }
                Err(Refused(why)) => {
                    refused.insert(wanted.name.clone(), format!("SQL has no form for {why}"));
                }
            }
        }
        if !made.is_empty() {
            from = format!("select *{list} from ({from})");
        }
        for (column, text, ty) in made {
            columns.insert(column, Column { text, ty, stored: false });
        }
    }
    (format!("create or replace temp view {view} as {from}"), columns)
}

fn reads(wanted: &Wanted) -> BTreeSet<String> {
    match &wanted.from {
        From::Expr(expr) => expr.columns().clone(),
        From::Versions(versions) => versions
            .iter()
            .flat_map(|(_, value)| match value {
                EnrichValue::Expr(expr) => expr.columns().clone(),
                EnrichValue::Lookup { .. } => BTreeSet::new(),
            })
            .collect(),
    }
}

fn sql_of(
    wanted: &Wanted,
    columns: &BTreeMap<String, Column>,
    seen: &BTreeMap<String, String>,
) -> Result<Sql, Refused> {
    let resolve = |name: &str| columns.get(name).cloned();
    match &wanted.from {
        From::Expr(expr) => emit(expr, &resolve),
        From::Versions(versions) => {
            let mut text = "(case _version".to_owned();
            for (version, value) in versions {
                let value = match value {
                    EnrichValue::Expr(expr) => {
                        let sql = emit(expr, &resolve)?;
                        if sql.ty != wanted.ty {
                            return Err(Refused("versions of different types".to_owned()));
                        }
                        sql.text
                    }
                    EnrichValue::Lookup { .. } => match seen.get(&wanted.name) {
                        Some(table) => name(&format!("{table}_value")),
                        None => return Err(Refused("a lookup".to_owned())),
                    },
                };
                text.push_str(&format!(" when {version} then {value}"));
            }
            text.push_str(" end)");
            Ok(Sql::new(text, wanted.ty.clone()))
        }
    }
}

/// The first recomputed column over which DuckDB fails.
fn failing(session: &Session<'_>, rows: &Rows, wanted: &[Wanted]) -> Ran<Option<(String, String)>> {
    let tests: Vec<(&Wanted, String)> =
        wanted.iter().filter_map(|wanted| Some((wanted, test(rows, wanted)?))).collect();
    if tests.is_empty() {
        return Ok(None);
    }
    let all: Vec<String> =
        tests.iter().map(|(_, test)| format!("count(*) filter (where {test})")).collect();
    let filter = session.of_tenant("_tenant");
    let from = format!("from {} where true{filter}", rows.view);
    let Err(all_failed) =
        session.rows(&format!("select {} {from}", all.join(", ")), &[], |_| Ok(()))
    else {
        return Ok(None);
    };
    if session.is_over() {
        return Err(all_failed);
    }
    for ((wanted, _), count) in tests.iter().zip(&all) {
        if let Err(error) = session.rows(&format!("select {count} {from}"), &[], |_| Ok(())) {
            return Ok(Some((wanted.name.clone(), format!("DuckDB: {}", error.0))));
        }
    }
    Err(all_failed)
}

/// The condition under which a recomputed column differs from the stored one.
fn test(rows: &Rows, wanted: &Wanted) -> Option<String> {
    let column = rows.columns.get(&wanted.name).filter(|column| !column.stored)?;
    Some(differs(&of_stored(&name(&wanted.name), &wanted.ty), &column.text, &wanted.ty))
}

fn compare(session: &mut Session<'_>, rows: &Rows, label: &str, wanted: &[Wanted]) -> Ran {
    let filter = session.of_tenant("_tenant");
    let total =
        session.number(&format!("select count(*) from {} where true{filter}", rows.view))?;
    if rows.view != "verify_ingest" {
        session.report.checked.events += total.max(0) as u64;
    }
    for wanted in wanted {
        let Some(test) = test(rows, wanted) else { continue };
        session.report.checked.columns += 1;
        let from = format!("from {} where {test}{filter}", rows.view);
        let count = session.number(&format!("select count(*) {from}"))?;
        if count == 0 {
            continue;
        }
        let found = of_stored(&name(&wanted.name), &wanted.ty);
        let recomputed = name(&format!("r_{}", wanted.name));
        let sql = format!(
            "select _tenant, _seq, {}, {} {from} order by _seq limit {SHOWN}",
            shown(&recomputed, &wanted.ty),
            shown(&found, &wanted.ty)
        );
        let samples = session.rows(&sql, &[], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        })?;
        let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let left = (count as usize).saturating_sub(samples.len()) as u64;
        for (tenant, seq, expected, found) in samples {
            let what = format!("{label}, column `{}`, position {seq}", wanted.title());
            session.report.differs(
                Difference::new(
                    what,
                    text(expected),
                    text(found),
                    "the journal row was changed behind the writer; rebuild the store from the lake \
                     (`agentflow rebuild`)",
                )
                .of(&tenant),
            );
        }
        session.report.more_differences += left;
    }
    Ok(())
}

impl Wanted {
    /// What people call it: computed columns have no name of their own.
    fn title(&self) -> String {
        match &self.from {
            From::Expr(expr) => expr.canonical().to_owned(),
            From::Versions(_) => self.name.clone(),
        }
    }
}

impl Session<'_> {
    fn skip_column(&mut self, label: &str, column: &str, wanted: &[Wanted], why: &str) {
        let title = wanted.iter().find(|w| w.name == column).map(Wanted::title);
        let title = title.unwrap_or_else(|| column.to_owned());
        self.report.skip(format!("{label}, `{title}`"), format!("{why}; the stored value is used"));
    }
}
