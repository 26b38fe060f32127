//! The calls to Glue that a catalog needs: JSON over HTTP, signed (AWS's protocol "JSON 1.1", SigV4).
//!
//! A call waits for its answer, but not for ever. When Glue asks for fewer calls it has done
//! nothing, and the call is made again after a while; when it fails, only one that changes nothing is.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use rand::Rng;
use reqsign_aws_v4::Credential;
use reqsign_core::{Env, OsEnv, Signer};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::GlueCatalogConfig;
use super::credentials::Credentials;
use super::error::GlueError;
use super::wire::{Database, Entry};
use crate::sink::iceberg::error::LakeError;
use crate::sink::iceberg::http_client;

/// Before the name of a call.
const TARGET: &str = "AWSGlue";
/// The protocol.
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
/// Attempts of one call, and the wait after the first of them; each next one is twice as long.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Entries of one page at most: the most that Glue takes.
const PAGE: u32 = 100;

/// Does a call change something?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Change,
}

/// A client of one catalog.
#[derive(Debug, Clone)]
pub(super) struct GlueClient {
    http: Client,
    endpoint: String,
    signer: Signer<Credential>,
    account: Option<String>,
    skip_archive: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneDatabase {
    database: Database,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneTable {
    table: Entry,
}

#[derive(Deserialize)]
struct Nothing {}

/// A page of a list under either of its names.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(alias = "DatabaseList", alias = "TableList", default = "Vec::new")]
    list: Vec<T>,
    #[serde(rename = "NextToken", default)]
    next: Option<String>,
}

/// A variable of the process's environment.
pub(super) fn env(name: &str) -> Option<String> {
    OsEnv.var(name)
}

impl GlueClient {
    /// A client by the settings and the environment, and the credentials that it uses.
    pub(super) fn new(config: &GlueCatalogConfig) -> Result<(Self, Credentials), LakeError> {
        if let Some((problem, hint)) = config.problem(&env) {
            return Err(LakeError::Settings { problem: format!("{problem}: {hint}") });
        }
        let region = config.region(&env).unwrap_or_default();
        let endpoint = config.endpoint(&region, &env);
        let failed = |source: reqwest::Error| LakeError::Io {
            action: "make a client for the lake's catalog in",
            path: endpoint.clone().into(),
            source: std::io::Error::other(source),
        };
        let credentials = Credentials::new(config, &region, OsEnv).map_err(failed)?;
        let this = Self {
            http: http_client::new().map_err(failed)?,
            signer: credentials.signer(&region),
            endpoint: with_path(&endpoint),
            account: config.account().map(str::to_owned),
            skip_archive: config.skip_archive(),
        };
        Ok((this, credentials))
    }

    /// A database.
    pub(super) async fn database(&self, name: &str) -> Result<Database, GlueError> {
        let answer: OneDatabase =
            self.call("GetDatabase", Effect::None, json!({"Name": name})).await?;
        Ok(answer.database)
    }

    /// All databases.
    pub(super) async fn databases(&self) -> Result<Vec<Database>, GlueError> {
        self.pages("GetDatabases", json!({})).await
    }

    /// Makes a database.
    pub(super) async fn create_database(&self, name: &str) -> Result<(), GlueError> {
        let body = json!({"DatabaseInput": {"Name": name}});
        self.call::<Nothing>("CreateDatabase", Effect::Change, body).await.map(|_| ())
    }

    /// A table.
    pub(super) async fn table(&self, database: &str, name: &str) -> Result<Entry, GlueError> {
        let body = json!({"DatabaseName": database, "Name": name});
        let answer: OneTable = self.call("GetTable", Effect::None, body).await?;
        Ok(answer.table)
    }

    /// All tables of a database, of whatever kind.
    pub(super) async fn tables(&self, database: &str) -> Result<Vec<Entry>, GlueError> {
        self.pages("GetTables", json!({"DatabaseName": database})).await
    }

    /// Makes a table.
    pub(super) async fn create_table(&self, database: &str, input: Value) -> Result<(), GlueError> {
        let body = json!({"DatabaseName": database, "TableInput": input});
        self.call::<Nothing>("CreateTable", Effect::Change, body).await.map(|_| ())
    }

    /// Changes a table if it still is at that version. A [`GlueError::Conflict`] where it is not.
    pub(super) async fn update_table(
        &self,
        database: &str,
        input: Value,
        version: &str,
    ) -> Result<(), GlueError> {
        let body = update(database, input, version, self.skip_archive);
        self.call::<Nothing>("UpdateTable", Effect::Change, body).await.map(|_| ())
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        operation: &str,
        body: Value,
    ) -> Result<Vec<T>, GlueError> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let body = page(body.clone(), next.as_deref());
            let answer: Page<T> = self.call(operation, Effect::None, body).await?;
            all.extend(answer.list);
            match answer.next.filter(|token| !token.is_empty()) {
                // The same page again would be for ever.
                Some(token) if next.as_ref() != Some(&token) => next = Some(token),
                _ => return Ok(all),
            }
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &str,
        effect: Effect,
        mut body: Value,
    ) -> Result<T, GlueError> {
        if let (Some(account), Value::Object(members)) = (&self.account, &mut body) {
            members.insert("CatalogId".to_owned(), Value::String(account.clone()));
        }
        let body = body.to_string().into_bytes();
        let mut attempt = 0;
        let answer = loop {
            let error = match self.send(operation, &body).await {
                Ok(answer) => break answer,
                Err(error) => error,
            };
            attempt += 1;
            if attempt == ATTEMPTS || !may_repeat(&error, effect) {
                return Err(error);
            }
            tokio::time::sleep(wait(attempt)).await;
        };
        serde_json::from_slice(&answer)
            .map_err(|error| GlueError::Unreadable(format!("{operation}: {error}")))
    }

