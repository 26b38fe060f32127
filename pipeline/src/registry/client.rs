//! Requests to the registry. Each is tried at one address after the other until one answers.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder};
use serde::Serialize;

use super::answer::{self, Answer, Reference, Schema};
use super::config::{BaseUrl, Credentials, RegistryConfig};
use super::error::RegistryError;
use crate::decode::WriterSchema;

/// Longest answer that is read. A schema is a few KiB.
const LONGEST: u64 = 4 << 20;
/// Schemas that one schema may refer to, directly or not.
const MOST_REFERENCES: usize = 256;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// Talks to the registry.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    urls: Vec<BaseUrl>,
    /// The address that answered last.
    preferred: AtomicUsize,
    credentials: Option<Credentials>,
}

#[derive(Serialize)]
struct Registration<'a> {
    schema: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    references: &'a [Reference],
}

impl Client {
    pub(super) fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let RegistryConfig { urls, credentials, ca, timeout } = config;
        if urls.is_empty() {
            let reason = "no address is named".to_owned();
            return Err(RegistryError::Address { shown: "nothing".to_owned(), reason });
        }
        let failed = |error: reqwest::Error| RegistryError::Client(chain(&error));
        let mut http = Http::builder()
            .connect_timeout(CONNECT_WITHIN.min(timeout))
            .timeout(timeout)
            .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")));
        if urls.iter().all(BaseUrl::is_loopback) {
            http = http.no_proxy();
        }
        if let Some(pem) = ca {
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)? {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http.build().map_err(failed)?;
        Ok(Self { http, urls, preferred: AtomicUsize::new(0), credentials })
    }

    /// What an id stands for.
    pub(super) fn schema(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        // A replica may be behind: an id is unknown when no address that answers has it.
        let mut missing = None;
        let found = self.at_each(|url| match self.schema_at(url, id)? {
            unknown @ WriterSchema::Unknown { .. } => {
                missing = Some(unknown);
                Ok(None)
            }
            found => Ok(Some(found)),
        });
        match (found, missing) {
            (Ok(Some(found)), _) | (_, Some(found)) => Ok(found),
            (Ok(None), None) => unreachable!("an address has the id, has it not, or fails"),
            (Err(error), None) => Err(error),
        }
    }

    /// Registers a schema; gives its id.
    pub(super) fn register(
        &self,
        subject: &str,
        schema: &str,
        references: &[Reference],
    ) -> Result<u32, RegistryError> {
        let body = serde_json::to_vec(&Registration { schema, references })
            .expect("texts and numbers are JSON");
        let id = self.at_each(|url| {
            let target = url.join(&["subjects", subject, "versions"]);
            let request = self.http.post(target).header("content-type", CONTENT).body(body.clone());
            let (status, body) = self.send(url, request)?;
            let shown = || url.to_string();
            match answer::registered(status, &body) {
                Answer::Found(id) => Ok(Some(id)),
                Answer::NotAvailable(message) => {
                    Err(RegistryError::NotAvailable { url: shown(), message })
                }
                Answer::Refused(message) => Err(RegistryError::Refused { url: shown(), message }),
                Answer::NotTaken(message) => Err(RegistryError::NotTaken {
                    url: shown(),
                    subject: subject.to_owned(),
                    message,
                }),
                Answer::Missing => unreachable!("`registered` says what is missing"),
            }
        })?;
        Ok(id.expect("an address gives an id or fails"))
    }

    /// Asks one address after the other, the one that answered last first, until one gives
    /// something. When none does, the failure of the first that failed is told.
    fn at_each<T>(
        &self,
        mut ask: impl FnMut(&BaseUrl) -> Result<Option<T>, RegistryError>,
    ) -> Result<Option<T>, RegistryError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for turn in 0..self.urls.len() {
            let at = (first + turn) % self.urls.len();
            match ask(&self.urls[at]) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(Some(found));
                }
                Err(error) if error.retry() => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn schema_at(&self, url: &BaseUrl, id: u32) -> Result<WriterSchema, RegistryError> {
        let Some(found) = self.get(url, &["schemas", "ids", &id.to_string()])? else {
            let missing = format!("the registry has no schema {id}");
            return Ok(WriterSchema::Unknown { missing });
        };
        if let Some(kind) = found.foreign() {
            let why = format!("schema {id} is of type {kind}, not AVRO");
            return Ok(WriterSchema::Unusable { why });
        }
        let mut references = Vec::new();
        match self.references(url, id, &found, &mut HashSet::new(), &mut references)? {
            Some(instead) => Ok(instead),
            None => Ok(WriterSchema::Avro {
                schema: found.schema.into(),
                references: references.into(),
            }),
        }
    }

    /// Appends the texts of what a schema refers to, each behind what it refers to itself. Gives
    /// back what the schema is instead when it cannot be put together.
    fn references(
        &self,
        url: &BaseUrl,
        id: u32,
        schema: &Schema,
        seen: &mut HashSet<(String, u32)>,
        into: &mut Vec<Arc<str>>,
    ) -> Result<Option<WriterSchema>, RegistryError> {
        for Reference { name, subject, version } in &schema.references {
            if !seen.insert((subject.clone(), *version)) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                let why = format!("schema {id} refers to more than {MOST_REFERENCES} others");
                return Ok(Some(WriterSchema::Unusable { why }));
            }
            let found = self.get(url, &["subjects", subject, "versions", &version.to_string()])?;
            let Some(found) = found else {
                let missing = format!(
                    "schema {id} refers to `{name}`, which the registry has not: \
                     subject `{subject}`, version {version}"
                );
                return Ok(Some(WriterSchema::Unknown { missing }));
            };
            // As deep as the references are many: a chain of 256 frames is nothing.
            if let Some(instead) = self.references(url, id, &found, seen, into)? {
                return Ok(Some(instead));
            }
            into.push(found.schema.into());
        }
        Ok(None)
    }

    /// A schema; `None` when the registry says that it has none there.
    fn get(&self, url: &BaseUrl, segments: &[&str]) -> Result<Option<Schema>, RegistryError> {
        let (status, body) = self.send(url, self.http.get(url.join(segments)))?;
        let shown = || url.to_string();
        match answer::schema(status, &body) {
            Answer::Found(schema) => Ok(Some(schema)),
            Answer::Missing => Ok(None),
            Answer::Refused(message) => Err(RegistryError::Refused { url: shown(), message }),
            Answer::NotAvailable(message) | Answer::NotTaken(message) => {
                Err(RegistryError::NotAvailable { url: shown(), message })
            }
        }
    }

    fn send(
        &self,
        url: &BaseUrl,
        request: RequestBuilder,
    ) -> Result<(u16, Vec<u8>), RegistryError> {
        let away = |message: String| RegistryError::NotAvailable { url: url.to_string(), message };
        let request = request.header("accept", ACCEPT);
        let request = match &self.credentials {
            None => request,
            Some(Credentials::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token),
        };
        let response = request.send().map_err(|error| away(chain(&error.without_url())))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let read = response.take(LONGEST + 1).read_to_end(&mut body);
        read.map_err(|error| away(format!("the answer broke off: {error}")))?;
        if body.len() as u64 > LONGEST {
            return Err(away(format!("the answer is longer than {LONGEST} bytes")));
        }
        Ok((status, body))
    }
}

/// An error and its causes: a refused connection stands three levels down.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
