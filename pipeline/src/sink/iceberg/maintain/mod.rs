//! Maintenance of the lake: small files merged, manifests merged, snapshots expired, files removed that
//! no snapshot needs.
//!
//! ```text
//! head ─► plan (pure) ─► rewrite ─► replace snapshot ─► publish ─┐
//!                            ▲                          conflict │  the rows are not written again,
//!                            └───────────────────────────────────┘  only manifests and the list
//! expire snapshots ─► reachable files ─► remove the others, older than the grace
//! ```
//!
//! It works beside the follower, in the same process or another one: rows do not change, every commit
//! is a compare-and-swap on the head, and each head carries the table's position on, so the follower
//! goes on where it was. Whatever it is interrupted in leaves at worst files that no snapshot names, which
//! the next run removes. Each merge is a commit of its own: what was done is not done again.

mod erase;
mod files;
mod head;
mod plan;
mod remove;
mod replace;
mod rewrite;
mod schedule;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use iceberg::spec::{DataFile, ManifestContentType, Struct, TableMetadata};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{Catalog, ErrorKind, TableIdent};
use serde::Serialize;

pub use self::erase::{EraseProgress, Note, erase};
pub(super) use self::remove::reachable;
pub(super) use self::schedule::Schedule;

use self::plan::{Candidate, Merge, Rule};
use self::replace::{Purpose, Replacement};
use self::rewrite::Job;
use super::catalog;
use super::config::LakeConfig;
use super::error::LakeError;
use super::lost;
use super::partition::{self, Part};
use super::publish::{Published, Publisher};
use super::writer::{ROW_GROUP_BYTES, properties};
use crate::clock;
use crate::fail_point;

/// What maintenance does.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// Size that data files should have.
    pub target_file_bytes: u64,
    /// A partition that is still written to is merged once it has this many small files.
    pub min_files: usize,
    /// A partition without a commit for this long is not written to any more.
    pub settled_after: Duration,
    /// Snapshots younger than this stay.
    pub keep_for: Duration,
    /// So many of the newest snapshots stay, however old.
    pub keep_snapshots: usize,
    /// Files that no snapshot needs stay this long: a commit may be on its way, or a reader on it.
    pub grace: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Default for Maintenance {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            target_file_bytes: 128 << 20,
            min_files: 8,
            settled_after: DAY / 24,
            keep_for: 5 * DAY,
            keep_snapshots: 10,
            grace: 3 * DAY,
            dry_run: false,
        }
    }
}

/// Counts of a table at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TableSize {
    /// Live data files.
    pub files: u64,
    /// Files that there had to be at least: per partition as many as its bytes are target sizes.
    pub units: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Manifests of the current snapshot.
    pub manifests: u64,
    /// Snapshots.
    pub snapshots: u64,
}

/// What was done to a table; of a dry run, what would be done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableReport {
    /// Table name.
    pub table: String,
    /// Before.
    pub before: TableSize,
    /// Afterwards; of a dry run the same.
    pub after: TableSize,
    /// Files that were merged into others.
    pub merged_files: u64,
    /// Bytes in them.
    pub merged_bytes: u64,
    /// Snapshots that were expired.
    pub expired_snapshots: u64,
    /// Files removed that no snapshot needs.
    pub removed_files: u64,
    /// Bytes in them.
    pub removed_bytes: u64,
    /// What could not be done, and why. The rest was.
    pub skipped: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Clone)]
pub struct MaintainProgress {
    /// Table that is worked on.
    pub table: String,
    /// Bytes merged so far, over all tables.
    pub done_bytes: u64,
    /// Bytes to merge in this table and those before.
    pub total_bytes: u64,
}

/// Attempts to commit one merge while others commit.
const ATTEMPTS: u32 = 20;

/// Maintains the tables of a lake, in order of name; `only` names the one that is wanted.
/// `stop` is asked between two commits. May be called while a server runs on the directory.
pub fn maintain(
    config: &LakeConfig,
    maintenance: &Maintenance,
    only: Option<&str>,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(&MaintainProgress),
) -> Result<Vec<TableReport>, LakeError> {
    if !config.may_have_tables() {
        return Ok(Vec::new());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| {
            LakeError::Io { action: "start a runtime for", path: config.dir.clone(), source }
        })?;
    runtime.block_on(async {
        let catalog = catalog::open(config).await?;
        let publisher = Publisher::open(config).await?;
        let mut run = Run {
            config: config.clone(),
            maintenance,
            catalog,
            publisher,
            stop,
            done: 0,
            total: 0,
        };
        run.all(only, progress).await
    })
}

