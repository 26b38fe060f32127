//! Looked up values: a field of another entity as it was known when the event was applied, that is,
//! folded from the rows at lower positions.

use std::collections::BTreeMap;

use contracts::model::{EnrichValue, Relation};

use super::entity::{self, Entities};
use super::fold;
use super::journal::Rows;
use super::session::{Failed, Session};
use super::sql::{Refused, emit};

/// Makes the table of what the rows of `family` saw: `<table>_seq` and `<table>_value`. Tells why not
/// where it cannot.
pub(super) fn prepare(
    session: &Session<'_>,
    families: &BTreeMap<usize, Rows>,
    rows: &Rows,
    family: usize,
    column: &str,
    versions: &[(u32, EnrichValue)],
) -> Result<String, String> {
    let domain = session.domain;
    let number = domain.families[family].enriched.iter().position(|def| def.name == column);
    let table = format!("verify_l{family}_{}", number.unwrap_or_default());
    let mut parts = Vec::new();
    for (version, value) in versions {
        let EnrichValue::Lookup { entity, key, field } = value else {
            return Err("some versions look it up and others compute it".to_owned());
        };
        let looked_up = &domain.entities[*entity];
        for input in &looked_up.inputs {
            let Relation::Family(family) = input.relation else {
                return Err("it is looked up in an entity over another".to_owned());
            };
            if let Some(why) = session.given_up(family, None) {
                return Err(why);
            }
        }
        let source = fold::rows(session, families, &Entities::default(), looked_up, None)?;
        let running = fold::running(looked_up, &source)?;
        let (running, open) = entity::with_derived(looked_up, running, false)?;
        let value = open.get(field).ok_or_else(|| format!("`{field}` has no form in SQL"))?;
        let key = emit(key, &|name| rows.resolve(name))
            .map_err(|Refused(why)| format!("SQL has no form for {why}"))?;
        parts.push(format!(
            "select l.seq as {table}_seq, r.{} as {table}_value from \
             (select _seq as seq, _tenant as t, ({})::varchar as k from {} where _version = {version}) l \
             asof join ({running}) r on l.t = r.t and l.k = r.k and l.seq > r.s",
            value.0, key.text, rows.view
        ));
    }
    let sql = format!("create or replace temp table {table} as {}", parts.join(" union all "));
    session.run(&sql).map_err(|Failed(why)| format!("DuckDB: {why}"))?;
    Ok(table)
}
