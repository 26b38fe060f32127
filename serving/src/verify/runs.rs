//! Verifications beside a running server: one at a time, on a thread of its own, asked for by number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::{Report, VerifyOptions, verify};
use crate::metric::MetricEngine;
use crate::question::ReadError;

/// How a verification stands.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Names it.
    pub id: Uuid,
    /// When it was begun, µs.
    pub started_at: i64,
    /// What it found; `None` while it runs.
    pub outcome: Option<Result<Report, ReadError>>,
}

/// The newest verification of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Verifications(Arc<Mutex<Option<Verification>>>);

impl Verifications {
    /// Begins one. `Err` tells which one is under way.
    pub fn begin(
        &self,
        engine: &Arc<MetricEngine>,
        options: VerifyOptions,
    ) -> Result<Verification, Uuid> {
        let mut newest = self.lock();
        if let Some(Verification { id, outcome: None, .. }) = &*newest {
            return Err(*id);
        }
        let begun = Verification { id: Uuid::now_v7(), started_at: engine.now(), outcome: None };
        *newest = Some(begun.clone());
        drop(newest);
        let (runs, engine, id) = (self.clone(), Arc::clone(engine), begun.id);
        let run = move || {
            let outcome = verify(&engine, &options);
            runs.end(id, outcome);
        };
        if let Err(error) = std::thread::Builder::new().name("verify".into()).spawn(run) {
            let message = format!("start a thread: {error}");
            self.end(begun.id, Err(ReadError::Unavailable { message }));
        }
        Ok(begun)
    }

    /// The one of that name, if it is the newest.
    pub fn get(&self, id: Uuid) -> Option<Verification> {
        self.lock().clone().filter(|newest| newest.id == id)
    }

    fn end(&self, id: Uuid, outcome: Result<Report, ReadError>) {
        let mut newest = self.lock();
        if let Some(newest) = newest.as_mut().filter(|newest| newest.id == id) {
            newest.outcome = Some(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Verification>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
