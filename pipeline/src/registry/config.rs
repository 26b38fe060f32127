//! Where a registry is, and who we are to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;

use super::error::RegistryError;

/// A base URL: everything in front of `/schemas` and `/subjects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// The URL of something below it.
    pub(super) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Is it on this machine? Then no proxy stands between.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for BaseUrl {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let fail = |shown: String, reason: &str| {
            Err(RegistryError::Address { shown, reason: reason.to_owned() })
        };
        // What has an `@` may have a password before it, whatever else is wrong with it.
        let shown = if text.contains('@') { "the address".to_owned() } else { format!("`{text}`") };
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return fail(shown, &error.to_string()),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return fail(shown, "it begins with neither http:// nor https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return fail(
                shown,
                "a user name or password in it would be seen by everybody; put them into a file \
                 or the environment",
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return fail(shown, "it has a `?` or `#`");
        }
        Ok(Self(url))
    }
}

/// Who we are to the registry. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// User name, or key.
        user: String,
        /// Password, or secret.
        password: String,
    },
    /// A token.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl Credentials {
    /// `user:password`, or a token; no token has a colon. `key` is where it stands, for messages.
    pub fn parse(key: &str, text: &str) -> Result<Self, RegistryError> {
        let text = text.trim();
        let readable = !text.is_empty() && !text.chars().any(char::is_control);
        match text.split_once(':') {
            Some((user, password)) if readable => {
                Ok(Self::Basic { user: user.to_owned(), password: password.to_owned() })
            }
            None if readable && text.is_ascii() && !text.contains(' ') => {
                Ok(Self::Bearer(text.to_owned()))
            }
            _ => Err(RegistryError::Setting {
                key: key.to_owned(),
                reason: "it is neither user:password nor a token".to_owned(),
            }),
        }
    }
}

/// Where the registry is, and who we are to it.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Base URLs, tried in turn: the one that answered last goes first.
    pub urls: Vec<BaseUrl>,
    /// Who we are.
    pub credentials: Option<Credentials>,
    /// Certificates (PEM) of authorities to trust besides those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl RegistryConfig {
    /// The defaults, for base URLs.
    pub fn new(urls: Vec<BaseUrl>) -> Self {
        Self { urls, credentials: None, ca: None, timeout: Duration::from_secs(5) }
    }

    /// Takes a setting as Confluent's clients name it, with or without `schema.registry.` in front:
    /// `basic.auth.user.info`, `bearer.auth.token`, `ssl.ca.location`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), RegistryError> {
        let fail = |reason: String| Err(RegistryError::Setting { key: key.to_owned(), reason });
        match key.strip_prefix("schema.registry.").unwrap_or(key) {
            "basic.auth.user.info" => {
                let credentials = Credentials::parse(key, value)?;
                if matches!(credentials, Credentials::Bearer(_)) {
                    return fail("it is not user:password".to_owned());
                }
                self.credentials = Some(credentials);
            }
            "bearer.auth.token" => {
                self.credentials = Some(Credentials::Bearer(value.trim().to_owned()));
            }
            // The only source that there is here; the files of Confluent's clients name it.
            "basic.auth.credentials.source" if value == "USER_INFO" => {}
            "bearer.auth.credentials.source" if value == "STATIC_TOKEN" => {}
            "ssl.ca.location" => match std::fs::read(value) {
                Ok(pem) => self.ca = Some(pem),
                Err(error) => return fail(format!("cannot read `{value}`: {error}")),
            },
            _ => return fail("not known, or not with that value".to_owned()),
        }
        Ok(())
    }
}
