//! A snapshot that has the rows of some files in others: operation `replace`, or `overwrite` where they
//! changed on the way.
//!
//! Manifests that name a replaced file are written anew, together with small ones, so that their
//! number stays bounded too; all others are carried over. Entries that were deleted by earlier snapshots
//! are dropped on that way: an append never drops them.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, ManifestFile, ManifestListWriter, ManifestWriterBuilder,
    Operation, PartitionSpec, Snapshot, SnapshotReference, SnapshotRetention,
    SnapshotSummaryCollector, Summary, TableMetadata,
};
use iceberg::table::Table;
use iceberg::{Error, ErrorKind, Result, TableRequirement, TableUpdate};
use uuid::Uuid;

use super::head::{self, Loaded};
use crate::clock;
use crate::sink::iceberg::position;

/// Entries of one manifest at most. Readers skip whole manifests by partition; this many are read in
/// a few milliseconds.
const MANIFEST_ENTRIES: usize = 10_000;
/// Small manifests are merged once there are this many.
const MANY_MANIFESTS: usize = 16;

/// How the message ends that says that a file was replaced by somebody else.
pub(super) const GONE: &str = "is not part of the table any more";

/// What files are replaced for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The new files have the same rows.
    Merge,
    /// The new files have the same rows without some of their values.
    Erase,
    /// No file: manifests must not tell about files that are gone, not even their statistics.
    Forget,
}

/// The commit of a replace snapshot, ready to be published.
pub(super) struct Replacement {
    pub snapshot_id: i64,
    pub requirements: Vec<TableRequirement>,
    pub updates: Vec<TableUpdate>,
    /// Files written for it, to be removed when it is not published.
    pub written: Vec<String>,
}

/// Builds the snapshot in which `added` stand for the files of `removed` (paths), all of them of the
/// partition spec `spec`. `None` when there is
/// nothing to do. An error of kind `DataInvalid` when a file of `removed` is not live any more.
pub(super) async fn build(
    table: &Table,
    spec: i32,
    removed: &HashSet<String>,
    added: &[DataFile],
    purpose: Purpose,
) -> Result<Option<Replacement>> {
    let metadata = table.metadata();
    let Some(parent) = metadata.current_snapshot() else { return Ok(None) };
    if metadata.format_version() != FormatVersion::V2 {
        return Err(Error::new(
            ErrorKind::FeatureUnsupported,
            format!("format version {} is not maintained", metadata.format_version()),
        ));
    }
    let Some(spec) = metadata.partition_spec_by_id(spec) else {
        let message = format!("the table has no partition spec {spec} any more");
        return Err(Error::new(ErrorKind::DataInvalid, message));
    };
    let (ours, mut carried): (Vec<Loaded>, Vec<Loaded>) =
        head::load(table, parent).await?.into_iter().partition(|m| m.is_ours(spec.spec_id()));
    let many = ours.len() >= MANY_MANIFESTS;
    let is_small = |manifest: &Loaded| manifest.live().count() < MANIFEST_ENTRIES / 2;
    let (rewritten, untouched): (Vec<Loaded>, Vec<Loaded>) = ours.into_iter().partition(|m| {
        let leads_to_dead = || m.entries.iter().any(|entry| !entry.is_alive());
        m.live().any(|entry| removed.contains(entry.file_path()))
            || (many && is_small(m))
            || (purpose == Purpose::Forget && leads_to_dead())
    });
    carried.extend(untouched);
    if rewritten.is_empty() && added.is_empty() {
        return Ok(None);
    }
    let live: HashSet<&str> =
        rewritten.iter().flat_map(Loaded::live).map(|entry| entry.file_path()).collect();
    if let Some(path) = removed.iter().find(|path| !live.contains(path.as_str())) {
        let message = format!("`{path}` {GONE}");
        return Err(Error::new(ErrorKind::DataInvalid, message));
    }

    let snapshot_id = new_snapshot_id(metadata);
    let mut writer = Manifests::new(table, spec, snapshot_id);
    let mut summary = SnapshotSummaryCollector::default();
    let mut totals = Totals::of(parent.summary());
    let schema = table.current_schema_ref();
    let mut sequence = 0;
    for entry in rewritten.iter().flat_map(Loaded::live) {
        let (file, number) = (entry.data_file().clone(), entry.sequence_number().unwrap_or(0));
        let file_number = entry.file_sequence_number;
        if removed.contains(entry.file_path()) {
            summary.remove_file(&file, schema.clone(), spec.clone());
            totals.remove(&file);
            sequence = sequence.max(number);
            writer.next(|manifest| manifest.add_delete_file(file, number, file_number)).await?;
        } else {
            let added_by = entry.snapshot_id().unwrap_or(parent.snapshot_id());
            let add = |manifest: &mut iceberg::spec::ManifestWriter| {
                manifest.add_existing_file(file, added_by, number, file_number)
            };
            writer.next(add).await?;
        }
    }
    for file in added {
        summary.add_file(file, schema.clone(), spec.clone());
        totals.add(file);
        // The highest of those that it stands for: a delete that came meanwhile still applies.
        let file = file.clone();
        writer.next(|manifest| manifest.add_file(file, sequence)).await?;
    }
    let (manifests, mut written) = writer.finish().await?;

    let list =
        format!("{}/metadata/snap-{snapshot_id}-{}.avro", metadata.location(), Uuid::now_v7());
    let output = table.file_io().new_output(&list)?;
    let sequence_number = metadata.next_sequence_number();
    let mut lists = ManifestListWriter::v2(
        output.writer().await?,
        snapshot_id,
        Some(parent.snapshot_id()),
        sequence_number,
    );
    written.push(list.clone());
    lists.add_manifests(manifests.into_iter().chain(carried.into_iter().map(|m| m.file)))?;
    lists.close().await?;

    let mut properties = summary.build();
    properties.extend(totals.properties());
    properties.extend(carried_on(metadata));
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(Some(parent.snapshot_id()))
        .with_sequence_number(sequence_number)
        .with_timestamp_ms((clock::now() / 1_000).max(metadata.last_updated_ms()))
        .with_manifest_list(list)
        .with_summary(Summary {
            operation: match purpose {
                Purpose::Merge | Purpose::Forget => Operation::Replace,
                Purpose::Erase => Operation::Overwrite,
            },
            additional_properties: properties,
        })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let reference =
        SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None));
    Ok(Some(Replacement {
        snapshot_id,
        requirements: vec![
            TableRequirement::UuidMatch { uuid: metadata.uuid() },
            TableRequirement::RefSnapshotIdMatch {
                r#ref: MAIN_BRANCH.to_owned(),
                snapshot_id: Some(parent.snapshot_id()),
            },
        ],
        updates: vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.to_owned(), reference },
        ],
        written,
    }))
}

