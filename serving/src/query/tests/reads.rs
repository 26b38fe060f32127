//! What statements answer, what they hide, and how many may run.

use std::sync::Arc;
use std::time::Duration;

use super::world::{LIMIT, World};
use crate::query::Whose;
use crate::query::guard::RefusalKind;
use crate::query::{QueryError, QueryLimits, cursor};

#[test]
fn numbers_and_times_are_shown_with_all_their_digits() {
    let world = World::new();
    assert_eq!(
        world.rows("select total_amount, created_at, 1 / 4 as q, sum(total_amount) over () as s, null as n from \"order\" order by order_id limit 1"),
        [r#"{"total_amount":100.00,"created_at":"2026-01-01T11:00:00Z","q":0.25,"s":4780.00,"n":null}"#]
    );
    assert_eq!(
        world.rows("select items, city from order_events order by position limit 1"),
        [r#"{"items":[{"product_id":"P-0","quantity":1,"unit_price":100.00}],"city":"Riga"}"#]
    );
    // Of one name only one can be a member of an object.
    assert_eq!(world.rows("select 1 as a, 2 as a"), [r#"{"a":1,"a_2":2}"#]);
    let page =
        world.ask("select order_id, total_amount, created_at, 1 = 1 as b from \"order\" limit 0");
    let columns = page.unwrap().columns.into_iter().map(|c| (c.name, c.ty)).collect::<Vec<_>>();
    let expected = [
        ("order_id", "string"),
        ("total_amount", "decimal(12,2)"),
        ("created_at", "timestamp"),
        ("b", "bool"),
    ];
    assert_eq!(columns, expected.map(|(name, ty)| (name.to_owned(), ty.to_owned())));
}

#[test]
fn an_entity_has_the_fields_of_its_route() {
    let world = World::new();
    let question = crate::question::EntityQuestion {
        entity: "session".into(),
        version: None,
        tenant: "acme".into(),
        id: "S-3".into(),
        as_of: None,
        known_at: None,
    };
    let answer = world.engine.entity(&question).unwrap();
    let answer: Vec<String> =
        answer.data.iter().map(|(name, value)| format!("\"{name}\":{}", value.get())).collect();
    let rows = world.rows("select * from session where session_id = 'S-3'");
    assert_eq!(rows, [format!("{{{}}}", answer.join(","))]);
}

#[test]
fn personal_fields_of_events_are_hidden() {
    let world = World::new();
    assert_eq!(world.rows("select distinct user_id from click_events"), [r#"{"user_id":"***"}"#]);
    let found = world.rows("select count(*) as n from click_events where user_id = 'USR-1'");
    assert_eq!(found, [r#"{"n":0}"#]);
}

#[test]
fn a_scoped_key_reads_its_entities_and_no_journal() {
    let world = World::new();
    let caller = World::scoped(&["order"]);
    assert!(world.check(&caller, "select * from \"order\"").is_ok());
    for relation in ["user", "product", "order_events"] {
        for sql in [
            format!("select * from {relation}"),
            format!("select 1 from \"order\" where exists (select 1 from {relation})"),
            format!("with x as (select * from {relation}) select 1"),
        ] {
            let refusal = world.check(&caller, &sql).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Forbidden, "{sql}");
            assert_eq!(refusal.message, format!("key `k2` may not read relation `{relation}`"));
        }
    }
    // What there is is not told beyond that.
    let refusal = world.check(&caller, "select * from prodct").unwrap_err();
    assert_eq!(refusal.hint.as_deref(), Some("known: `order`"));
}

#[test]
fn nothing_of_the_callers_is_evaluated_on_rows_of_others() {
    let world = World::new();
    // Each fails on any row of the other tenant, wherever DuckDB would put the condition.
    for condition in [
        "cast(replace_me as bigint) > 0",
        "cast('1' || replace_me as bigint) is not null",
        "case when replace_me like 'OTHER%' then cast(replace_me as bigint) else 1 end = 1",
    ] {
        let condition =
            condition.replace("replace_me", "case when city like 'OTHER%' then city else '1' end");
        let sql = format!("select count(*) as n from \"order\" where {condition}");
        assert_eq!(world.rows(&sql), [r#"{"n":40}"#], "{sql}");
    }
    let caller = World::caller();
    let sql = "select order_id from \"order\" where total_amount * 1000000000000000 > 1 and city = 'Riga'";
    let plan = world.queries.explain(&world.check(&caller, sql).unwrap(), Whose::All).unwrap();
    // The scan has the tenant and nothing else.
    let scan = plan.text.split("LIMIT").last().unwrap();
    assert!(scan.contains("_tenant='acme'") && !scan.contains("Riga"), "{}", plan.text);
}

#[test]
fn pages_follow_each_other() {
    let world = World::new();
    let caller = World::caller();
    let guarded = world
        .check(&caller, "select order_id from \"order\" order by order_id limit 35 offset 2")
        .unwrap();
    let mut seen = Vec::new();
    let mut offset = 0;
    loop {
        let page = world.queries.page(&guarded, 10, offset).unwrap();
        assert_eq!(page.total, Some(35), "at {offset}");
        offset += page.rows.len() as u64;
        seen.extend(page.rows.iter().map(|row| row.get("order_id").unwrap().to_owned()));
        if !page.has_more {
            break;
        }
    }
    let expected: Vec<String> = (1002..1037).map(|n| format!("\"ORD-20260101-{n}\"")).collect();
    assert_eq!(seen, expected);
    assert_eq!(world.queries.page(&guarded, 10, 100).unwrap().total, Some(35));
    assert_eq!(
        cursor::read("acme", &guarded.sql(), &cursor::write("acme", &guarded.sql(), 10)),
        Some(10)
    );
}

#[test]
fn a_page_ends_where_it_has_enough_bytes() {
    let world = World::with(QueryLimits { page_bytes: 1000, ..QueryLimits::default() });
    let guarded =
        world.check(&World::caller(), "select * from product order by product_id").unwrap();
    let page = world.queries.page(&guarded, 100, 0).unwrap();
    assert!(page.has_more && (2..12).contains(&page.rows.len()), "{}", page.rows.len());
    assert_eq!(page.total, Some(12));
    let sql = "select left(concat('aaaaaaaaaaaaaaaaaaaa', concat(user_agent, user_agent)), 5000) || left('0123456789', 10) as a, user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent || user_agent as b from click_events";
    let sql = format!("select a || b || b || b || b || b || b || b || b || b as c from ({sql})");
    let error = world.ask(&sql).unwrap_err();
    assert!(matches!(error, QueryError::TooLarge(_)), "{error:?}");
}

#[test]
fn beyond_ten_thousand_rows_they_are_not_counted() {
    let world = World::with(QueryLimits::default());
    let sql = "select 1 from click_events a, click_events b, click_events c";
    let guarded = world.check(&World::caller(), sql).unwrap();
    let page = world.queries.page(&guarded, 10, 0).unwrap();
    assert_eq!((page.rows.len(), page.total, page.has_more), (10, None, true));
}

#[test]
fn a_statement_is_stopped_at_its_limit_and_others_wait_for_nothing() {
    let world =
        Arc::new(World::with(QueryLimits { time: LIMIT, at_once: 1, ..QueryLimits::default() }));
    let slow = "select count(*) from click_events a, click_events b, click_events c, click_events d, \
                click_events e, click_events f, click_events g where a.position + b.position + c.position + \
                d.position + e.position + f.position + g.position = -1";
    let runner = Arc::clone(&world);
    let running = std::thread::spawn(move || {
        loop {
            let begun = std::time::Instant::now();
            match runner.ask(slow).unwrap_err() {
                // A short one of below was under way.
                QueryError::Busy(_) => std::thread::yield_now(),
                error => return (error, begun.elapsed()),
            }
        }
    });
    // The second finds the first under way.
    let mut refused = None;
    for _ in 0..100 {
        match world.ask("select 1") {
            Err(error) => {
                refused = Some(error);
                break;
            }
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    // Entities are read meanwhile.
    world.store.readers().with("read", |conn| conn.execute_batch("select 1")).unwrap();
    let (error, took) = running.join().unwrap();
    assert!(matches!(refused, Some(QueryError::Busy(1))), "{refused:?}, {error:?}");
    assert!(matches!(error, QueryError::TimedOut { .. }), "{error:?}");
    assert!(took >= LIMIT && took < LIMIT + Duration::from_millis(700), "{took:?}");
    assert_eq!(world.rows("select 1 as a"), [r#"{"a":1}"#]);
}

#[test]
fn a_plan_tells_what_is_read_and_how_much() {
    let world = World::new();
    let sql = "select o.status, count(*) from \"order\" o join user u using (user_id) group by 1";
    let guarded = world.check(&World::caller(), sql).unwrap();
    let names: Vec<&str> = guarded.relations.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["order", "user"]);
    let plan = world.queries.explain(&guarded, Whose::All).unwrap();
    assert!(plan.estimated_rows.is_some_and(|rows| rows > 0), "{plan:?}");
    assert_eq!(plan.scanned_rows.len(), 2, "{plan:?}");
    assert!(plan.text.contains("en_order_v2"), "{}", plan.text);
    assert!(plan.text.contains(" row"), "{}", plan.text);
    // A tenant is not told of the rows of others.
    let nobody = world.queries.explain(&guarded, Whose::Tenant("nobody")).unwrap();
    assert_eq!(nobody.estimated_rows, Some(0), "{nobody:?}");
    assert_eq!(nobody.scanned_rows, [0, 0], "{nobody:?}");
    assert!(!nobody.text.contains('~'), "{}", nobody.text);
    let own = world.queries.explain(&guarded, Whose::Tenant(&World::caller().tenant)).unwrap();
    assert!(own.scanned_rows.iter().all(|rows| *rows > 0), "{own:?}");
}

#[test]
fn series_wait_for_a_place_and_not_for_ever() {
    let limits = QueryLimits {
        series_at_once: 1,
        series_wait: Duration::from_millis(20),
        ..QueryLimits::default()
    };
    let world = World::with(limits);
    let first = world.queries.place_for_series().unwrap();
    let refused = world.queries.place_for_series().err();
    assert!(matches!(refused, Some(QueryError::BusyWithSeries(1))), "{refused:?}");
    drop(first);
    assert!(world.queries.place_for_series().is_ok());
}

/// How long this thread has been at work; what others do on the machine does not count. Only Linux tells.
fn worked() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

#[test]
fn hostile_shapes_are_looked_at_quickly() {
    let world = World::new();
    let openers = [
        "(",
        "((",
        "[",
        "{",
        "{'a': ",
        "case when ",
        "not ",
        "-",
        "(select ",
        "exists (",
        "cast(",
        "try_cast(",
        "extract(",
        "extract(year from ",
        "ceil(",
        "floor(",
        "substring(",
        "trim(",
        "trim(both ",
        "position(",
        "position(x in ",
        "overlay(",
        "convert(",
        "interval (",
        "f(",
        "x in (",
        "array[",
        "(a, (",
        "a -> (",
        "lateral (",
        "(values (",
        "with x as (",
        "struct(",
        "select * from (",
        "(select * from (",
        "1 + (",
        "'a' || (",
        "x between (",
        "over (",
        "coalesce(",
        "count(distinct ",
        "sum(x) filter (where ",
        "date (",
        "x::decimal(",
        "if(",
        "cast(cast(x as int) + ",
        "case x when cast(",
        "x like (",
        "x is distinct from (",
    ];
    let heads = ["select ", "select * from ", "select 1 where ", "with x as (", ""];
    let mut slow = Vec::new();
    for head in heads {
        for opener in openers {
            for count in [4, 8, 12, 60, 200] {
                for tail in ["", "1", "x", ")))", "1 as int)"] {
                    let sql = format!("{head}{}{tail}", opener.repeat(count));
                    let before = worked();
                    let _ = world.check(&World::caller(), &sql);
                    let work = worked().saturating_sub(before);
                    if work > Duration::from_secs(1) {
                        slow.push(format!("{work:?}: {sql}"));
                    }
                }
            }
        }
    }
    assert!(slow.is_empty(), "{} texts:\n{}", slow.len(), slow.join("\n"));
}
