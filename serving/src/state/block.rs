//! The rows of one minute or hour, decoded: what a window cuts of it is added up here, not by a statement.
//!
//! A statement over few rows costs what DuckDB looks at besides them: pieces of storage whose bounds of time
//! overlap, because rows came late. A block was read once, by the same conditions.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use hashbrown::HashMap;

use super::agg::{Agg, Arithmetic};
use super::ask::Ask;
use super::gather::{Coded, Codes, Values, coded};
use super::spec::Spec;
use crate::metric::Member;

/// Columns of the rows that a block is made of: time in µs, argument, how often a row counts.
pub(crate) const TIME: &str = "t";
pub(crate) const ARGUMENT: &str = "a";
pub(crate) const WEIGHT: &str = "n";

/// The column of a dimension.
pub(crate) fn dimension(place: usize) -> String {
    format!("d{place}")
}

/// Rows that are added up beforehand, for who asks for all of them.
const STRIDE: usize = 256;

/// Rows of a span of time, in order of time.
#[derive(Debug)]
pub(crate) struct Block {
    arithmetic: Arithmetic,
    /// µs.
    times: Vec<i64>,
    amounts: Amounts,
    /// By place of the dimension.
    dimensions: Vec<Codes<Member>>,
    /// Of [`STRIDE`] rows each.
    sums: Vec<Agg>,
}

/// What each row adds.
#[derive(Debug)]
enum Amounts {
    /// One row, one thing.
    Ones,
    /// And this.
    Small(Vec<i64>),
    Any(Vec<Agg>),
}

impl Amounts {
    fn of(rows: Vec<Agg>, arithmetic: Arithmetic) -> Self {
        if rows.iter().all(|agg| *agg == Agg::count(1, 1)) {
            return Self::Ones;
        }
        let small = |agg: &Agg| {
            let sum = i64::try_from(agg.exact_sum()).ok()?;
            (*agg == Agg::exact(1, 1, i128::from(sum))).then_some(sum)
        };
        let sums = match arithmetic {
            Arithmetic::Exact => rows.iter().map(small).collect(),
            Arithmetic::Double => None,
        };
        sums.map_or(Self::Any(rows), Self::Small)
    }

    fn at(&self, row: usize) -> Agg {
        match self {
            Self::Ones => Agg::count(1, 1),
            Self::Small(sums) => Agg::exact(1, 1, i128::from(sums[row])),
            Self::Any(rows) => rows[row],
        }
    }
}

impl Block {
    /// Of the rows of a spec, in any order. `None`: they are not as expected.
    pub(crate) fn of(spec: &Spec, rows: &RecordBatch) -> Option<Self> {
        let input = spec.inputs.first()?;
        let times = rows.column_by_name(TIME)?.as_primitive_opt::<Int64Type>()?;
        let values = match &input.arg {
            Some((_, ty)) => Some(Values::of(rows.column_by_name(ARGUMENT)?, ty, input)?),
            None => None,
        };
        let weights = match rows.column_by_name(WEIGHT) {
            Some(weights) => Some(weights.as_primitive_opt::<Int64Type>()?),
            None => None,
        };
        let agg = |row: usize| {
            let weight = weights.map_or(1, |weights| weights.value(row));
            values.as_ref().map_or(Agg::count(1, weight), |values| values.agg(row, 1, weight))
        };
        let mut order: Vec<usize> =
            (0..rows.num_rows()).filter(|row| times.is_valid(*row)).collect();
        order.sort_by_key(|row| times.value(*row));
        let dimensions = (0..spec.dimensions).map(|place| {
            match coded(rows.column_by_name(&dimension(place))?)? {
                Coded::Members(Codes { codes, values }) => {
                    Some(Codes { codes: order.iter().map(|row| codes[*row]).collect(), values })
                }
                Coded::Times(..) => None,
            }
        });
        let dimensions = dimensions.collect::<Option<Vec<_>>>()?;
        let amounts: Vec<Agg> = order.iter().map(|row| agg(*row)).collect();
        let arithmetic = spec.arithmetic;
        let sums = amounts.chunks(STRIDE).map(|rows| total(rows.iter().copied(), arithmetic));
        Some(Self {
            arithmetic,
            times: order.iter().map(|row| times.value(*row)).collect(),
            sums: sums.collect(),
            amounts: Amounts::of(amounts, arithmetic),
            dimensions,
        })
    }

