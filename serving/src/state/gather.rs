//! What a commit changes, from its columns: rows that came count one way, rows that went the other.
//!
//! Each column is looked at once for all specs that read it: values become small numbers, numbers of several
//! columns one number, and what is left per row and spec is an addition at a place in a table.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use contracts::model::{Relation, column};
use contracts::types::Type;
use hashbrown::HashMap;
use pipeline::store::{DeadLetter, Effects};

use super::agg::{Agg, Arithmetic};
use super::cube::MINUTE;
use super::delta::Bucket;
use super::face::Key;
use super::spec::{Input, Spec, Subject};
use crate::metric::Member;

/// With fewer rows a minute than this an hour is not cut: it has at most 100,000, which DuckDB reads as one piece
/// whether a minute of them is wanted or all. Few rows say nothing about how many there are.
const ROWS_PER_MINUTE: usize = if cfg!(test) { 4 } else { 1_667 };
const MANY_ROWS: usize = if cfg!(test) { 50 } else { 4_096 };

/// What changes in one cube: groups by their keys, which only the cube has numbers for.
#[derive(Debug)]
pub(crate) struct Change {
    /// Number of the spec.
    pub(super) spec: i64,
    pub(crate) tenant: Box<str>,
    pub(super) keys: Vec<Key>,
    /// Span of time, place in `keys`, and what changes there: nothing, where rows of the span changed and their
    /// sums did not. Those of a span stand together, no place of it stands twice.
    pub(super) cells: Vec<(Bucket, u32, Agg)>,
}

impl Change {
    /// Nothing yet.
    pub(crate) fn of(spec: i64, tenant: &str) -> Self {
        Self { spec, tenant: tenant.into(), keys: Vec::new(), cells: Vec::new() }
    }

    /// The place of a key that it does not have yet.
    pub(crate) fn key(&mut self, key: &Key) -> u32 {
        self.keys.push(key.clone());
        self.keys.len() as u32 - 1
    }

    /// A cell: those of a span one after another, no place of it twice.
    pub(crate) fn push(&mut self, bucket: Bucket, place: u32, agg: Agg) {
        self.cells.push((bucket, place, agg));
    }
}

/// Gathers what a transaction changes. `specs` are those that are kept, by number.
pub(crate) fn gather(specs: &BTreeMap<i64, Arc<Spec>>, effects: &Effects<'_>) -> Vec<Change> {
    let mut gathering = Gathering::default();
    for (family, rows) in &effects.journal {
        gathering.rows(specs, Relation::Family(*family), rows, 1);
    }
    for change in &effects.entities {
        let relation = Relation::Entity(change.entity);
        if let Some(before) = &change.before {
            gathering.rows(specs, relation, before, -1);
        }
        gathering.rows(specs, relation, &change.rows, 1);
    }
    gathering.rows(specs, Relation::Ingest, &effects.ingest, 1);
    let letters = specs.iter().filter(|(_, spec)| spec.subject == Subject::DeadLetters);
    for (number, _) in letters {
        gathering.letters(*number, &effects.dead_letters);
    }
    gathering.finish(specs)
}

/// Changes by spec and tenant.
#[derive(Default)]
struct Gathering {
    places: HashMap<(i64, Box<str>), usize>,
    buckets: Vec<Gathered>,
    /// Number of the batch.
    batch: usize,
}

struct Gathered {
    change: Change,
    index: HashMap<Key, u32>,
    /// How many batches gave cells: with one of them no place stands twice.
    batches: usize,
    /// The latest of them.
    latest: usize,
}

impl Gathered {
    fn place(&mut self, key: &Key) -> u32 {
        if let Some(place) = self.index.get(key) {
            return *place;
        }
        let place = self.change.key(key);
        self.index.insert(key.clone(), place);
        place
    }
}

impl Gathering {
    fn bucket(&mut self, spec: i64, tenant: &str) -> usize {
        if let Some(place) = self.places.get(&(spec, Box::from(tenant))) {
            return *place;
        }
        self.places.insert((spec, tenant.into()), self.buckets.len());
        let change = Change::of(spec, tenant);
        self.buckets.push(Gathered { change, index: HashMap::new(), batches: 0, latest: 0 });
        self.buckets.len() - 1
    }

    fn rows(
        &mut self,
        specs: &BTreeMap<i64, Arc<Spec>>,
        relation: Relation,
        rows: &RecordBatch,
        sign: i64,
    ) {
        if rows.num_rows() == 0 {
            return;
        }
        let mut view = View { rows, codes: HashMap::new(), groups: HashMap::new() };
        for (number, spec) in specs {
            for input in spec.inputs.iter().filter(|input| input.relation == relation) {
                // A batch of the relation has all of its columns.
                if let Some(table) = view.table(spec, input, sign) {
                    self.put(*number, table);
                }
            }
        }
    }

