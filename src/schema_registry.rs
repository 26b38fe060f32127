//! `--schema-registry`: where the schemas of records in Avro come from.

use std::path::PathBuf;

use clap::Args;
use pipeline::registry::{BaseUrl, Credentials, Registry, RegistryConfig, RegistryError};

use crate::failure::Failure;
use crate::kafka_client::read_properties;

/// Environment variable with `user:password` or a token. No argument: others see those.
const AUTH: &str = "AGENTFLOW_SCHEMA_REGISTRY_AUTH";

#[derive(Debug, Args)]
#[command(next_help_heading = "Schema registry, for records in Avro")]
pub(crate) struct RegistryArgs {
    /// Where the registry is, with the path in front of /schemas if there is one:
    /// http://HOST:PORT/apis/ccompat/v7. Several are tried in turn. Credentials come from the file
    /// of settings, or from AGENTFLOW_SCHEMA_REGISTRY_AUTH as user:password or a token.
    #[arg(
        long = "schema-registry",
        value_name = "URL",
        env = "AGENTFLOW_SCHEMA_REGISTRY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    urls: Vec<String>,
    /// File with settings, `key=value` a line: basic.auth.user.info, bearer.auth.token,
    /// ssl.ca.location.
    #[arg(
        long = "schema-registry-properties",
        value_name = "FILE",
        env = "AGENTFLOW_SCHEMA_REGISTRY_PROPERTIES"
    )]
    registry_properties: Option<PathBuf>,
}

impl RegistryArgs {
    /// The registry, if one is named. Nothing is asked of it yet.
    pub(crate) fn open(&self) -> Result<Option<Registry>, Failure> {
        if self.urls.iter().all(|url| url.trim().is_empty()) {
            return Ok(None);
        }
        let failed = |error: RegistryError| Failure::input(error.to_string()).hint(error.hint());
        let urls = self.urls.iter().map(|url| url.trim()).filter(|url| !url.is_empty());
        let urls = urls.map(str::parse::<BaseUrl>).collect::<Result<_, _>>().map_err(failed)?;
        let mut config = RegistryConfig::new(urls);
        if let Some(path) = &self.registry_properties {
            for (key, value) in read_properties(path)? {
                config.set(&key, &value).map_err(failed)?;
            }
        }
        if let Ok(text) = std::env::var(AUTH)
            && !text.trim().is_empty()
        {
            config.credentials = Some(Credentials::parse(AUTH, &text).map_err(failed)?);
        }
        Registry::new(config).map(Some).map_err(failed)
    }
}
