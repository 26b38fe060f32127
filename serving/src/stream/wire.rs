//! Frames straight to a socket: a stream of HTTP/1.1 once its head is known, without HTTP's machinery.
//!
//! A connection costs a few hundred bytes this way instead of buffers and layers, and while it has nothing
//! of its own to do its task sleeps: those who have frames for it write them themselves
//! ([`super::outbox`]). The task reads the journal where the connection is behind, waits for a socket that
//! takes no more, and notices that the client has gone.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::StreamExt;
use tokio::net::TcpStream;

use super::Frames;
use super::unsent::Unsent;

/// Reads of one turn: whoever sends without end must not keep others waiting.
const READS: usize = 16;

/// A connection that is sent frames in the chunked coding; it ends with them, or with the client.
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    frames: Frames,
    unsent: Unsent,
    is_over: bool,
}

impl Wire {
    /// Sends `head` first. It has to say that the body is chunked and the connection closed after it.
    pub(crate) fn new(socket: TcpStream, head: Vec<u8>, frames: Frames) -> Self {
        let socket = Arc::new(socket);
        frames.outbox.attach(Arc::clone(&socket));
        Self { socket, frames, unsent: Unsent::raw(head), is_over: false }
    }

    /// Has the client gone? What it sends meanwhile is read and forgotten: nothing will answer it.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 1_024];
        for _ in 0..READS {
            if ready!(self.socket.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.try_read(&mut ignored) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Future for Wire {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // First of all: from here on nobody else writes.
        let left = this.frames.outbox.take_socket();
        this.unsent.append(left);
        if this.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            while let Err(error) = this.unsent.send(&this.socket) {
                let is_lasting =
                    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
                if is_lasting || ready!(this.socket.poll_write_ready(cx)).is_err() {
                    return Poll::Ready(());
                }
            }
            if this.is_over {
                return Poll::Ready(());
            }
            match this.frames.poll_next_unpin(cx) {
                Poll::Ready(Some(bytes)) => this.unsent.push(bytes),
                Poll::Ready(None) => {
                    this.unsent.push_end();
                    this.is_over = true;
                }
                Poll::Pending => {
                    this.frames.outbox.free();
                    return Poll::Pending;
                }
            }
        }
    }
}
