//! Which groups of an answer are shown by name, and what becomes of the rest.
//!
//! One rule: groups are put in the order asked for, then cut. What comes first is named; a dimension lets in the
//! values that come first, as many as its `max_cardinality` says. The rest of a capped dimension, and what `other`
//! asks for, stand under [`Member::Other`]: the values of additive measures are added up where all groups were
//! read, everything else is measured anew over exactly the rows of the rest. So no group of the rest is ever made
//! of values that cannot be put together.
//!
//! Start at [`Kept::of`]; [`gather`] does the rest. No I/O but what the caller's `measure` does.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Domain, Metric};

use super::check::{Filter, FilterValue, Resolved, Test};
use super::groups::{self, Groups, Member};
use crate::question::{GroupOrder, ReadError};
use crate::value::{Value, compare};

/// Most groups of one answer, whatever the contract allows.
pub(super) const MAX_GROUPS: usize = 10_000;

/// Most groups that are put in order of their values, or gathered.
pub(super) const MAX_RANKED: usize = 100_000;

/// Groups by the metric that reads the rows.
pub(super) type Read = BTreeMap<usize, Groups>;

/// Reads the values of metrics for a question, in the snapshot of the answer.
pub(super) type MeasureFn<'f, 'a> =
    dyn Fn(&Resolved<'a>, &BTreeSet<usize>) -> Result<Read, ReadError> + 'f;

/// The groups that are shown by name.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By dimension the values that are let in; `None`: all.
    admitted: Vec<Option<BTreeSet<Member>>>,
    /// These and no others; `None`: all whose values are let in.
    named: Option<BTreeSet<Vec<Member>>>,
}

/// Most groups that a statement has to give: the first in order of dimensions, unless all are needed.
pub(super) fn most_read(question: &Resolved<'_>) -> usize {
    if needs_all(question) {
        return MAX_RANKED;
    }
    match question.group_by.as_slice() {
        [only] => only.max_cardinality.unwrap_or(MAX_GROUPS).min(MAX_GROUPS),
        _ => MAX_GROUPS,
    }
}

fn needs_all(question: &Resolved<'_>) -> bool {
    let is_ranked = question.order_by != GroupOrder::Dimensions || question.other;
    !question.group_by.is_empty() && (is_ranked || question.named.is_some() || question.compare)
}

/// Refuses more groups than can be ranked.
pub(super) fn check(question: &Resolved<'_>, read: &Read) -> Result<(), ReadError> {
    let is_too_many = |groups: &Groups| needs_all(question) && groups.len() > MAX_RANKED;
    match read.values().any(is_too_many) {
        false => Ok(()),
        true => Err(ReadError::Invalid {
            message: format!(
                "there are more than {MAX_RANKED} groups: too many to order them by value, to gather the rest \
                 or to compare them"
            ),
            hint: Some("filter, group by fewer dimensions, or order by dimensions".to_owned()),
            parameter: "group_by",
        }),
    }
}

/// Keys in the order asked for: by value what has none last, and what is equal in order of dimensions. Groups of
/// the rest come after all others.
pub(super) fn ordered(groups: &Groups, order_by: GroupOrder) -> Vec<&Vec<Member>> {
    let mut keys: Vec<(&Vec<Member>, &Value)> = groups.iter().collect();
    let by_value = |left: &Value, right: &Value| match (order_by, left.is_null() || right.is_null())
    {
        (GroupOrder::Dimensions, _) => Ordering::Equal,
        (GroupOrder::Value { down: true }, false) => compare(left, right).reverse(),
        (GroupOrder::Value { .. }, _) => compare(left, right),
    };
    // The sort is stable, and they are in order of dimensions.
    keys.sort_by(|(left, a), (right, b)| {
        let is_rest = |key: &[Member]| key.contains(&Member::Other);
        is_rest(left).cmp(&is_rest(right)).then_with(|| by_value(a, b))
    });
    keys.into_iter().map(|(key, _)| key).collect()
}

impl Kept {
    /// Which of `groups`, those of the metric that was asked, are shown by name.
    pub(super) fn of(groups: &Groups, question: &Resolved<'_>) -> Self {
        if let Some(named) = &question.named {
            return Self { admitted: Vec::new(), named: Some(named.iter().cloned().collect()) };
        }
        let order = ordered(groups, question.order_by);
        let admitted = question.group_by.iter().enumerate().map(|(i, dimension)| {
            let most = dimension.max_cardinality?;
            let mut admitted = BTreeSet::new();
            let mut is_over = false;
            for key in &order {
                if !admitted.contains(&key[i]) {
                    match admitted.len() < most {
                        true => _ = admitted.insert(key[i].clone()),
                        false => is_over = true,
                    }
                }
            }
            is_over.then_some(admitted)
        });
        let mut kept = Self { admitted: admitted.collect(), named: None };
        if let (true, Some(limit)) = (question.other, question.limit) {
            let named: BTreeSet<Vec<Member>> = order
                .iter()
                .filter(|key| kept.has(key))
                .take(limit)
                .map(|key| (*key).clone())
                .collect();
            if named.len() < groups.len() {
                kept.named = Some(named);
            }
        }
        kept
    }

    /// Is every group shown by name?
    pub(super) fn is_all(&self) -> bool {
        self.named.is_none() && self.admitted.iter().all(Option::is_none)
    }

    /// Is this group shown by name?
    pub(super) fn has(&self, key: &[Member]) -> bool {
        match &self.named {
            Some(named) => named.contains(key),
            None => self.place(key) == key,
        }
    }

