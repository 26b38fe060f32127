//! The bookkeeping: positions without gaps, ids once, counts that add up.

use contracts::model::Relation;

use super::report::Difference;
use super::session::{Ran, Session};

const POSITIONS: &str =
    "rows of the journal were lost or doubled; restore a backup or rebuild the store from the lake";
const IDS: &str = "an event counts twice; rebuild the store from the lake (`agentflow rebuild`)";
const COUNTS: &str = "records were counted otherwise than they were kept; the rows of the journal are \
                      what metrics stand on";

/// Compares what the store counts with the rows that it has.
pub(super) fn verify(session: &mut Session<'_>) -> Ran {
    if session.tenant.is_none() {
        positions(session)?;
        ledger(session)?;
    }
    ids(session)?;
    accepted(session)?;
    rejected(session)
}

/// All journal rows of all families under each other.
fn journal(session: &Session<'_>, columns: &str) -> String {
    let families = 0..session.domain.families.len();
    let each = families.map(|family| {
        let table = session.table(Relation::Family(family));
        format!("select {columns} from main.{table} where true{}", session.of_tenant("_tenant"))
    });
    each.collect::<Vec<_>>().join(" union all ")
}

fn positions(session: &mut Session<'_>) -> Ran {
    if session.domain.families.is_empty() {
        return Ok(());
    }
    let rows = session.rows(
        &format!(
            "select count(*), count(distinct _seq), coalesce(min(_seq), 0), coalesce(max(_seq), 0) \
             from ({})",
            journal(session, "_seq")
        ),
        &[],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(3)?)),
    )?;
    let Some((count, distinct, highest)) = rows.into_iter().next() else { return Ok(()) };
    session.report.checked.books += 2;
    if count != distinct {
        session.report.differs(Difference::new(
            "positions of the journal",
            format!("{count} different ones"),
            format!("{distinct}"),
            POSITIONS,
        ));
    }
    // Of a trimmed journal the highest positions of each family are gone together with those below.
    let before = session.trimmed.as_ref().map_or(0, |trimmed| trimmed.events as i64);
    let last = session.number("select coalesce(max(last_seq), 0) from source_partitions")?;
    let last = last.max(highest);
    if distinct + before != last {
        session.report.differs(Difference::new(
            "positions of the journal",
            format!("{last} events up to position {last}"),
            format!("{}", distinct + before),
            POSITIONS,
        ));
    }
    Ok(())
}

fn ids(session: &mut Session<'_>) -> Ran {
    if session.domain.families.is_empty() {
        return Ok(());
    }
    session.report.checked.books += 1;
    let twice = format!(
        "select _tenant, _id, count(*) from ({}) group by all having count(*) > 1 \
         order by 1, 2 limit 20",
        journal(session, "_tenant, _id")
    );
    let twice = session.rows(&twice, &[], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    })?;
    for (tenant, id, count) in twice {
        session.report.differs(
            Difference::new(format!("event id `{id}`"), "1 row", format!("{count}"), IDS)
                .of(&tenant),
        );
    }
    Ok(())
}

/// `received = accepted + duplicate + rejected + discarded`, and as many accepted as there are rows.
fn ledger(session: &mut Session<'_>) -> Ran {
    let partitions = session.rows(
        "select id, name, received::bigint, accepted::bigint, duplicate::bigint, rejected::bigint, \
         discarded::bigint from source_partitions order by id",
        &[],
        |row| {
            let n = |i| row.get::<_, i64>(i);
            Ok((n(0)?, row.get::<_, String>(1)?, [n(2)?, n(3)?, n(4)?, n(5)?, n(6)?]))
        },
    )?;
    for (id, partition, [received, accepted, duplicate, rejected, discarded]) in partitions {
        let what = format!("partition `{partition}`");
        session.report.checked.books += 1;
        let sum = accepted + duplicate + rejected + discarded;
        if sum != received {
            session.report.differs(Difference::new(
                what.clone(),
                format!("{sum} received: {accepted} accepted, {duplicate} duplicate, {rejected} rejected, {discarded} discarded"),
                format!("{received} received"),
                COUNTS,
            ));
        }
        if session.trimmed.is_some() || session.domain.families.is_empty() {
            continue;
        }
        session.report.checked.books += 1;
        let rows = session.number(&format!(
            "select count(*) from ({}) where _partition = {id}",
            journal(session, "_partition")
        ))?;
        if rows != accepted {
            session.report.differs(Difference::new(
                what,
                format!("{rows} accepted: rows in the journal"),
                format!("{accepted}"),
                COUNTS,
            ));
        }
    }
    if session.trimmed.is_some() {
        session.report.skip("accepted records by partition", "the journal was trimmed");
    }
    Ok(())
}

/// One side of a comparison of counts: by tenant and something else.
fn counts(session: &mut Session<'_>, what: &str, expected: &str, found: &str) -> Ran {
    session.report.checked.books += 1;
    let sql = format!(
        "select coalesce(e.t, f.t), coalesce(e.w, f.w), coalesce(e.n, 0)::bigint, \
         coalesce(f.n, 0)::bigint from ({expected}) e full join ({found}) f \
         on e.t = f.t and e.w is not distinct from f.w \
         where coalesce(e.n, 0) <> coalesce(f.n, 0) order by 1, 2"
    );
    let rows = session.rows(&sql, &[], |row| {
        let word = row.get::<_, Option<String>>(1)?;
        Ok((row.get::<_, String>(0)?, word, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    })?;
    for (tenant, word, expected, found) in rows {
        let what = format!("{what} `{}`", word.unwrap_or_else(|| "null".to_owned()));
        session.report.differs(
            Difference::new(what, expected.to_string(), found.to_string(), COUNTS).of(&tenant),
        );
    }
    Ok(())
}

/// Accepted records in `ingest` against rows of the journal, by event type.
fn accepted(session: &mut Session<'_>) -> Ran {
    if session.trimmed.is_some() {
        session.report.skip("`ingest` against the journal", "the journal was trimmed");
        return Ok(());
    }
    if session.domain.families.is_empty() {
        return Ok(());
    }
    let expected = format!(
        "select _tenant as t, _type || case when _late then ', late' else '' end as w, count(*) as n \
         from ({}) group by all",
        journal(session, "_tenant, _type, _late")
    );
    let found = format!(
        "select _tenant as t, event_type || case when late then ', late' else '' end as w, \
         sum(_n) as n from main.ingest where outcome = 'accepted'{} group by all",
        session.of_tenant("_tenant")
    );
    counts(session, "accepted records of type", &expected, &found)
}

/// Rejected records in `ingest` against the dead letters, by reason.
fn rejected(session: &mut Session<'_>) -> Ran {
    if session.trimmed.is_some() {
        session.report.skip("`ingest` against the dead letters", "the journal was trimmed");
        return Ok(());
    }
    let expected = format!(
        "select tenant as t, reason as w, count(*) as n from main.dead_letters where true{} group by all",
        session.of_tenant("tenant")
    );
    let found = format!(
        "select _tenant as t, reason as w, sum(_n) as n from main.ingest \
         where outcome = 'rejected'{} group by all",
        session.of_tenant("_tenant")
    );
    counts(session, "records rejected as", &expected, &found)
}
