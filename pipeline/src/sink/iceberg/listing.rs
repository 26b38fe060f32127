//! The tables of a lake, read from the catalog without a follower.

use std::path::Path;

use iceberg::io::FileIO;
use iceberg::spec::{SortDirection, TableMetadata, Transform};
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Row};

use super::catalog::{self, CATALOG_NAME};
use super::config::{LakeCatalog, LakeConfig};
use super::error::LakeError;
use super::follower::summary;
use super::position::Found;

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    /// Table name.
    pub name: String,
    /// Namespace: the domain.
    pub namespace: String,
    /// Newest metadata file, as Iceberg readers take it.
    pub metadata_location: String,
    /// Rows in the current snapshot.
    pub rows: u64,
    /// Id of the current snapshot; none while the table is empty.
    pub snapshot: Option<i64>,
    /// The table holds all its events up to this journal position (dead letters: up to this id).
    pub position: Option<i64>,
    /// Folder of its files.
    pub location: String,
    /// Live data files in the current snapshot.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Snapshots, the current one included.
    pub snapshots: u64,
    /// How rows are spread over folders, for instance `_event_time_day=day(_event_time)`.
    pub partition: Vec<String>,
    /// What orders the rows of a file, for instance `user_id`; empty for the order of the journal.
    pub sort: Vec<String>,
    /// Its columns, in order.
    pub columns: Vec<ColumnInfo>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Type, as Iceberg writes it.
    #[serde(rename = "type")]
    pub ty: String,
    /// Never null?
    pub required: bool,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

impl TableInfo {
    pub(super) fn new(
        namespace: String,
        name: String,
        metadata_location: String,
        metadata: &TableMetadata,
    ) -> Self {
        let schema = metadata.current_schema();
        let source = |id| schema.name_by_field_id(id).unwrap_or("?");
        let partition = metadata.default_partition_spec().fields().iter();
        let sort = metadata.default_sort_order().fields.iter();
        let columns = schema.as_struct().fields().iter();
        Self {
            rows: summary(metadata, "total-records"),
            snapshot: metadata.current_snapshot_id(),
            position: Found::of(metadata).position(),
            location: metadata.location().to_owned(),
            files: summary(metadata, "total-data-files"),
            bytes: summary(metadata, "total-files-size"),
            snapshots: metadata.snapshots().len() as u64,
            partition: partition
                .map(|field| {
                    format!("{}={}({})", field.name, field.transform, source(field.source_id))
                })
                .collect(),
            sort: sort
                .map(|field| {
                    let column = match field.transform {
                        Transform::Identity => source(field.source_id).to_owned(),
                        transform => format!("{transform}({})", source(field.source_id)),
                    };
                    match field.direction {
                        SortDirection::Ascending => column,
                        SortDirection::Descending => format!("{column} desc"),
                    }
                })
                .collect(),
            columns: columns
                .map(|field| ColumnInfo {
                    name: field.name.clone(),
                    ty: field.field_type.to_string(),
                    required: field.required,
                    doc: field.doc.clone(),
                })
                .collect(),
            name,
            namespace,
            metadata_location,
        }
    }
}

/// The tables of a lake in order of name; none where there is no local one yet. May be called while a
/// server runs on the data directory, and from async code (it blocks).
pub fn tables(config: &LakeConfig) -> Result<Vec<TableInfo>, LakeError> {
    let file = config.catalog_file();
    if config.catalog == LakeCatalog::Local && !file.exists() {
        return Ok(Vec::new());
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| LakeError::Io { action, path, source }
    };
    // A thread of its own: a runtime cannot be started inside another one.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed("start a runtime to read", &file))?;
            match &config.catalog {
                LakeCatalog::Local => runtime.block_on(read(&file)),
                LakeCatalog::Rest(_) | LakeCatalog::Glue(_) => runtime.block_on(ask(config)),
            }
        });
        reader.join().unwrap_or(Err(LakeError::Stopped))
    })
}

/// The tables as the catalog tells them.
async fn ask(config: &LakeConfig) -> Result<Vec<TableInfo>, LakeError> {
    let failed = || LakeError::catalog("list the lake's tables".to_owned());
    let catalog = catalog::open(config).await?;
    let mut tables = Vec::new();
    for namespace in catalog.list_namespaces(None).await.map_err(failed())? {
        for ident in catalog.list_tables(&namespace).await.map_err(failed())? {
            let table = catalog.load_table(&ident).await.map_err(failed())?;
            if !config.is_ours(table.metadata()) {
                continue;
            }
            let location = table.metadata_location().unwrap_or_default().to_owned();
            let name = ident.name().to_owned();
            let namespace = ident.namespace().as_ref().join(".");
            tables.push(TableInfo::new(namespace, name, location, table.metadata()));
        }
    }
    tables.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(tables)
}

async fn read(file: &Path) -> Result<Vec<TableInfo>, LakeError> {
    let files = FileIO::new_with_fs();
    let mut tables = Vec::new();
    for Entry { namespace, name, metadata_location } in entries(file).await? {
        let metadata = TableMetadata::read_from(&files, &metadata_location)
            .await
            .map_err(LakeError::catalog(format!("read the metadata of lake table `{name}`")))?;
        tables.push(TableInfo::new(namespace, name, metadata_location, &metadata));
    }
    Ok(tables)
}

/// A table as the catalog's SQLite file names it.
pub(super) struct Entry {
    pub namespace: String,
    pub name: String,
    pub metadata_location: String,
}

/// The tables that an SQLite file names, in order of name. Changes nothing in it.
pub(super) async fn entries(file: &Path) -> Result<Vec<Entry>, LakeError> {
    let failed = |source: sqlx::Error| LakeError::Io {
        action: "read the lake's catalog",
        path: file.to_owned(),
        source: std::io::Error::other(source),
    };
    let mut connection: SqliteConnection = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .connect()
        .await
        .map_err(failed)?;
    let rows = sqlx::query(
        "select table_namespace, table_name, metadata_location from iceberg_tables \
         where catalog_name = ? order by table_namespace, table_name",
    )
    .bind(CATALOG_NAME)
    .fetch_all(&mut connection)
    .await
    .map_err(failed)?;
    let entry = |row: &SqliteRow| -> Result<Entry, sqlx::Error> {
        Ok(Entry {
            namespace: row.try_get("table_namespace")?,
            name: row.try_get("table_name")?,
            metadata_location: row.try_get("metadata_location")?,
        })
    };
    rows.iter().map(|row| entry(row).map_err(failed)).collect()
}
