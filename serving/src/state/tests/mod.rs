//! Cubes against plain sums over the rows they stand for.

mod pieces;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contracts::model::Relation;
use proptest::prelude::*;

use super::cube::Cube;
use super::delta::Run;
use super::face::MOST_GROUPS;
use super::keeper::MOST_TENANTS;
use super::*;
use crate::metric::Member;

fn spec() -> Arc<Spec> {
    Arc::new(Spec {
        subject: Subject::Metric(0),
        name: "metric m@1".into(),
        fingerprint: 1,
        arithmetic: Arithmetic::Exact,
        dimensions: 2,
        inputs: vec![Input {
            relation: Relation::Family(0),
            event_types: Vec::new(),
            time: "t".into(),
            filter: None,
            arg: None,
            is_summed: false,
            weight: None,
            dimensions: vec!["d".into(), "e".into()],
        }],
    })
}

/// Minute (none: without a time), group, amount. The amount decides the second dimension.
type Given = (Option<i64>, i64, i64);

fn other(amount: i64) -> i64 {
    amount.rem_euclid(5)
}

fn change(cells: &[Given], is_hourly: bool) -> Change {
    let mut sums: BTreeMap<(Option<i64>, [i64; 2]), Agg> = BTreeMap::new();
    for (minute, group, amount) in cells {
        let agg = Agg::exact(1, 1, i128::from(*amount));
        let whole = |minute: i64| if is_hourly { minute.div_euclid(HOUR) * HOUR } else { minute };
        sums.entry((minute.map(whole), [*group, other(*amount)]))
            .or_default()
            .add(&agg, Arithmetic::Exact);
    }
    let mut change = Change::of(1, "t");
    let mut places: BTreeMap<[i64; 2], u32> = BTreeMap::new();
    for ((minute, group), agg) in sums {
        let place = *places
            .entry(group)
            .or_insert_with(|| change.key(&Key::from(group.map(Member::Int).to_vec())));
        let minute = minute.map_or(Bucket::Timeless, |minute| match is_hourly {
            true => Bucket::Hour(minute.div_euclid(HOUR)),
            false => Bucket::Minute(minute),
        });
        change.push(minute, place, agg);
    }
    change
}

/// Rows, amounts.
fn expected(
    cells: &[Given],
    from: Option<i64>,
    to: Option<i64>,
    by: usize,
) -> BTreeMap<i64, (i64, i128)> {
    let mut sums = BTreeMap::new();
    for (minute, group, amount) in cells {
        let is_in = match minute {
            None => from.is_none() && to.is_none(),
            Some(minute) => {
                from.is_none_or(|from| *minute >= from) && to.is_none_or(|to| *minute < to)
            }
        };
        if is_in {
            let key = [*group, other(*amount)][by];
            let sum: &mut (i64, i128) = sums.entry(key).or_default();
            sum.0 += 1;
            sum.1 += i128::from(*amount);
        }
    }
    sums
}

fn ask<'a>(
    at: i64,
    from: Option<i64>,
    to: Option<i64>,
    group_by: &'a [usize],
    none: &'a BTreeSet<Vec<Member>>,
) -> Ask<'a> {
    let minutes = |minute: i64| minute * MINUTE;
    Ask {
        subject: Subject::Metric(0),
        tenant: "t",
        at,
        from: from.map(minutes),
        to: to.map(minutes),
        group_by,
        tests: &[],
        without: (&[], none),
    }
}

/// What a keeper says, with what its edges leave to rows put in from the rows.
fn told(keeper: &Keeper, rows: &[Given], ask: &Ask<'_>) -> BTreeMap<i64, (i64, i128)> {
    let by = ask.group_by[0];
    let told = keeper.tell(ask).expect("an answer");
    let mut sums: BTreeMap<i64, (i64, i128)> = BTreeMap::new();
    for (key, agg) in told.groups {
        let [Member::Int(group)] = key[..] else { panic!("{key:?}") };
        sums.insert(group, (agg.rows, agg.exact_sum()));
    }
    for Unread { span: (from, to), .. } in told.edges {
        assert!(from % MINUTE == 0 && to % MINUTE == 0, "rows lie on minutes here");
        for (group, (n, sum)) in expected(rows, Some(from / MINUTE), Some(to / MINUTE), by) {
            let all = sums.entry(group).or_default();
            *all = (all.0 + n, all.1 + sum);
        }
    }
    sums
}

