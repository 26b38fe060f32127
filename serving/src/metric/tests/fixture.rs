//! A small domain built by hand, a store in memory, and rows given as maps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use contracts::expr::{Expr, Scope as Names, ScopeColumn};
use contracts::graph::Graph;
use contracts::model::{
    ColumnDef, ColumnRef, Computed, Dimension, Domain, Entity, EntityField, EntityFieldKind,
    EntityInput, Family, FoldArg, FoldOp, Gaps, Ingest, Measure, Metric, MetricInput, OnEmpty,
    Relation, Status, UnknownEvent, Window, column,
};
use contracts::types::Type;

use crate::metric::MetricEngine;
use crate::metric::past::{Keys, Scope, fold};
use crate::metric::sql::{quote, sql_type};
use crate::question::{EntityQuestion, MetricQuestion};
use crate::store::{Readers, Store, StoreOptions};
use crate::value::{Value, date_text, time_text};

pub(crate) const NOW: i64 = 1_800_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const TENANT: &str = "default";

pub(crate) const TRIPS: Relation = Relation::Family(0);
pub(crate) const FIXES: Relation = Relation::Family(1);
pub(crate) const RIDES: Relation = Relation::Entity(0);
pub(crate) const RIDERS: Relation = Relation::Entity(1);

/// Silence after which a ride counts as closed, µs.
pub(crate) const CLOSES_AFTER: i64 = 8 * SECOND;

pub(crate) const MONEY: Type = Type::Decimal { precision: 12, scale: 2 };

/// One row: column → value. Columns that are not there are null.
pub(crate) type Row = BTreeMap<String, Value>;

/// Columns of both families, beside those that every journal has.
pub(crate) fn family_columns() -> Vec<(&'static str, Type)> {
    vec![
        ("ride_id", Type::String),
        ("rider_id", Type::Int64),
        ("city", Type::String),
        ("vip", Type::Bool),
        ("level", Type::Int64),
        ("day", Type::Date),
        ("amount", MONEY),
        ("weight", Type::Float64),
        ("n", Type::Int64),
        ("note", Type::String),
        ("at", Type::Timestamp),
        ("keep", Type::Bool),
    ]
}

pub(crate) fn column(name: &str, ty: Type) -> ColumnRef {
    ColumnRef { name: name.to_owned(), ty, depends_on_closed: false }
}

pub(crate) fn family_column(name: &str) -> ColumnRef {
    let (_, ty) = family_columns().into_iter().find(|(n, _)| *n == name).expect("a known column");
    column(name, ty)
}

pub(crate) fn dimensions() -> Vec<Dimension> {
    let dimension = |name: &str, ty, max_cardinality| Dimension {
        name: name.into(),
        ty,
        max_cardinality,
        synonyms: Vec::new(),
    };
    vec![
        dimension("city", Type::String, None),
        dimension("vip", Type::Bool, None),
        dimension("level", Type::Int64, Some(2)),
        dimension("day", Type::Date, None),
    ]
}

pub(crate) fn windows() -> Vec<Window> {
    let window = |text, length| Window::trailing(text, length);
    vec![window("10s", 10 * SECOND), window("1h", 3600 * SECOND), Window::now()]
}

/// A metric over nothing yet.
pub(crate) fn metric(name: &str, measure: Measure, value_type: Type) -> Metric {
    let counts = measure.is_count() || matches!(measure, Measure::Sum | Measure::DurationInState);
    Metric {
        index: 0,
        name: name.to_owned(),
        version: 1,
        status: Status::Stable,
        deprecation: None,
        owner: None,
        description: None,
        synonyms: Vec::new(),
        unit: "unit".to_owned(),
        measure,
        inputs: Vec::new(),
        dimensions: dimensions(),
        windows: windows(),
        on_empty: if counts { OnEmpty::Zero } else { OnEmpty::Null },
        gaps: if counts { Gaps::Zero } else { Gaps::Null },
        moved_by: Vec::new(),
        max_age: 250_000,
        gauge: false,
        value_type,
        examples: Vec::new(),
        hash: 0xabc,
        facts: Vec::new(),
        file: "metric.yaml".into(),
    }
}

