//! The publisher of a topic as others see it: started, looked at, flushed, stopped. The work is done
//! by its thread, see [`super::worker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use contracts::model::Domain;
use crossbeam_channel::{Sender, bounded, unbounded};
use uuid::Uuid;

use super::config::PublisherConfig;
use super::error::PublishError;
use super::status::{PublisherStatus, SharedStatus};
use super::worker::{Flush, Worker};
use crate::store::Journal;

/// Publishes one topic.
pub struct Publisher;

impl Publisher {
    /// Starts to publish. `identity` is that of the data directory: of two publishers with the same
    /// identity and topic the older one is fenced. Returns at once: brokers that are away are a
    /// matter of the status, not of the start.
    pub fn spawn(
        config: PublisherConfig,
        identity: Uuid,
        journal: Arc<dyn Journal>,
        domain: &Domain,
    ) -> Result<PublisherHandle, PublishError> {
        config.check()?;
        let status = SharedStatus::new(&config);
        let stop = Arc::new(AtomicBool::new(false));
        let (commands, inbox) = unbounded();
        let worker = Worker::new(config, identity, journal, domain, status.clone(), &stop);
        let thread = std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(PublishError::Thread)?;
        Ok(PublisherHandle { commands, stop, status, thread: Some(thread) })
    }
}

/// Handle of a running publisher. Dropping it stops the publisher; what is not published by then
/// stays in the journal and follows at the next start.
#[derive(Debug)]
pub struct PublisherHandle {
    commands: Sender<Flush>,
    stop: Arc<AtomicBool>,
    status: SharedStatus,
    thread: Option<JoinHandle<()>>,
}

impl PublisherHandle {
    /// Waits until everything is published that the journal has now. While the brokers refuse, it
    /// keeps trying for [`PublisherConfig::flush_timeout`].
    pub fn flush(&self) -> Result<(), PublishError> {
        let stopped = || PublishError::Stopped { topic: self.status.read().topic };
        let (reply, answer) = bounded(1);
        self.commands.send(Flush { reply }).map_err(|_| stopped())?;
        answer.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// How it goes. Takes no time: the publisher keeps it up to date.
    pub fn status(&self) -> PublisherStatus {
        self.status.read()
    }

    /// A way to look at it that does not keep it alive.
    pub fn probe(&self) -> PublisherProbe {
        PublisherProbe(self.status.clone())
    }

    /// Asks for the end without waiting for it, so that several publishers end side by side.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for PublisherHandle {
    fn drop(&mut self) {
        self.ask_to_stop();
        let (closed, _) = unbounded();
        // The publisher wakes up when its last sender is gone.
        self.commands = closed;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a publisher ended with a panic");
        }
    }
}

/// Handle to look at a publisher from outside. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PublisherProbe(SharedStatus);

impl PublisherProbe {
    /// How it goes.
    pub fn status(&self) -> PublisherStatus {
        self.0.read()
    }
}
