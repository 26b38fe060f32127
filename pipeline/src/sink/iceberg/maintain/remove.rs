//! Files that no snapshot needs: what lies in a table's folder and is not reachable from its metadata.
//!
//! That is what expired snapshots leave, older metadata beyond the log, and what failed commits and
//! crashes left behind. A file younger than the grace may be on its way into a commit and stays.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use iceberg::table::Table;

use super::files::{Listed, key};

/// Every file that the table's metadata lead to, as [`key`]s.
pub(in crate::sink::iceberg) async fn reachable(table: &Table) -> iceberg::Result<HashSet<String>> {
    let metadata = table.metadata();
    let mut paths = HashSet::new();
    let mut add = |location: &str| paths.insert(key(location));
    add(table.metadata_location_result()?);
    metadata.metadata_log().iter().for_each(|log| {
        add(&log.metadata_file);
    });
    metadata.statistics_iter().for_each(|file| {
        add(&file.statistics_path);
    });
    metadata.partition_statistics_iter().for_each(|file| {
        add(&file.statistics_path);
    });
    let mut seen = HashSet::new();
    for snapshot in metadata.snapshots() {
        add(snapshot.manifest_list());
        let list = table.manifest_list_reader(snapshot).load().await?;
        for manifest in list.consume_entries() {
            // Snapshots share most of their manifests.
            if !seen.insert(manifest.manifest_path.clone()) {
                continue;
            }
            add(&manifest.manifest_path);
            let (entries, _) = manifest.load_manifest(table.file_io()).await?.into_parts();
            entries.iter().filter(|entry| entry.is_alive()).for_each(|entry| {
                add(entry.file_path());
            });
        }
    }
    Ok(paths)
}

/// Files that are not `reachable` and older than `grace`.
pub(super) fn unneeded(
    listed: Vec<Listed>,
    reachable: &HashSet<String>,
    grace: Duration,
) -> Vec<Listed> {
    let is_unneeded = |file: &Listed| !reachable.contains(&file.key) && is_older(file, grace);
    listed.into_iter().filter(is_unneeded).collect()
}

/// A clock that was set back makes no file old.
fn is_older(file: &Listed, grace: Duration) -> bool {
    let age = file.modified.and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age >= grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_past_are_old() {
        let hour = Duration::from_secs(3_600);
        let old = |modified| is_older(&Listed { key: "a".to_owned(), bytes: 1, modified }, hour);
        let now = SystemTime::now();
        assert!(!old(Some(now)));
        assert!(old(Some(now - 2 * hour)));
        assert!(!old(Some(now + 2 * hour)));
        assert!(!old(None));
    }

    #[test]
    fn what_is_reachable_or_young_stays() {
        let file = |key: &str, hours: u32| Listed {
            key: key.to_owned(),
            bytes: 1,
            modified: Some(SystemTime::now() - hours * Duration::from_secs(3_600)),
        };
        let listed = vec![file("a", 9), file("b", 9), file("c", 1)];
        let found = unneeded(listed, &["a".to_owned()].into(), Duration::from_secs(7_200));
        assert_eq!(found.iter().map(|file| &*file.key).collect::<Vec<_>>(), ["b"]);
    }
}
