//! The catalog over a client of Glue: what the follower, maintenance and readers ask of it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::io::{FileIO, FileIOBuilder};
use iceberg::spec::{TableMetadata, TableMetadataBuilder, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{
    Catalog, Error, ErrorKind, MetadataLocation, Namespace, NamespaceIdent, Result, Runtime,
    TableCommit, TableCreation, TableIdent, TableRequirement, TableUpdate,
};
use iceberg_storage_opendal::{CustomAwsCredentialLoader, OpenDalStorageFactory};
use opendal::Configurator;
use opendal::Operator;
use reqsign_core::ProvideCredentialChain;

use super::GlueCatalogConfig;
use super::client::{GlueClient, env};
use super::error::GlueError;
use super::schema;
use super::wire::{Entry, METADATA, Wanted};
use crate::sink::iceberg::catalog::CatalogRef;
use crate::sink::iceberg::error::LakeError;
use crate::sink::iceberg::position::OWNER;
use crate::sink::iceberg::publish::{Published, Staged};
use crate::sink::iceberg::s3;

/// A catalog in Glue.
#[derive(Debug, Clone)]
pub(in crate::sink::iceberg) struct GlueCatalog {
    client: GlueClient,
    files: FileIO,
    runtime: Runtime,
    /// Where tables go whose database has no place, without a slash at the end.
    warehouse: String,
}

/// A bucket, for lists of what lies in it.
pub(in crate::sink::iceberg) fn bucket(
    config: &GlueCatalogConfig,
    bucket: &str,
) -> io::Result<Operator> {
    let properties = config.s3_properties(&env);
    let settings = s3::settings(|key| properties.get(key).map(String::as_str), bucket);
    let mut builder = settings.into_builder();
    if !config.s3_has_credentials() {
        let (_, credentials) = GlueClient::new(config).map_err(io::Error::other)?;
        let chain = ProvideCredentialChain::new().push(credentials);
        builder = builder.credential_provider_chain(chain);
    }
    Ok(Operator::new(builder).map_err(io::Error::other)?.finish())
}

impl GlueCatalog {
    /// By the settings and the environment; asks nobody yet.
    pub(in crate::sink::iceberg) async fn open(
        config: &GlueCatalogConfig,
    ) -> std::result::Result<Self, LakeError> {
        let (client, credentials) = GlueClient::new(config)?;
        let loader =
            (!config.s3_has_credentials()).then(|| CustomAwsCredentialLoader::new(credentials));
        let files = OpenDalStorageFactory::S3 { customized_credential_load: loader };
        let files =
            FileIOBuilder::new(Arc::new(files)).with_props(config.s3_properties(&env)).build();
        let runtime =
            Runtime::try_current().map_err(LakeError::catalog("open the lake's catalog"))?;
        let warehouse = config.warehouse.trim_end_matches('/').to_owned();
        Ok(Self { client, files, runtime, warehouse })
    }

    /// For whoever takes any catalog.
    pub(in crate::sink::iceberg) fn into_catalog(self) -> CatalogRef {
        Arc::new(self)
    }

    fn made(
        &self,
        ident: &TableIdent,
        location: String,
        metadata: impl Into<TableMetadataRef>,
    ) -> Result<Table> {
        Table::builder()
            .file_io(self.files.clone())
            .metadata_location(location)
            .metadata(metadata)
            .identifier(ident.clone())
            .runtime(self.runtime.clone())
            .build()
    }

    async fn entry(&self, ident: &TableIdent) -> Result<Entry> {
        let entry = self.client.table(database(ident.namespace())?, ident.name()).await;
        entry.map_err(|error| error.into_iceberg(ErrorKind::TableNotFound))
    }

    /// A table as Glue names it, and its entry there.
    async fn load(&self, ident: &TableIdent) -> Result<(Table, Entry)> {
        let entry = self.entry(ident).await?;
        let location =
            entry.parameter(METADATA).filter(|_| entry.is_iceberg()).ok_or_else(|| {
                let message = format!("`{ident}` is in Glue and no Iceberg table");
                Error::new(ErrorKind::DataInvalid, message)
            })?;
        let metadata = TableMetadata::read_from(&self.files, location).await?;
        Ok((self.made(ident, location.to_owned(), metadata)?, entry))
    }

    /// Asks Glue to name the staged metadata instead of those that `entry` does.
    async fn publish_staged(
        &self,
        ident: &TableIdent,
        entry: &Entry,
        staged: Staged,
    ) -> Result<Published> {
        let named = |error: GlueError| error.into_iceberg(ErrorKind::TableNotFound);
        let Some(version) = entry.version() else {
            staged.forget(&self.files).await;
            // Without it Glue would let us overwrite what another one has committed meanwhile.
            return Err(named(GlueError::Unreadable("the table has no version".to_owned())));
        };
        let wanted = wanted(ident.name(), &staged.metadata, &staged.new, Some(&staged.old));
        let input = wanted.input(Some(entry));
        let database = database(ident.namespace())?;
        match self.client.update_table(database, input, version).await {
            Ok(()) => Ok(Published::Done),
            Err(error) => {
                // Nobody names them. Otherwise it is open: whoever asked looks what the table says.
                if error.is_sure() {
                    staged.forget(&self.files).await;
                }
                match error {
                    GlueError::Conflict(_) => Ok(Published::Conflict),
                    error => Err(named(error)),
                }
            }
        }
    }

    /// Applies `updates` to `base` if that is the table's head and `requirements` hold.
    pub(in crate::sink::iceberg) async fn publish(
        &self,
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> std::result::Result<Published, LakeError> {
        let ident = base.identifier();
        let failed = || LakeError::catalog(format!("commit to lake table `{}`", ident.name()));
        let entry = self.entry(ident).await.map_err(failed())?;
        if entry.parameter(METADATA) != base.metadata_location() {
            return Ok(Published::Conflict);
        }
        let staged = Staged::write(base, requirements, updates).await?;
        self.publish_staged(ident, &entry, staged).await.map_err(failed())
    }

    /// Where a new table goes.
    async fn place(&self, database: &str, table: &str) -> Result<String> {
        let found = self.client.database(database).await;
        let found = found.map_err(|error| error.into_iceberg(ErrorKind::NamespaceNotFound))?;
        Ok(match found.location_uri.filter(|uri| !uri.is_empty()) {
            Some(uri) => format!("{}/{table}", uri.trim_end_matches('/')),
            None => format!("{}/{database}.db/{table}", self.warehouse),
        })
    }
}

/// What a table is to look like in Glue. The owner is told there too: whose a table is must be seen without
/// a look at its files, which may be in a bucket that others cannot read.
fn wanted<'a>(
    name: &'a str,
    metadata: &'a TableMetadata,
    metadata_location: &'a str,
    previous: Option<&'a str>,
) -> Wanted<'a> {
    let owner = metadata.properties().get(OWNER);
    Wanted {
        name,
        metadata_location,
        previous,
        location: metadata.location(),
        columns: schema::columns(metadata),
        parameters: owner.map(|owner| (OWNER, owner.clone())).into_iter().collect(),
    }
}

