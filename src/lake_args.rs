//! What every command that meets the lake takes on the command line: where it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use pipeline::sink::iceberg::{GlueCatalogConfig, LakeCatalog, LakeConfig, RestCatalogConfig};
use serving::store::data_dir::DataDir;

use crate::failure::Failure;
use crate::kafka_client::{read_properties, setting};
use crate::opened;

/// Where the lake is. By default in the data directory: an SQLite catalog and local files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lake")]
pub(crate) struct LakeArgs {
    /// An Iceberg REST catalog, `http://HOST:PORT/…` without the `/v1`, or AWS Glue, `glue:` or
    /// `glue:ACCOUNT`; the tables are in S3.
    #[arg(long, value_name = "URL", env = "AGENTFLOW_LAKE_CATALOG", value_parser = place)]
    lake_catalog: Option<String>,
    /// The warehouse to ask the REST catalog for, as it names it; for Glue, where new tables go,
    /// `s3://BUCKET/PATH`.
    #[arg(long, value_name = "NAME", env = "AGENTFLOW_LAKE_WAREHOUSE", requires = "lake_catalog")]
    lake_warehouse: Option<String>,
    /// A property of the catalog or of its object store, as Iceberg clients take it, for instance
    /// `s3.endpoint=https://s3.example.net`. May be repeated.
    #[arg(long = "lake-set", value_name = "KEY=VALUE", value_parser = setting, requires = "lake_catalog")]
    lake_settings: Vec<(String, String)>,
    /// File with such properties, `key=value` a line: the place for secrets (`token`, `credential`,
    /// `s3.access-key-id`, `s3.secret-access-key`, `glue.secret-access-key`).
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_LAKE_PROPERTIES", requires = "lake_catalog")]
    lake_properties: Option<PathBuf>,
}

impl LakeArgs {
    /// Where the catalog is. Fails where the file of properties cannot be read, and where what was said
    /// cannot be.
    pub(crate) fn catalog(&self) -> Result<LakeCatalog, Failure> {
        let Some(uri) = &self.lake_catalog else { return Ok(LakeCatalog::Local) };
        let mut properties = match &self.lake_properties {
            None => Default::default(),
            Some(path) => read_properties(path)?,
        };
        properties.extend(self.lake_settings.iter().cloned());
        let warehouse = self.lake_warehouse.clone();
        match uri.strip_prefix(GLUE) {
            Some(account) => glue(account, warehouse, properties),
            None => {
                let uri = uri.clone();
                Ok(LakeCatalog::Rest(RestCatalogConfig { uri, warehouse, properties }))
            }
        }
    }
}

/// The lake of a data directory that we hold.
pub(crate) fn config(directory: &DataDir, catalog: LakeCatalog) -> Result<LakeConfig, Failure> {
    let owner = directory.identity().map_err(|error| opened::refused(&error))?;
    Ok(LakeConfig { catalog, owner: Some(owner), ..LakeConfig::new(directory.path()) })
}

/// What a catalog in Glue begins with.
const GLUE: &str = "glue:";

fn glue(
    account: &str,
    warehouse: Option<String>,
    properties: BTreeMap<String, String>,
) -> Result<LakeCatalog, Failure> {
    let catalog_id = (!account.is_empty()).then(|| account.to_owned());
    let config =
        GlueCatalogConfig { catalog_id, warehouse: warehouse.unwrap_or_default(), properties };
    match config.problem(&|name| std::env::var(name).ok()) {
        None => Ok(LakeCatalog::Glue(config)),
        Some((problem, hint)) => Err(Failure::input(problem).hint(hint)),
    }
}

fn place(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(text.to_owned()),
        None if text.starts_with(GLUE) => Ok(text.to_owned()),
        _ => Err("write it as http://HOST:PORT, https://…, glue: or glue:ACCOUNT".to_owned()),
    }
}
