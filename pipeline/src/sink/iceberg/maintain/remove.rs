//! Files that no snapshot needs: what lies in a table's folder and is not reachable from its metadata.
//!
//! That is what expired snapshots leave, older metadata beyond the log, and what failed commits and
//! crashes left behind. A file younger than the grace may be on its way into a commit and stays.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use iceberg::table::Table;

use crate::sink::iceberg::local_fs::path_of;

/// A file to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unneeded {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Every file that the table's metadata lead to, as paths of the local file system.
pub(super) async fn reachable(table: &Table) -> iceberg::Result<HashSet<PathBuf>> {
    let metadata = table.metadata();
    let mut paths = HashSet::new();
    let mut add = |location: &str| paths.insert(path_of(location));
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

/// Files in the table's `data` and `metadata` folders that are not `reachable` and older than `grace`.
pub(super) fn unneeded(
    table: &Table,
    reachable: &HashSet<PathBuf>,
    grace: Duration,
) -> io::Result<Vec<Unneeded>> {
    let root = path_of(table.metadata().location());
    let mut found = Vec::new();
    for folder in ["data", "metadata"] {
        walk(&root.join(folder), &mut |path, metadata| {
            if !reachable.contains(&path) && is_older(metadata, grace) {
                found.push(Unneeded { path, bytes: metadata.len() });
            }
        })?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A clock that was set back makes no file old.
fn is_older(metadata: &fs::Metadata, grace: Duration) -> bool {
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age >= grace)
}

fn walk(folder: &Path, each: &mut dyn FnMut(PathBuf, &fs::Metadata)) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // Somebody removed it just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() {
            walk(&entry.path(), each)?;
        } else if metadata.is_file() {
            each(entry.path(), &metadata);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_with_or_without_a_scheme() {
        for location in ["file:///a/b", "file:/a/b", "/a/b"] {
            assert_eq!(path_of(location), Path::new("/a/b"), "{location}");
        }
    }

    #[test]
    fn only_files_of_the_past_are_old() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |at| file.as_file().set_modified(at).unwrap();
        let hour = Duration::from_secs(3_600);
        let old = || is_older(&file.as_file().metadata().unwrap(), hour);
        assert!(!old());
        set(SystemTime::now() - 2 * hour);
        assert!(old());
        set(SystemTime::now() + 2 * hour);
        assert!(!old());
    }
}
