//! Commits that the library has no action for: any updates under any requirements, published by the
//! catalog's own compare-and-swap.
//!
//! The library's transactions cannot replace files. A REST catalog is asked to do it. For an SQLite file
//! and for Glue the new metadata are built here from the library's public parts ([`Staged`]) and written
//! beside the old ones; then the catalog's row, or entry, is moved from the old to the new location: of two
//! commits on the same head one moves it; the other finds it moved.

use std::path::Path;
use std::str::FromStr;

use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{MetadataLocation, TableRequirement, TableUpdate};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use super::catalog::CATALOG_NAME;
use super::config::{LakeCatalog, LakeConfig};
use super::error::LakeError;
use super::glue::GlueCatalog;
use super::rest::RestPublisher;

/// A catalog, for commits.
#[derive(Debug, Clone)]
pub(super) enum Publisher {
    /// An SQLite file.
    Sqlite(Sqlite),
    /// Over HTTP.
    Rest(RestPublisher),
    /// In Glue.
    Glue(GlueCatalog),
}

/// The catalog's SQLite file.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    pool: SqlitePool,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is the table's head.
    Done,
    /// Somebody else committed first: build it again on the new head.
    Conflict,
}

impl Publisher {
    /// Over the catalog of a lake, which exists.
    pub(super) async fn open(config: &LakeConfig) -> Result<Self, LakeError> {
        Ok(match &config.catalog {
            LakeCatalog::Local => Self::Sqlite(Sqlite::open(&config.catalog_file()).await?),
            LakeCatalog::Rest(rest) => Self::Rest(RestPublisher::open(rest).await?),
            LakeCatalog::Glue(glue) => Self::Glue(GlueCatalog::open(glue).await?),
        })
    }

    /// Applies `updates` to `base` if that is the table's head and `requirements` hold.
    pub(super) async fn publish(
        &self,
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Published, LakeError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.publish(base, requirements, updates).await,
            Self::Rest(rest) => rest.publish(base, requirements, updates).await,
            Self::Glue(glue) => glue.publish(base, requirements, updates).await,
        }
    }
}

impl Sqlite {
    async fn open(file: &Path) -> Result<Self, LakeError> {
        let options = SqliteConnectOptions::new().filename(file);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let pool = pool.map_err(|source| LakeError::Io {
            action: "open the lake's catalog",
            path: file.to_owned(),
            source: std::io::Error::other(source),
        })?;
        Ok(Self { pool })
    }

    async fn publish(
        &self,
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Published, LakeError> {
        let staged = Staged::write(base, requirements, updates).await?;
        let moved = self.move_row(base, &staged).await;
        if matches!(moved, Ok(Published::Conflict)) {
            staged.forget(base.file_io()).await;
        }
        moved.map_err(|source| LakeError::Io {
            action: "commit to the lake's catalog for table",
            path: base.identifier().name().into(),
            source: std::io::Error::other(source),
        })
    }

    async fn move_row(&self, base: &Table, staged: &Staged) -> sqlx::Result<Published> {
        let namespace = base.identifier().namespace().as_ref().join(".");
        let mut transaction = self.pool.begin().await?;
        let moved = sqlx::query(
            "update iceberg_tables set metadata_location = ?, previous_metadata_location = ? \
             where catalog_name = ? and table_namespace = ? and table_name = ? \
             and (iceberg_type = 'TABLE' or iceberg_type is null) and metadata_location = ?",
        )
        .bind(&staged.new)
        .bind(&staged.old)
        .bind(CATALOG_NAME)
        .bind(namespace)
        .bind(base.identifier().name())
        .bind(&staged.old)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if moved.rows_affected() == 1 { Published::Done } else { Published::Conflict })
    }
}

/// New metadata of a table that no catalog names yet.
pub(super) struct Staged {
    /// Where the metadata are that they were made of.
    pub old: String,
    /// Where they are.
    pub new: String,
    /// What they say: Glue shows the columns.
    #[cfg_attr(not(feature = "glue"), expect(dead_code))]
    pub metadata: TableMetadataRef,
}

impl Staged {
    /// Applies `updates` to `base` under `requirements` and writes the outcome beside it.
    async fn apply(
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> iceberg::Result<Self> {
        for requirement in requirements {
            requirement.check(Some(base.metadata()))?;
        }
        let old = base.metadata_location_result()?;
        let metadata = apply(base, old, updates)?;
        let location =
            MetadataLocation::from_str(old)?.with_next_version().with_new_metadata(&metadata);
        metadata.write_to(base.file_io(), &location).await?;
        let new = location.to_string();
        Ok(Self { old: old.to_owned(), new, metadata: metadata.into() })
    }

    /// The same, as a step of a commit to the lake.
    pub(super) async fn write(
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Self, LakeError> {
        let staged = Self::apply(base, requirements, updates).await;
        let name = base.identifier().name();
        staged.map_err(LakeError::catalog(format!("commit to lake table `{name}`")))
    }

    /// Writes the metadata of `table`, which were made of those at `old`.
    #[cfg(feature = "glue")]
    pub(super) async fn of(table: &Table, old: String) -> iceberg::Result<Self> {
        let new = table.metadata_location_result()?.to_owned();
        let location = MetadataLocation::from_str(&new)?;
        table.metadata().write_to(table.file_io(), &location).await?;
        Ok(Self { old, new, metadata: table.metadata_ref() })
    }

    /// Removes it: somebody else has committed first.
    pub(super) async fn forget(self, files: &FileIO) {
        // Nobody names it; where it cannot be removed it is found by its age later.
        let _ = files.delete(&self.new).await;
    }
}

fn apply(
    base: &Table,
    location: &str,
    updates: Vec<TableUpdate>,
) -> iceberg::Result<TableMetadata> {
    let mut builder = base.metadata().clone().into_builder(Some(location.to_owned()));
    for update in updates {
        builder = update.apply(builder)?;
    }
    Ok(builder.build()?.metadata)
}
