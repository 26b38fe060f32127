//! How long it takes to plan a scan of the lake: which files of a table are to be read.
//!
//! By the library that the product reads its lake with, each time on a table that was just loaded, so
//! that no manifest is known from before. Reading the table's metadata is no part of it.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::scan::FileScanTask;
use iceberg::table::StaticTable;
use serde_json::{Value, json};

use super::{agentflow, measure};

/// Times a plan is made; the middle one counts.
const TIMES: usize = 5;

/// What was planned over all tables of events, each table once.
#[derive(Default)]
pub struct Planned {
    pub snapshots: usize,
    pub files: usize,
    pub time: Duration,
}

impl Planned {
    pub fn json(&self) -> Value {
        let ms = (self.time.as_secs_f64() * 1e5).round() / 100.0;
        json!({"snapshots": self.snapshots, "files": self.files, "planning_ms": ms})
    }
}

/// Plans a scan of everything in each table of events below a data directory.
pub fn plan(data: &Path) -> Planned {
    let mut command = agentflow();
    command.args(["lake", "tables", "--output", "json", "--data"]).arg(data);
    let tables: Vec<Value> = serde_json::from_str(&measure(&mut command).stdout).expect("tables");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut all = Planned::default();
    for table in &tables {
        let text = |key: &str| table[key].as_str().expect("a text");
        if ["dead_letters", "ingest", "source_partitions"].contains(&text("name")) {
            continue;
        }
        let mut times: Vec<Planned> = (0..TIMES)
            .map(|_| runtime.block_on(plan_table(text("metadata_location"), text("name"))))
            .collect();
        times.sort_by_key(|planned| planned.time);
        let middle = times.swap_remove(TIMES / 2);
        all.snapshots += middle.snapshots;
        all.files += middle.files;
        all.time += middle.time;
    }
    all
}

async fn plan_table(metadata: &str, name: &str) -> Planned {
    let ident = TableIdent::from_strs(["lake", name]).expect("a name");
    let table = StaticTable::from_metadata_file(metadata, ident, FileIO::new_with_fs()).await;
    let table = table.expect("a table");
    let started = Instant::now();
    let scan = table.scan().build().expect("a scan");
    let files: Vec<FileScanTask> = match scan.plan_files().await {
        Ok(files) => files.try_collect().await.expect("a plan"),
        Err(error) => panic!("{error}"),
    };
    let time = started.elapsed();
    Planned { snapshots: table.metadata().snapshots().len(), files: files.len(), time }
}