    /// How its sums are made.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Its size in memory.
    pub(super) fn bytes(&self) -> usize {
        let amounts = match &self.amounts {
            Amounts::Ones => 0,
            Amounts::Small(sums) => sums.len() * 8,
            Amounts::Any(rows) => rows.len() * size_of::<Agg>(),
        };
        let of_dimension = |own: &Codes<Member>| own.codes.len() * 4 + own.values.len() * 48;
        let dimensions: usize = self.dimensions.iter().map(of_dimension).sum();
        size_of::<Self>() + self.times.len() * 8 + amounts + dimensions
    }

    /// What is asked for, of its rows from a time to before another (µs).
    pub(crate) fn sums(&self, (from, to): (i64, i64), ask: &Ask<'_>) -> BTreeMap<Vec<Member>, Agg> {
        let place = |time: i64| self.times.partition_point(|own| *own < time);
        let (first, end) = (place(from), place(to).max(place(from)));
        let (without, without_groups) = ask.without;
        if ask.group_by.is_empty() && ask.tests.is_empty() && without.is_empty() {
            return BTreeMap::from([(Vec::new(), self.all(first, end))]);
        }
        let tested = ask.tests.iter().map(|(place, test)| {
            let own = &self.dimensions[*place];
            (&own.codes, own.values.iter().map(|member| test.passes(member)).collect::<Vec<_>>())
        });
        let tested: Vec<_> = tested.collect();
        let unwanted = self.combinations(without, without_groups);
        let mut key = Vec::new();
        let mut sums: HashMap<Vec<u32>, Agg> = HashMap::new();
        let mut by_one = match ask.group_by {
            [one] => vec![Agg::default(); self.dimensions[*one].values.len()],
            _ => vec![Agg::default(); 1],
        };
        for row in first..end {
            if !tested.iter().all(|(codes, passes)| passes[codes[row] as usize]) {
                continue;
            }
            let mut coded = |places: &[usize]| {
                key.clear();
                key.extend(places.iter().map(|place| self.dimensions[*place].codes[row]));
            };
            if !without.is_empty() {
                coded(without);
                if unwanted.contains(&key) {
                    continue;
                }
            }
            let sum = match ask.group_by {
                [] => &mut by_one[0],
                [one] => &mut by_one[self.dimensions[*one].codes[row] as usize],
                several => {
                    let mut key = Vec::with_capacity(several.len());
                    key.extend(several.iter().map(|place| self.dimensions[*place].codes[row]));
                    sums.entry(key).or_default()
                }
            };
            sum.add(&self.amounts.at(row), self.arithmetic);
        }
        match ask.group_by {
            [] => BTreeMap::from([(Vec::new(), by_one[0])]),
            [one] => {
                let members = self.dimensions[*one].values.iter();
                let named = members.zip(by_one).filter(|(_, agg)| agg.rows != 0);
                named.map(|(member, agg)| (vec![member.clone()], agg)).collect()
            }
            several => {
                let member = |(place, code): (&usize, &u32)| {
                    self.dimensions[*place].values[*code as usize].clone()
                };
                let named = sums.into_iter().filter(|(_, agg)| agg.rows != 0);
                named
                    .map(|(key, agg)| (several.iter().zip(&key).map(member).collect(), agg))
                    .collect()
            }
        }
    }

    /// All rows from one to before another.
    fn all(&self, first: usize, end: usize) -> Agg {
        let (whole, last) = (first.div_ceil(STRIDE), end / STRIDE);
        let rows = |from, to| total((from..to).map(|row| self.amounts.at(row)), self.arithmetic);
        if whole >= last {
            return rows(first, end);
        }
        let parts = [rows(first, whole * STRIDE), rows(last * STRIDE, end)];
        let strides = self.sums[whole..last].iter().copied();
        total(parts.into_iter().chain(strides), self.arithmetic)
    }

    /// Values of dimensions as their numbers here; those that do not come here are left out.
    fn combinations<'a>(
        &self,
        places: &[usize],
        groups: impl IntoIterator<Item = &'a Vec<Member>>,
    ) -> HashSet<Vec<u32>> {
        let numbers = |place: &usize| -> HashMap<&Member, u32> {
            self.dimensions[*place].values.iter().zip(0..).collect()
        };
        let numbers: Vec<_> = places.iter().map(numbers).collect();
        let coded = |group: &'a Vec<Member>| {
            group.iter().zip(&numbers).map(|(member, own)| own.get(member).copied()).collect()
        };
        groups.into_iter().filter_map(coded).collect()
    }
}

fn total(rows: impl Iterator<Item = Agg>, arithmetic: Arithmetic) -> Agg {
    let mut total = Agg::default();
    rows.for_each(|agg| total.add(&agg, arithmetic));
    total
}
