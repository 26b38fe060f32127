//! What a commit may have moved of each metric, so that answers about other values and other times hold.
//!
//! A touch names a metric, a tenant, the times between which rows changed, and of each dimension the values that
//! changed rows have or had. It may say too much, never too little: values beyond [`MOST_VALUES`] are not told
//! apart, a column is looked at once for all metrics that read it, whichever of its rows they count, and where
//! the rows before are not known everything may have moved. All of it is per batch: columns, not rows.
//!
//! Start at [`Touches::of`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use contracts::model::{Domain, Measure, Metric, MetricInput, Relation, column};
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::Effects;

/// Values of one column that a touch tells apart.
pub const MOST_VALUES: usize = 64;

/// Tenants of one commit that are looked at one by one; with more of them each is told that all may have moved.
const MOST_TENANTS: usize = 16;

/// All times.
pub const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

/// What may have moved of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Index of the metric in [`Domain::metrics`]: one with rows of its own.
    pub metric: usize,
    /// Whose rows changed.
    pub tenant: Arc<str>,
    /// Earliest and latest time (µs) of the metric's window column in changed rows.
    pub times: (i64, i64),
    /// Of each dimension of the metric the values that changed rows have or had.
    pub values: Vec<Values>,
}

/// What a commit may have moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// At most one touch for each metric and tenant.
    pub metrics: Vec<Touch>,
    /// Families that have new events: index, tenant, earliest and latest event time (µs).
    pub families: Vec<(usize, Arc<str>, (i64, i64))>,
}

/// Values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Any.
    All,
    /// Those with these hashes ([`hash_text`] and its like), ascending.
    Some(Arc<[u64]>),
}

impl Values {
    /// May a value with this hash be among them?
    pub fn may_have(&self, hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(hashes) => hashes.binary_search(&hash).is_ok(),
        }
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (Self::Some(one), Self::Some(two)) = (self, other) else { return Self::All };
        let mut both: Vec<u64> = one.iter().chain(two.iter()).copied().collect();
        both.sort_unstable();
        both.dedup();
        if both.len() > MOST_VALUES { Self::All } else { Self::Some(both.into()) }
    }
}

impl Touch {
    /// This and a later one of the same metric and tenant.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        let values = self.values.iter().zip(&later.values);
        Self {
            metric: self.metric,
            tenant: Arc::clone(&self.tenant),
            times: (self.times.0.min(later.times.0), self.times.1.max(later.times.1)),
            values: values.map(|(one, two)| one.and(two)).collect(),
        }
    }

    fn everything(metric: &Metric, tenant: &Arc<str>) -> Self {
        Self {
            metric: metric.index,
            tenant: Arc::clone(tenant),
            times: ALWAYS,
            values: vec![Values::All; metric.dimensions.len()],
        }
    }
}

/// The hash of a text, as [`Values`] has it.
pub fn hash_text(text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), 1)
}

/// The same of a whole number.
pub fn hash_int(value: i64) -> u64 {
    xxh3_64_with_seed(&value.to_le_bytes(), 2)
}

/// The same of a truth.
pub fn hash_bool(value: bool) -> u64 {
    xxh3_64_with_seed(&[u8::from(value)], 3)
}

/// The same of a day, in days since 1970.
pub fn hash_date(days: i32) -> u64 {
    xxh3_64_with_seed(&days.to_le_bytes(), 4)
}

/// The same of no value.
pub const HASH_OF_NONE: u64 = 0;

/// Which metrics look at which relation.
#[derive(Debug)]
pub struct Touches {
    domain: Arc<Domain>,
    by_relation: BTreeMap<Relation, Vec<(usize, usize)>>,
}

impl Touches {
    /// For the metrics of a domain.
    pub fn new(domain: Arc<Domain>) -> Self {
        let mut by_relation: BTreeMap<Relation, Vec<(usize, usize)>> = BTreeMap::new();
        for metric in &domain.metrics {
            for (place, input) in metric.inputs.iter().enumerate() {
                by_relation.entry(input.relation).or_default().push((metric.index, place));
            }
        }
        Self { domain, by_relation }
    }

