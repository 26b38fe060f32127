//! A thread that steps back: what it does can wait some milliseconds when the cores are wanted for events.

/// How much nicer than the rest of the process: beside a busy thread on the same core it still gets a quarter
/// of it.
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// Lowers the priority of the calling thread. Where the system refuses it, or knows no priorities of threads,
/// it stays as it is.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // On Linux a priority belongs to a thread, and none named means the calling one.
        let lowered = getpriority_process(None)
            .and_then(|now| setpriority_process(None, now.saturating_add(NICER).min(19)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a thread of streams keeps its priority");
        }
    }
}
