//! What lies in a table's folder, on local disks and in object stores.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use futures::TryStreamExt;
use opendal::Operator;
use opendal::services::S3Config;

use crate::sink::iceberg::config::{LakeCatalog, LakeConfig};
use crate::sink::iceberg::local_fs::path_of;
use crate::sink::iceberg::rest::RestCatalogConfig;

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
        match (&config.catalog, key(&folder).strip_prefix("s3://")) {
            (LakeCatalog::Rest(rest), Some(folder)) => objects(rest, folder, &mut found).await?,
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

/// Objects below `BUCKET/PATH`.
async fn objects(
    rest: &RestCatalogConfig,
    folder: &str,
    found: &mut Vec<Listed>,
) -> io::Result<()> {
    let (bucket, path) = folder.split_once('/').unwrap_or((folder, ""));
    let operator = Operator::from_config(s3(rest, bucket)).map_err(io::Error::other)?.finish();
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

/// How to reach a bucket, by the properties that Iceberg clients take.
fn s3(rest: &RestCatalogConfig, bucket: &str) -> S3Config {
    let text = |key: &str| rest.get(key).map(str::to_owned);
    let is_set = |key: &str| {
        rest.get(key).is_some_and(|value| matches!(value, "true" | "TRUE" | "True" | "1"))
    };
    let mut config = S3Config::default();
    config.bucket = bucket.to_owned();
    config.endpoint = text("s3.endpoint");
    config.region = text("client.region").or_else(|| text("s3.region"));
    config.access_key_id = text("s3.access-key-id");
    config.secret_access_key = text("s3.secret-access-key");
    config.session_token = text("s3.session-token");
    config.role_arn = text("client.assume-role.arn");
    config.external_id = text("client.assume-role.external-id");
    config.enable_virtual_host_style = !is_set("s3.path-style-access");
    config.skip_signature = is_set("s3.allow-anonymous");
    config.disable_config_load = is_set("s3.disable-config-load");
    config.disable_ec2_metadata = is_set("s3.disable-ec2-metadata");
    config
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
