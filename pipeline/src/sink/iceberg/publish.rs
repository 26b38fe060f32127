//! Commits that the library has no action for: any updates under any requirements, published by the
//! catalog's own compare-and-swap.
//!
//! The library's transactions cannot replace files. A REST catalog is asked to do it. For an SQLite file
//! the new metadata are built here from the library's public parts, written beside the old ones, and
//! the catalog's row is moved from the old to the new location: of two commits on the same head one
//! moves the row; the other finds it moved.

use std::path::Path;
use std::str::FromStr;

use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{MetadataLocation, TableRequirement, TableUpdate};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use super::catalog::CATALOG_NAME;
use super::config::{LakeCatalog, LakeConfig};
use super::error::LakeError;
use super::rest::RestPublisher;

/// A catalog, for commits.
#[derive(Debug, Clone)]
pub(super) enum Publisher {
    /// An SQLite file.
    Sqlite(Sqlite),
    /// Over HTTP.
    Rest(RestPublisher),
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
        let name = base.identifier().name().to_owned();
        let failed = || LakeError::catalog(format!("commit to lake table `{name}`"));
        for requirement in requirements {
            requirement.check(Some(base.metadata())).map_err(failed())?;
        }
        let old = base.metadata_location_result().map_err(failed())?;
        let new = apply(base, old, updates).map_err(failed())?;
        let location = MetadataLocation::from_str(old)
            .map_err(failed())?
            .with_next_version()
            .with_new_metadata(&new);
        new.write_to(base.file_io(), &location).await.map_err(failed())?;
        let location = location.to_string();
        let moved = self.move_row(base, old, &location).await;
        if matches!(moved, Ok(Published::Conflict)) {
            // Nobody names it; where it cannot be removed it is found by its age later.
            let _ = base.file_io().delete(&location).await;
        }
        moved.map_err(|source| LakeError::Io {
            action: "commit to the lake's catalog for table",
            path: name.into(),
            source: std::io::Error::other(source),
        })
    }

    async fn move_row(&self, base: &Table, old: &str, new: &str) -> sqlx::Result<Published> {
        let namespace = base.identifier().namespace().as_ref().join(".");
        let mut transaction = self.pool.begin().await?;
        let moved = sqlx::query(
            "update iceberg_tables set metadata_location = ?, previous_metadata_location = ? \
             where catalog_name = ? and table_namespace = ? and table_name = ? \
             and (iceberg_type = 'TABLE' or iceberg_type is null) and metadata_location = ?",
        )
        .bind(new)
        .bind(old)
        .bind(CATALOG_NAME)
        .bind(namespace)
        .bind(base.identifier().name())
        .bind(old)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if moved.rows_affected() == 1 { Published::Done } else { Published::Conflict })
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
