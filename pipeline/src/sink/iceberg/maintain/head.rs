//! The live files of a table's head, with what a rewrite of its manifests needs.

use iceberg::spec::{
    DataContentType, Manifest, ManifestContentType, ManifestEntryRef, ManifestFile, SnapshotRef,
};
use iceberg::table::Table;

/// One manifest of a snapshot with its entries.
pub(super) struct Loaded {
    pub file: ManifestFile,
    pub entries: Vec<ManifestEntryRef>,
}

impl Loaded {
    /// May its entries go into another manifest? Only those of data files under one partition spec.
    pub(super) fn is_ours(&self, spec: i32) -> bool {
        self.file.content == ManifestContentType::Data && self.file.partition_spec_id == spec
    }

    /// Its live data files.
    pub(super) fn live(&self) -> impl Iterator<Item = &ManifestEntryRef> {
        self.entries
            .iter()
            .filter(|entry| entry.is_alive() && entry.content_type() == DataContentType::Data)
    }
}

/// All manifests of a snapshot.
pub(super) async fn load(table: &Table, snapshot: &SnapshotRef) -> iceberg::Result<Vec<Loaded>> {
    let list = table.manifest_list_reader(snapshot).load().await?;
    let mut all = Vec::with_capacity(list.entries().len());
    for file in list.consume_entries() {
        let manifest: Manifest = file.load_manifest(table.file_io()).await?;
        let (entries, _) = manifest.into_parts();
        all.push(Loaded { file, entries });
    }
    Ok(all)
}
