//! Rows and values that are kept of minutes and hours, against the rows of the state that is asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use contracts::model::Relation;
use contracts::types::Type;
use proptest::prelude::*;

use super::super::*;
use crate::metric::{FilterValue, Member, Test};

const HOURLY: i64 = HOUR * MINUTE;

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
            arg: Some(("a".into(), Type::Int64)),
            is_summed: true,
            weight: None,
            dimensions: vec!["d".into(), "e".into()],
        }],
    })
}

/// Time in µs, two dimensions, amount.
type Row = (i64, [i64; 2], i64);

#[derive(Debug, Clone)]
struct Commit {
    come: Vec<Row>,
    /// Places of rows that go, among those that are there.
    go: Vec<prop::sample::Index>,
    /// Places of rows that go to another time of their hour, which is often one of their minute.
    moves: Vec<(prop::sample::Index, i64)>,
    is_hourly: bool,
    is_undone: bool,
    is_coarsened: bool,
}

fn change(rows: &[(Row, i64)], is_hourly: bool) -> Change {
    let mut sums: BTreeMap<(Bucket, [i64; 2]), Agg> = BTreeMap::new();
    for ((time, key, amount), sign) in rows {
        let bucket = match is_hourly {
            true => Bucket::Hour(time.div_euclid(HOURLY)),
            false => Bucket::Minute(time.div_euclid(MINUTE)),
        };
        let agg = Agg::exact(*sign, *sign, i128::from(sign * amount));
        sums.entry((bucket, *key)).or_default().add(&agg, Arithmetic::Exact);
    }
    let mut change = Change::of(1, "t");
    let mut places = BTreeMap::new();
    for ((bucket, key), agg) in sums {
        let place = *places
            .entry(key)
            .or_insert_with(|| change.key(&Key::from(key.map(Member::Int).to_vec())));
        change.push(bucket, place, agg);
    }
    change
}

