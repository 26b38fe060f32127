//! How the registry is, for `/v1/health` and the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::config::BaseUrl;
use super::error::RegistryError;
use crate::clock;

/// A look at the registry as its users see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegistryStatus {
    /// Base URLs as configured.
    pub urls: Vec<String>,
    /// Schemas in memory.
    pub schemas: usize,
    /// Ids of schemas that records wait for: their sources stand still.
    pub waiting_for: BTreeSet<u32>,
    /// Since when, µs.
    pub waiting_since: Option<i64>,
    /// Our credentials are refused: somebody must do something.
    pub refused: bool,
    /// Why records wait.
    pub last_error: Option<String>,
}

impl RegistryStatus {
    /// Does nothing wait?
    pub fn is_well(&self) -> bool {
        self.waiting_for.is_empty()
    }
}

/// Handle to look at a registry from outside. Cheap to clone, and no part of its client: it may be
/// held and dropped anywhere.
#[derive(Debug, Clone, Default)]
pub struct RegistryProbe(Arc<Mutex<RegistryStatus>>);

impl RegistryProbe {
    pub(super) fn new(urls: &[BaseUrl]) -> Self {
        let urls = urls.iter().map(ToString::to_string).collect();
        Self(Arc::new(Mutex::new(RegistryStatus { urls, ..Default::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, RegistryStatus> {
        // Plain values: valid whoever panicked while holding them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn holds(&self, schemas: usize) {
        self.lock().schemas = schemas;
    }

    pub(super) fn waits(&self, id: u32, error: &RegistryError) {
        let mut status = self.lock();
        status.waiting_for.insert(id);
        status.waiting_since.get_or_insert_with(clock::now);
        status.refused = error.is_refusal();
        status.last_error = Some(error.to_string());
    }

    /// The wait for a schema is over. The reason is kept when it did not come.
    pub(super) fn ended(&self, id: u32, came: bool) {
        let mut status = self.lock();
        status.waiting_for.remove(&id);
        if status.waiting_for.is_empty() {
            status.waiting_since = None;
        }
        if came {
            status.refused = false;
            status.last_error = None;
        }
    }

    /// How it is now.
    pub fn status(&self) -> RegistryStatus {
        self.lock().clone()
    }
}