fn rows() -> impl Strategy<Value = Vec<Given>> {
    // Some hours close together, some days apart, before 1970 too.
    let minute = prop_oneof![
        4 => (-200i64..4_000).prop_map(Some),
        1 => (-90_000i64..90_000).prop_map(Some),
        1 => Just(None),
    ];
    prop::collection::vec((minute, 0i64..12, -50i64..50), 0..60)
}

proptest! {
    #[test]
    fn a_window_is_the_sum_of_its_rows(
        commits in prop::collection::vec((rows(), prop::bool::weighted(0.2)), 1..8),
        from in prop::option::of(-1_000i64..5_000),
        length in prop::option::of(1i64..6_000),
        coarse in any::<bool>(),
        is_folded in any::<bool>(),
        by in 0usize..2,
    ) {
        let keeper = Keeper::default();
        keeper.keep(1, spec(), i64::MIN, Some(0));
        let mut stored = Stored::default();
        for (rows, is_hourly) in &commits {
            let (_, delta) = keeper.apply(vec![change(rows, *is_hourly)]);
            keeper.committed(&delta);
            stored.log.push(postcard::to_allocvec(&*delta).expect("bytes"));
            if coarse {
                keeper.coarsen();
            }
            if is_folded {
                stored.fold(&keeper);
            }
        }
        let to = from.zip(length).map(|(from, length)| from + length);
        let none = BTreeSet::new();
        let again = stored.load();
        for at in (0..=commits.len()).rev() {
            let given = commits[..at].iter().flat_map(|(rows, _)| rows.iter().copied());
            let rows: Vec<Given> = given.collect();
            let expected = expected(&rows, from, to, by);
            let (at_commit, by) = (at as i64, [by]);
            let ask = ask(at_commit, from, to, &by, &none);
            // Before it was cut into faces only rows tell.
            if at == commits.len() || keeper.tell(&ask).is_some() {
                prop_assert_eq!(&told(&keeper, &rows, &ask), &expected, "as of commit {}", at);
            }
            if at == commits.len() {
                prop_assert_eq!(&told(&again, &rows, &ask), &expected, "loaded");
            }
        }
        prop_assert!(keeper.tell(&ask(commits.len() as i64 + 1, from, to, &[0], &none)).is_none());
    }

    #[test]
    fn what_is_undone_was_never_there(first in rows(), second in rows()) {
        let keeper = Keeper::default();
        keeper.keep(1, spec(), i64::MIN, Some(0));
        keeper.apply(vec![change(&first, false)]);
        keeper.apply(vec![change(&second, true)]);
        keeper.undo();
        let none = BTreeSet::new();
        let ask = ask(1, None, None, &[0], &none);
        let is_cut = keeper.tell(&ask).is_none();
        prop_assume!(!is_cut);
        prop_assert_eq!(told(&keeper, &first, &ask), expected(&first, None, None, 0));
    }
}

/// What a store has.
#[derive(Default)]
struct Stored {
    at: i64,
    heads: BTreeMap<String, Vec<u8>>,
    chunks: BTreeMap<(String, Option<i64>), Vec<u8>>,
    log: Vec<Vec<u8>>,
}

impl Stored {
    fn fold(&mut self, keeper: &Keeper) {
        let bytes = |result: postcard::Result<Vec<u8>>| result.expect("bytes");
        let written = keeper.unsaved(|_, tenant, head, chunks| {
            if let Some(head) = head {
                self.heads.insert(tenant.to_owned(), bytes(postcard::to_allocvec(&head)));
            }
            for (hour, chunk) in chunks {
                let chunk = bytes(postcard::to_allocvec(&chunk));
                self.chunks.insert((tenant.to_owned(), hour), chunk);
            }
            Ok::<_, ()>(())
        });
        written.expect("written");
        keeper.saved();
        self.at = keeper.applied();
        self.log.clear();
    }

    fn load(&self) -> Keeper {
        let keeper = Keeper::default();
        keeper.keep(1, spec(), i64::MIN, Some(0));
        keeper.starts_at(self.at);
        for (tenant, head) in &self.heads {
            let head = postcard::from_bytes(head).expect("a head");
            assert!(keeper.load(1, tenant, Some(head), None));
        }
        for ((tenant, hour), chunk) in &self.chunks {
            let chunk = postcard::from_bytes(chunk).expect("a chunk");
            assert!(keeper.load(1, tenant, None, Some((*hour, chunk))));
        }
        for delta in &self.log {
            let delta: Delta = postcard::from_bytes(delta).expect("changes");
            assert_eq!(keeper.load_delta(&delta), Vec::<i64>::new());
        }
        keeper
    }
}