/// What every head has to say: the position of the table, and what goes with it. The commit too: whoever
/// does not know whether it took effect looks for it, and older snapshots may have expired by then.
fn carried_on(metadata: &TableMetadata) -> HashMap<String, String> {
    [position::POSITION, position::CONTRACT_VERSION, position::WATERMARK, position::COMMIT_ID]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), position::nearest(metadata, key)?.to_owned())))
        .collect()
}

fn new_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = ((high ^ low) >> 1) as i64;
        if metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

/// Writes entries into as many manifests as they need.
struct Manifests<'a> {
    table: &'a Table,
    spec: &'a PartitionSpec,
    snapshot_id: i64,
    current: Option<(iceberg::spec::ManifestWriter, usize)>,
    done: Vec<ManifestFile>,
    written: Vec<String>,
}

impl<'a> Manifests<'a> {
    fn new(table: &'a Table, spec: &'a PartitionSpec, snapshot_id: i64) -> Self {
        Self { table, spec, snapshot_id, current: None, done: Vec::new(), written: Vec::new() }
    }

    async fn next(
        &mut self,
        add: impl FnOnce(&mut iceberg::spec::ManifestWriter) -> Result<()>,
    ) -> Result<()> {
        if self.current.as_ref().is_some_and(|(_, entries)| *entries >= MANIFEST_ENTRIES) {
            self.close().await?;
        }
        let (writer, entries) = match &mut self.current {
            Some(current) => current,
            None => {
                let location = self.table.metadata().location();
                let path = format!("{location}/metadata/{}-m0.avro", Uuid::now_v7());
                let output = self.table.file_io().new_output(&path)?;
                self.written.push(path);
                let builder = ManifestWriterBuilder::new(
                    output,
                    Some(self.snapshot_id),
                    self.table.current_schema_ref(),
                    self.spec.clone(),
                );
                self.current.insert((builder.build_v2_data(), 0))
            }
        };
        *entries += 1;
        add(writer)
    }

    async fn close(&mut self) -> Result<()> {
        if let Some((writer, _)) = self.current.take() {
            self.done.push(writer.write_manifest_file().await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(Vec<ManifestFile>, Vec<String>)> {
        self.close().await?;
        Ok((self.done, self.written))
    }
}

/// The `total-…` properties of a summary, which the next append adds to.
struct Totals {
    records: i64,
    files: i64,
    bytes: i64,
    others: HashMap<String, String>,
}

const RECORDS: &str = "total-records";
const FILES: &str = "total-data-files";
const BYTES: &str = "total-files-size";
/// No delete files here: they stay what they were.
const OTHERS: [&str; 3] =
    ["total-delete-files", "total-position-deletes", "total-equality-deletes"];

impl Totals {
    fn of(summary: &Summary) -> Self {
        let properties = &summary.additional_properties;
        let number =
            |key: &str| properties.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let other = |key: &&str| Some(((*key).to_owned(), properties.get(*key)?.clone()));
        Self {
            records: number(RECORDS),
            files: number(FILES),
            bytes: number(BYTES),
            others: OTHERS.iter().filter_map(other).collect(),
        }
    }

    fn add(&mut self, file: &DataFile) {
        self.records += file.record_count() as i64;
        self.files += 1;
        self.bytes += file.file_size_in_bytes() as i64;
    }

    fn remove(&mut self, file: &DataFile) {
        self.records -= file.record_count() as i64;
        self.files -= 1;
        self.bytes -= file.file_size_in_bytes() as i64;
    }

    fn properties(self) -> HashMap<String, String> {
        let mut properties = self.others;
        for (key, value) in [(RECORDS, self.records), (FILES, self.files), (BYTES, self.bytes)] {
            properties.insert(key.to_owned(), value.max(0).to_string());
        }
        properties
    }
}
