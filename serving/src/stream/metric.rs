//! Connections that get a metric's answer whenever it moves.
//!
//! Those with the same question share one feed, and a feed asks the cache once for all of them: when a
//! commit has touched what the metric stands on, and when time alone may have moved its window. A slow
//! reader gets the newest answer when it comes to it; the ones between are gone.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures::Stream;
use tokio::sync::{Notify, Semaphore};

use super::events::beat;
use super::frame;
use super::outbox::{Chunk, Item, Outbox};
use super::pulse::Connection;
use super::slots::Slot;
use super::stats::OpenStream;
use crate::cache::{Cache, Watched};
use crate::http::body::MetricBody;
use crate::question::{MetricAnswer, MetricQuestion, ReadError};

/// Longest time between two looks at a metric that no commit touches: its window moves on.
const LONGEST: Duration = Duration::from_secs(1);

/// Commits within this time wake feeds once.
const JOIN: Duration = Duration::from_millis(2);

/// All feeds.
pub(crate) struct Feeds {
    cache: Arc<Cache>,
    /// Shortest time from one answer of a feed to the next.
    min_interval: Duration,
    feeds: Mutex<HashMap<MetricQuestion, Weak<Feed>>>,
    /// A commit came.
    moved: Notify,
    /// Is there a task that waits for commits?
    is_driven: AtomicBool,
    /// Limits how many feeds ask at once: others need the store, too.
    readers: Arc<Semaphore>,
    evaluations: AtomicUsize,
}

/// One question and those who asked it.
pub(crate) struct Feed {
    question: MetricQuestion,
    /// Something may have moved the answer.
    moved: Notify,
    state: Mutex<State>,
}

struct State {
    watched: Watched,
    latest: Arc<MetricAnswer>,
    chunk: Chunk,
    members: HashMap<u64, Arc<Outbox>>,
}

/// The frames of one connection, until it ends or is dropped.
pub(crate) struct MetricStream {
    feed: Arc<Feed>,
    connection: Connection,
    _open: OpenStream,
    is_ended: bool,
    _slot: Slot,
}