    /// The group under which a group is shown.
    fn place(&self, key: &[Member]) -> Vec<Member> {
        if let Some(named) = &self.named {
            return match named.contains(key) {
                true => key.to_vec(),
                false => vec![Member::Other; key.len()],
            };
        }
        let placed = key.iter().zip(&self.admitted).map(|(member, admitted)| match admitted {
            Some(admitted) if !admitted.contains(member) => Member::Other,
            _ => member.clone(),
        });
        placed.collect()
    }

    /// Questions whose rows are together exactly those of groups that are not named, each row once; with the
    /// places of the dimensions that are [`Member::Other`] in them.
    fn rest<'a>(&self, question: &Resolved<'a>) -> Vec<(Resolved<'a>, Vec<bool>)> {
        let base = Resolved {
            group_by: Vec::new(),
            order_by: GroupOrder::Dimensions,
            limit: None,
            other: false,
            named: None,
            ..question.clone()
        };
        if let Some(named) = &self.named {
            let mut rest = base;
            match question.group_by.as_slice() {
                [dimension] => {
                    let members = named.iter().filter_map(|key| key.first());
                    let (values, or_none) = values(members);
                    rest.filters.push(Filter { dimension, test: Test::NotIn { values, or_none } });
                }
                dimensions => {
                    rest.without = dimensions.to_vec();
                    rest.without_groups = named.iter().cloned().collect();
                }
            }
            return vec![(rest, vec![true; question.group_by.len()])];
        }
        let capped: Vec<usize> =
            (0..self.admitted.len()).filter(|i| self.admitted[*i].is_some()).collect();
        let subsets = 1..1usize << capped.len();
        let of_subset = |subset: usize| {
            let is_other = |i: usize| {
                capped
                    .iter()
                    .position(|capped| *capped == i)
                    .is_some_and(|bit| subset >> bit & 1 == 1)
            };
            let mut rest = base.clone();
            for (i, dimension) in question.group_by.iter().enumerate() {
                if let Some(admitted) = &self.admitted[i] {
                    let (values, or_none) = values(admitted.iter());
                    let test = match is_other(i) {
                        true => Test::NotIn { values, or_none },
                        false => Test::In { values, or_none },
                    };
                    rest.filters.push(Filter { dimension, test });
                }
                if !is_other(i) {
                    rest.group_by.push(dimension);
                }
            }
            (rest, (0..self.admitted.len()).map(is_other).collect())
        };
        subsets.map(of_subset).collect()
    }
}

/// As the values of a filter: what is not there apart.
fn values<'a>(members: impl Iterator<Item = &'a Member>) -> (Vec<FilterValue>, bool) {
    let (mut values, mut or_none) = (Vec::new(), false);
    for member in members {
        match member {
            Member::Bool(value) => values.push(FilterValue::Bool(*value)),
            Member::Int(value) => values.push(FilterValue::Int(*value)),
            Member::Date(days) => values.push(FilterValue::Date(*days)),
            Member::Text(text) => values.push(FilterValue::Text(text.clone())),
            Member::None => or_none = true,
            Member::Other => {}
        }
    }
    (values, or_none)
}

/// Puts the groups that are not named into those of the rest. `measure` reads the values of metrics for a
/// question.
pub(super) fn gather<'a>(
    domain: &Domain,
    question: &Resolved<'a>,
    kept: &Kept,
    read: &mut Read,
    measure: &MeasureFn<'_, 'a>,
) -> Result<(), ReadError> {
    if kept.is_all() {
        return Ok(());
    }
    let most = most_read(question);
    let is_whole = |groups: &Groups| groups.len() <= most;
    if read.values().all(|groups| is_whole(groups) && groups.keys().all(|key| kept.has(key))) {
        return Ok(());
    }
    let mut anew = BTreeSet::new();
    for (leaf, groups) in read.iter_mut() {
        let metric = &domain.metrics[*leaf];
        let added = is_whole(groups).then(|| added_up(metric, groups, kept)).flatten();
        groups.retain(|key, _| kept.has(key));
        match added {
            Some(added) => groups.extend(added),
            None => _ = anew.insert(*leaf),
        }
    }
    if anew.is_empty() {
        return Ok(());
    }
    for (rest, is_other) in kept.rest(question) {
        for (leaf, groups) in measure(&rest, &anew)? {
            let Some(gathered) = read.get_mut(&leaf) else { continue };
            for (key, value) in groups {
                let mut members = key.into_iter();
                let key = is_other.iter().map(|is_other| match is_other {
                    true => Member::Other,
                    false => members.next().unwrap_or(Member::None),
                });
                gathered.insert(key.collect(), value);
            }
        }
    }
    Ok(())
}

/// The groups of the rest as sums of those that are not named; `None` where that would be something else.
fn added_up(metric: &Metric, groups: &Groups, kept: &Kept) -> Option<Groups> {
    if !metric.measure.additivity().dimension {
        return None;
    }
    let mut rest = Groups::new();
    for (key, value) in groups.iter().filter(|(key, _)| !kept.has(key)) {
        let sum = rest.entry(kept.place(key)).or_insert(Value::Null);
        *sum = match (&*sum, value) {
            (_, Value::Null) => continue,
            (Value::Null, value) => value.clone(),
            (sum, value) => sum.plus(value)?,
        };
    }
    Some(rest.into_iter().map(|(key, sum)| (key, groups::settle(metric, sum))).collect())
}
