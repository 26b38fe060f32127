//! The socket: connections in, with or without TLS, until somebody says that it ends.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::live::Live;
use super::tls::Tls;
use crate::access::gate::Gate;

/// How long a client may take for the head of a request, and a connection may be idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long a client may take to agree on TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Longest time that a client may take nothing of what was sent to it. Streams are ended sooner, but
/// what is in the system's buffers by then has to go, too, before the connection can.
#[cfg(target_os = "linux")]
const UNREAD_WITHIN: Duration = Duration::from_secs(30);

/// Bytes that a connection buffers at most: the longest head, and a part of a body.
const BUFFER_BYTES: usize = 64 << 10;

/// Most headers of a request.
const MAX_HEADERS: usize = 512;

/// How often files of keys and certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the server does not listen there.
#[derive(Debug, thiserror::Error)]
#[error("refusing to listen on `{addr}`: without keys the API answers on loopback only")]
pub struct NotLoopback {
    /// The address.
    pub addr: SocketAddr,
}

impl NotLoopback {
    /// The next step.
    pub fn hint(&self) -> String {
        format!(
            "leave AGENTFLOW_AUTH_DISABLED out, or listen on 127.0.0.1:{0} or [::1]:{0}",
            self.addr.port()
        )
    }
}

/// A door that is open to everybody opens to this machine only.
pub fn check_listen_addr(addr: SocketAddr, gate: &Gate) -> Result<(), NotLoopback> {
    match !gate.is_open() || addr.ip().to_canonical().is_loopback() {
        true => Ok(()),
        false => Err(NotLoopback { addr }),
    }
}

/// Answers requests on `listener` until `shutdown` resolves; then takes no new ones, lets open ones
/// end within `drain_timeout`, and returns.
pub async fn serve(
    listener: TcpListener,
    live: impl Into<Live>,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let live: Live = live.into();
    let options = Arc::clone(live.options());
    check_listen_addr(listener.local_addr()?, live.gate()).map_err(io::Error::other)?;
    let watching = tokio::spawn(look_at_files(Arc::clone(live.gate()), tls.clone()));
    let connections = Connections {
        live: live.clone(),
        tls,
        slots: Arc::new(Semaphore::new(options.max_connections)),
        open: GracefulShutdown::new(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = connections.next(&listener) => {}
        }
    }
    // Nobody is let in any more.
    drop(listener);
    watching.abort();
    // They would not end by themselves.
    live.end();
    let drain = options.drain_timeout;
    tokio::select! {
        () = connections.open.shutdown() => {}
        () = tokio::time::sleep(drain) => {
            tracing::warn!(seconds = drain.as_secs(), "open requests were cut off at shutdown");
        }
    }
    Ok(())
}

struct Connections {
    live: Live,
    tls: Option<Tls>,
    slots: Arc<Semaphore>,
    open: GracefulShutdown,
}

impl Connections {
    /// Takes one connection and answers it on a task of its own.
    async fn next(&self, listener: &TcpListener) {
        // Nobody closes it. Who finds no place waits in the kernel's queue.
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // One connection that went away, or too many open files: the next may do.
                tracing::debug!(%error, "accept");
                if !is_of_the_connection(&error) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                return;
            }
        };
        prepare(&stream);
        let (live, watcher) = (self.live.clone(), self.open.watcher());
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let served = match tls {
                None => answer(stream, peer, live, Protocol::Http1, watcher).await,
                Some(tls) => match handshake(stream, &tls).await {
                    Ok(stream) => {
                        let agreed = stream.get_ref().1.alpn_protocol();
                        let protocol = match agreed {
                            Some(b"h2") => Protocol::Http2,
                            _ => Protocol::Http1,
                        };
                        answer(stream, peer, live, protocol, watcher).await
                    }
                    Err(error) => {
                        tracing::debug!(%peer, %error, "handshake");
                        Ok(())
                    }
                },
            };
            if let Err(error) = served {
                // The client's doing: it went away or speaks something else.
                tracing::debug!(%peer, %error, "connection");
            }
            drop(slot);
        });
    }
}

/// What is spoken on a connection. Without TLS that is HTTP/1.1: looking for the other first would cost each
/// of ten thousand silent connections a buffer, and no browser speaks it there.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    live: Live,
    protocol: Protocol,
    watcher: Watcher,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let live = live.clone();
        async move {
            // Held until it is answered.
            let turn = live.turn(request.method(), request.uri().path()).await;
            let router = TowerToHyperService::new(turn.router());
            let answer = router.call(request.map(axum::body::Body::new)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let stream = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_headers(MAX_HEADERS)
                .max_buf_size(BUFFER_BYTES);
            watcher.watch(http.serve_connection(stream, service)).await
        }
        Protocol::Http2 => {
            let mut http = http2::Builder::new(TokioExecutor::new());
            http.timer(TokioTimer::new())
                .keep_alive_interval(HEAD_WITHIN)
                .max_concurrent_streams(100)
                .max_header_list_size(BUFFER_BYTES as u32);
            watcher.watch(http.serve_connection(stream, service)).await
        }
    }
}

async fn handshake(
    stream: TcpStream,
    tls: &Tls,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_WITHIN, tls.acceptor().accept(stream)).await {
        Ok(agreed) => agreed,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")),
    }
}

/// Options of a new connection. Where the system refuses one, the connection works without it.
fn prepare(connection: &TcpStream) {
    // An answer is one small write: waiting for more to send would only delay it.
    let _ = connection.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(connection).set_tcp_user_timeout(Some(UNREAD_WITHIN));
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Takes up keys and certificates that were changed.
async fn look_at_files(gate: Arc<Gate>, tls: Option<Tls>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let (gate, tls) = (Arc::clone(&gate), tls.clone());
        let look = move || {
            if gate.ring().is_some_and(|ring| ring.refresh()) {
                tracing::info!("the keys were loaded again");
            }
            if let Some(tls) = tls {
                tls.refresh();
            }
        };
        // A panic in there has been told; the next look is another chance.
        let _ = tokio::task::spawn_blocking(look).await;
    }
}