    /// What a transaction may have moved.
    pub fn of(&self, effects: &Effects<'_>) -> Moved {
        let mut found: BTreeMap<(usize, Arc<str>), Touch> = BTreeMap::new();
        let mut add = |touch: Touch| {
            let key = (touch.metric, Arc::clone(&touch.tenant));
            match found.get_mut(&key) {
                Some(known) => *known = known.and(&touch),
                None => drop(found.insert(key, touch)),
            }
        };
        let mut families = Vec::new();
        for (family, rows) in &effects.journal {
            for (tenant, rows) in by_tenant(&[rows]) {
                let times = Columns::of(&rows).times(column::TIME);
                families.push((*family, Arc::from(tenant), times));
            }
            self.changed(Relation::Family(*family), &[rows], true, &mut add);
        }
        for change in &effects.entities {
            let relation = Relation::Entity(change.entity);
            match &change.before {
                Some(before) => self.changed(relation, &[before, &change.rows], true, &mut add),
                None => {
                    let is_new = change.replaced.is_empty();
                    self.changed(relation, &[&change.rows], is_new, &mut add);
                    // A row that went away is in no batch: its tenant stands in its key.
                    for key in &change.replaced {
                        self.everything(relation, &Arc::from(&*key.tenant), &mut add);
                    }
                }
            }
        }
        self.changed(Relation::Ingest, &[&effects.ingest], false, &mut add);
        Moved { metrics: found.into_values().collect(), families }
    }

    fn metrics(&self, relation: Relation) -> impl Iterator<Item = (&Metric, &MetricInput)> {
        let places = self.by_relation.get(&relation).into_iter().flatten();
        places.filter_map(|(metric, input)| {
            let metric = self.domain.metrics.get(*metric)?;
            Some((metric, metric.inputs.get(*input)?))
        })
    }

    fn everything(&self, relation: Relation, tenant: &Arc<str>, add: &mut dyn FnMut(Touch)) {
        self.metrics(relation).for_each(|(metric, _)| add(Touch::everything(metric, tenant)));
    }

    /// Rows of a relation that came or went. `is_all`: they are all that changed.
    fn changed(
        &self,
        relation: Relation,
        batches: &[&RecordBatch],
        is_all: bool,
        add: &mut dyn FnMut(Touch),
    ) {
        if !self.by_relation.contains_key(&relation) {
            return;
        }
        for (tenant, rows) in by_tenant(batches) {
            let tenant: Arc<str> = tenant.into();
            let is_seen = is_all && rows.iter().all(|rows| rows.num_rows() > 0);
            let mut columns = Columns::of(&rows);
            for (metric, input) in self.metrics(relation) {
                match is_seen && input.is_steady() && is_local(&metric.measure) {
                    false => add(Touch::everything(metric, &tenant)),
                    true if columns.has_some(input) => add(Touch {
                        metric: metric.index,
                        tenant: Arc::clone(&tenant),
                        times: columns.times(&input.time.name),
                        values: input.dimensions.iter().map(|d| columns.values(&d.name)).collect(),
                    }),
                    true => {}
                }
            }
        }
    }
}

/// Columns of one tenant's changed rows, each looked at once.
struct Columns<'a> {
    rows: &'a [RecordBatch],
    values: HashMap<&'a str, Values>,
    times: HashMap<&'a str, (i64, i64)>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a [RecordBatch]) -> Self {
        Self { rows, values: HashMap::new(), times: HashMap::new() }
    }

    /// Does a row count for the input?
    fn has_some(&self, input: &MetricInput) -> bool {
        self.rows.iter().any(|rows| {
            let passes = input.filter.as_ref().map(|filter| {
                rows.column_by_name(&filter.name).and_then(|values| values.as_boolean_opt())
            });
            let passes = match passes {
                None => None,
                Some(Some(passes)) => Some(passes),
                // It is not there as expected: whatever it says.
                Some(None) => return true,
            };
            if input.event_types.is_empty() {
                return passes.is_none_or(|passes| passes.true_count() > 0);
            }
            let Some(types) = text(rows, column::TYPE) else { return true };
            (0..rows.num_rows()).any(|row| {
                passes.is_none_or(|passes| passes.is_valid(row) && passes.value(row))
                    && input.event_types.iter().any(|name| name == types.value(row))
            })
        })
    }

    fn times(&mut self, name: &'a str) -> (i64, i64) {
        *self.times.entry(name).or_insert_with(|| {
            let mut span: Option<(i64, i64)> = None;
            for rows in self.rows {
                let times = rows.column_by_name(name);
                let times = times.filter(|times| {
                    matches!(times.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
                });
                let Some(times) = times else { return ALWAYS };
                let times = times.as_primitive::<TimestampMicrosecondType>();
                // A row without a time is in the window that has no bounds, and in no other.
                if times.null_count() > 0 {
                    return ALWAYS;
                }
                if let (Some(low), Some(high)) = (compute::min(times), compute::max(times)) {
                    span = Some(span.map_or((low, high), |(a, b)| (a.min(low), b.max(high))));
                }
            }
            span.unwrap_or(ALWAYS)
        })
    }

    fn values(&mut self, name: &'a str) -> Values {
        let rows = self.rows;
        let found = self.values.entry(name).or_insert_with(|| {
            let mut hashes = Vec::new();
            for rows in rows {
                let known = rows.column_by_name(name).is_some_and(|values| {
                    collect(values, &mut hashes) && hashes.len() <= MOST_VALUES
                });
                if !known {
                    return Values::All;
                }
            }
            hashes.sort_unstable();
            Values::Some(hashes.into())
        });
        found.clone()
    }
}