#[test]
fn with_too_many_groups_only_the_sum_over_all_is_kept() {
    let keeper = Keeper::default();
    keeper.keep(1, spec(), i64::MIN, Some(0));
    let mut stored = Stored::default();
    let mut rows = Vec::new();
    for group in 0..MOST_GROUPS as i64 + 5 {
        rows.push((Some(group), group, 1));
        let (_, delta) = keeper.apply(vec![change(&rows[rows.len() - 1..], false)]);
        keeper.committed(&delta);
        stored.log.push(postcard::to_allocvec(&*delta).expect("bytes"));
    }
    let none = BTreeSet::new();
    let all = rows.len() as i64;
    for keeper in [&keeper, &stored.load()] {
        assert!(keeper.tell(&ask(all, None, None, &[0], &none)).is_none());
        // By the other dimension, which has one value, and no longer by both.
        let by_other = keeper.tell(&ask(all, None, None, &[1], &none)).expect("a group");
        assert_eq!(by_other.groups.len(), 1);
        assert!(keeper.tell(&ask(all, None, None, &[0, 1], &none)).is_none());
        let told = keeper.tell(&ask(all, Some(0), Some(all), &[], &none)).expect("a sum");
        assert_eq!((told.groups[&Vec::new()].rows, told.edges), (all, Vec::new()));
    }
}

#[test]
fn tenants_that_come_when_there_is_no_room_are_left_to_rows() {
    let keeper = Keeper::default();
    keeper.keep(1, spec(), i64::MIN, Some(0));
    let tenants: Vec<String> = (0..MOST_TENANTS + 3).map(|n| format!("t{n}")).collect();
    let one = |tenant: &String| {
        let mut change = Change::of(1, tenant);
        let place = change.key(&Key::from(vec![Member::Int(1), Member::Int(2)]));
        change.push(Bucket::Minute(5), place, Agg::count(1, 1));
        change
    };
    let none = BTreeSet::new();
    let rows = |keeper: &Keeper, tenant: &str| {
        let ask = Ask { tenant, ..ask(keeper.applied(), None, None, &[], &none) };
        let told = keeper.tell(&ask)?;
        Some(told.groups.get(&Vec::new()).map_or(0, |agg| agg.rows))
    };
    // Who comes with a commit that fails takes no room.
    keeper.apply(tenants.iter().rev().map(one).collect());
    keeper.undo();
    assert_eq!(rows(&keeper, &tenants[0]), Some(0));
    let mut stored = Stored::default();
    for (n, some) in tenants.chunks(3).enumerate() {
        let (_, delta) = keeper.apply(some.iter().map(one).collect());
        keeper.committed(&delta);
        stored.log.push(postcard::to_allocvec(&*delta).expect("bytes"));
        if n == 1 {
            stored.fold(&keeper);
        }
    }
    for keeper in [&keeper, &stored.load()] {
        for (n, tenant) in tenants.iter().enumerate() {
            assert_eq!(rows(keeper, tenant), (n < MOST_TENANTS).then_some(1), "{tenant}");
        }
    }
}

#[test]
fn bounds_are_rounded_into_the_window() {
    let mut cube = Cube::new(Arithmetic::Exact, 0, 10);
    let run =
        |minute| Run { bucket: Bucket::Minute(minute), all: Agg::count(1, 1), faces: Vec::new() };
    cube.add(&[run(-100), run(-2), run(70), run(130), run(550), run(700)], false);
    let at = |minute: i64| minute * MINUTE;
    let check = |from: i64, to: i64, expected: (i64, i64)| {
        let (from, to) = cube.inner(Some(from), Some(to));
        assert_eq!((from, to), (Some(expected.0), Some(expected.1)));
    };
    // From hour 10 on there are minutes.
    check(at(601), at(602) + 1, (601, 602));
    check(at(601) - 1, at(602) - 1, (601, 601));
    check(at(61), at(599), (120, 540));
    check(at(60), at(120), (60, 120));
    check(at(-61), at(-1), (-60, -60));
}
