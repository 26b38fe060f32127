//! What connections begin with when many of them come at once.

use super::*;

/// What one event is, as far as it matters who wants it.
struct Posted {
    seq: i64,
    tenant: &'static str,
    event_type: &'static str,
    entity: String,
}

/// Each gets its newest events, however many ask together and however large these are, and then what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_begins_with_its_own_newest_events() {
    const TENANTS: [&str; 2] = ["t", "u"];
    let world = World::start(&many());
    let mut random = SmallRng::seed_from_u64(3);
    // Names that SQL could take for something else are names as well.
    let names = ["7", "8", "o'neil", "'", "\\", "?", "", "x') or ('1' = '1", "город"];
    let mut posted: Vec<Posted> = Vec::new();
    let mut number = 0;
    for batch in 0..8 {
        let tenant = TENANTS[batch % 2];
        let (mut events, mut about) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            number += 1;
            let name = names[random.random_range(0..names.len())];
            let (event, event_type, entity) = match random.random_range(0..10) {
                0 | 1 => {
                    let person = random.random_range(5..9);
                    let mut event = visit(number, person);
                    event["note"] = "n".repeat(random.random_range(0..40_000)).into();
                    (event, "visit", person.to_string())
                }
                2 => {
                    let entity = match number.is_multiple_of(2) {
                        true => number.to_string(),
                        false => format!("thing {number}"),
                    };
                    (weighed(number), "weighed", entity)
                }
                3 => (sale(number, "sale.undone", name), "sale.undone", name.to_owned()),
                _ => (sale(number, "sale.made", name), "sale.made", name.to_owned()),
            };
            events.push(event);
            about.push((event_type, entity));
        }
        let seqs = world.post(tenant, &events).await;
        posted.extend(seqs.into_iter().zip(about).map(|(seq, (event_type, entity))| Posted {
            seq,
            tenant,
            event_type,
            entity,
        }));
    }
    let types: [&[&str]; 5] = [&[], &["sale"], &["sale.undone"], &["visit", "weighed"], &["leave"]];
    let mut readers = Vec::new();
    for _ in 0..600 {
        let tenant = TENANTS[random.random_range(0..2)];
        let types = types[random.random_range(0..types.len())];
        let entity = match random.random_range(0..10) {
            0 => None,
            1 => Some("nobody".to_owned()),
            2 => Some(posted[random.random_range(0..posted.len())].entity.clone()),
            _ => Some(names[random.random_range(0..names.len())].to_owned()),
        };
        let entity = entity.filter(|entity| !entity.is_empty());
        let count = random.random_range(1..14);
        let filter = world.filter(types, entity.as_deref());
        let is_wanted = |one: &&Posted| {
            one.tenant == tenant
                && filter.has_type(one.event_type)
                && entity.as_ref().is_none_or(|entity| *entity == one.entity)
        };
        let newest = posted.iter().rev().filter(is_wanted).take(count);
        let mut expected: Vec<i64> = newest.map(|one| one.seq).collect();
        expected.reverse();
        let reading = world.open(tenant, filter.clone(), Begin::Newest(count));
        readers.push((tenant, filter, expected, reading));
    }
    let last = world.post("t", &[sale(number + 1, "sale.undone", "7")]).await;
    let reads = readers.into_iter().map(async |(tenant, filter, mut expected, mut reading)| {
        let about_it = filter.entity().is_none_or(|entity| **entity == *"7");
        if tenant == "t" && filter.has_type("sale.undone") && about_it {
            expected.extend(&last);
        }
        assert_eq!(reading.ids(expected.len()).await, expected, "{tenant} {filter:?}");
        reading
    });
    let readings = futures::future::join_all(reads).await;
    assert_eq!(readings.len(), 600);
}

/// One that goes before its turn comes, or while it is served, holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_before_it_has_begun_is_not_waited_for() {
    let world = World::start(&many());
    let posted = world.post("t", &[sale(1, "sale.made", "a"), sale(2, "sale.made", "b")]).await;
    for _ in 0..50 {
        let open = || world.open("t", world.filter(&[], Some("a")), Begin::Newest(3));
        let mut staying = open();
        for _ in 0..20 {
            let mut going = open();
            // It is asked once, so that it waits for its turn.
            let _ = going.frames.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        }
        assert_eq!(staying.ids(1).await, posted[..1]);
    }
}
