//! Who may ask a server: keys, limits, proxies and TLS, from the command line and the environment.
//!
//! Secrets come from the environment or from files alone: a command line can be read by everybody on
//! the machine.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::BoolishValueParser;
use serving::access::digest::Pepper;
use serving::access::file::KeyFile;
use serving::access::gate::{Gate, TrustedProxies};
use serving::access::rate::SharedCounts;
use serving::access::record::KeyRecord;
use serving::access::ring::KeyRing;
use serving::http::tls::Tls;
use serving::http::{HeaderValue, HttpOptions};

use crate::failure::{Failure, chain};

/// Where the keys of a data directory are, unless said otherwise.
pub(crate) const KEYS: &str = "keys.yaml";

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    keys: KeysArg,
    /// Let everybody in without a key. On loopback addresses only.
    #[arg(long, env = "AGENTFLOW_AUTH_DISABLED", value_parser = BoolishValueParser::new())]
    auth_disabled: bool,
    /// Requests a minute of a key that has no limit of its own.
    #[arg(long, value_name = "N", env = "AGENTFLOW_RATE_LIMIT_RPM", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit_rpm: Option<u32>,
    /// A proxy whose X-Forwarded-For is believed. May be repeated, or joined by commas.
    #[arg(long, value_name = "IP", env = "AGENTFLOW_TRUSTED_PROXIES", value_delimiter = ',')]
    trusted_proxy: Vec<IpAddr>,
    /// A site whose pages may use the API from a browser, `https://HOST`. May be repeated, or joined by
    /// commas.
    #[arg(long, value_name = "ORIGIN", env = "AGENTFLOW_CORS_ORIGINS", value_delimiter = ',', default_value = "http://localhost:3000", value_parser = origin)]
    cors_origin: Vec<HeaderValue>,
    /// PEM file with the server's certificate, for HTTPS. It is taken up again when it changes.
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// `--keys-file`.
#[derive(Debug, Args)]
pub(crate) struct KeysArg {
    /// File with the API keys; it is taken up again when it changes. Default: `keys.yaml` in the data
    /// directory.
    #[arg(long, value_name = "FILE", env = "AGENTFLOW_API_KEYS_FILE")]
    pub(crate) keys_file: Option<PathBuf>,
}

impl KeysArg {
    /// The file of keys for the data directory `data`.
    pub(crate) fn file(&self, data: &Path) -> KeyFile {
        KeyFile::at(self.keys_file.clone().unwrap_or_else(|| data.join(KEYS)))
    }
}

/// Who may ask, as a node is started with it.
pub(crate) struct Access {
    /// The door, without the operator's token.
    pub(crate) gate: Gate,
    /// HTTPS.
    pub(crate) tls: Option<Tls>,
    /// Limits and origins.
    pub(crate) options: HttpOptions,
}

impl AccessArgs {
    /// Reads keys and certificates; nothing is listened on yet.
    pub(crate) fn open(&self, data: &Path) -> Result<Access, Failure> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(Tls::open(certificate, key).map_err(|error| Failure::input(chain(&error)))?)
            }
            _ => None,
        };
        let options =
            HttpOptions { cors_origins: self.cors_origin.clone(), ..HttpOptions::default() };
        Ok(Access { gate: self.gate(data)?, tls, options })
    }

    fn gate(&self, data: &Path) -> Result<Gate, Failure> {
        let gate = match self.auth_disabled {
            true => Gate::open(),
            false => {
                let file = self.keys.file(data);
                Gate::locked(Arc::new(ring(file, given()?, self.rate_limit_rpm)?))
            }
        };
        let admin = secret("AGENTFLOW_ADMIN_KEY")?;
        if admin.as_ref().is_some_and(|key| key.len() < 16) {
            return Err(Failure::input("AGENTFLOW_ADMIN_KEY has fewer than 16 characters")
                .hint("make one, for example with: openssl rand -base64 32"));
        }
        let gate = gate
            .with_admin_key(admin.as_deref())
            .with_proxies(TrustedProxies::new(self.trusted_proxy.clone()));
        Ok(match secret("REDIS_URL")? {
            None => gate,
            Some(url) => gate.with_shared_counts(
                SharedCounts::open(&url)
                    .map_err(|problem| Failure::input(format!("REDIS_URL: {problem}")))?,
            ),
        })
    }
}

/// The keys of `file`, and those that were given.
pub(crate) fn ring(
    file: KeyFile,
    given: Vec<KeyRecord>,
    default_rpm: Option<u32>,
) -> Result<KeyRing, Failure> {
    let pepper = match secret("AGENTFLOW_KEY_LOOKUP_PEPPER")? {
        Some(pepper) if pepper.len() < 16 => {
            return Err(Failure::input("AGENTFLOW_KEY_LOOKUP_PEPPER has fewer than 16 characters"));
        }
        Some(pepper) => Pepper::of(pepper.as_bytes()),
        None => {
            let path = file.pepper();
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|error| Failure::input(format!("`{}`: {error}", folder.display())))?;
            }
            Pepper::of_file(&path)
                .map_err(|error| Failure::input(format!("`{}`: {error}", path.display())))?
        }
    };
    KeyRing::open(Some(file), given, pepper, default_rpm)
        .map_err(|error| Failure::input(chain(&error)))
}

/// The keys of `AGENTFLOW_API_KEYS`: `key:name` or `key:name:tenant`, joined by commas.
fn given() -> Result<Vec<KeyRecord>, Failure> {
    let Some(text) = secret("AGENTFLOW_API_KEYS")? else { return Ok(Vec::new()) };
    let parse = |(place, part): (usize, &str)| {
        let mut words = part.split(':');
        let record = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(key), Some(name), tenant, None) => {
                let tenant = tenant.unwrap_or(serving::access::DEFAULT_TENANT);
                KeyRecord { key: Some(key.to_owned()), ..KeyRecord::new(name, tenant) }
            }
            _ => {
                return Err(Failure::input(format!(
                    "AGENTFLOW_API_KEYS: entry {} is no `key:name` or `key:name:tenant`",
                    place + 1
                )));
            }
        };
        match record.problem() {
            None => Ok(record),
            Some(problem) => {
                Err(Failure::input(format!("AGENTFLOW_API_KEYS: entry {}: {problem}", place + 1)))
            }
        }
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate().map(parse).collect()
}

/// A secret from the environment; an empty one is none.
fn secret(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::input(format!("{name} is not UTF-8")))
        }
    }
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let fits = text.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https")
            && !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
    });
    match (fits, HeaderValue::from_str(text)) {
        (true, Ok(value)) => Ok(value),
        _ => Err("write it as https://HOST or http://HOST:PORT, without a path; `*` is refused, \
                  because keys are sent along"
            .to_owned()),
    }
}
