//! A catalog in Glue as it is named on the command line: properties under the names that other Iceberg
//! clients take. `settings` says what follows from them.

use std::collections::BTreeMap;
use std::fmt;

/// A variable of the environment by its name. Handed in, so that tests share no global state.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A Glue catalog and how to reach it and its files. What is not said here comes from the standard
/// environment and configuration files of AWS.
#[derive(Clone, PartialEq, Eq)]
pub struct GlueCatalogConfig {
    /// The account whose catalog it is, if not that of the credentials.
    pub catalog_id: Option<String>,
    /// Where new tables go: `s3://BUCKET/PATH`. A database with a location of its own comes first.
    pub warehouse: String,
    /// Properties as Iceberg clients take them: `glue.region`, `glue.endpoint`, `glue.access-key-id`,
    /// `s3.endpoint`, `s3.path-style-access` and so on.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for GlueCatalogConfig {
    /// Properties by name only: some of them are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlueCatalogConfig")
            .field("catalog_id", &self.catalog_id)
            .field("warehouse", &self.warehouse)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// What stands before a property of the catalog, of S3, and of both.
pub(super) const GLUE: &str = "glue";
pub(super) const S3: &str = "s3";
pub(super) const CLIENT: &str = "client";

impl GlueCatalogConfig {
    /// Is this program built with what it takes?
    pub const IS_BUILT: bool = cfg!(feature = "glue");

    /// What is wrong with the settings, with what to do about it; `None` where nothing is. `env` tells
    /// the variables of the environment.
    pub fn problem(&self, env: Env<'_>) -> Option<(String, &'static str)> {
        let told = |problem: &str, hint| Some((problem.to_owned(), hint));
        if !Self::IS_BUILT {
            return told(
                "this program is built without AWS Glue",
                "build it with its default features, or with `--features glue`",
            );
        }
        let bucket = self.warehouse.strip_prefix("s3://").unwrap_or_default();
        if bucket.split('/').next().is_none_or(str::is_empty) {
            return told(
                "where do the tables of a catalog in Glue go?",
                "name it: --lake-warehouse s3://BUCKET/PATH",
            );
        }
        if let Some(id) = &self.catalog_id
            && (id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()))
        {
            return told(
                &format!("`{id}` is no account of AWS"),
                "write its number: --lake-catalog glue:123456789012; `glue:` alone is that of the credentials",
            );
        }
        if self.region(env).is_none() {
            return told(
                "which region is the catalog in Glue in?",
                "say it: --lake-set glue.region=REGION, or AWS_REGION in the environment",
            );
        }
        for area in [GLUE, S3, CLIENT] {
            let is_set = |name| self.of(area, name).is_some();
            if is_set("access-key-id") != is_set("secret-access-key") {
                return Some((
                    format!(
                        "only one of `{area}.access-key-id` and `{area}.secret-access-key` is set"
                    ),
                    "set both, or leave both to the environment",
                ));
            }
        }
        None
    }

    /// A property of the catalog, or of all clients.
    pub(super) fn for_glue(&self, name: &str) -> Option<&str> {
        self.of(GLUE, name).or_else(|| self.of(CLIENT, name))
    }

    /// A property by what stands before its name.
    pub(super) fn of(&self, area: &str, name: &str) -> Option<&str> {
        self.properties.get(&format!("{area}.{name}")).map(String::as_str)
    }

    /// The account whose catalog it is, if not that of the credentials.
    pub fn account(&self) -> Option<&str> {
        self.catalog_id.as_deref().or_else(|| self.of(GLUE, "id"))
    }

    /// The region of the catalog.
    pub(super) fn region(&self, env: Env<'_>) -> Option<String> {
        let told = self.for_glue("region").or_else(|| self.of(S3, "region")).map(str::to_owned);
        told.or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .filter(|region| !region.is_empty())
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

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", config(&[("glue.secret-access-key", "hidden")]));
        assert!(shown.contains("glue.secret-access-key") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    #[cfg(feature = "glue")]
    fn what_cannot_be_is_told_with_what_to_do() {
        let nothing = |_: &str| None;
        let region_alone = |name: &str| (name == "AWS_REGION").then(|| "eu-central-1".to_owned());
        let check = |config: GlueCatalogConfig, env: Env<'_>, problem: &str, hint: &str| {
            let found = config.problem(env).expect("a problem");
            assert!(found.0.contains(problem) && found.1.contains(hint), "{found:?}");
        };
        assert_eq!(config(&[]).problem(&region_alone), None);
        check(config(&[]), &nothing, "which region", "glue.region=REGION");
        for warehouse in ["", "lake", "s3://", "s3:///path", "file:///lake"] {
            let config = GlueCatalogConfig { warehouse: warehouse.to_owned(), ..config(&[]) };
            check(config, &region_alone, "where do the tables", "s3://BUCKET/PATH");
        }
        let account = GlueCatalogConfig { catalog_id: Some("eu-west-1".to_owned()), ..config(&[]) };
        check(account, &region_alone, "`eu-west-1` is no account", "glue:123456789012");
        let half = config(&[("client.access-key-id", "a")]);
        check(half, &region_alone, "only one of `client.access-key-id`", "set both");
    }
}