/// An input over a family.
pub(crate) fn over(relation: Relation, arg: Option<&str>) -> MetricInput {
    MetricInput {
        relation,
        event_types: Vec::new(),
        time: column(column::TIME, Type::Timestamp),
        filter: None,
        arg: arg.map(family_column),
        dimensions: dimensions().iter().map(|d| family_column(&d.name)).collect(),
        followed: None,
    }
}

/// Every measure over every type it takes, over one family, over two, filtered and not.
fn family_metrics() -> Vec<Metric> {
    use Measure::{Active, Avg, Count, CountDistinct, Latest, Max, Min, Quantile, Sum};
    let sum_type = |scale| Type::Decimal { precision: 38, scale };
    let mut metrics = Vec::new();
    let mut add = |name: &str, measure, value_type, inputs: Vec<MetricInput>| {
        let mut metric = metric(name, measure, value_type);
        metric.inputs = inputs;
        metrics.push(metric);
    };
    let trips = |arg| vec![over(TRIPS, Some(arg))];
    add("trips", Count, Type::Int64, vec![over(TRIPS, None)]);
    add("numbered", Count, Type::Int64, trips("n"));
    add("sum_n", Sum, sum_type(0), trips("n"));
    add("sum_amount", Sum, sum_type(2), trips("amount"));
    add("sum_weight", Sum, Type::Float64, trips("weight"));
    add("avg_n", Avg, Type::Float64, trips("n"));
    add("avg_amount", Avg, Type::Float64, trips("amount"));
    add("avg_weight", Avg, Type::Float64, trips("weight"));
    for (name, ty) in family_columns() {
        add(&format!("min_{name}"), Min, ty.clone(), trips(name));
        add(&format!("max_{name}"), Max, ty.clone(), trips(name));
        add(&format!("latest_{name}"), Latest, ty, trips(name));
        add(&format!("distinct_{name}"), CountDistinct, Type::Int64, trips(name));
    }
    add("median_amount", Quantile(0.5), Type::Float64, trips("amount"));
    add("p90_n", Quantile(0.9), Type::Float64, trips("n"));
    add("p0_weight", Quantile(0.0), Type::Float64, trips("weight"));

    let ended = |relation, arg| {
        let mut input = over(relation, arg);
        input.event_types = vec!["ended".to_owned()];
        input.filter = Some(family_column("keep"));
        input
    };
    add("kept", Count, Type::Int64, vec![ended(TRIPS, None)]);
    add("kept_amount", Sum, sum_type(2), vec![ended(TRIPS, Some("amount"))]);
    let both = |arg| vec![ended(TRIPS, arg), over(FIXES, arg)];
    add("all", Count, Type::Int64, both(None));
    add("all_amount", Sum, sum_type(2), both(Some("amount")));
    add("all_latest", Latest, Type::String, both(Some("note")));
    let mut other_time = over(TRIPS, None);
    other_time.time = family_column("at");
    add("by_other_time", Count, Type::Int64, vec![other_time]);
    add("active_riders", Active, Type::Int64, trips("rider_id"));
    metrics.extend(super::followed::metrics());
    metrics
}

/// Metrics over the entity `ride`.
fn ride_metrics() -> Vec<Metric> {
    let ride = |arg: Option<ColumnRef>| MetricInput {
        relation: RIDES,
        event_types: Vec::new(),
        time: column("started_at", Type::Timestamp),
        filter: None,
        arg,
        dimensions: dimensions().iter().map(|d| column(&d.name, d.ty.clone())).collect(),
        followed: None,
    };
    let mut rides = metric("rides", Measure::Count, Type::Int64);
    rides.inputs = vec![ride(None)];
    let mut fares = metric("fares", Measure::Sum, Type::Decimal { precision: 38, scale: 2 });
    fares.inputs = vec![ride(Some(column("amount", Type::Decimal { precision: 38, scale: 2 })))];
    let mut newest = metric("newest_ride", Measure::Latest, Type::String);
    newest.inputs = vec![ride(Some(column(column::KEY, Type::String)))];
    // The time is not the event time of an event: all keys must be folded for the past.
    let mut by_other = metric("rides_by_other_time", Measure::Count, Type::Int64);
    by_other.inputs = vec![MetricInput { time: column("at", Type::Timestamp), ..ride(None) }];
    let closed = ColumnRef { depends_on_closed: true, ..column("x_closed", Type::Bool) };
    let mut finished = metric("finished_rides", Measure::Count, Type::Int64);
    finished.inputs = vec![MetricInput { filter: Some(closed), ..ride(None) }];
    let mut riders =
        metric("rider_amount", Measure::Sum, Type::Decimal { precision: 38, scale: 2 });
    riders.dimensions.clear();
    riders.inputs = vec![MetricInput {
        relation: RIDERS,
        event_types: Vec::new(),
        time: column(column::UPDATED_AT, Type::Timestamp),
        filter: None,
        arg: Some(column("amount", Type::Decimal { precision: 38, scale: 2 })),
        dimensions: Vec::new(),
        followed: None,
    }];
    vec![rides, fares, newest, by_other, finished, riders]
}

