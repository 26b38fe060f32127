//! A stream that waits for whoever sends it: the body of its answer, or the connection itself.
//!
//! A route does not know what its answer goes through. It puts its frames in here, beside a body that
//! takes them out when it is first asked for something. Where the answer comes to a plain socket of
//! HTTP/1.1, [`super::connection`] takes them out before, and the body is never asked.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::ready;

use axum::body::Body;
use futures::{StreamExt, stream};

use crate::stream::Frames;

/// Frames that one taker gets. An extension of the answer.
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<Frames>>>);

impl Handover {
    pub(super) fn new(frames: Frames) -> Self {
        Self(Arc::new(Mutex::new(Some(frames))))
    }

    /// The frames; `None` for all but the first.
    pub(super) fn take(&self) -> Option<Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A body that is the frames.
    pub(super) fn body(&self) -> Body {
        let handover = self.clone();
        let mut taken = None;
        let frames = stream::poll_fn(move |cx| {
            let frames: &mut Option<Frames> = taken.get_or_insert_with(|| handover.take());
            let next = match frames {
                Some(frames) => ready!(frames.poll_next_unpin(cx)),
                None => None,
            };
            std::task::Poll::Ready(next.map(Ok::<_, Infallible>))
        });
        Body::from_stream(frames)
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}