    fn put(&mut self, spec: i64, table: Table) {
        let mut targets: Vec<Option<(usize, u32)>> = vec![None; table.groups.keys.len()];
        self.batch += 1;
        for (time, group, agg) in table.cells {
            let (bucket, place) = match targets[group] {
                Some(target) => target,
                None => {
                    let (tenant, key) = &table.groups.keys[group];
                    let bucket = self.bucket(spec, tenant);
                    let place = self.buckets[bucket].place(key);
                    *targets[group].insert((bucket, place))
                }
            };
            let bucket = &mut self.buckets[bucket];
            if bucket.latest != self.batch {
                bucket.latest = self.batch;
                bucket.batches += 1;
            }
            bucket.change.cells.push((time, place, agg));
        }
    }

    fn letters(&mut self, spec: i64, letters: &[DeadLetter<'_>]) {
        for letter in letters {
            let bucket = self.bucket(spec, letter.tenant);
            let bucket = &mut self.buckets[bucket];
            let place = bucket.place(&Key::default());
            let time = letter.rejection.event_time.unwrap_or(letter.arrived_at);
            let minute = Bucket::Minute(time.div_euclid(MINUTE));
            bucket.change.cells.push((minute, place, Agg::count(1, 1)));
            bucket.batches += 1;
        }
    }

    fn finish(self, specs: &BTreeMap<i64, Arc<Spec>>) -> Vec<Change> {
        let finish = |Gathered { mut change, batches, .. }: Gathered| {
            if batches > 1 {
                let arithmetic = specs.get(&change.spec).map(|spec| spec.arithmetic);
                merge(&mut change.cells, arithmetic.unwrap_or(Arithmetic::Exact));
            }
            (!change.cells.is_empty()).then_some(change)
        };
        self.buckets.into_iter().filter_map(finish).collect()
    }
}

/// Adds up what stands at the same place, and leaves out what became nothing; but a span in which rows only
/// changed, whose sums are what they were, keeps a cell: what was read of its rows is worth nothing any more.
fn merge(cells: &mut Vec<(Bucket, u32, Agg)>, arithmetic: Arithmetic) {
    cells.sort_unstable_by_key(|(time, place, _)| (*time, *place));
    cells.dedup_by(|next, known| {
        let same = (next.0, next.1) == (known.0, known.1);
        if same {
            known.2.add(&next.2, arithmetic);
        }
        same
    });
    let mut kept = None;
    let mut last = 0;
    for place in 0..cells.len() {
        let cell = cells[place];
        // A sum may have changed although as many rows are there as before.
        let is_nothing = cell.2 == Agg::default();
        let is_last_of_span = cells.get(place + 1).is_none_or(|next| next.0 != cell.0);
        if !is_nothing || (is_last_of_span && kept != Some(cell.0)) {
            kept = Some(cell.0);
            cells[last] = cell;
            last += 1;
        }
    }
    cells.truncate(last);
}

/// Cells of one spec in one batch.
struct Table {
    groups: Rc<Combined>,
    cells: Vec<Named>,
}

/// Numbers of a column's values, row by row.
#[derive(Debug)]
pub(super) struct Codes<T> {
    pub(super) codes: Vec<u32>,
    pub(super) values: Vec<T>,
}

/// Numbers of tenants and values together, row by row.
struct Combined {
    codes: Vec<u32>,
    keys: Vec<(Rc<str>, Key)>,
}

pub(super) enum Coded {
    Members(Codes<Member>),
    /// Minutes, and hours where minutes would be as many as rows.
    Times(Codes<Bucket>, Option<Codes<Bucket>>),
}

/// A batch whose columns are numbered once.
struct View<'a> {
    rows: &'a RecordBatch,
    codes: HashMap<&'a str, Option<Rc<Coded>>>,
    groups: HashMap<&'a [String], Option<Rc<Combined>>>,
}

impl<'a> View<'a> {
    fn table(&mut self, spec: &'a Spec, input: &'a Input, sign: i64) -> Option<Table> {
        let groups = self.groups(&input.dimensions)?;
        let times = self.coded(&input.time)?;
        let Coded::Times(minutes, hours) = &*times else { return None };
        // What the proof counts has few groups, and is to be had to the minute.
        let hours = hours.as_ref().filter(|_| matches!(spec.subject, Subject::Metric(_)));
        let times = hours.unwrap_or(minutes);
        let passes = self.passes(input)?;
        let weights = match input.weight {
            Some(name) => Some(self.rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()?),
            None => None,
        };
        let values = match &input.arg {
            Some((name, ty)) => Some(Values::of(self.rows.column_by_name(name)?, ty, input)?),
            None => None,
        };
        let mut cells = Places::new(groups.keys.len(), times.values.len(), self.rows.num_rows());
        for row in 0..self.rows.num_rows() {
            if let Some(passes) = &passes
                && !passes.value(row)
            {
                continue;
            }
            let weight = weights.map_or(1, |weights| weights.value(row));
            let agg = match &values {
                None => Agg::count(sign, sign * weight),
                Some(values) => values.agg(row, sign, weight),
            };
            let (group, time) = (groups.codes[row] as usize, times.codes[row] as usize);
            cells.at(time, group).add(&agg, spec.arithmetic);
        }
        let cells = cells.taken(|time, group| (times.values[time], group));
        Some(Table { groups, cells })
    }