fn family(index: usize, name: &str) -> Family {
    let fields = family_columns();
    let fields = fields.into_iter().map(|(name, ty)| ColumnDef { name: name.into(), ty }).collect();
    Family {
        index,
        name: name.into(),
        versions: Vec::new(),
        fields,
        enriched: Vec::new(),
        computed: Vec::new(),
    }
}

fn entity(
    index: usize,
    name: &str,
    key: &str,
    fields: Vec<(&str, Type, FoldOp)>,
    inputs: Vec<EntityInput>,
) -> Entity {
    let fields = fields.into_iter().map(|(name, ty, op)| EntityField {
        name: name.into(),
        ty,
        kind: EntityFieldKind::Fold(op),
        depends_on_closed: false,
        description: None,
        synonyms: Vec::new(),
        opposites: Vec::new(),
    });
    Entity {
        index,
        name: name.into(),
        version: 1,
        status: Status::Stable,
        deprecation: None,
        owner: None,
        description: None,
        synonyms: Vec::new(),
        key: key.into(),
        inputs,
        fields: fields.collect(),
        closes_after: None,
        stages: None,
        relationships: Vec::new(),
        computed: Vec::new(),
        hash: 1,
        facts: Vec::new(),
        file: "entity.yaml".into(),
    }
}

fn arg(column: ColumnRef) -> Option<FoldArg> {
    Some(FoldArg { value: column, by: None, absent_bit: None })
}

/// Compiles an expression over columns of those names.
pub(crate) fn expr(text: &str, columns: &[(&str, Type)]) -> Expr {
    let columns = columns.iter().map(|(name, ty)| ScopeColumn {
        name: (*name).to_owned(),
        column: (*name).to_owned(),
        ty: ty.clone(),
    });
    Expr::compile(text, &Names { columns: columns.collect() }, None)
        .expect("the expression is valid")
}

/// `ride`, folded from both families; `rider`, folded from `ride`.
fn entities() -> Vec<Entity> {
    use FoldOp::{Count, First, Last, Sum};
    let picked = ["rider_id", "city", "vip", "level", "day", "at"];
    let mut fields: Vec<(&str, Type, FoldOp)> =
        picked.iter().map(|name| (*name, family_column(name).ty, Last)).collect();
    fields.push(("started_at", Type::Timestamp, First));
    fields.push(("amount", Type::Decimal { precision: 38, scale: 2 }, Sum));
    fields.push(("events", Type::Int64, Count));
    let input = |relation| EntityInput {
        relation,
        event_types: Vec::new(),
        filter: None,
        key: family_column("ride_id"),
        args: picked
            .iter()
            .map(|name| arg(family_column(name)))
            .chain([arg(column(column::TIME, Type::Timestamp)), arg(family_column("amount")), None])
            .collect(),
    };
    let mut ride = entity(0, "ride", "ride_id", fields, vec![input(TRIPS), input(FIXES)]);
    ride.closes_after = Some(CLOSES_AFTER);
    ride.fields.push(EntityField {
        name: "state".into(),
        ty: Type::String,
        kind: EntityFieldKind::Derived(expr(
            "case when closed then 'done' else 'open' end",
            &[("closed", Type::Bool)],
        )),
        depends_on_closed: true,
        description: None,
        synonyms: Vec::new(),
        opposites: Vec::new(),
    });
    ride.computed.push(Computed {
        name: "x_closed".into(),
        expr: expr("closed", &[("closed", Type::Bool)]),
        depends_on_closed: true,
    });
    let total = Type::Decimal { precision: 38, scale: 2 };
    let rider = entity(
        1,
        "rider",
        "rider_id",
        vec![("rides", Type::Int64, Count), ("amount", total, Sum)],
        vec![EntityInput {
            relation: RIDES,
            event_types: Vec::new(),
            filter: None,
            key: column("rider_id", Type::Int64),
            args: vec![None, arg(column("amount", Type::Decimal { precision: 38, scale: 2 }))],
        }],
    );
    vec![ride, rider]
}

