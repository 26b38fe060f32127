//! What every command that meets the lake takes on the command line: where it is.

use std::path::PathBuf;

use clap::Args;
use pipeline::sink::iceberg::{LakeCatalog, LakeConfig, RestCatalogConfig};
use serving::store::data_dir::DataDir;

use crate::failure::Failure;
use crate::kafka_client::{read_properties, setting};
use crate::opened;

/// Where the lake is. By default in the data directory: an SQLite catalog and local files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lake")]
pub(crate) struct LakeArgs {
    /// An Iceberg REST catalog, `http://HOST:PORT/…` without the `/v1`, for tables in S3.
    #[arg(long, value_name = "URL", env = "AGENTFLOW_LAKE_CATALOG", value_parser = url)]
    lake_catalog: Option<String>,
    /// The warehouse to ask the REST catalog for, as it names it.
    #[arg(long, value_name = "NAME", env = "AGENTFLOW_LAKE_WAREHOUSE", requires = "lake_catalog")]
    lake_warehouse: Option<String>,
    /// A property of the REST catalog or of its object store, as Iceberg clients take it, for instance
    /// `s3.endpoint=https://s3.example.net`. May be repeated.
    #[arg(long = "lake-set", value_name = "KEY=VALUE", value_parser = setting, requires = "lake_catalog")]
    lake_settings: Vec<(String, String)>,
    /// File with such properties, `key=value` a line: the place for secrets (`token`, `credential`,
    /// `s3.access-key-id`, `s3.secret-access-key`).
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_LAKE_PROPERTIES", requires = "lake_catalog")]
    lake_properties: Option<PathBuf>,
}

impl LakeArgs {
    /// Where the catalog is. Fails where the file of properties cannot be read.
    pub(crate) fn catalog(&self) -> Result<LakeCatalog, Failure> {
        let Some(uri) = &self.lake_catalog else { return Ok(LakeCatalog::Local) };
        let mut properties = match &self.lake_properties {
            None => Default::default(),
            Some(path) => read_properties(path)?,
        };
        properties.extend(self.lake_settings.iter().cloned());
        let (uri, warehouse) = (uri.clone(), self.lake_warehouse.clone());
        Ok(LakeCatalog::Rest(RestCatalogConfig { uri, warehouse, properties }))
    }
}

/// The lake of a data directory that we hold.
pub(crate) fn config(directory: &DataDir, catalog: LakeCatalog) -> Result<LakeConfig, Failure> {
    let owner = directory.identity().map_err(|error| opened::refused(&error))?;
    Ok(LakeConfig { catalog, owner: Some(owner), ..LakeConfig::new(directory.path()) })
}

fn url(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("write it as http://HOST:PORT or https://…".to_owned()),
    }
}
