//! A lake whose folder is another one than its files say.
//!
//! Metadata, manifest lists and manifests name files by absolute paths, and other engines follow them.
//! So they are written anew, from the leaves up, and last the catalog's rows. Data files name nothing.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sqlx::Connection;

use super::avro::{self, Kind};
use super::{blocking, connect, sql};
use crate::sink::iceberg::error::LakeError;

/// What was rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relocated {
    /// Metadata files, manifest lists and manifests.
    pub files: u64,
}

/// Makes the lake with this catalog file, whose tables said to lie below the location `from`, one
/// whose tables lie below `to`; that is where its files are: in the folder `warehouse`.
///
/// Nobody may work on it meanwhile. Interrupted, it is called again: the catalog comes last, and what is
/// rewritten already does not begin with `from` any more.
pub fn relocate(
    catalog: &Path,
    warehouse: &Path,
    from: &str,
    to: &str,
) -> Result<Relocated, LakeError> {
    if Path::new(to).starts_with(from) {
        let source = io::Error::other("the new folder lies inside the old one");
        return Err(failed("rewrite the lake in", warehouse)(source));
    }
    let moved = |text: &str| -> Option<String> {
        let rest = text.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
    };
    let mut files = Vec::new();
    walk(warehouse, &mut files).map_err(failed("look into", warehouse))?;
    let (mut lists, mut documents) = (Vec::new(), Vec::new());
    let mut lengths = HashMap::new();
    let mut done = Relocated::default();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => documents.push(file),
            Some("avro") => {
                let bytes = fs::read(&file).map_err(failed("read", &file))?;
                if avro::kind(&bytes).map_err(other("read", &file))? == Kind::List {
                    lists.push(file);
                    continue;
                }
                let new = avro::rewrite(&bytes, moved, &HashMap::new());
                let new = new.map_err(other("rewrite", &file))?;
                let below = file.strip_prefix(warehouse).unwrap_or(&file);
                lengths.insert(format!("{to}/{}", below.display()), new.len() as i64);
                replace(&file, &new).map_err(failed("rewrite", &file))?;
                done.files += 1;
            }
            _ => {}
        }
    }
    for file in lists {
        let bytes = fs::read(&file).map_err(failed("read", &file))?;
        let new = avro::rewrite(&bytes, moved, &lengths).map_err(other("rewrite", &file))?;
        replace(&file, &new).map_err(failed("rewrite", &file))?;
        done.files += 1;
    }
    for file in documents {
        let bytes = fs::read(&file).map_err(failed("read", &file))?;
        let mut document: Value = serde_json::from_slice(&bytes).map_err(other("read", &file))?;
        texts(&mut document, &moved);
        let new = serde_json::to_vec(&document).map_err(other("rewrite", &file))?;
        replace(&file, &new).map_err(failed("rewrite", &file))?;
        done.files += 1;
    }
    blocking(catalog, || set_rows(catalog, from, to))?;
    Ok(done)
}

/// Every location in the catalog.
async fn set_rows(catalog: &Path, from: &str, to: &str) -> Result<(), LakeError> {
    let failed = |source| sql("rewrite the lake's catalog", catalog, source);
    let mut connection = connect(catalog, false).await.map_err(failed)?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    for (table, column) in [
        ("iceberg_tables", "metadata_location"),
        ("iceberg_tables", "previous_metadata_location"),
        ("iceberg_namespace_properties", "property_value"),
    ] {
        let set = format!(
            "update {table} set {column} = ?2 || substr({column}, length(?1) + 1) \
             where {column} = ?1 or substr({column}, 1, length(?1) + 1) = ?1 || '/'"
        );
        let set = sqlx::query(&set).bind(from).bind(to);
        set.execute(&mut *transaction).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

fn texts(value: &mut Value, moved: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(new) = moved(text) {
                *text = new;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| texts(value, moved)),
        Value::Object(members) => members.values_mut().for_each(|value| texts(value, moved)),
        _ => {}
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => walk(&entry.path(), found)?,
            _ => found.push(entry.path()),
        }
    }
    Ok(())
}

/// Under another name until it is whole.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let unborn = file.with_extension("partial");
    let mut new = fs::File::create(&unborn)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&unborn, file)?;
    match file.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    let path = path.to_owned();
    move |source| LakeError::Io { action, path, source }
}

fn other<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> LakeError {
    let path = path.to_owned();
    move |source| LakeError::Io { action, path, source: io::Error::other(source) }
}