/// The domain, with `more` metrics after its own.
pub(crate) fn domain(more: Vec<Metric>) -> Arc<Domain> {
    let mut metrics = family_metrics();
    metrics.extend(ride_metrics());
    metrics.extend(more);
    for (index, metric) in metrics.iter_mut().enumerate() {
        metric.index = index;
    }
    let mut relations_of: Vec<Vec<Relation>> = Vec::new();
    for metric in &metrics {
        let mut relations: Vec<Relation> =
            metric.inputs.iter().map(|input| input.relation).collect();
        for part in crate::metric::parts_of(metric) {
            relations.extend(relations_of[part].clone());
        }
        if relations.contains(&RIDERS) {
            relations.push(RIDES);
        }
        if relations.contains(&RIDES) {
            relations.extend([TRIPS, FIXES]);
        }
        relations.sort();
        relations.dedup();
        relations_of.push(relations);
    }
    Arc::new(Domain {
        name: "test".into(),
        families: vec![family(0, "trip"), family(1, "fix")],
        entities: entities(),
        metrics,
        ingest: Ingest::default(),
        unknown_event: UnknownEvent::DeadLetter,
        graph: Graph { relations_of, ..Graph::default() },
        documents: Vec::new(),
        type_places: Vec::new(),
    })
}

/// A store in memory with its engine.
pub(crate) struct Bench {
    pub(crate) domain: Arc<Domain>,
    pub(crate) readers: Readers,
    pub(crate) engine: Arc<MetricEngine>,
    pub(crate) clock: Arc<AtomicI64>,
    /// Keeps the database open.
    pub(crate) store: Store,
}

impl Bench {
    pub(crate) fn new(more: Vec<Metric>) -> Self {
        Self::with(more, StoreOptions::default())
    }

    pub(crate) fn with(more: Vec<Metric>, options: StoreOptions) -> Self {
        let domain = domain(more);
        let store =
            Store::in_memory_with(domain.clone(), options).expect("a store in memory opens");
        // Rows come in past the writer here.
        store.forget_state();
        let readers = store.readers();
        let clock = Arc::new(AtomicI64::new(NOW));
        let told = clock.clone();
        let engine = MetricEngine::with_clock(
            domain.clone(),
            readers.clone(),
            Arc::new(move || told.load(Ordering::Relaxed)),
        );
        Self { domain, readers, engine: Arc::new(engine), clock, store }
    }

    /// Answers from state of the rows that there are now.
    pub(crate) fn learn(&self) {
        // Positions end somewhere.
        self.run("insert into source_partitions (id, name, updated_at, last_seq) values (7, 'rows', 0, 60)");
        self.store.learn_state();
    }

    pub(crate) fn run(&self, sql: &str) {
        self.readers
            .with("prepare a test", |conn| conn.execute_batch(sql))
            .expect("the test's SQL runs");
    }