/// Adds the hashes of the values, each once; ends early when there are too many. `false`: they have no hash.
fn collect(values: &ArrayRef, hashes: &mut Vec<u64>) -> bool {
    let mut add = |hash: u64| {
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
        hashes.len() <= MOST_VALUES
    };
    match values.data_type() {
        DataType::Utf8 => {
            // Rows of one batch often repeat the value of the row before.
            let mut last = None;
            values.as_string::<i32>().iter().all(|text| {
                last == Some(text) || {
                    last = Some(text);
                    add(text.map_or(HASH_OF_NONE, hash_text))
                }
            });
        }
        DataType::Int64 => {
            let mut values = values.as_primitive::<Int64Type>().iter();
            values.all(|value| add(value.map_or(HASH_OF_NONE, hash_int)));
        }
        DataType::Boolean => {
            values.as_boolean().iter().all(|value| add(value.map_or(HASH_OF_NONE, hash_bool)));
        }
        DataType::Date32 => {
            let mut values = values.as_primitive::<Date32Type>().iter();
            values.all(|value| add(value.map_or(HASH_OF_NONE, hash_date)));
        }
        _ => return false,
    }
    true
}

/// Does its value over a window depend on the window's rows alone?
fn is_local(measure: &Measure) -> bool {
    match measure {
        Measure::Count
        | Measure::Sum
        | Measure::Avg
        | Measure::Min
        | Measure::Max
        | Measure::Latest
        | Measure::CountDistinct
        | Measure::ApproxCountDistinct
        | Measure::Active
        | Measure::Quantile(_)
        | Measure::ApproxQuantile(_) => true,
        // A state or a first step of before goes on in it.
        Measure::Conversion { .. } | Measure::TimeWeighted | Measure::DurationInState => false,
        // They have no rows of their own.
        Measure::Ratio { .. } | Measure::Derived { .. } => false,
    }
}

/// The rows of each tenant, batch by batch: a batch without rows where there are too many tenants to tell
/// their rows apart.
fn by_tenant<'a>(batches: &[&'a RecordBatch]) -> BTreeMap<&'a str, Vec<RecordBatch>> {
    let mut found: BTreeMap<&str, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let Some(tenants) = text(batch, column::TENANT) else { continue };
        let mut names: Vec<&str> = Vec::new();
        for name in tenants.iter().flatten() {
            // Most often it is that of the row before.
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.dedup();
        for name in &names {
            let rows = match names.len() {
                1 => (*batch).clone(),
                2..=MOST_TENANTS => of_tenant(batch, tenants, name),
                _ => batch.slice(0, 0),
            };
            found.entry(name).or_default().push(rows);
        }
    }
    found
}

fn text<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a StringArray> {
    rows.column_by_name(name)?.as_string_opt::<i32>()
}

fn of_tenant(rows: &RecordBatch, tenants: &StringArray, name: &str) -> RecordBatch {
    let own: BooleanArray = tenants.iter().map(|tenant| Some(tenant == Some(name))).collect();
    // Without them nothing is known of the tenant's rows, and all may have moved.
    compute::filter_record_batch(rows, &own).unwrap_or_else(|_| rows.slice(0, 0))
}

#[cfg(test)]
mod tests;
