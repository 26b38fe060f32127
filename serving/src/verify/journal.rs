//! The rows of a relation with everything that is computed from them, computed again.
//!
//! For each family and for `ingest` there is a temporary view: the stored columns, and behind them as
//! `r_<name>` what SQL makes of the enriched columns and of the expressions of entities and metrics. Each
//! is compared with the column that the store has. Where SQL cannot say an expression the stored column
//! stands in, and the report says so.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{ColumnRef, EnrichValue, Relation};

use super::columns::{From, Wanted, reads, sql_of, stored, wanted};
use super::compare::{differs, shown};
use super::lookup;
use super::report::Difference;
use super::session::{Ran, Session};
use super::sql::{Column, Refused, name, of_stored};

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
        match tested(session, &rows, &wanted)? {
            Tested::Failing(column, why) => {
                refused.insert(column, why);
            }
            Tested::Counts(counts) => {
                for (column, why) in &refused {
                    session.skip_column(&label, column, &wanted, why);
                }
                compare(session, &rows, &label, &wanted, &counts)?;
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

/// How many rows of each recomputed column differ from the stored one.
enum Tested {
    Counts(BTreeMap<String, i64>),
    /// The first column over which DuckDB fails, and why.
    Failing(String, String),
}

fn tested(session: &Session<'_>, rows: &Rows, wanted: &[Wanted]) -> Ran<Tested> {
    let tests: Vec<(&Wanted, String)> =
        wanted.iter().filter_map(|wanted| Some((wanted, test(rows, wanted)?))).collect();
    if tests.is_empty() {
        return Ok(Tested::Counts(BTreeMap::new()));
    }
    let all: Vec<String> =
        tests.iter().map(|(_, test)| format!("count(*) filter (where {test})")).collect();
    let filter = session.of_tenant("_tenant");
    let from = format!("from {} where true{filter}", rows.view);
    let counted = session.rows(&format!("select {} {from}", all.join(", ")), &[], |row| {
        (0..tests.len()).map(|i| row.get::<_, i64>(i)).collect::<duckdb::Result<Vec<_>>>()
    });
    let all_failed = match counted {
        Ok(counts) => {
            let names = tests.iter().map(|(wanted, _)| wanted.name.clone());
            return Ok(Tested::Counts(names.zip(counts.into_iter().flatten()).collect()));
        }
        Err(failed) => failed,
    };
    if session.is_over() {
        return Err(all_failed);
    }
    for ((wanted, _), count) in tests.iter().zip(&all) {
        if let Err(error) = session.rows(&format!("select {count} {from}"), &[], |_| Ok(())) {
            return Ok(Tested::Failing(wanted.name.clone(), format!("DuckDB: {}", error.0)));
        }
    }
    Err(all_failed)
}

/// The condition under which a recomputed column differs from the stored one.
fn test(rows: &Rows, wanted: &Wanted) -> Option<String> {
    let column = rows.columns.get(&wanted.name).filter(|column| !column.stored)?;
    Some(differs(&of_stored(&name(&wanted.name), &wanted.ty), &column.text, &wanted.ty))
}

fn compare(
    session: &mut Session<'_>,
    rows: &Rows,
    label: &str,
    wanted: &[Wanted],
    counts: &BTreeMap<String, i64>,
) -> Ran {
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
        let count = counts.get(&wanted.name).copied().unwrap_or(0);
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

impl Session<'_> {
    fn skip_column(&mut self, label: &str, column: &str, wanted: &[Wanted], why: &str) {
        let title = wanted.iter().find(|w| w.name == column).map(Wanted::title);
        let title = title.unwrap_or_else(|| column.to_owned());
        self.report.skip(format!("{label}, `{title}`"), format!("{why}; the stored value is used"));
    }
}