struct Run<'a> {
    config: LakeConfig,
    maintenance: &'a Maintenance,
    catalog: Arc<dyn Catalog>,
    publisher: Publisher,
    stop: &'a dyn Fn() -> bool,
    done: u64,
    total: u64,
}

/// Why files were not replaced.
enum NotReplaced {
    /// They were not, whatever happens.
    Surely(LakeError),
    /// The commit may have taken effect.
    Unknown(LakeError),
}

impl From<NotReplaced> for LakeError {
    fn from(reason: NotReplaced) -> Self {
        match reason {
            NotReplaced::Surely(error) | NotReplaced::Unknown(error) => error,
        }
    }
}

/// A data file and the partition spec that it was written under.
struct LiveFile {
    spec: i32,
    file: DataFile,
}

/// Live files by path.
struct Live {
    files: HashMap<String, LiveFile>,
    candidates: Vec<Candidate>,
    size: TableSize,
}

impl Run<'_> {
    async fn all(
        &mut self,
        only: Option<&str>,
        progress: &mut dyn FnMut(&MaintainProgress),
    ) -> Result<Vec<TableReport>, LakeError> {
        let failed = || LakeError::catalog("list the lake's tables".to_owned());
        let mut idents = Vec::new();
        for namespace in self.catalog.list_namespaces(None).await.map_err(failed())? {
            idents.extend(self.catalog.list_tables(&namespace).await.map_err(failed())?);
        }
        idents.sort_by(|a, b| a.name().cmp(b.name()));
        let mut reports = Vec::new();
        for ident in idents.iter().filter(|ident| only.is_none_or(|only| ident.name() == only)) {
            if (self.stop)() {
                break;
            }
            if self.config.is_ours(self.load(ident).await?.metadata()) {
                reports.push(self.table(ident, progress).await?);
            }
        }
        Ok(reports)
    }

    async fn load(&self, ident: &TableIdent) -> Result<Table, LakeError> {
        let failed = LakeError::catalog(format!("load lake table `{}`", ident.name()));
        self.catalog.load_table(ident).await.map_err(failed)
    }

    async fn table(
        &mut self,
        ident: &TableIdent,
        progress: &mut dyn FnMut(&MaintainProgress),
    ) -> Result<TableReport, LakeError> {
        let name = ident.name();
        let failed = || LakeError::catalog(format!("maintain lake table `{name}`"));
        let table = self.load(ident).await?;
        let mut report = TableReport { table: name.to_owned(), ..TableReport::default() };
        let live = live(&table, self.maintenance.target_file_bytes).await.map_err(failed())?;
        (report.before, report.after) = (live.size, live.size);
        if let Some(column) = lost::dropped(table.metadata()).map_err(failed())? {
            // To write its rows anew would take the values for good, before anybody has decided.
            report.skipped.push(format!(
                "column `{column}` was dropped or renamed by somebody else and nothing was written since"
            ));
            return Ok(report);
        }

        let target = self.maintenance.target_file_bytes;
        let settled = i64::try_from(self.maintenance.settled_after.as_millis()).unwrap_or(i64::MAX);
        let rule = Rule {
            target,
            min_files: self.maintenance.min_files,
            settled_before: (clock::now() / 1_000).saturating_sub(settled),
        };
        let merges = plan::plan(live.candidates, &rule);
        self.total += merges.iter().map(|merge| merge.bytes).sum::<u64>();
        for merge in merges {
            if (self.stop)() {
                break;
            }
            if !self.maintenance.dry_run {
                let merged = self.merge(ident, &table, &live.files, &merge).await;
                if let Err(error) = merged {
                    let error = super::error::chain(&error);
                    let partition = &merge.partition;
                    report.skipped.push(format!("merge files of partition `{partition}`: {error}"));
                    continue;
                }
            }
            report.merged_files += merge.paths.len() as u64;
            report.merged_bytes += merge.bytes;
            self.done += merge.bytes;
            progress(&MaintainProgress {
                table: name.to_owned(),
                done_bytes: self.done,
                total_bytes: self.total,
            });
        }
        if (self.stop)() {
            return Ok(report);
        }
        if !self.maintenance.dry_run {
            // Manifests alone, where there are many small ones and nothing was merged.
            if report.merged_files == 0 {
                let spec = table.metadata().default_partition_spec_id();
                self.replace(ident, spec, &HashSet::new(), &[], Purpose::Merge).await?;
            }
            report.expired_snapshots = self.expire_old(ident).await?;
        }
        let table = self.load(ident).await?;
        let reachable = remove::reachable(&table).await.map_err(failed())?;
        let listed = files::list(&self.config, table.metadata().location()).await;
        let listed = listed.map_err(|source| LakeError::Io {
            action: "list files of lake table",
            path: name.into(),
            source,
        })?;
        for file in remove::unneeded(listed, &reachable, self.maintenance.grace) {
            if !self.maintenance.dry_run
                && let Err(error) = table.file_io().delete(&file.key).await
            {
                report.skipped.push(format!("remove `{}`: {}", file.key, error.message()));
                continue;
            }
            report.removed_files += 1;
            report.removed_bytes += file.bytes;
        }
        let target = self.maintenance.target_file_bytes;
        report.after = self::live(&table, target).await.map_err(failed())?.size;
        Ok(report)
    }

    /// Writes the files of a merge anew and commits that.
    async fn merge(
        &self,
        ident: &TableIdent,
        table: &Table,
        files: &HashMap<String, LiveFile>,
        merge: &Merge,
    ) -> Result<(), LakeError> {
        let failed =
            || LakeError::catalog(format!("rewrite files of lake table `{}`", ident.name()));
        let sources: Vec<&LiveFile> =
            merge.paths.iter().filter_map(|path| files.get(path)).collect();
        let (Some(first), Some(snapshot)) =
            (sources.first(), table.metadata().current_snapshot_id())
        else {
            return Ok(());
        };
        let metadata = table.metadata();
        let Some(spec) = metadata.partition_spec_by_id(first.spec) else {
            return Ok(());
        };
        let job = Job {
            paths: &merge.paths,
            spec,
            rows: sources.iter().map(|live| live.file.record_count()).sum(),
            // Encoded anew the rows may take a little more: that is no reason for a second file.
            target: usize::try_from(self.maintenance.target_file_bytes).unwrap_or(usize::MAX) / 4
                * 5,
        };
        let groups = merge.bytes.div_ceil(ROW_GROUP_BYTES as u64).max(1);
        let per_group = job.rows.div_ceil(groups);
        let properties = properties(&self.config, ident.name(), Some(per_group));
        let mut divide = |rows| {
            let (key, partition) = (Box::default(), first.file.partition().clone());
            Ok(vec![Part { key, partition, rows }])
        };
        let written = rewrite::rewrite(table, snapshot, &job, properties, None, &mut divide);
        let written = written.await.map_err(failed())?;
        fail_point::hit("lake_files_rewritten");
        let removed = merge.paths.iter().cloned().collect();
        let replaced =
            self.replace(ident, spec.spec_id(), &removed, &written, Purpose::Merge).await;
        match replaced {
            Ok(()) => Ok(()),
            Err(NotReplaced::Surely(error)) => {
                super::writer::remove(table.file_io(), &written).await;
                Err(error)
            }
            // They may be the table's files by now; otherwise the next run finds them by their age.
            Err(NotReplaced::Unknown(error)) => Err(error),
        }
    }

    /// Commits `added` in the place of `removed`, all of one partition spec, again on each new head.
    async fn replace(
        &self,
        ident: &TableIdent,
        spec: i32,
        removed: &HashSet<String>,
        added: &[DataFile],
        purpose: Purpose,
    ) -> Result<(), NotReplaced> {
        let failed =
            || LakeError::catalog(format!("replace files of lake table `{}`", ident.name()));
        for _ in 0..ATTEMPTS {
            let head = self.load(ident).await.map_err(NotReplaced::Surely)?;
            let built = replace::build(&head, spec, removed, added, purpose).await;
            let built = built.map_err(|error| NotReplaced::Surely(failed()(error)))?;
            let Some(Replacement { snapshot_id, requirements, updates, written }) = built else {
                return Ok(());
            };
            fail_point::hit("lake_before_replace");
            let published = self.publisher.publish(&head, &requirements, updates).await;
            fail_point::hit("lake_after_replace");
            let error = match published {
                Ok(Published::Done) => return Ok(()),
                Ok(Published::Conflict) => {
                    for path in &written {
                        // Where it cannot be removed it is found by its age later.
                        let _ = head.file_io().delete(path).await;
                    }
                    continue;
                }
                Err(error) => error,
            };
            // The reply can be lost after the commit took effect: the table knows.
            return match self.load(ident).await {
                Ok(now) if now.metadata().snapshot_by_id(snapshot_id).is_some() => Ok(()),
                _ => Err(NotReplaced::Unknown(error)),
            };
        }
        Err(NotReplaced::Surely(failed()(iceberg::Error::new(
            ErrorKind::CatalogCommitConflicts,
            format!("others committed first, {ATTEMPTS} times"),
        ))))
    }

    /// Expires old snapshots; tells how many.
    async fn expire_old(&self, ident: &TableIdent) -> Result<u64, LakeError> {
        let keep = i64::try_from(self.maintenance.keep_for.as_millis()).unwrap_or(i64::MAX);
        let older_than = (clock::now() / 1_000).saturating_sub(keep);
        self.expire(ident, older_than, self.maintenance.keep_snapshots.max(1)).await
    }

    /// Expires snapshots older than that time (ms since 1970), but for the newest `keep`.
    async fn expire(
        &self,
        ident: &TableIdent,
        older_than: i64,
        keep: usize,
    ) -> Result<u64, LakeError> {
        let failed =
            || LakeError::catalog(format!("expire snapshots of lake table `{}`", ident.name()));
        let before = self.load(ident).await?;
        let is_old = |metadata: &TableMetadata| {
            metadata.snapshots().any(|snapshot| snapshot.timestamp_ms() < older_than)
        };
        let count = |table: &Table| table.metadata().snapshots().len();
        if !is_old(before.metadata()) || count(&before) <= keep {
            return Ok(0);
        }
        let transaction = Transaction::new(&before);
        let expire =
            transaction.expire_snapshots().expire_older_than_ms(older_than).retain_last(keep);
        expire
            .apply(transaction)
            .map_err(failed())?
            .commit(self.catalog.as_ref())
            .await
            .map_err(failed())?;
        // The catalog's word is not taken for it.
        let after = self.load(ident).await?;
        let kept: HashSet<i64> = after.metadata().snapshots().map(|s| s.snapshot_id()).collect();
        let gone = before.metadata().snapshots().filter(|s| !kept.contains(&s.snapshot_id()));
        Ok(gone.count() as u64)
    }
}