fn within(rows: &[Row], (from, to): (i64, i64)) -> Vec<Row> {
    rows.iter().copied().filter(|(time, ..)| (from..to).contains(time)).collect()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let column = |value: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<Int64Array>())
    };
    let columns = [
        (TIME.to_owned(), column(|row| row.0)),
        (dimension(0), column(|row| row.1[0])),
        (dimension(1), column(|row| row.1[1])),
        (ARGUMENT.to_owned(), column(|row| row.2)),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

/// What is asked, apart from when.
#[derive(Debug, Clone)]
struct Question {
    from: Option<i64>,
    to: Option<i64>,
    group_by: Vec<usize>,
    /// Only these of the first dimension.
    only: Option<Vec<i64>>,
    /// None of these of the second.
    without: BTreeSet<i64>,
}

type Sums = BTreeMap<Vec<i64>, (i64, i128)>;

impl Question {
    fn oracle(&self, rows: &[Row]) -> Sums {
        let mut sums = Sums::new();
        if self.group_by.is_empty() {
            sums.entry(Vec::new()).or_default();
        }
        for (time, key, amount) in rows {
            let is_in = self.from.is_none_or(|from| *time >= from)
                && self.to.is_none_or(|to| *time < to)
                && self.only.as_ref().is_none_or(|only| only.contains(&key[0]))
                && !self.without.contains(&key[1]);
            if is_in {
                let group = self.group_by.iter().map(|place| key[*place]).collect();
                let sum = sums.entry(group).or_default();
                *sum = (sum.0 + 1, sum.1 + i128::from(*amount));
            }
        }
        sums
    }

    /// What the keeper says as of a commit that has these rows; `None`: only rows can tell.
    fn told(&self, keeper: &Keeper, at: i64, rows: &[Row]) -> Option<(Sums, usize)> {
        let test = self.only.as_ref().map(|only| Test::In {
            values: only.iter().copied().map(FilterValue::Int).collect(),
            or_none: false,
        });
        let tests: Vec<(usize, &Test)> = test.iter().map(|test| (0, test)).collect();
        let without: &[usize] = if self.without.is_empty() { &[] } else { &[1] };
        let groups = self.without.iter().map(|value| vec![Member::Int(*value)]).collect();
        let ask = Ask {
            subject: Subject::Metric(0),
            tenant: "t",
            at,
            from: self.from,
            to: self.to,
            group_by: &self.group_by,
            tests: &tests,
            without: (without, &groups),
        };
        let mut told = keeper.tell(&ask)?;
        let mut read = 0;
        let mut rest = Sums::new();
        for Unread { span, of } in std::mem::take(&mut told.edges) {
            match of {
                Some(bucket) => {
                    let rows = within(rows, bucket.span().expect("a span"));
                    let block = Arc::new(Block::of(&spec(), &batch(&rows)).expect("a block"));
                    told.put(&block, span, &ask);
                    keeper.hold(&ask, bucket, Piece::Rows(block));
                }
                None => {
                    read += 1;
                    let part = Self { from: Some(span.0), to: Some(span.1), ..self.clone() };
                    for (group, (n, sum)) in part.oracle(rows) {
                        let all = rest.entry(group).or_default();
                        *all = (all.0 + n, all.1 + sum);
                    }
                }
            }
        }
        for (group, agg) in told.groups {
            let group = group.into_iter().map(|member| match member {
                Member::Int(value) => value,
                member => panic!("{member:?}"),
            });
            let all = rest.entry(group.collect()).or_default();
            *all = (all.0 + agg.rows, all.1 + agg.exact_sum());
        }
        // A group may have come and gone.
        rest.retain(|group, (n, _)| group.is_empty() || *n != 0);
        if self.group_by.is_empty() {
            rest.entry(Vec::new()).or_default();
        }
        Some((rest, read))
    }

    /// The same for the number of different amounts.
    fn distinct(&self, keeper: &Keeper, at: i64, rows: &[Row]) -> Option<(u64, usize)> {
        let none = BTreeSet::new();
        let ask = Ask {
            subject: Subject::Metric(0),
            tenant: "t",
            at,
            from: self.from,
            to: self.to,
            group_by: &[],
            tests: &[],
            without: (&[], &none),
        };
        let values = |span: (i64, i64)| {
            let amounts: Int64Array = within(rows, span).iter().map(|row| row.2).collect();
            let amounts: ArrayRef = Arc::new(amounts);
            let mut gathered = Gathered::new(&Type::Int64);
            (0..amounts.len()).for_each(|row| gathered.put(&amounts, row));
            Arc::new(gathered.finish())
        };
        let mut hours = keeper.hours(&ask)?;
        for hour in &hours.missing {
            let values = values(Bucket::Hour(*hour).span().expect("a span"));
            keeper.hold(&ask, Bucket::Hour(*hour), Piece::Values(Arc::clone(&values)));
            hours.held.push(values);
        }
        hours.held.extend(hours.edges.iter().map(|edge| values(*edge)));
        Some((Distinct::count(hours.held.iter().map(|values| &**values)), hours.missing.len()))
    }
}

fn row() -> impl Strategy<Value = Row> {
    // Close together within a few hours around 1970, seldom elsewhere.
    let time = prop_oneof![
        8 => -2 * HOURLY..3 * HOURLY,
        4 => (0i64..4).prop_flat_map(|minute| minute * MINUTE..(minute + 1) * MINUTE),
        1 => -200 * HOURLY..200 * HOURLY,
    ];
    (time, [0i64..4, 0i64..3], -20i64..20)
}

fn commit() -> impl Strategy<Value = Commit> {
    let rows = prop::collection::vec(row(), 0..20);
    let go = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let flags = [0.15, 0.1, 0.2].map(prop::bool::weighted);
    let to = prop_oneof![0..HOURLY, 0..2 * MINUTE];
    let moves = prop::collection::vec((any::<prop::sample::Index>(), to), 0..4);
    let all = (rows, go, moves, flags);
    all.prop_map(|(come, go, moves, [is_hourly, is_undone, is_coarsened])| Commit {
        come,
        go,
        moves,
        is_hourly,
        is_undone,
        is_coarsened,
    })
}

fn question() -> impl Strategy<Value = Question> {
    let time = || prop_oneof![-2 * HOURLY..3 * HOURLY, 0..4 * MINUTE, -100 * HOURLY..100 * HOURLY];
    let group_by =
        prop::sample::select(vec![vec![], vec![], vec![0], vec![1], vec![1, 0], vec![0, 1]]);
    let only = prop::option::weighted(0.4, prop::collection::vec(0i64..5, 1..3));
    let without = prop_oneof![Just(BTreeSet::new()), prop::collection::btree_set(0i64..4, 0..2)];
    (prop::option::weighted(0.9, time()), prop::option::of(time()), group_by, only, without)
        .prop_map(|(from, to, group_by, only, without)| Question {
            from,
            to: from.zip(to).map(|(from, to)| from.max(to) + 1),
            group_by,
            only,
            without,
        })
}

proptest! {
    #[test]
    fn what_is_kept_is_what_the_rows_say(
        commits in prop::collection::vec(commit(), 1..7),
        questions in prop::collection::vec(question(), 1..4),
    ) {
        let keeper = Keeper::default();
        keeper.keep(1, spec(), i64::MIN, Some(0));
        let mut states: Vec<Vec<Row>> = vec![Vec::new()];
        for commit in &commits {
            let mut rows = states[states.len() - 1].clone();
            let mut changes: Vec<(Row, i64)> = commit.come.iter().map(|row| (*row, 1)).collect();
            for place in &commit.go {
                if !rows.is_empty() {
                    changes.push((rows.swap_remove(place.index(rows.len())), -1));
                }
            }
            for (place, to) in &commit.moves {
                if !rows.is_empty() {
                    let place = place.index(rows.len());
                    let row = &mut rows[place];
                    changes.push((*row, -1));
                    row.0 = row.0.div_euclid(HOURLY) * HOURLY + to;
                    changes.push((*row, 1));
                }
            }
            rows.extend(&commit.come);
            let (_, delta) = keeper.apply(vec![change(&changes, commit.is_hourly)]);
            match commit.is_undone {
                true => keeper.undo(),
                false => {
                    keeper.committed(&delta);
                    states.push(rows);
                }
            }
            if commit.is_coarsened {
                keeper.coarsen();
            }
            // Each twice, so that what is asked for once is read the next time and then used; older
            // snapshots, too, which read what newer ones must not see.
            for at in (0..states.len()).rev().take(3).chain([states.len() - 1]) {
                for question in &questions {
                    let rows = &states[at];
                    if let Some((sums, _)) = question.told(&keeper, at as i64, rows) {
                        prop_assert_eq!(sums, question.oracle(rows), "{:?} at {}", question, at);
                    }
                    if let Some((count, _)) = question.distinct(&keeper, at as i64, rows) {
                        let span = (question.from.unwrap_or(0), question.to.unwrap_or(i64::MAX));
                        let different: BTreeSet<i64> =
                            within(rows, span).iter().map(|row| row.2).collect();
                        prop_assert_eq!(count, different.len() as u64, "{:?} at {}", question, at);
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_asked_for_twice_is_not_read_again_until_it_changes() {
    let keeper = Keeper::default();
    keeper.keep(1, spec(), i64::MIN, Some(0));
    let mut rows: Vec<Row> = (0..100).map(|n| (n * 1_000_000, [n % 3, n % 2], n)).collect();
    let commit = |rows: &[Row]| {
        let changes: Vec<(Row, i64)> = rows.iter().map(|row| (*row, 1)).collect();
        let (number, delta) = keeper.apply(vec![change(&changes, false)]);
        keeper.committed(&delta);
        number
    };
    let question = Question {
        from: Some(7_500_000),
        to: None,
        group_by: vec![],
        only: None,
        without: BTreeSet::new(),
    };
    let mut at = commit(&rows);
    let reads = |at: i64, rows: &[Row]| {
        let (sums, read) = question.told(&keeper, at, rows).expect("sums");
        assert_eq!(sums, question.oracle(rows));
        read
    };
    // A statement for the first time; then the rows are read, and found.
    assert_eq!([reads(at, &rows), reads(at, &rows), reads(at, &rows)], [1, 0, 0]);
    assert!(keeper.bytes_of_pieces() > 0);
    // What comes elsewhere does not matter.
    rows.push((90 * MINUTE, [0, 0], 5));
    at = commit(&rows[100..]);
    assert_eq!(reads(at, &rows), 0);
    // What comes to the same minute does.
    rows.push((9_000_000, [0, 0], 5));
    at = commit(&rows[101..]);
    assert_eq!(keeper.bytes_of_pieces(), 0);
    assert_eq!([reads(at, &rows), reads(at, &rows), reads(at, &rows)], [1, 0, 0]);
}
