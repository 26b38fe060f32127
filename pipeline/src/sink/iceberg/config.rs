//! Settings of the lake follower.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::maintain::Maintenance;

/// Settings of the lake follower. [`LakeConfig::new`] gives the defaults for a data directory.
#[derive(Debug, Clone)]
pub struct LakeConfig {
    /// Folder of the lake: `catalog.sqlite` and `warehouse/` lie in it.
    pub dir: PathBuf,
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

    /// The catalog's SQLite file.
    pub fn catalog_file(&self) -> PathBuf {
        self.dir.join("catalog.sqlite")
    }

    /// The folder below which all tables lie.
    pub fn warehouse(&self) -> PathBuf {
        self.dir.join("warehouse")
    }
}