async fn live(table: &Table, target_bytes: u64) -> iceberg::Result<Live> {
    let metadata = table.metadata();
    let mut live =
        Live { files: HashMap::new(), candidates: Vec::new(), size: TableSize::default() };
    live.size.snapshots = metadata.snapshots().len() as u64;
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(live) };
    let schema = table.current_schema_ref();
    let mut groups: HashMap<(i32, Struct), usize> = HashMap::new();
    for manifest in head::load(table, snapshot).await? {
        live.size.manifests += 1;
        for entry in manifest.live() {
            live.size.files += 1;
            live.size.bytes += entry.file_size_in_bytes();
            if manifest.file.content != ManifestContentType::Data {
                continue;
            }
            // Files of each spec are merged among themselves. Where one is not usable any more, because
            // somebody dropped its column, its files stay as they are.
            let file = entry.data_file().clone();
            let Some(spec) = metadata.partition_spec_by_id(manifest.file.partition_spec_id) else {
                continue;
            };
            let Ok(text) = partition::text(spec, &schema, file.partition()) else { continue };
            let next = groups.len();
            let partition = (spec.spec_id(), file.partition().clone());
            let group = *groups.entry(partition).or_insert(next);
            let committed = entry.snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
            live.candidates.push(Candidate {
                path: file.file_path().to_owned(),
                partition: text,
                group,
                bytes: file.file_size_in_bytes(),
                sequence: entry.sequence_number().unwrap_or(0),
                committed_at: committed.map(|snapshot| snapshot.timestamp_ms()),
            });
            let spec = spec.spec_id();
            live.files.insert(file.file_path().to_owned(), LiveFile { spec, file });
        }
    }
    let mut partitions: HashMap<&str, u64> = HashMap::new();
    for candidate in &live.candidates {
        *partitions.entry(&candidate.partition).or_default() += candidate.bytes;
    }
    live.size.units = partitions.values().map(|bytes| bytes.div_ceil(target_bytes.max(1))).sum();
    Ok(live)
}
