//! What follows from the properties of a catalog in Glue, and from the environment of AWS where they are
//! silent.

use std::collections::HashMap;

use super::GlueCatalogConfig;
use super::config::{CLIENT, Env, GLUE, S3};

/// An access key as properties name it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    pub session_token: Option<&'a str>,
}

impl GlueCatalogConfig {
    fn key_of(&self, area: &str) -> Option<Key<'_>> {
        Some(Key {
            id: self.of(area, "access-key-id")?,
            secret: self.of(area, "secret-access-key")?,
            session_token: self.of(area, "session-token"),
        })
    }

    /// The key that the properties name for the catalog.
    pub(super) fn key(&self) -> Option<Key<'_>> {
        self.key_of(GLUE).or_else(|| self.key_of(CLIENT))
    }

    /// The profile in the configuration files of AWS that the properties name.
    pub(super) fn profile(&self) -> Option<&str> {
        self.for_glue("profile-name")
    }

    /// A property of the role that is to be assumed, `arn` for instance.
    pub(super) fn role(&self, name: &str) -> Option<&str> {
        self.of(CLIENT, &format!("assume-role.{name}"))
    }

    /// Are older versions of a table's entry in Glue left to be forgotten?
    pub(super) fn skip_archive(&self) -> bool {
        !self.of(GLUE, "skip-archive").is_some_and(|value| value.eq_ignore_ascii_case("false"))
    }

    /// Where Glue answers.
    pub(super) fn endpoint(&self, region: &str, env: Env<'_>) -> String {
        let told = self.of(GLUE, "endpoint").map(str::to_owned);
        told.or_else(|| env("AWS_ENDPOINT_URL_GLUE"))
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| {
                let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://glue.{region}.amazonaws.com{suffix}")
            })
    }

    /// Properties for the clients of S3: where they say nothing of their own, what is said for all and
    /// for Glue.
    pub(super) fn s3_properties(&self, env: Env<'_>) -> HashMap<String, String> {
        let mut properties: HashMap<String, String> =
            self.properties.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        if let Some(key) = self.s3_key() {
            let token = key.session_token.map(|token| ("session-token", token));
            let parts = [("access-key-id", key.id), ("secret-access-key", key.secret)];
            for (name, value) in parts.into_iter().chain(token) {
                properties.insert(format!("{S3}.{name}"), value.to_owned());
            }
        }
        let more = [
            ("s3.region", self.region(env).filter(|_| self.of(CLIENT, "region").is_none())),
            ("s3.endpoint", env("AWS_ENDPOINT_URL_S3")),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                properties.entry(name.to_owned()).or_insert(value);
            }
        }
        properties
    }

    fn s3_key(&self) -> Option<Key<'_>> {
        self.key_of(S3).or_else(|| self.key_of(CLIENT))
    }

    /// Do the files have credentials of their own, or need none? Those of the catalog are used
    /// otherwise.
    pub(super) fn s3_has_credentials(&self) -> bool {
        let is_open = self.of(S3, "allow-anonymous").is_some_and(|value| {
            ["true", "t", "1", "on"].contains(&value.to_ascii_lowercase().as_str())
        });
        is_open || self.s3_key().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(properties: &[(&str, &str)]) -> GlueCatalogConfig {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        GlueCatalogConfig {
            catalog_id: None,
            warehouse: "s3://lake/warehouse".to_owned(),
            properties: properties.collect(),
        }
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn region_alone(name: &str) -> Option<String> {
        (name == "AWS_REGION").then(|| "eu-central-1".to_owned())
    }

    #[test]
    fn the_region_and_the_endpoint_are_the_nearest_that_are_told() {
        let region = |properties: &[(&str, &str)]| config(properties).region(&region_alone);
        let all = [("glue.region", "a"), ("client.region", "b"), ("s3.region", "c")];
        for (from, expected) in [(0, "a"), (1, "b"), (2, "c"), (3, "eu-central-1")] {
            assert_eq!(region(&all[from..]).as_deref(), Some(expected));
        }
        let env = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "http://all".to_owned());
        let aws = config(&[]);
        assert_eq!(aws.endpoint("eu-west-1", &nothing), "https://glue.eu-west-1.amazonaws.com");
        assert_eq!(
            aws.endpoint("cn-north-1", &nothing),
            "https://glue.cn-north-1.amazonaws.com.cn"
        );
        assert_eq!(aws.endpoint("eu-west-1", &env), "http://all");
        let own = config(&[("glue.endpoint", "http://own")]);
        assert_eq!(own.endpoint("eu-west-1", &env), "http://own");
    }

    #[test]
    fn files_are_reached_with_their_own_settings_and_else_with_those_of_the_catalog() {
        let env = |name: &str| match name {
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ENDPOINT_URL_S3" => Some("http://s3".to_owned()),
            _ => None,
        };
        let of = |properties: &[(&str, &str)], name: &str| {
            config(properties).s3_properties(&env).get(name).cloned()
        };
        assert_eq!(of(&[], "s3.region").as_deref(), Some("eu-central-1"));
        assert_eq!(of(&[("glue.region", "x")], "s3.region").as_deref(), Some("x"));
        assert_eq!(
            of(&[("glue.region", "x"), ("s3.region", "y")], "s3.region").as_deref(),
            Some("y")
        );
        // What is said for all clients comes first with the library.
        assert_eq!(of(&[("client.region", "z")], "s3.region"), None);
        assert_eq!(of(&[], "s3.endpoint").as_deref(), Some("http://s3"));
        assert_eq!(
            of(&[("s3.endpoint", "http://own")], "s3.endpoint").as_deref(),
            Some("http://own")
        );

        let client = [("client.access-key-id", "a"), ("client.secret-access-key", "b")];
        assert_eq!(of(&client, "s3.access-key-id").as_deref(), Some("a"));
        let glue = [("glue.access-key-id", "a"), ("glue.secret-access-key", "b")];
        assert_eq!(of(&glue, "s3.access-key-id"), None);
        assert!(!config(&glue).s3_has_credentials() && !config(&[]).s3_has_credentials());
        assert!(config(&client).s3_has_credentials());
        assert!(config(&[("s3.allow-anonymous", "true")]).s3_has_credentials());
        assert_eq!(config(&glue).key().map(|key| (key.id, key.secret)), Some(("a", "b")));
        assert_eq!(config(&client).key().map(|key| (key.id, key.secret)), Some(("a", "b")));
        assert_eq!(config(&[("s3.access-key-id", "a"), ("s3.secret-access-key", "b")]).key(), None);
    }

    #[test]
    fn older_versions_are_kept_only_where_that_is_asked_for() {
        assert!(config(&[]).skip_archive());
        assert!(config(&[("glue.skip-archive", "true")]).skip_archive());
        assert!(!config(&[("glue.skip-archive", "False")]).skip_archive());
    }
}
