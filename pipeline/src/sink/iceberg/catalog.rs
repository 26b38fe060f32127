//! The catalog names the newest metadata of each table: an SQLite file, or a service over HTTP.
//!
//! The library's catalogs are used as they are, behind [`Hooked`], the place where every load and
//! every commit passes. [`Fence`] sits there during a commit: the library rebases an append on
//! whatever head it finds, so a writer that is no longer the only one would happily write events a
//! second time. With the fence it may only append where it left the table.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::SchemaRef;
use iceberg::table::Table;
use iceberg::{
    Catalog, CatalogBuilder, Error, ErrorKind, Namespace, NamespaceIdent, Result, TableCommit,
    TableCreation, TableIdent,
};
use iceberg_catalog_rest::RestCatalogBuilder;
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalogBuilder};
use iceberg_storage_opendal::OpenDalStorageFactory;

use super::config::{LakeCatalog, LakeConfig};
use super::error::LakeError;
use super::glue::GlueCatalog;
use super::local_fs::{DurableLocalFsFactory, create_dirs};
use super::lost::gone;
use super::position::{Found, may_append};
use super::rest::RestCatalogConfig;

/// Name of the catalog: readers of the SQLite file have to give it.
pub const CATALOG_NAME: &str = "agentflow";

/// A catalog of any kind.
pub(super) type CatalogRef = Arc<dyn Catalog>;

/// Opens the catalog of a lake; a local one is created if need be.
pub(super) async fn open(config: &LakeConfig) -> std::result::Result<CatalogRef, LakeError> {
    match &config.catalog {
        LakeCatalog::Glue(glue) => Ok(GlueCatalog::open(glue).await?.into_catalog()),
        LakeCatalog::Local => open_local(config).await,
        LakeCatalog::Rest(rest) => open_rest(rest).await,
    }
}

async fn open_rest(config: &RestCatalogConfig) -> std::result::Result<CatalogRef, LakeError> {
    let files = OpenDalStorageFactory::S3 { customized_credential_load: None };
    let catalog = RestCatalogBuilder::default()
        .with_client(config.client()?)
        .with_storage_factory(Arc::new(files))
        .load(CATALOG_NAME, config.client_properties())
        .await
        .map_err(LakeError::catalog(format!("open the lake's catalog `{}`", config.uri)))?;
    Ok(Arc::new(catalog))
}

async fn open_local(config: &LakeConfig) -> std::result::Result<CatalogRef, LakeError> {
    let warehouse = config.warehouse();
    create_dirs(&warehouse).map_err(|source| LakeError::Io {
        action: "create the lake's folder",
        path: warehouse.clone(),
        source,
    })?;
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| LakeError::Io {
            action: "resolve",
            path: path.to_owned(),
            source,
        })
    };
    let file = absolute(&config.catalog_file())?;
    let warehouse = absolute(&warehouse)?;
    let catalog = SqlCatalogBuilder::default()
        .uri(format!("sqlite://{}?mode=rwc", percent_encode(&file.to_string_lossy())))
        .warehouse_location(format!("file://{}", warehouse.display()))
        .sql_bind_style(SqlBindStyle::QMark)
        .prop("pool.max-connections", "2")
        .with_storage_factory(Arc::new(DurableLocalFsFactory))
        .load(CATALOG_NAME, HashMap::new())
        .await
        .map_err(LakeError::catalog(format!("open the lake's catalog `{}`", file.display())))?;
    Ok(Arc::new(catalog))
}

/// A path as part of a connection URL.
fn percent_encode(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// What happens when a table is loaded or committed through [`Hooked`].
#[async_trait]
pub(super) trait Hooks: Debug + Send + Sync {
    /// Loads a table.
    async fn load_table(&self, inner: &dyn Catalog, table: &TableIdent) -> Result<Table> {
        inner.load_table(table).await
    }

    /// Commits to a table.
    async fn update_table(&self, inner: &dyn Catalog, commit: TableCommit) -> Result<Table> {
        inner.update_table(commit).await
    }
}

/// Lets a writer load a table only where it left it, with the columns that its files have.
#[derive(Debug)]
pub(super) struct Fence {
    /// The position that the writer left; `None` before its first commit.
    pub expected: Option<i64>,
    /// The schema by which it wrote.
    pub schema: SchemaRef,
}

#[async_trait]
impl Hooks for Fence {
    async fn load_table(&self, inner: &dyn Catalog, table: &TableIdent) -> Result<Table> {
        let table = inner.load_table(table).await?;
        let found = Found::of(table.metadata());
        // Not retryable: between these checks and the commit the catalog's compare-and-swap
        // guards, so a moved table stays moved.
        let refused = |message| Err(Error::new(ErrorKind::PreconditionFailed, message));
        if !may_append(self.expected, found) {
            return refused(format!("expected the table at {:?}, found {found:?}", self.expected));
        }
        match gone(&self.schema, table.metadata().current_schema()) {
            Some(column) => refused(format!("the table has no column `{column}` any more")),
            None => Ok(table),
        }
    }
}

/// A catalog with [`Hooks`] before two of its methods.
pub(super) struct Hooked<H> {
    /// The catalog behind.
    pub inner: CatalogRef,
    /// The hooks.
    pub hooks: H,
}

impl<H: Debug> Debug for Hooked<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hooks.fmt(f)
    }
}

#[async_trait]
impl<H: Hooks> Catalog for Hooked<H> {
    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        self.hooks.load_table(self.inner.as_ref(), table).await
    }

    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        self.hooks.update_table(self.inner.as_ref(), commit).await
    }

    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<Namespace> {
        self.inner.create_namespace(namespace, properties).await
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        self.inner.get_namespace(namespace).await
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        self.inner.namespace_exists(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.inner.update_namespace(namespace, properties).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.drop_table(table).await
    }

    async fn purge_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.purge_table(table).await
    }

    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        self.inner.table_exists(table).await
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        self.inner.rename_table(from, to).await
    }

    async fn register_table(&self, table: &TableIdent, metadata: String) -> Result<Table> {
        self.inner.register_table(table, metadata).await
    }
}