fn is_ours(entry: &Entry) -> bool {
    entry.is_iceberg() && entry.parameter(OWNER).is_some()
}

/// A namespace as Glue has them.
fn database(namespace: &NamespaceIdent) -> Result<&str> {
    match namespace.as_ref().as_slice() {
        [name] if !name.is_empty() => Ok(name),
        _ => {
            let message = format!("Glue has no database inside another one: `{namespace}`");
            Err(Error::new(ErrorKind::DataInvalid, message))
        }
    }
}

/// For what nobody here asks of a catalog.
fn unsupported<T>(what: &str) -> Result<T> {
    let message = format!("the catalog in Glue does not {what} here");
    Err(Error::new(ErrorKind::FeatureUnsupported, message))
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        Ok(self.load(table).await?.0)
    }

    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        let ident = commit.identifier().clone();
        let (base, entry) = self.load(&ident).await?;
        let old = base.metadata_location_result()?.to_owned();
        let table = commit.apply(base)?;
        let staged = Staged::of(&table, old).await?;
        match self.publish_staged(&ident, &entry, staged).await? {
            Published::Done => Ok(table),
            Published::Conflict => {
                let message = format!("somebody else committed first to `{ident}`");
                Err(Error::new(ErrorKind::CatalogCommitConflicts, message).with_retryable(true))
            }
        }
    }

    /// The databases that hold tables of this program, of whichever data directory. An account has many
    /// others, some of which this one may not look into.
    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        if parent.is_some() {
            return Ok(Vec::new());
        }
        let absent = |error: GlueError| error.into_iceberg(ErrorKind::NamespaceNotFound);
        let (mut ours, mut hidden, mut seen) = (Vec::new(), None, false);
        for database in self.client.databases().await.map_err(absent)? {
            match self.client.tables(&database.name).await {
                Ok(tables) => {
                    seen = true;
                    if tables.iter().any(is_ours) {
                        ours.push(NamespaceIdent::new(database.name));
                    }
                }
                // It was dropped just now.
                Err(GlueError::NotFound(_)) => {}
                Err(error @ GlueError::Forbidden(_)) => {
                    tracing::debug!(database = %database.name, %error, "not looked into");
                    hidden = Some(error);
                }
                Err(error) => return Err(absent(error)),
            }
        }
        match hidden {
            Some(error) if !seen => Err(absent(error)),
            _ => Ok(ours),
        }
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<Namespace> {
        let created = self.client.create_database(database(namespace)?).await;
        created.map_err(|error| error.into_iceberg(ErrorKind::NamespaceNotFound))?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        let found = self.client.database(database(namespace)?).await;
        found.map_err(|error| error.into_iceberg(ErrorKind::NamespaceNotFound))?;
        Ok(Namespace::new(namespace.clone()))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        match self.get_namespace(namespace).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NamespaceNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let tables = self.client.tables(database(namespace)?).await;
        let tables = tables.map_err(|error| error.into_iceberg(ErrorKind::NamespaceNotFound))?;
        let ident = |entry: &Entry| TableIdent::new(namespace.clone(), entry.name().to_owned());
        Ok(tables.iter().filter(|entry| is_ours(entry)).map(ident).collect())
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        mut creation: TableCreation,
    ) -> Result<Table> {
        let database = database(namespace)?;
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        let location = match creation.location.take() {
            Some(location) => location,
            None => self.place(database, &creation.name).await?,
        };
        creation.location = Some(location.clone());
        let metadata = TableMetadataBuilder::from_table_creation(creation)?.build()?.metadata;
        let place = MetadataLocation::new_with_metadata(location, &metadata);
        metadata.write_to(&self.files, &place).await?;
        let place = place.to_string();
        let input = wanted(ident.name(), &metadata, &place, None).input(None);
        match self.client.create_table(database, input).await {
            Ok(()) => self.made(&ident, place, metadata),
            Err(error) => {
                // Nobody names it.
                if error.is_sure() {
                    let _ = self.files.delete(&place).await;
                }
                Err(error.into_iceberg(ErrorKind::NamespaceNotFound))
            }
        }
    }

    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        match self.entry(table).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TableNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn update_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<()> {
        unsupported("change databases")
    }

    async fn drop_namespace(&self, _: &NamespaceIdent) -> Result<()> {
        unsupported("drop databases")
    }

    async fn drop_table(&self, _: &TableIdent) -> Result<()> {
        unsupported("drop tables")
    }

    async fn purge_table(&self, _: &TableIdent) -> Result<()> {
        unsupported("drop tables")
    }

    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> Result<()> {
        unsupported("rename tables")
    }

    async fn register_table(&self, _: &TableIdent, _: String) -> Result<Table> {
        unsupported("register tables")
    }
}
