//! Who asks, and what of it they may see. One place for both, on every surface.
//!
//! A [`Caller`] comes from a credential and from nothing else in a request. Whoever reads rows takes
//! the tenant from [`Caller::tenant`]; whoever answers by name asks [`Caller::sees_entity`],
//! [`Caller::sees_metric`] or [`Caller::sees_events`] first.

pub mod digest;
pub mod file;
pub mod gate;
pub mod login;
pub mod quota;
pub mod rate;
pub mod record;
pub mod ring;
mod scope;
mod usage;

use std::sync::Arc;

use chrono::DateTime;
use contracts::model::{Domain, Metric};

use digest::Digest;
use ring::KeyRing;
pub use scope::Scope;

/// The tenant of those who have no key.
pub const DEFAULT_TENANT: &str = "default";

/// What lets a caller stay who is answered for a long time: good while the key opens, with the scope that it
/// had.
#[derive(Debug, Clone, Default)]
pub struct Pass(Option<(Arc<KeyRing>, Digest, Arc<Scope>)>);

impl Pass {
    pub(crate) fn of(ring: Arc<KeyRing>, digest: Digest, caller: &Caller) -> Self {
        Self(Some((ring, digest, Arc::clone(&caller.scope))))
    }

    /// Is it good at `now` (µs)? Takes about as long as a lookup.
    pub fn is_good(&self, now: i64) -> bool {
        let Some((ring, digest, scope)) = &self.0 else { return true };
        let now = DateTime::from_timestamp_micros(now).unwrap_or_default();
        ring.opens(digest, now).is_some_and(|key| *key.caller.scope == **scope)
    }
}

/// Who asks. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant whose rows are read and written, and no others.
    pub tenant: Arc<str>,
    /// Identifier of the key that was shown; `None` where there are no keys.
    pub key: Option<Arc<str>>,
    scope: Arc<Scope>,
    /// May they do what concerns the server as a whole: backups, keys, what all tenants have together?
    pub is_operator: bool,
    /// Events that the tenant may post in a day; `None`: as many as it wants.
    pub max_events_per_day: Option<u64>,
}

impl Caller {
    /// Somebody with a key.
    pub fn with_key(tenant: Arc<str>, key: Arc<str>, scope: Arc<Scope>) -> Self {
        Self { tenant, key: Some(key), scope, is_operator: false, max_events_per_day: None }
    }

    /// Whoever runs the server, or everybody where that is said of this machine.
    pub fn operator() -> Self {
        Self {
            tenant: Arc::from(DEFAULT_TENANT),
            key: None,
            scope: Arc::new(Scope::default()),
            is_operator: true,
            max_events_per_day: None,
        }
    }

    /// What the key is limited to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// May they read entities of this type?
    pub fn sees_entity(&self, name: &str) -> bool {
        self.scope.sees_entity(name)
    }

    /// May they read this metric? A key that is limited to entities sees the metrics that are made of
    /// those alone; one that is limited to metrics sees those it names, and no entity unless it names
    /// that too.
    pub fn sees_metric(&self, domain: &Domain, metric: &Metric) -> bool {
        self.scope.sees_metric(domain, metric)
    }

    /// May they read events as they came, and what is derived from all of them: streams, the journal,
    /// dead letters? Only a key without limits may.
    pub fn sees_events(&self) -> bool {
        self.scope.is_everything()
    }
}