    /// Adds rows to a table, with values in the order of `columns`.
    pub(crate) fn insert(&self, table: &str, columns: &[(&str, Type)], rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| quote(name)).collect();
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let values: Vec<String> = columns
                    .iter()
                    .map(|(name, ty)| literal(row.get(*name).unwrap_or(&Value::Null), ty))
                    .collect();
                format!("({})", values.join(", "))
            })
            .collect();
        self.run(&format!(
            "insert into {} ({}) values {}",
            quote(table),
            names.join(", "),
            rows.join(", ")
        ));
    }

    /// Says when commits were made: (last sequence number, time).
    pub(crate) fn insert_commits(&self, commits: impl Iterator<Item = (i64, i64)>) {
        let rows: Vec<String> = commits
            .map(|(seq, at)| {
                format!("({seq}, make_timestamp({at}), {seq}, '{TENANT}', make_timestamp({at}), 'accepted', 'test', false, 1)")
            })
            .collect();
        self.run(&format!(
            "insert into ingest (_row, _applied_at, _seq, _tenant, arrived_at, outcome, source, late, _n)
             values {}",
            rows.join(", ")
        ));
    }

    /// Adds rows to a journal.
    pub(crate) fn insert_events(&self, relation: Relation, rows: &[Row]) {
        let Relation::Family(family) = relation else { panic!("{relation:?} is no journal") };
        let mut columns = vec![
            (column::SEQ, Type::Int64),
            (column::TENANT, Type::String),
            (column::TYPE, Type::String),
            (column::TIME, Type::Timestamp),
            (column::ABSENT, Type::Int64),
            (column::LATE, Type::Bool),
        ];
        columns.extend(family_columns());
        self.insert(&self.domain.families[family].table(), &columns, rows);
    }

    /// Makes the entity tables what the journals say.
    pub(crate) fn fold_entities(&self, tenants: &[&str]) {
        for entity in &self.domain.entities {
            self.run(&format!("delete from {}", quote(&entity.table())));
            for tenant in tenants {
                let scope = Scope { tenant, before: None, known: None, keys: Keys::All };
                let rows = self
                    .engine
                    .in_snapshot("fold", |conn| fold(conn, &self.domain, entity.index, &scope))
                    .expect("the journal folds");
                let append = |conn: &duckdb::Connection| {
                    let mut appender = conn.appender(&entity.table())?;
                    rows.iter().try_for_each(|rows| appender.append_record_batch(rows.clone()))?;
                    appender.flush()
                };
                self.readers.with("prepare a test", append).expect("rows are appended");
            }
        }
    }
}

fn literal(value: &Value, ty: &Type) -> String {
    let text = match value {
        Value::Null => return "null".to_owned(),
        Value::Timestamp(micros) => time_text(*micros).trim_end_matches('Z').to_owned(),
        Value::Date(days) => date_text(*days),
        other => other.to_string(),
    };
    format!("'{}'::{}", text.replace('\'', "''"), sql_type(ty))
}

pub(crate) fn ask(metric: &str, window: &str) -> MetricQuestion {
    MetricQuestion {
        metric: metric.to_owned(),
        tenant: TENANT.to_owned(),
        window: Some(window.to_owned()),
        ..MetricQuestion::default()
    }
}

pub(crate) fn ask_entity(entity: &str, id: &str) -> EntityQuestion {
    EntityQuestion {
        entity: entity.to_owned(),
        version: None,
        tenant: TENANT.to_owned(),
        id: id.to_owned(),
        as_of: None,
        known_at: None,
    }
}

/// A row from pairs.
pub(crate) fn row<const N: usize>(pairs: [(&str, Value); N]) -> Row {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An event of the default tenant at `time`.
pub(crate) fn event<const N: usize>(seq: i128, time: i64, pairs: [(&str, Value); N]) -> Row {
    let mut event = row(pairs);
    event.insert(column::SEQ.into(), Value::Int(seq));
    event.insert(column::TIME.into(), Value::Timestamp(time));
    event.entry(column::TENANT.into()).or_insert(Value::Text(TENANT.into()));
    event.entry(column::TYPE.into()).or_insert(Value::Text("ended".into()));
    event.entry(column::ABSENT.into()).or_insert(Value::Int(0));
    event.entry(column::LATE.into()).or_insert(Value::Bool(false));
    event
}

/// A table of columns of these types.
pub(crate) fn create_table(conn: &duckdb::Connection, table: &str, columns: &[(String, Type)]) {
    let columns: Vec<String> =
        columns.iter().map(|(name, ty)| format!("{} {}", quote(name), sql_type(ty))).collect();
    conn.execute_batch(&format!("create table {} ({})", quote(table), columns.join(", ")))
        .expect("a table");
}
