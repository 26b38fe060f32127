//! Settings of the lake follower.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iceberg::spec::TableMetadata;
use uuid::Uuid;

use super::glue::GlueCatalogConfig;
use super::maintain::Maintenance;
use super::position::OWNER;
use super::rest::RestCatalogConfig;

/// Where the catalog of a lake is, and with it its files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LakeCatalog {
    /// An SQLite file and local files, in [`LakeConfig::dir`].
    #[default]
    Local,
    /// A REST catalog; files are in the S3 bucket that it names.
    Rest(RestCatalogConfig),
    /// AWS Glue; files are in S3.
    Glue(GlueCatalogConfig),
}

/// Settings of the lake follower. [`LakeConfig::new`] gives the defaults for a data directory.
#[derive(Debug, Clone)]
pub struct LakeConfig {
    /// Folder of a local lake: `catalog.sqlite` and `warehouse/` lie in it.
    pub dir: PathBuf,
    /// Where the catalog is.
    pub catalog: LakeCatalog,
    /// Who writes: the identity of the data directory, if it has one yet. A table keeps it.
    pub owner: Option<Uuid>,
    /// Longest time between two commits of a table that has new rows.
    pub interval: Duration,
    /// A table commits early when this many rows are pending.
    pub commit_rows: usize,
    /// A table commits early when this many encoded bytes are pending.
    pub commit_bytes: usize,
    /// A data file is closed once it is larger than this.
    pub target_file_bytes: usize,
    /// Rows read from the journal at a time.
    pub chunk_rows: usize,
    /// Bytes of rows read from the journal at a time; a row that has more is read alone.
    pub chunk_bytes: usize,
    /// Level of the zstd compression of data files.
    pub zstd_level: i32,
    /// How often the follower looks at the journal's end.
    pub poll_interval: Duration,
    /// Files that could not be committed for this long are given up, and their rows are written anew:
    /// maintenance takes older ones for strays.
    pub pending_for: Duration,
    /// Maintenance by the clock: how often, and what.
    pub maintenance: Option<(Duration, Maintenance)>,
    /// How long [`super::LakeHandle::flush`] keeps trying while the catalog or the disk refuses.
    pub flush_timeout: Duration,
}

impl LakeConfig {
    /// The defaults for the lake of a data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("lake"),
            catalog: LakeCatalog::Local,
            owner: None,
            interval: Duration::from_secs(30),
            commit_rows: 1_000_000,
            commit_bytes: 128 << 20,
            target_file_bytes: 128 << 20,
            chunk_rows: 32_768,
            chunk_bytes: 8 << 20,
            zstd_level: 1,
            poll_interval: Duration::from_millis(250),
            pending_for: Duration::from_secs(30 * 60),
            maintenance: None,
            flush_timeout: Duration::from_secs(120),
        }
    }

    /// Is a table of the catalog one of this lake? A catalog over HTTP may serve others as well; a
    /// local lake belongs to whoever has its folder.
    pub(super) fn is_ours(&self, table: &TableMetadata) -> bool {
        match &self.catalog {
            LakeCatalog::Local => true,
            LakeCatalog::Rest(_) | LakeCatalog::Glue(_) => {
                let us = self.owner.map(|owner| owner.to_string());
                us.is_some() && table.properties().get(OWNER) == us.as_ref()
            }
        }
    }

    /// Can there be tables? A local catalog that was never made has none.
    pub(super) fn may_have_tables(&self) -> bool {
        self.catalog != LakeCatalog::Local || self.catalog_file().exists()
    }

    /// The SQLite file of a local catalog.
    pub fn catalog_file(&self) -> PathBuf {
        self.dir.join("catalog.sqlite")
    }

    /// The folder below which all tables of a local catalog lie.
    pub fn warehouse(&self) -> PathBuf {
        self.dir.join("warehouse")
    }
}
