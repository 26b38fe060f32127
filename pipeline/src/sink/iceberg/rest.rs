//! A catalog that speaks the Iceberg REST protocol, with the files in an object store.
//!
//! The library's client does everything but replace files; for that a commit request is posted here,
//! with the same settings (token, credential, headers) under the keys that other Iceberg clients take.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use iceberg::table::Table;
use iceberg::{TableRequirement, TableUpdate};
use iceberg_catalog_rest::CommitTableRequest;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use super::error::LakeError;
use super::http_client;
use super::publish::Published;

/// A REST catalog and how to reach it and its files.
#[derive(Clone, PartialEq, Eq)]
pub struct RestCatalogConfig {
    /// Where it is: `http://HOST:PORT/…`, without the `/v1`.
    pub uri: String,
    /// The warehouse to ask for, where it has several.
    pub warehouse: Option<String>,
    /// Properties as Iceberg clients take them: `token`, `credential`, `s3.endpoint`,
    /// `s3.access-key-id`, `s3.path-style-access` and so on.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for RestCatalogConfig {
    /// Properties by name only: some of them are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestCatalogConfig")
            .field("uri", &self.uri)
            .field("warehouse", &self.warehouse)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl RestCatalogConfig {
    /// Its base, without a slash at the end.
    fn base(&self) -> &str {
        self.uri.trim_end_matches('/')
    }

    /// Properties for the library's client.
    pub(super) fn client_properties(&self) -> HashMap<String, String> {
        let mut properties: HashMap<String, String> =
            self.properties.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        properties.insert("uri".to_owned(), self.base().to_owned());
        if let Some(warehouse) = &self.warehouse {
            properties.insert("warehouse".to_owned(), warehouse.clone());
        }
        properties
    }

    /// A property.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// The HTTP client: unlike the library's own it does not wait for ever.
    pub(super) fn client(&self) -> Result<Client, LakeError> {
        http_client::new()
            .map_err(|source| self.failed("make a client for the lake's catalog", source))
    }

    fn failed(&self, action: &'static str, source: reqwest::Error) -> LakeError {
        LakeError::Io {
            action,
            path: self.uri.clone().into(),
            source: std::io::Error::other(source),
        }
    }
}

/// Commits to a REST catalog what the library has no action for.
#[derive(Debug, Clone)]
pub(super) struct RestPublisher {
    config: RestCatalogConfig,
    client: Client,
    /// What the catalog wants before `namespaces`.
    prefix: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
struct CatalogConfig {
    #[serde(default)]
    defaults: HashMap<String, String>,
    #[serde(default)]
    overrides: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl RestPublisher {
    pub(super) async fn open(config: &RestCatalogConfig) -> Result<Self, LakeError> {
        let mut this = Self {
            config: config.clone(),
            client: config.client()?,
            prefix: config.get("prefix").map(str::to_owned),
            token: config.get("token").map(str::to_owned),
        };
        if this.token.is_none()
            && let Some(credential) = config.get("credential")
        {
            this.token = Some(this.ask_for_token(credential).await?);
        }
        let mut request = this.client.get(format!("{}/v1/config", config.base()));
        if let Some(warehouse) = &config.warehouse {
            request = request.query(&[("warehouse", warehouse)]);
        }
        let answer = this.send(request, "ask the lake's catalog for its settings").await?;
        let answer = this.succeeded(answer, "ask the lake's catalog for its settings").await?;
        let mut settings: CatalogConfig = answer
            .json()
            .await
            .map_err(|source| config.failed("read the settings of the lake's catalog", source))?;
        let told = settings.overrides.remove("prefix").or(this.prefix.take());
        this.prefix = told.or(settings.defaults.remove("prefix"));
        if let Some(uri) = settings.overrides.remove("uri") {
            this.config.uri = uri;
        }
        Ok(this)
    }

    /// A token for `id:secret` (OAuth 2, client credentials).
    async fn ask_for_token(&self, credential: &str) -> Result<String, LakeError> {
        let action = "log in to the lake's catalog";
        let (id, secret) = credential.split_once(':').unwrap_or(("", credential));
        let own = format!("{}/v1/oauth/tokens", self.config.base());
        let uri = self.config.get("oauth2-server-uri").unwrap_or(&own);
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_secret", secret),
            ("scope", self.config.get("scope").unwrap_or("catalog")),
        ];
        form.extend((!id.is_empty()).then_some(("client_id", id)));
        let answer = self.send(self.client.post(uri).form(&form), action).await?;
        let answer = self.succeeded(answer, action).await?;
        let token: Token =
            answer.json().await.map_err(|source| self.config.failed(action, source))?;
        Ok(token.access_token)
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        action: &'static str,
    ) -> Result<Response, LakeError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (key, value) in &self.config.properties {
            if let Some(name) = key.strip_prefix("header.") {
                request = request.header(name, value);
            }
        }
        request.send().await.map_err(|source| self.config.failed(action, source.without_url()))
    }

    async fn succeeded(
        &self,
        answer: Response,
        action: &'static str,
    ) -> Result<Response, LakeError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(LakeError::Io {
            action,
            path: self.config.uri.clone().into(),
            source: std::io::Error::other(format!("{status}: {}", message(&text))),
        })
    }

    /// Asks for `updates` under `requirements`.
    pub(super) async fn publish(
        &self,
        base: &Table,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Published, LakeError> {
        let ident = base.identifier();
        let request = CommitTableRequest {
            identifier: Some(ident.clone()),
            requirements: requirements.to_vec(),
            updates,
        };
        let namespace = ident.namespace().to_url_string();
        let parts = [Some("v1"), self.prefix.as_deref(), Some("namespaces"), Some(&namespace)];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        let url = format!("{}/{}/tables/{}", self.config.base(), parts.join("/"), ident.name());
        let action = "commit to the lake's catalog";
        let answer = self.send(self.client.post(url).json(&request), action).await?;
        match answer.status() {
            StatusCode::CONFLICT => Ok(Published::Conflict),
            // 500, 502, 503 and 504 leave it open: the caller looks what the table says.
            _ => self.succeeded(answer, action).await.map(|_| Published::Done),
        }
    }
}

/// The message of an error as the protocol has it, or the beginning of whatever else was answered.
fn message(text: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let told = json.as_ref().and_then(|json| json["error"]["message"].as_str());
    told.unwrap_or(text).lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let config = RestCatalogConfig {
            uri: "http://catalog".to_owned(),
            warehouse: None,
            properties: [("s3.secret-access-key".to_owned(), "hidden".to_owned())].into(),
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("s3.secret-access-key") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn an_error_is_told_by_its_message() {
        let text = r#"{"error": {"message": "no such table\nat line 7", "code": 404}}"#;
        assert_eq!(message(text), "no such table");
        assert_eq!(message("<html>\nbad gateway"), "<html>");
        assert_eq!(message(""), "");
    }
}