    /// Rows that count; `None` inside: all.
    fn passes(&self, input: &Input) -> Option<Option<BooleanArray>> {
        let filter = match &input.filter {
            Some(name) => Some(self.rows.column_by_name(name)?.as_boolean_opt()?),
            None => None,
        };
        let types = match input.event_types.is_empty() {
            true => None,
            false => Some(self.rows.column_by_name(column::TYPE)?.as_string_opt::<i32>()?),
        };
        if filter.is_none() && types.is_none() {
            return Some(None);
        }
        let passes = (0..self.rows.num_rows()).map(|row| {
            let is_true = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            let is_type = |name: &str| input.event_types.iter().any(|wanted| wanted == name);
            Some(is_true && types.is_none_or(|types| is_type(types.value(row))))
        });
        Some(Some(passes.collect()))
    }

    /// The tenant and the values of some columns.
    fn groups(&mut self, names: &'a [String]) -> Option<Rc<Combined>> {
        if let Some(known) = self.groups.get(names) {
            return known.clone();
        }
        let found = self.combine(names).map(Rc::new);
        self.groups.insert(names, found.clone());
        found
    }

    fn combine(&mut self, names: &'a [String]) -> Option<Combined> {
        let Some((last, before)) = names.split_last() else {
            let tenants = self.coded(column::TENANT)?;
            let Coded::Members(tenants) = &*tenants else { return None };
            let keys = tenants.values.iter().map(|tenant| match tenant {
                Member::Text(tenant) => Some((Rc::from(tenant.as_str()), Key::default())),
                _ => None,
            });
            let keys = keys.collect::<Option<Vec<_>>>()?;
            return Some(Combined { codes: tenants.codes.clone(), keys });
        };
        let before = self.groups(before)?;
        let column = self.coded(last)?;
        let Coded::Members(column) = &*column else { return None };
        let width = column.values.len();
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut keys = Vec::new();
        // A row often has what the row before has.
        let mut latest = (u64::MAX, 0);
        let codes = before.codes.iter().zip(&column.codes).map(|(group, value)| {
            let pair = u64::from(*group) * width as u64 + u64::from(*value);
            if latest.0 != pair {
                let number = *numbers.entry(pair).or_insert_with(|| {
                    let (tenant, key) = &before.keys[*group as usize];
                    let members = key.iter().chain([&column.values[*value as usize]]);
                    keys.push((Rc::clone(tenant), members.cloned().collect()));
                    keys.len() as u32 - 1
                });
                latest = (pair, number);
            }
            latest.1
        });
        let codes = codes.collect();
        Some(Combined { codes, keys })
    }

    fn coded(&mut self, name: &'a str) -> Option<Rc<Coded>> {
        if let Some(known) = self.codes.get(name) {
            return known.clone();
        }
        let found = self.rows.column_by_name(name).and_then(coded).map(Rc::new);
        self.codes.insert(name, found.clone());
        found
    }
}

