//! The socket: connections in, with or without TLS, until somebody says that it ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::connection::Connection;
use super::router;
use super::state::AppState;
use super::tls::Tls;
use crate::access::gate::Gate;

/// How long a client may take to agree on TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Longest time that a client may take nothing of what was sent to it. Streams are ended sooner, but
/// what is in the system's buffers by then has to go, too, before the connection can.
#[cfg(target_os = "linux")]
const UNREAD_WITHIN: Duration = Duration::from_secs(30);

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
    state: AppState,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    check_listen_addr(listener.local_addr()?, &state.gate).map_err(io::Error::other)?;
    let watching = tokio::spawn(look_at_files(Arc::clone(&state.gate), tls.clone()));
    let streams = state.streams.clone();
    let connections = Connections {
        router: router(state.clone()),
        tls,
        slots: Arc::new(Semaphore::new(state.options.max_connections)),
        ending: watch::Sender::new(()),
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
    streams.close();
    let drain = state.options.drain_timeout;
    // Those that are open hear it, and are gone when nobody listens any more.
    let _ = connections.ending.send(());
    tokio::select! {
        () = connections.ending.closed() => {}
        () = tokio::time::sleep(drain) => {
            tracing::warn!(seconds = drain.as_secs(), "open requests were cut off at shutdown");
        }
    }
    Ok(())
}

struct Connections {
    router: Router,
    tls: Option<Tls>,
    slots: Arc<Semaphore>,
    /// Whoever listens is an open connection.
    ending: watch::Sender<()>,
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
        let connection = Connection::new(peer, self.router.clone(), self.ending.subscribe());
        let (tls, listens) = (self.tls.clone(), self.ending.subscribe());
        tokio::spawn(async move {
            let served = match tls {
                None => connection.plain(stream).await,
                Some(tls) => match handshake(stream, &tls).await {
                    Ok(stream) => connection.tls(stream).await.map(|()| None),
                    Err(error) => {
                        tracing::debug!(%peer, %error, "handshake");
                        Ok(None)
                    }
                },
            };
            match served {
                Ok(None) => {}
                Ok(Some(stream)) => {
                    // On a task of its own, which is small: this one has grown by all of HTTP.
                    tokio::spawn(async move {
                        stream.await;
                        drop((slot, listens));
                    });
                }
                // The client's doing: it went away or speaks something else.
                Err(error) => tracing::debug!(%peer, %error, "connection"),
            }
        });
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
