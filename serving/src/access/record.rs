//! Keys and tenants as a file keeps them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::digest::{self, Digest};

/// Most requests a minute of a key that says nothing else.
pub const DEFAULT_RPM: u32 = 120;

/// What a file of keys holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFileContents {
    /// The digest of a known text under the pepper of the digests in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup_check: Option<String>,
    /// Tenants with rules of their own; others need no entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantRecord>,
    /// The keys.
    #[serde(default)]
    pub keys: Vec<KeyRecord>,
}

/// Rules for all keys of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantRecord {
    /// The tenant.
    pub id: String,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Most keys that it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_api_keys: Option<usize>,
    /// Most events that it may post in a day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_events_per_day: Option<u64>,
    /// Entity types that its keys may read at most; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_entity_types: Option<BTreeSet<String>>,
    /// The API version of requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version_pin: Option<String>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its identifier: what logs, errors and the admin API call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What it is for.
    pub name: String,
    /// Whose rows it opens.
    pub tenant: String,
    /// The key itself, for files that people write; ours hold `key_hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its Argon2id hash in PHC form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// Its digest under the pepper, in hexadecimal digits: finds the entry without trying all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_lookup: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// Requests a minute; without it the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_rpm: Option<u32>,
    /// Entity types that it may read; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_entity_types: Option<BTreeSet<String>>,
    /// Metrics that it may read; `None`: all that are made of its entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_metrics: Option<BTreeSet<String>>,
    /// Hash of the key before it, which is good for a while after a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key_hash: Option<String>,
    /// Digest of the key before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key_lookup: Option<String>,
    /// Until when the key before it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key_active_until: Option<DateTime<Utc>>,
}

impl KeyFileContents {
    /// What is wrong, if anything is. Entries are named by their place and name, never by their key.
    pub(super) fn problem(&self) -> Option<String> {
        let mut tenants = BTreeSet::new();
        for (place, tenant) in self.tenants.iter().enumerate() {
            if !is_name(&tenant.id) {
                return Some(format!("tenants[{place}]: `id` {}", NAME_RULE));
            }
            if !tenants.insert(&tenant.id) {
                return Some(format!("tenants[{place}]: tenant `{}` is there twice", tenant.id));
            }
        }
        let mut ids = BTreeSet::new();
        for (place, key) in self.keys.iter().enumerate() {
            let found = key.problem().or_else(|| {
                let id = key.id();
                let again = format!("there is another key `{id}`");
                (!ids.insert(id)).then_some(again)
            });
            if let Some(problem) = found {
                return Some(format!("keys[{place}] (`{}`): {problem}", key.name));
            }
        }
        None
    }

    /// The rules of a tenant.
    pub(super) fn tenant(&self, id: &str) -> Option<&TenantRecord> {
        self.tenants.iter().find(|tenant| tenant.id == id)
    }
}

impl KeyRecord {
    /// An entry that has no key yet.
    pub fn new(name: &str, tenant: &str) -> Self {
        Self {
            key_id: None,
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            key: None,
            key_hash: None,
            key_lookup: None,
            created_at: None,
            rate_limit_rpm: None,
            allowed_entity_types: None,
            allowed_metrics: None,
            previous_key_hash: None,
            previous_key_lookup: None,
            previous_key_active_until: None,
        }
    }

    /// Its identifier; one is made of tenant and name where the file has none.
    pub fn id(&self) -> String {
        self.key_id.clone().unwrap_or_else(|| format!("{}-{}", self.tenant, self.name))
    }

    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let is_digest = |text: &Option<String>| {
            text.as_deref().is_none_or(|text| Digest::from_hex(text).is_some())
        };
        let is_hash = |text: &Option<String>| text.as_deref().is_none_or(digest::is_hash);
        if !is_name(&self.tenant) {
            Some(format!("`tenant` {NAME_RULE}"))
        } else if !is_name(&self.name) {
            Some(format!("`name` {NAME_RULE}"))
        } else if self.key_id.as_deref().is_some_and(|id| !is_name(id)) {
            Some(format!("`key_id` {NAME_RULE}"))
        } else if self.key.is_some() == self.key_hash.is_some() {
            Some("needs one of `key` and `key_hash`".to_owned())
        } else if self.key.as_deref().is_some_and(|key| key.len() < SHORTEST_KEY) {
            Some(format!("`key` has fewer than {SHORTEST_KEY} characters"))
        } else if !is_hash(&self.key_hash) || !is_hash(&self.previous_key_hash) {
            Some(
                "a hash is none of Argon2id in PHC form (`$argon2id$v=19$…`): make a new key with \
                 `agentflow keys create`"
                    .to_owned(),
            )
        } else if !is_digest(&self.key_lookup) || !is_digest(&self.previous_key_lookup) {
            Some("a lookup digest is not 64 hexadecimal digits".to_owned())
        } else if self.rate_limit_rpm == Some(0) {
            Some("`rate_limit_rpm` is 0: remove the key instead".to_owned())
        } else {
            None
        }
    }
}

/// Fewer characters can be guessed.
const SHORTEST_KEY: usize = 8;

/// What [`is_name`] wants.
const NAME_RULE: &str =
    "must be 1 to 64 letters, digits, `_`, `.` or `-`, and begin with a letter or digit";

/// May tenants and keys be called that?
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(fits)
}
