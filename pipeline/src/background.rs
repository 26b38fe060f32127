//! Threads whose work can wait: they give way to those that answer and commit.
#![allow(unsafe_code)]

/// How much less of a busy processor such a thread gets (0 to 19; each step is about a quarter).
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, where the system lets a thread have one of its own.
///
/// On a busy machine followers otherwise get as large a share as the writer, and an event waits for
/// files and topics that nobody waits for.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers; a thread may always lower its own priority. On Linux a thread id stands for
    // the thread alone (sched(7)).
    unsafe {
        let thread = libc::gettid();
        libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, NICE);
    }
}