/// Numbers the values of a column; of instants their minutes.
pub(super) fn coded(values: &ArrayRef) -> Option<Coded> {
    fn number<T: std::hash::Hash + Eq + Copy, V>(
        values: impl Iterator<Item = Option<T>>,
        value: impl Fn(Option<T>) -> V,
    ) -> Codes<V> {
        let mut numbers: HashMap<Option<T>, u32> = HashMap::new();
        let mut known = Vec::new();
        let mut latest: Option<(Option<T>, u32)> = None;
        let codes = values.map(|own| match latest {
            Some((same, number)) if same == own => number,
            _ => {
                let number = *numbers.entry(own).or_insert_with(|| {
                    known.push(value(own));
                    known.len() as u32 - 1
                });
                latest = Some((own, number));
                number
            }
        });
        let codes = codes.collect();
        Codes { codes, values: known }
    }
    Some(match values.data_type() {
        DataType::Utf8 => Coded::Members(number(values.as_string::<i32>().iter(), |text| {
            text.map_or(Member::None, |text| Member::Text(text.to_owned()))
        })),
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>().iter();
            Coded::Members(number(values, |value| value.map_or(Member::None, Member::Int)))
        }
        DataType::Boolean => Coded::Members(number(values.as_boolean().iter(), |value| {
            value.map_or(Member::None, Member::Bool)
        })),
        DataType::Date32 => {
            let values = values.as_primitive::<Date32Type>().iter();
            Coded::Members(number(values, |value| value.map_or(Member::None, Member::Date)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = values.as_primitive::<TimestampMicrosecondType>().iter();
            let minutes = times.map(|time| time.map(|time| time.div_euclid(MINUTE)));
            let minutes = number(minutes, |minute| minute.map_or(Bucket::Timeless, Bucket::Minute));
            let rows = minutes.codes.len();
            let is_sparse = rows >= MANY_ROWS && rows / minutes.values.len() < ROWS_PER_MINUTE;
            let hours = is_sparse.then(|| hours(&minutes));
            Coded::Times(minutes, hours)
        }
        _ => return None,
    })
}

/// The hours of minutes.
fn hours(minutes: &Codes<Bucket>) -> Codes<Bucket> {
    let mut numbers: HashMap<Bucket, u32> = HashMap::new();
    let mut values = Vec::new();
    let hours = minutes.values.iter().map(|minute| {
        let hour = minute.hour().map_or(Bucket::Timeless, |(hour, _)| Bucket::Hour(hour));
        *numbers.entry(hour).or_insert_with(|| {
            values.push(hour);
            values.len() as u32 - 1
        })
    });
    let hours: Vec<u32> = hours.collect();
    let codes = minutes.codes.iter().map(|minute| hours[*minute as usize]).collect();
    Codes { codes, values }
}

/// The argument of a measure.
pub(super) enum Values<'a> {
    /// It only counts where it is there.
    There(&'a dyn Array),
    Ints(&'a arrow::array::Int64Array),
    Decimals(&'a arrow::array::Decimal128Array),
    Doubles(&'a arrow::array::Float64Array),
}

impl<'a> Values<'a> {
    pub(super) fn of(values: &'a ArrayRef, ty: &Type, input: &Input) -> Option<Self> {
        Some(match ty {
            _ if !input.is_summed => Self::There(&**values),
            Type::Int64 => Self::Ints(values.as_primitive_opt::<Int64Type>()?),
            Type::Decimal { .. } => Self::Decimals(values.as_primitive_opt::<Decimal128Type>()?),
            Type::Float64 => Self::Doubles(values.as_primitive_opt::<Float64Type>()?),
            _ => return None,
        })
    }

    pub(super) fn agg(&self, row: usize, sign: i64, weight: i64) -> Agg {
        let n = sign * weight;
        match self {
            Self::There(values) if values.is_valid(row) => Agg::count(sign, n),
            Self::Ints(values) if values.is_valid(row) => {
                Agg::exact(sign, n, i128::from(values.value(row)) * i128::from(n))
            }
            Self::Decimals(values) if values.is_valid(row) => {
                Agg::exact(sign, n, values.value(row).wrapping_mul(i128::from(n)))
            }
            Self::Doubles(values) if values.is_valid(row) => {
                Agg::double(sign, n, values.value(row) * n as f64)
            }
            _ => Agg::count(sign, 0),
        }
    }
}

/// A cell for each time and group: a table while that is small, else by place.
enum Places {
    Table(usize, Vec<Agg>),
    Scattered(usize, HashMap<usize, Agg>),
}

impl Places {
    fn new(groups: usize, times: usize, rows: usize) -> Self {
        match groups.checked_mul(times) {
            Some(cells) if cells <= (rows * 4).max(64) => {
                Self::Table(groups, vec![Agg::default(); cells])
            }
            _ => Self::Scattered(groups, HashMap::with_capacity(rows)),
        }
    }

    fn at(&mut self, time: usize, group: usize) -> &mut Agg {
        match self {
            Self::Table(groups, cells) => &mut cells[time * *groups + group],
            Self::Scattered(groups, cells) => cells.entry(time * *groups + group).or_default(),
        }
    }

    /// The cells that are not empty, those of a time together.
    fn taken(self, name: impl Fn(usize, usize) -> (Bucket, usize)) -> Vec<Named> {
        let (groups, cells): (usize, Vec<(usize, Agg)>) = match self {
            Self::Table(groups, cells) => {
                let cells = cells.into_iter().enumerate();
                (groups, cells.filter(|(_, agg)| *agg != Agg::default()).collect())
            }
            Self::Scattered(groups, cells) => {
                let mut cells: Vec<_> = cells.into_iter().collect();
                cells.sort_unstable_by_key(|(place, _)| *place);
                (groups, cells)
            }
        };
        let named = cells.into_iter().map(|(place, agg)| {
            let (time, group) = name(place / groups, place % groups);
            (time, group, agg)
        });
        named.collect()
    }
}

/// Span of time, group and what is in it.
type Named = (Bucket, usize, Agg);
