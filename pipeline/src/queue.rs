//! From the sources to the writer: what waits is bounded by its weight.
//!
//! A slow writer holds the sources back once [`CAPACITY`] bytes of records wait, however many
//! batches that are: many small ones, so that the writer finds them together and commits them
//! together, or a single large one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use crossbeam_channel::RecvTimeoutError;

/// Bytes of records that may wait; a batch that has more waits alone.
const CAPACITY: usize = 4 << 20;

/// A queue and its two ends.
pub(crate) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let (out, waiting) = crossbeam_channel::unbounded();
    (Sender { room: Arc::default(), out }, Receiver { waiting })
}

/// The sources' end.
pub(crate) struct Sender<T> {
    room: Arc<Room>,
    out: crossbeam_channel::Sender<(T, Reserved)>,
}

/// The writer's end.
pub(crate) struct Receiver<T> {
    waiting: crossbeam_channel::Receiver<(T, Reserved)>,
}

#[derive(Default)]
struct Room {
    used: Mutex<usize>,
    freed: Condvar,
}

/// Room taken by something that waits.
struct Reserved {
    room: Arc<Room>,
    weight: usize,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        *self.room.lock() -= self.weight;
        self.room.freed.notify_all();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { room: Arc::clone(&self.room), out: self.out.clone() }
    }
}

impl<T> Sender<T> {
    /// Waits for room; `Err` when the other end is gone.
    pub(crate) fn send(&self, item: T, weight: usize) -> Result<(), T> {
        let mut used = self.room.lock();
        // When the other end goes, what waits is dropped, and its room is free.
        while *used > 0 && *used + weight > CAPACITY {
            used = self.room.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += weight;
        drop(used);
        let reserved = Reserved { room: Arc::clone(&self.room), weight };
        self.out.send((item, reserved)).map_err(|back| back.0.0)
    }
}

impl<T> Receiver<T> {
    /// Waits for something and takes what else is there, up to about [`CAPACITY`].
    pub(crate) fn receive(&self, timeout: Duration) -> Result<Vec<T>, RecvTimeoutError> {
        let (first, reserved) = self.waiting.recv_timeout(timeout)?;
        let mut weight = reserved.weight;
        drop(reserved);
        let mut taken = vec![first];
        while weight < CAPACITY
            && let Ok((item, reserved)) = self.waiting.try_recv()
        {
            weight += reserved.weight;
            taken.push(item);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_waits_is_taken_together() {
        let (sender, receiver) = queue();
        assert_eq!(receiver.receive(SOON), Err(RecvTimeoutError::Timeout));
        (0..100).for_each(|n| sender.send(n, 10).expect("room"));
        assert_eq!(receiver.receive(LONG).expect("items"), (0..100).collect::<Vec<_>>());
        drop(sender);
        assert_eq!(receiver.receive(LONG), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn more_than_there_is_room_for_waits_and_one_that_is_larger_goes_alone() {
        let (sender, receiver) = queue();
        std::thread::scope(|scope| {
            // As much as is taken at once: the other is not taken with it, however soon it comes.
            sender.send(0, CAPACITY).expect("room");
            let second = sender.clone();
            let waits = scope.spawn(move || second.send(1, 2 * CAPACITY));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waits.is_finished());
            assert_eq!(receiver.receive(LONG), Ok(vec![0]));
            assert_eq!(waits.join().expect("no panic"), Ok(()));
            assert_eq!(receiver.receive(LONG), Ok(vec![1]));
        });
    }

    #[test]
    fn a_writer_that_is_gone_lets_nobody_wait() {
        let (sender, receiver) = queue();
        sender.send(0, CAPACITY).expect("room");
        std::thread::scope(|scope| {
            let second = sender.clone();
            let waits = scope.spawn(move || second.send(1, 1));
            drop(receiver);
            assert_eq!(waits.join().expect("no panic"), Err(1));
        });
    }
}