    async fn send(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, GlueError> {
        let no_answer = |source: reqwest::Error| GlueError::NoAnswer {
            endpoint: self.endpoint.clone(),
            source: source.without_url(),
        };
        let (mut head, body) = request(&self.endpoint, operation, body)
            .map_err(|error| GlueError::Refused(format!("`{}`: {error}", self.endpoint)))?
            .into_parts();
        self.signer
            .sign(&mut head, None)
            .await
            .map_err(|error| GlueError::NoCredentials(crate::sink::iceberg::chain(&error)))?;
        let request = reqwest::Request::try_from(Request::from_parts(head, body));
        let answer = self.http.execute(request.map_err(no_answer)?).await.map_err(no_answer)?;
        let status = answer.status();
        let kind = answer.headers().get("x-amzn-errortype");
        let kind = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let answer = answer.bytes().await.map_err(no_answer)?;
        if status.is_success() {
            Ok(answer.into())
        } else {
            Err(GlueError::of(status.as_u16(), kind.as_deref(), &answer))
        }
    }
}

/// The body of a change. Without a version Glue would overwrite whatever is there.
fn update(database: &str, input: Value, version: &str, skip_archive: bool) -> Value {
    json!({
        "DatabaseName": database,
        "TableInput": input,
        "VersionId": version,
        "SkipArchive": skip_archive,
    })
}

/// The body of a request for a page of a list.
fn page(mut body: Value, next: Option<&str>) -> Value {
    let members: &mut Map<String, Value> = body.as_object_mut().expect("it is made as an object");
    members.insert("MaxResults".to_owned(), json!(PAGE));
    if let Some(token) = next {
        members.insert("NextToken".to_owned(), json!(token));
    }
    body
}

/// A call, not signed yet.
fn request(endpoint: &str, operation: &str, body: &[u8]) -> http::Result<Request<Vec<u8>>> {
    Request::post(endpoint)
        .header(CONTENT_TYPE, JSON)
        .header("x-amz-target", format!("{TARGET}.{operation}"))
        // The signature is over the body, too.
        .header("x-amz-content-sha256", reqsign_core::hash::hex_sha256(body))
        .body(body.to_owned())
}

/// Everything is asked of the root: a URL of a host alone does not say so.
fn with_path(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => format!("{endpoint}/"),
        _ => endpoint.to_owned(),
    }
}

fn may_repeat(error: &GlueError, effect: Effect) -> bool {
    match error {
        GlueError::Throttled(_) => true,
        GlueError::Failed(_) => effect == Effect::None,
        _ => false,
    }
}

/// Up to the wait after so many attempts: not all at the same time.
fn wait(attempts: u32) -> Duration {
    let longest = FIRST_WAIT * 2_u32.pow(attempts.saturating_sub(1));
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_post_that_names_its_operation_and_the_hash_of_its_body() {
        let request =
            request("https://glue.eu-west-1.amazonaws.com/", "GetTable", b"{}").expect("one");
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/"));
        let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("content-type"), "application/x-amz-json-1.1");
        assert_eq!(header("x-amz-target"), "AWSGlue.GetTable");
        assert_eq!(
            header("x-amz-content-sha256"),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn a_change_names_the_version_that_it_was_made_of() {
        let expected = json!({
            "DatabaseName": "shop",
            "TableInput": {"Name": "orders"},
            "VersionId": "7",
            "SkipArchive": true,
        });
        assert_eq!(update("shop", json!({"Name": "orders"}), "7", true), expected);
    }

    #[test]
    fn a_list_is_asked_for_page_by_page() {
        let body = json!({"DatabaseName": "shop"});
        assert_eq!(page(body.clone(), None), json!({"DatabaseName": "shop", "MaxResults": 100}));
        let next = json!({"DatabaseName": "shop", "MaxResults": 100, "NextToken": "x"});
        assert_eq!(page(body, Some("x")), next);
        let answer = r#"{"TableList": [{"Name": "a"}], "NextToken": "x"}"#;
        let answer: Page<Entry> = serde_json::from_str(answer).expect("a page");
        assert_eq!((answer.list.len(), answer.next.as_deref()), (1, Some("x")));
    }

    #[test]
    fn an_endpoint_without_a_path_gets_the_root() {
        assert_eq!(with_path("http://127.0.0.1:1"), "http://127.0.0.1:1/");
        assert_eq!(with_path("http://127.0.0.1:1/"), "http://127.0.0.1:1/");
        assert_eq!(with_path("http://127.0.0.1:1/glue"), "http://127.0.0.1:1/glue");
    }

    #[test]
    fn only_what_surely_did_nothing_is_asked_for_again() {
        let throttled = GlueError::Throttled(String::new());
        let failed = GlueError::Failed(String::new());
        let conflict = GlueError::Conflict(String::new());
        let check = |error: &GlueError, read, change| {
            assert_eq!(may_repeat(error, Effect::None), read, "{error}");
            assert_eq!(may_repeat(error, Effect::Change), change, "{error}");
        };
        check(&throttled, true, true);
        check(&failed, true, false);
        check(&conflict, false, false);
        let longest: Duration = (1..ATTEMPTS).map(wait).sum();
        assert!(longest <= Duration::from_secs(3), "{longest:?}");
    }
}
