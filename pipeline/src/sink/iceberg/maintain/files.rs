//! What lies in a table's folder, on local disks and in object stores.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use futures::TryStreamExt;
use opendal::Operator;

use crate::sink::iceberg::config::{LakeCatalog, LakeConfig};
use crate::sink::iceberg::local_fs::path_of;
use crate::sink::iceberg::{glue, s3};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Where it is, comparable with [`key`].
    pub key: String,
    pub bytes: u64,
    /// When it was written, if that is known.
    pub modified: Option<SystemTime>,
}

/// A location in a form in which two of the same file are equal.
pub(super) fn key(location: &str) -> String {
    match location.split_once("://") {
        Some(("s3" | "s3a" | "s3n", rest)) => format!("s3://{rest}"),
        Some((scheme, _)) if scheme != "file" => location.to_owned(),
        _ => path_of(location).to_string_lossy().into_owned(),
    }
}

/// All files below the folders `data` and `metadata` of a table's `location`.
pub(super) async fn list(config: &LakeConfig, location: &str) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    for folder in ["data", "metadata"] {
        let folder = format!("{}/{folder}", location.trim_end_matches('/'));
        match key(&folder)
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        {
            Some((bucket, path)) if config.catalog != LakeCatalog::Local => {
                objects(operator(&config.catalog, bucket)?, bucket, path, &mut found).await?;
            }
            _ => walk(&path_of(&folder), &mut found)?,
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<Listed>) -> io::Result<()> {
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
            walk(&entry.path(), found)?;
        } else if metadata.is_file() {
            found.push(Listed {
                key: entry.path().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
            });
        }
    }
    Ok(())
}

/// A bucket of a catalog's.
fn operator(catalog: &LakeCatalog, bucket: &str) -> io::Result<Operator> {
    match catalog {
        LakeCatalog::Glue(config) => glue::bucket(config, bucket),
        LakeCatalog::Rest(config) => {
            let settings = s3::settings(|key| config.get(key), bucket);
            Ok(Operator::from_config(settings).map_err(io::Error::other)?.finish())
        }
        LakeCatalog::Local => Err(io::Error::other("a local lake has no bucket")),
    }
}

/// Objects below a path of a bucket.
async fn objects(
    operator: Operator,
    bucket: &str,
    path: &str,
    found: &mut Vec<Listed>,
) -> io::Result<()> {
    let lister = operator.lister_with(&format!("{path}/")).recursive(true).await;
    let mut lister = lister.map_err(io::Error::other)?;
    while let Some(entry) = lister.try_next().await.map_err(io::Error::other)? {
        let metadata = entry.metadata();
        if metadata.is_file() {
            found.push(Listed {
                key: format!("s3://{bucket}/{}", entry.path()),
                bytes: metadata.content_length(),
                modified: metadata.last_modified().map(SystemTime::from),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_of_the_same_file_are_equal() {
        for location in ["file:///a/b", "file:/a/b", "/a/b"] {
            assert_eq!(key(location), "/a/b", "{location}");
        }
        assert_eq!(key("s3a://lake/a"), key("s3://lake/a"));
        assert_ne!(key("gs://lake/a"), key("s3://lake/a"));
    }
}
