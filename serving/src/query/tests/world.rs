//! A store on disk with two tenants of the shop. Everything of the other tenant bears a mark, so that
//! it is seen wherever it shows up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contracts::model::Domain;
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::processor::Processor;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{Caller, Scope};
use crate::metric::MetricEngine;
use crate::query::guard::{self, Guarded, Refusal, Relations};
use crate::query::{Queries, QueryError, QueryLimits, RowPage};
use crate::store::{Store, StoreOptions};
use crate::value::parse_time;

/// Marks everything of the other tenant that is text.
pub(crate) const MARK: &str = "OTHERSECRET";
/// Its digits are in every number of the other tenant that can have them.
pub(crate) const MARKED_NUMBER: u64 = 7_654_321;
/// What the file on disk says.
pub(crate) const CANARY: &str = "CANARYSECRET";
/// Longest time of a statement.
pub(crate) const LIMIT: Duration = Duration::from_millis(1500);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) engine: Arc<MetricEngine>,
    pub(crate) queries: Queries,
    pub(crate) now: i64,
    pub(crate) dir: TempDir,
}

/// A domain of `contracts/domains`.
pub(crate) fn domain(name: &str) -> Arc<Domain> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/domains").join(name);
    Arc::new(contracts::load_dir(&folder).unwrap_or_else(|errors| panic!("{errors:#?}")))
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(QueryLimits { time: LIMIT, ..QueryLimits::default() })
    }

    pub(crate) fn with(limits: QueryLimits) -> Self {
        let domain = domain("shop");
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let store = Store::open(&data, domain.clone(), StoreOptions::default()).unwrap();
        let now = parse_time("2026-01-01T12:00:00Z").unwrap();
        let mut processor =
            Processor::new(domain.clone(), Box::new(store.writer().unwrap())).unwrap();
        let mut decoder = Decoder::new(&domain);
        for (tenant, is_other) in [("acme", false), ("other", true)] {
            let batch = raw(tenant, &events(is_other), now);
            processor.process(&[&decoder.decode(batch)]).unwrap();
        }
        std::fs::write(dir.path().join("canary.csv"), format!("a,b\n{CANARY},1\n")).unwrap();
        let clock = Arc::new(move || now);
        let engine = Arc::new(MetricEngine::with_clock(domain, store.readers(), clock));
        let queries = Queries::new(store.readers(), limits);
        Self { store, engine, queries, now, dir }
    }

    pub(crate) fn canary(&self) -> PathBuf {
        self.dir.path().join("canary.csv")
    }

    pub(crate) fn caller() -> Caller {
        Caller::with_key("acme".into(), "k1".into(), Arc::new(Scope::default()))
    }

    /// A key that may read these entities only.
    pub(crate) fn scoped(entities: &[&str]) -> Caller {
        let entities = Some(entities.iter().map(|name| (*name).to_owned()).collect());
        let scope = Scope { entities, ..Scope::default() };
        Caller::with_key("acme".into(), "k2".into(), Arc::new(scope))
    }

    pub(crate) fn check(&self, caller: &Caller, sql: &str) -> Result<Guarded, Refusal> {
        guard::check(sql, &Relations::new(&self.engine, caller, self.now))
    }

    pub(crate) fn ask(&self, sql: &str) -> Result<RowPage, QueryError> {
        let guarded = self.check(&Self::caller(), sql)?;
        self.queries.page(&guarded, 1000, 0)
    }

    /// The rows as JSON texts.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        let page = self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        page.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
    }

    /// Everything that a statement could change: rows of all tables, the catalog, settings, files.
    pub(crate) fn fingerprint(&self) -> Vec<String> {
        let readers = self.store.readers();
        let mut found = readers
            .with("fingerprint", |conn| {
                let list = |sql: &str| -> duckdb::Result<Vec<String>> {
                    let mut statement = conn.prepare(sql)?;
                    statement.query_map([], |row| row.get(0))?.collect()
                };
                let tables = list("select table_name from duckdb_tables() order by all")?;
                let mut found = Vec::new();
                for table in tables {
                    found.extend(list(&format!(
                        "select '{table} ' || count(*) || ' ' || coalesce(bit_xor(hash(t)), 0)
                         from \"{table}\" t"
                    ))?);
                }
                for catalog in [
                    "duckdb_views() where not internal",
                    "duckdb_functions() where not internal",
                    "duckdb_schemas() where not internal",
                    "duckdb_databases() where not internal",
                    "duckdb_sequences()",
                    "duckdb_settings()",
                ] {
                    found.extend(list(&format!(
                        "select t::varchar from (select * from {catalog}) t order by 1"
                    ))?);
                }
                Ok(found)
            })
            .unwrap();
        let mut files: Vec<String> = walk(self.dir.path());
        files.sort();
        found.extend(files);
        found
    }
}

fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            // What DuckDB spills comes and goes.
            true if entry.file_name() != "tmp" => found.extend(walk(&entry.path())),
            true => {}
            false => found.push(entry.path().display().to_string()),
        }
    }
    found
}

pub(crate) fn raw(tenant: &str, events: &[Value], arrived_at: i64) -> RawBatch {
    let mut bytes = Vec::new();
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let start = bytes.len();
        bytes.extend_from_slice(event.to_string().as_bytes());
        records.push(RawRecord {
            start,
            len: bytes.len() - start,
            offset: records.len() as u64,
            arrived_at,
            tenant: Arc::from(tenant),
            tenant_fixed: true,
            attached: Attached::default(),
        });
    }
    RawBatch {
        partition: Arc::from(format!("test-{tenant}")),
        source: "test",
        next_offset: events.len() as u64,
        bytes,
        records,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}

/// Twelve products, forty orders of eight users, forty clicks in ten sessions, eight payments.
fn events(is_other: bool) -> Vec<Value> {
    let mark = |text: &str| match is_other {
        true => format!("{MARK}-{text}"),
        false => text.to_owned(),
    };
    let amount = |n: u64| match is_other {
        true => MARKED_NUMBER + n,
        false => 100 + n,
    };
    let mut events = Vec::new();
    let mut add = |kind: &str, minute: u64, mut event: Value| {
        event["event_type"] = kind.into();
        event["event_id"] = mark(&format!("e{}", events.len())).into();
        event["timestamp"] = format!("2026-01-01T11:{:02}:{:02}Z", minute % 55, minute / 55).into();
        event["source"] = mark("web").into();
        events.push(event);
    };
    for n in 0..12 {
        let category = mark(["toys", "books", "tea"][n as usize % 3]);
        let product = json!({"product_id": mark(&format!("P-{n}")), "name": mark(&format!("Thing {n}")),
            "category": category, "price": amount(n * 10), "currency": "RUB",
            "in_stock": n % 4 != 0, "stock_quantity": amount(n)});
        add("product.updated", n, product);
    }
    for n in 0..40 {
        let id = if is_other { 9000 + n } else { 1000 + n };
        let status = ["pending", "confirmed", "shipped", "delivered", "cancelled"][n as usize % 5];
        let order = json!({"order_id": format!("ORD-20260101-{id}"), "user_id": mark(&format!("USR-{}", n % 8)),
            "status": status, "total_amount": amount(n), "currency": "RUB",
            "items": [{"product_id": mark(&format!("P-{}", n % 12)), "quantity": 1, "unit_price": amount(n)}],
            "city": mark(["Riga", "Tartu"][n as usize % 2])});
        add("order.created", n, order);
    }
    for n in 0..40 {
        let page = ["/", "/products/1", "/cart", "/checkout"][n as usize / 10];
        let click = json!({"session_id": mark(&format!("S-{}", n % 10)), "user_id": mark(&format!("USR-{}", n % 8)),
            "page_url": if is_other { format!("{page}{MARK}") } else { page.to_owned() },
            "user_agent": mark("Mozilla"), "viewport_width": amount(n)});
        add("page_view", n, click);
    }
    for n in 0..8 {
        let id = if is_other { 9000 + n } else { 1000 + n };
        let payment = json!({"payment_id": mark(&format!("PAY-{n}")), "order_id": format!("ORD-20260101-{id}"),
            "user_id": mark(&format!("USR-{n}")), "amount": amount(n), "currency": "RUB",
            "method": "card", "status": "completed"});
        add("payment.completed", n, payment);
    }
    events
}
