//! Answers to what is no request.
//!
//! What hyper cannot read never reaches a service: it answers by itself, without a body, and ends the connection.
//! People and programs get the one body of errors here, too: [`Spoken`] puts an answer that says something in the
//! place of such a head as it is written. Our own answers of status 400 and above always have a body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use hyper::rt;
use uuid::Uuid;

use super::error::{ApiError, Code};

/// What a connection goes over.
pub(super) struct Spoken<I> {
    inner: I,
    /// What is written in place of hyper's head, and how far that is.
    instead: Option<(Vec<u8>, usize)>,
}

impl<I> Spoken<I> {
    pub(super) fn new(inner: I) -> Self {
        Self { inner, instead: None }
    }

    /// What it goes over.
    pub(super) fn into_inner(self) -> I {
        self.inner
    }
}

impl<I: rt::Read + Unpin> rt::Read for Spoken<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<I: rt::Write + Unpin> Spoken<I> {
    /// Writes the answer in place of `head`, if it is one of hyper's own; `None`: it is not.
    fn speak(&mut self, cx: &mut Context<'_>, head: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_none() {
            self.instead = Some((answer(refused(head)?), 0));
        }
        let (text, written) = self.instead.as_mut()?;
        while *written < text.len() {
            match Pin::new(&mut self.inner).poll_write(cx, &text[*written..]) {
                Poll::Ready(Ok(0)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => *written += count,
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.instead = None;
        // All of the head is done with.
        Some(Poll::Ready(Ok(head.len())))
    }
}

impl<I: rt::Write + Unpin> rt::Write for Spoken<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.speak(cx, buf) {
            Some(spoken) => spoken,
            None => Pin::new(&mut self.inner).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Such a head is all that is written.
        let only = match bufs {
            [only] => self.speak(cx, only),
            _ => None,
        };
        match only {
            Some(spoken) => spoken,
            None => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        }
    }
}

/// The status of a head that hyper wrote by itself, at the end of what it writes.
fn refused(written: &[u8]) -> Option<StatusCode> {
    let digits = written.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let status = StatusCode::from_bytes(&[b'4', digits[0], digits[1]]).ok()?;
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let is_empty = lines.any(|line| line.eq_ignore_ascii_case("content-length: 0"));
    // Each of our own answers names its request.
    (is_empty && !head.contains("x-request-id") && !head.contains("\r\n\r\n")).then_some(status)
}

fn answer(status: StatusCode) -> Vec<u8> {
    let error = match status {
        StatusCode::URI_TOO_LONG => {
            ApiError::new(Code::TargetTooLong, "path and query are longer than the limit")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ApiError::new(Code::HeadersTooLarge, "the headers are larger or more than the limit")
        }
        _ => ApiError::new(Code::InvalidRequest, "what came is no HTTP/1.1 request")
            .hint("its first line is a method, a path that is percent-encoded, and HTTP/1.1; each header is `name: value`"),
    };
    let id = Uuid::new_v4().to_string();
    let body = serde_json::to_vec(&error.body(&id)).unwrap_or_else(|_| b"{}".to_vec());
    let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
    let mut text = format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {id}\r\n\
         x-correlation-id: {id}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}
