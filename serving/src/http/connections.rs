//! Connections: taken from the listener, answered, and ended.
//!
//! axum's own loop would do but for its memory: it looks for HTTP/2 first, which costs each connection
//! a buffer, and there may be ten thousand that stay open and silent.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that a connection may keep of a request's head, and of an answer that is not taken: a reader
/// that is slower than its stream costs no more than this.
const BUFFER: usize = 64 << 10;

/// Longest time that a client may take nothing of what was sent to it. Streams are ended sooner, but
/// what is in the system's buffers by then has to go, too, before the connection can.
#[cfg(target_os = "linux")]
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait when there are no more files for connections.
const NO_FILES: Duration = Duration::from_millis(200);

/// Answers connections until `ending` is true; then takes no more, and returns once those that are open
/// have answered what they are at.
pub(super) async fn answer(
    listener: TcpListener,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let (open, mut closed) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        let connection = match accepted {
            Ok((connection, _)) => connection,
            Err(error) => {
                // One that was given up before we came to it is nothing to wait for.
                if !is_of_connection(&error) {
                    tracing::error!(%error, "no connection can be taken");
                    tokio::time::sleep(NO_FILES).await;
                }
                continue;
            }
        };
        prepare(&connection);
        let service = TowerToHyperService::new(router.clone());
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER);
        let served = builder.serve_connection(TokioIo::new(connection), service);
        let (open, mut ending) = (open.clone(), ending.clone());
        tokio::spawn(async move {
            let _open = open;
            let mut served = std::pin::pin!(served);
            tokio::select! {
                result = served.as_mut() => return told(result),
                _ = ending.wait_for(|ending| *ending) => served.as_mut().graceful_shutdown(),
            }
            told(served.await);
        });
    }
    drop((listener, open));
    // There is nothing to receive: it ends with the last sender.
    let _ = closed.recv().await;
}

/// Options of a new connection. Where the system refuses one, the connection works without it.
fn prepare(connection: &TcpStream) {
    // An answer is one small write: waiting for more to send would only delay it.
    let _ = connection.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(connection).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
}

fn told(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        // Clients go away when they like.
        tracing::trace!(%error, "a connection ended");
    }
}

fn is_of_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
