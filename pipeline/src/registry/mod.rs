//! Writers' schemas from a registry that speaks Confluent's REST API.
//!
//! A record in Avro says only the id of the schema that it was written with; what the id stands for
//! is asked here, once. [`Registry`] is the handle: cheap to clone, used by source threads (it
//! blocks; never call it on an async runtime).
//!
//! What always holds: nothing is lost because a registry is away, refuses our credentials or answers
//! nonsense. Then [`SchemaSource::schema`] waits and asks again, and says so in the log and in
//! [`RegistryStatus`]. Only the registry's own word that it has no such id makes a record a dead
//! letter, and that word is believed for [`MISSING_FOR`] only; what an id stands for never changes,
//! so that is kept. Secrets stand in no message.

mod answer;
mod cache;
mod client;
mod config;
mod error;
mod status;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::decode::{GaveUp, SchemaSource, WriterSchema};

use cache::Cache;
use client::Client;

pub use answer::Reference;
pub use config::{BaseUrl, Credentials, RegistryConfig};
pub use error::RegistryError;
pub use status::{RegistryProbe, RegistryStatus};

/// How long the registry's word that it has no such id is believed.
pub const MISSING_FOR: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// A registry that restarts is back within seconds; one request every two is nothing to it.
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// How often a wait looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);

/// Handle of a schema registry.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    client: Client,
    cache: Mutex<Cache>,
    probe: RegistryProbe,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("status", &self.0.probe.status()).finish()
    }
}

impl Registry {
    /// A handle; nothing is asked yet.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let probe = RegistryProbe::new(&config.urls);
        let client = Client::new(config)?;
        Ok(Self(Arc::new(Shared { client, cache: Mutex::default(), probe })))
    }

    /// To look at it from outside.
    pub fn probe(&self) -> RegistryProbe {
        self.0.probe.clone()
    }

    /// What an id stands for, asked once: from memory, or from each address until one answers.
    pub fn look_up(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        if let Some(known) = self.cache().get(id) {
            return Ok(known);
        }
        let found = self.0.client.schema(id)?;
        let mut cache = self.cache();
        cache.put(id, found.clone());
        self.0.probe.holds(cache.len());
        Ok(found)
    }

    /// Registers a schema under a subject and gives its id; a schema that is there already keeps
    /// its id. The references must be registered before.
    pub fn register(
        &self,
        subject: &str,
        schema: &str,
        references: &[Reference],
    ) -> Result<u32, RegistryError> {
        self.0.client.register(subject, schema, references)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Two maps whose entries stand for themselves: valid whoever panicked while holding them.
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchemaSource for Registry {
    fn schema(&self, id: u32, go_on: &dyn Fn() -> bool) -> Result<WriterSchema, GaveUp> {
        let mut wait = FIRST_RETRY;
        let mut waited = false;
        let mut last = None;
        let probe = &self.0.probe;
        let result = loop {
            if !go_on() {
                let cause = last.map(|error: RegistryError| error.to_string());
                break Err(GaveUp { id, cause });
            }
            let problem = match self.look_up(id) {
                Ok(found) => break Ok(found),
                Err(problem) => problem,
            };
            waited = true;
            probe.waits(id, &problem);
            let wait_ms = wait.as_millis() as u64;
            if problem.is_refusal() {
                error!(schema = id, wait_ms, error = %problem, hint = problem.hint(), "records wait for their schema");
            } else {
                warn!(schema = id, wait_ms, error = %problem, "records wait for their schema");
            }
            last = Some(problem);
            pause(wait, go_on);
            wait = (wait * 2).min(LONGEST_RETRY);
        };
        if waited {
            probe.ended(id, result.is_ok());
            match &result {
                Ok(_) => info!(schema = id, "the schema registry answers again"),
                Err(_) => info!(schema = id, "records left unread: no schema came"),
            }
        }
        result
    }
}

/// Sleeps, but not on when it is no use any more.
fn pause(wait: Duration, go_on: &dyn Fn() -> bool) {
    let until = Instant::now() + wait;
    while go_on() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}