impl Feeds {
    pub(crate) fn new(
        cache: Arc<Cache>,
        min_interval: Duration,
        readers: Arc<Semaphore>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            min_interval,
            feeds: Mutex::default(),
            moved: Notify::new(),
            is_driven: AtomicBool::new(false),
            readers,
            evaluations: AtomicUsize::new(0),
        })
    }

    /// To be called after each commit, once the cache knows of it; costs next to nothing.
    pub(crate) fn committed(&self) {
        self.moved.notify_one();
    }

    /// How often feeds asked.
    #[cfg(test)]
    pub(crate) fn evaluations(&self) -> usize {
        self.evaluations.load(Ordering::Relaxed)
    }

    /// The answer now, and then whenever it moves. Within a tokio runtime; blocks as a read does.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        question: MetricQuestion,
        (connection, open, slot): (Connection, OpenStream, Slot),
        runtime: &tokio::runtime::Handle,
    ) -> Result<MetricStream, ReadError> {
        // Before it is answered: what moves it in between is then seen.
        let watched = self.cache.watch(&question)?;
        let answer = Arc::new(self.cache.read(&question)?);
        let question = watched.same_question(&question);
        let mut feeds = lock(&self.feeds);
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let feed = match feeds.get(&question).and_then(Weak::upgrade) {
            Some(feed) => feed,
            None => {
                let feed = Arc::new(Feed {
                    question: question.clone(),
                    moved: Notify::new(),
                    state: Mutex::new(State {
                        watched,
                        chunk: chunk(&answer),
                        latest: Arc::clone(&answer),
                        members: HashMap::new(),
                    }),
                });
                feeds.insert(question, Arc::downgrade(&feed));
                let (feeds, weak) = (Arc::clone(self), Arc::downgrade(&feed));
                runtime.spawn(async move { feeds.follow(&weak).await });
                feed
            }
        };
        drop(feeds);
        if !self.is_driven.swap(true, Ordering::SeqCst) {
            let feeds = Arc::clone(self);
            runtime.spawn(async move { feeds.drive().await });
        }
        // Another's answer may be the newer one, or this.
        feed.offer(answer);
        let mut state = lock(&feed.state);
        connection.outbox().push(state.chunk.clone());
        state.members.insert(connection.id(), Arc::clone(connection.outbox()));
        drop(state);
        feed.moved.notify_one();
        Ok(MetricStream { feed, connection, _open: open, is_ended: false, _slot: slot })
    }

    /// Wakes the feeds that a commit concerns, until there is none left.
    async fn drive(&self) {
        loop {
            self.moved.notified().await;
            let feeds: Vec<Arc<Feed>> = {
                let mut feeds = lock(&self.feeds);
                feeds.retain(|_, feed| feed.strong_count() > 0);
                if feeds.is_empty() {
                    // Within the lock: whoever adds one next sees it.
                    self.is_driven.store(false, Ordering::SeqCst);
                    return;
                }
                feeds.values().filter_map(Weak::upgrade).collect()
            };
            for feed in feeds {
                if lock(&feed.state).watched.has_moved() {
                    feed.moved.notify_one();
                }
            }
            tokio::time::sleep(JOIN).await;
        }
    }

    /// Asks for one feed whenever its answer may have moved, until nobody is there for it.
    async fn follow(&self, feed: &Weak<Feed>) {
        let mut asked = Instant::now();
        loop {
            let Some(strong) = feed.upgrade() else { return };
            let max_age = Duration::from_micros(lock(&strong.state).watched.max_age());
            // An answer that is just as old as it may be still comes from the cache.
            let longest = (max_age + Duration::from_millis(1)).clamp(self.min_interval, LONGEST);
            // It goes on either way; and a feed that nobody is there for ends after this time.
            let _ = tokio::time::timeout(longest, strong.moved.notified()).await;
            tokio::time::sleep(self.min_interval.saturating_sub(asked.elapsed())).await;
            asked = Instant::now();
            if !lock(&strong.state).members.is_empty() {
                self.ask(&strong).await;
            }
        }
    }

    async fn ask(&self, feed: &Arc<Feed>) {
        let Ok(_turn) = Arc::clone(&self.readers).acquire_owned().await else { return };
        let (cache, question) = (Arc::clone(&self.cache), feed.question.clone());
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        let asked = tokio::task::spawn_blocking(move || {
            // In this order, as when it was subscribed to.
            let watched = cache.watch(&question)?;
            Ok::<_, ReadError>((watched, cache.read(&question)?))
        });
        match asked.await {
            Ok(Ok((watched, answer))) => {
                lock(&feed.state).watched = watched;
                feed.offer(Arc::new(answer));
            }
            // The last answer stays until the next time.
            Ok(Err(error)) => {
                tracing::warn!(metric = feed.question.metric, %error, "no answer for a stream");
            }
            Err(error) => tracing::error!(%error, "no answer for a stream"),
        }
    }
}

impl Feed {
    /// Sends an answer to all, if it is a newer one and says something else.
    fn offer(&self, answer: Arc<MetricAnswer>) {
        let mut state = lock(&self.state);
        if answer.computed_at < state.latest.computed_at || is_same(&answer, &state.latest) {
            return;
        }
        state.chunk = chunk(&answer);
        state.latest = answer;
        for outbox in state.members.values() {
            outbox.replace(state.chunk.clone());
        }
    }
}

/// Do two answers say the same?
fn is_same(a: &MetricAnswer, b: &MetricAnswer) -> bool {
    a.value == b.value
        && a.groups == b.groups
        && a.groups_truncated == b.groups_truncated
        && a.proof.contract_version == b.proof.contract_version
}

fn chunk(answer: &MetricAnswer) -> Chunk {
    let position = answer.proof.position;
    let body = serde_json::to_vec(&MetricBody::new(answer.clone()));
    let bytes = frame::answer(position, &body.expect("writes to memory"));
    Chunk { bytes: Bytes::from(bytes), frames: 1 }
}

impl Stream for MetricStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        match self.connection.outbox().poll(cx, true) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Item::Chunk(chunk)) => Poll::Ready(Some(chunk.bytes)),
            Poll::Ready(Item::Beat) => beat(),
            Poll::Ready(Item::End(end)) => {
                self.is_ended = true;
                Poll::Ready(Some(Bytes::from(frame::last(end))))
            }
        }
    }
}

impl Drop for MetricStream {
    fn drop(&mut self) {
        lock(&self.feed.state).members.remove(&self.connection.id());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
