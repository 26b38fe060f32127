//! Places where a test may kill the process.
//!
//! `AGENTFLOW_FAIL_POINT=name:n` aborts the process at the `n`-th time that [`hit`] is called with
//! that name, as a crash would: nothing is flushed, no destructor runs. Without the variable a hit
//! costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct FailPoint {
    name: String,
    at: u64,
    hits: AtomicU64,
}

static ARMED: OnceLock<Option<FailPoint>> = OnceLock::new();

/// Aborts the process if this is the hit that `AGENTFLOW_FAIL_POINT` asks for.
pub fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| parse(&std::env::var("AGENTFLOW_FAIL_POINT").ok()?));
    if let Some(point) = armed
        && point.name == name
        && point.hits.fetch_add(1, Ordering::SeqCst) + 1 == point.at
    {
        std::process::abort();
    }
}

fn parse(text: &str) -> Option<FailPoint> {
    let (name, at) = text.rsplit_once(':')?;
    Some(FailPoint { name: name.to_owned(), at: at.parse().ok()?, hits: AtomicU64::new(0) })
}
