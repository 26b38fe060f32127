//! Counts of streams for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::outbox::End;
use crate::access::Pass;
use crate::http::time;

/// What a stream carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Events,
    Metric,
}

/// Counts since the start, and what is open now.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    open: [AtomicI64; 2],
    frames: [AtomicU64; 2],
    ended: [AtomicU64; 5],
}

/// Streams as `/metrics` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStats {
    /// Kind of stream, how many are open, how many frames they were sent since the start.
    pub kinds: [(&'static str, i64, u64); 2],
    /// Why streams were ended by the server while it went on, and how many.
    pub ended: [(&'static str, u64); 3],
}

impl Stats {
    pub(crate) fn open(self: &Arc<Self>, kind: Kind) -> OpenStream {
        self.open[kind as usize].fetch_add(1, Ordering::Relaxed);
        OpenStream { stats: Arc::clone(self), kind }
    }

    pub(crate) fn ended(&self, end: End) {
        self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> StreamStats {
        let kind = |name, kind: Kind| {
            let open = self.open[kind as usize].load(Ordering::Relaxed);
            (name, open, self.frames[kind as usize].load(Ordering::Relaxed))
        };
        let end = |name, end: End| (name, self.ended[end as usize].load(Ordering::Relaxed));
        StreamStats {
            kinds: [kind("events", Kind::Events), kind("metric", Kind::Metric)],
            ended: [
                end("slow_reader", End::Slow),
                end("gone", End::Gone),
                end("unavailable", End::Unavailable),
            ],
        }
    }
}

/// On whose account frames are sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    stats: Arc<Stats>,
    kind: Kind,
    pass: Pass,
}

impl Account {
    pub(crate) fn new(stats: &Arc<Stats>, kind: Kind, pass: Pass) -> Self {
        Self { stats: Arc::clone(stats), kind, pass }
    }

    pub(crate) fn sent(&self, frames: u32) {
        self.stats.frames[self.kind as usize].fetch_add(u64::from(frames), Ordering::Relaxed);
    }

    /// May anything be sent, now?
    pub(crate) fn is_good(&self) -> bool {
        self.pass.is_good(time::now())
    }
}

/// Counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    stats: Arc<Stats>,
    kind: Kind,
}

impl OpenStream {
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.stats.open[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
