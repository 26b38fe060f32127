//! One connection: HTTP over hyper, until it ends or a stream takes its socket.
//!
//! A stream of server-sent events on a plain socket of HTTP/1.1 needs nothing of HTTP once its head is
//! known, and ten thousand of them should cost nothing. So the head is written here, hyper and all that it
//! holds are let go, and a [`Wire`] has the socket until it ends. With TLS, or over HTTP/2, a stream is an
//! answer like others.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::rt;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::again::{AskAgain, Go};
use super::handover::Handover;
use super::live::Live;
use super::refusal::Spoken;
use crate::stream::{Frames, Wire};

/// How long a client may take for the head of a request, and a connection may be idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Bytes that a connection buffers at most: the longest head, and a part of a body.
const BUFFER_BYTES: usize = 64 << 10;

/// Most headers of a request.
const MAX_HEADERS: usize = 512;

/// Who is there, what answers them, and when that ends.
pub(super) struct Connection {
    peer: SocketAddr,
    live: Live,
    ending: watch::Receiver<()>,
}

/// Where a stream waits for its socket.
#[derive(Default)]
struct Taken {
    stream: Mutex<Option<(Vec<u8>, Frames)>>,
    /// Has the socket got everything that was written to it?
    is_flushed: AtomicBool,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, live: Live, ending: watch::Receiver<()>) -> Self {
        Self { peer, live, ending }
    }

    /// Without TLS, which is HTTP/1: looking for the other first would cost each connection a buffer, and
    /// no browser speaks it there. What is left is a stream that has the socket now.
    pub(super) async fn plain(self, socket: TcpStream) -> Result<Option<Wire>, hyper::Error> {
        let Self { peer, live, ending } = self;
        let taken = Arc::new(Taken::default());
        taken.is_flushed.store(true, Ordering::Relaxed);
        let service = service_fn(|request: Request<Incoming>| {
            let may_take =
                *request.method() == Method::GET && request.version() == Version::HTTP_11;
            let (live, taken) = (live.clone(), Arc::clone(&taken));
            async move {
                let mut response = answer(&live, peer, request).await;
                if may_take && let Some(stream) = take(&mut response) {
                    *taken.stream() = Some(stream);
                    // The connection is taken from under this.
                    return std::future::pending().await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let inner = Spoken::new(TokioIo::new(socket));
        let socket = Socket { inner, taken: Arc::clone(&taken) };
        let socket = http1(socket, service, ending, || taken.is_ready()).await?;
        let stream = taken.stream().take();
        Ok(socket.zip(stream).map(|(socket, (head, frames))| {
            Wire::new(socket.inner.into_inner().into_inner(), head, frames)
        }))
    }

    /// With TLS, which has agreed on what is spoken.
    pub(super) async fn tls(self, stream: TlsStream<TcpStream>) -> Result<(), hyper::Error> {
        let Self { peer, live, mut ending } = self;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(|request| {
            let live = live.clone();
            async move { Ok::<_, Infallible>(answer(&live, peer, request).await) }
        });
        let stream = TokioIo::new(stream);
        if !is_http2 {
            let stream = Spoken::new(stream);
            return http1(stream, service, ending, || false).await.map(|_| ());
        }
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(HEAD_WITHIN)
            .max_concurrent_streams(100)
            .max_header_list_size(BUFFER_BYTES as u32);
        let mut connection = std::pin::pin!(http.serve_connection(stream, service));
        tokio::select! {
            ended = &mut connection => return ended,
            _ = ending.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// Answers over HTTP/1 until the connection ends, or `is_taken`: then what it went over is given back.
async fn http1<I, S>(
    io: I,
    service: S,
    mut ending: watch::Receiver<()>,
    is_taken: impl Fn() -> bool,
) -> Result<Option<I>, hyper::Error>
where
    I: rt::Read + rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES);
    let mut connection = http.serve_connection(io, service);
    let mut is_ending = false;
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if is_taken() => Poll::Ready(Ok(true)),
            ended => ended.map_ok(|()| false),
        });
        let was_taken = tokio::select! {
            ended = next => ended?,
            _ = ending.changed(), if !is_ending => {
                Pin::new(&mut connection).graceful_shutdown();
                is_ending = true;
                continue;
            }
        };
        return Ok(was_taken.then(|| connection.into_parts().io));
    }
}

/// Answers by the contracts of the moment, in its turn, which ends with the head of the answer. A `GET` that
/// waited for a commit when the contracts changed is answered by the new ones.
async fn answer(live: &Live, peer: SocketAddr, mut request: Request<Incoming>) -> Response<Body> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let may_wait = request.method() == Method::GET
        && request.uri().query().is_some_and(|query| query.contains("after="));
    let mut go = Go::first();
    if may_wait {
        request.extensions_mut().insert(go);
    }
    let mut again = may_wait.then(|| without_body(&request));
    let mut request = request.map(Body::new);
    loop {
        let turn = live.turn(request.method(), request.uri().path()).await;
        let router = TowerToHyperService::new(turn.router());
        let answer = router.call(request).await.unwrap_or_else(|never| match never {});
        if answer.extensions().get::<AskAgain>().is_none() {
            return answer;
        }
        let Some(mut next) = again.take() else { return answer };
        go = go.next();
        next.extensions_mut().insert(go);
        again = Some(without_body(&next));
        request = next;
    }
}

/// The same request once more.
fn without_body<B>(request: &Request<B>) -> Request<Body> {
    let mut same = Request::new(Body::empty());
    *same.method_mut() = request.method().clone();
    *same.uri_mut() = request.uri().clone();
    *same.version_mut() = request.version();
    *same.headers_mut() = request.headers().clone();
    *same.extensions_mut() = request.extensions().clone();
    same
}

/// Head and frames of an answer that is a stream.
fn take(response: &mut Response<Body>) -> Option<(Vec<u8>, Frames)> {
    let frames = response.extensions_mut().remove::<Handover>()?.take()?;
    Some((head(response.status(), response.headers()), frames))
}

/// The head of an answer in chunks, after which the connection ends.
fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let ours =
        [header::CONNECTION, header::CONTENT_LENGTH, header::DATE, header::TRANSFER_ENCODING];
    let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
    let mut head = format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n"
    )
    .into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| !ours.contains(name)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

impl Taken {
    fn stream(&self) -> MutexGuard<'_, Option<(Vec<u8>, Frames)>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there a stream, and is nothing of an earlier answer still to be sent?
    fn is_ready(&self) -> bool {
        self.is_flushed.load(Ordering::Relaxed) && self.stream().is_some()
    }
}

/// A socket that knows whether it has got everything: hyper flushes it when nothing is left in its own buffer.
struct Socket {
    inner: Spoken<TokioIo<TcpStream>>,
    taken: Arc<Taken>,
}

impl Socket {
    fn inner(&mut self) -> Pin<&mut Spoken<TokioIo<TcpStream>>> {
        Pin::new(&mut self.inner)
    }

    fn flushed(&self, is_flushed: bool) {
        self.taken.is_flushed.store(is_flushed, Ordering::Relaxed);
    }
}

impl rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.flushed(false);
        self.inner().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner().poll_flush(cx);
        if flushed.is_ready() {
            self.flushed(true);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed(false);
        self.inner().poll_write_vectored(cx, bufs)
    }
}
