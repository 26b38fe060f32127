//! The lake: accepted events and dead letters in open Iceberg tables.
//!
//! ```text
//! journal ──chunks──▶ table ──rows──▶ writer ──data files──▶ commit ──▶ catalog
//!    ▲                                                          │
//!    └──────────── position in the snapshot's summary ◀─────────┘
//! ```
//!
//! Each table holds every journal row of its family exactly once, up to the position that its head
//! snapshot carries: rows and position become visible in one commit, and the next rows are read
//! after that position. A crash at any moment leaves at worst data files that no snapshot names.
//! There is no commit over several tables, so each has its own position.
//!
//! Start at [`Lake::spawn`] (`follower`), then `table` for one table, `position` for the
//! decisions after a crash or a lost reply, and `schema` for what the tables look like.
//! `layout`, `partition` and `sort` say which rows go into which file, in which order.
//! `maintain` changes files and no rows; like any commit by us it carries the position on. Catalogs and
//! object stores meet this code at `catalog` (every load and append passes there), `publish` and
//! `maintain/files.rs`.

mod backup;
mod cadence;
mod catalog;
mod commit;
mod config;
mod error;
mod follower;
mod glue;
mod history;
mod http_client;
mod layout;
mod ledger;
mod listing;
mod local_fs;
mod lost;
mod maintain;
mod nulls;
mod partition;
mod position;
mod publish;
mod rest;
mod rows;
mod s3;
mod schema;
mod sort;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use backup::{LakeSurvey, Relocated, is_moved, relocate, root, root_wanted, survey};
pub use catalog::CATALOG_NAME;
pub use config::{LakeCatalog, LakeConfig};
pub use error::{LakeError, Retry, chain};
pub use follower::{Lake, LakeFlusher, LakeHandle};
pub use glue::GlueCatalogConfig;
pub use history::{History, HistoryRange, HistoryTable};
pub use listing::{ColumnInfo, TableInfo, tables};
pub use maintain::{
    EraseProgress, MaintainProgress, Maintenance, Note as EraseNote, TableReport, TableSize, erase,
    maintain,
};
pub use nulls::absent_bits;
pub use position::{COMMIT_ID, CONTRACT_VERSION, OWNER, POSITION, PREVIOUS_POSITION, WATERMARK};
pub use rest::RestCatalogConfig;
pub use schema::{DEAD_LETTERS, EVENT_TIME, INGEST, NULLS, SOURCE_PARTITIONS, table_of_events};
pub use status::{Complete, LakeStatus, MaintenanceStatus, TableStatus};
