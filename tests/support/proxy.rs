//! A TCP proxy that a test can cut or stall: a network that fails.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Passes everything on.
    Works = 0,
    /// Closes connections, and new ones too.
    Cut = 1,
    /// Keeps connections open and passes nothing on.
    Stalled = 2,
}

/// How often a connection looks at the state of the network.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    network: AtomicU8,
    target: AtomicU16,
    ended: AtomicBool,
}

impl Shared {
    fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::Relaxed) == network as u8
    }
}

/// Listens on a port of 127.0.0.1 and connects to another one; ended when dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that can be asked");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let accepts = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.ended.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((client, _)) => connect(client, &shared),
                        Err(_) => std::thread::sleep(LOOK_EVERY / 4),
                    }
                }
            }
        });
        Self { port, shared, accepts: Some(accepts) }
    }

    /// Where connections go from now on.
    pub fn target(&self, port: u16) {
        self.shared.target.store(port, Ordering::Relaxed);
    }

    pub fn set(&self, network: Network) {
        self.shared.network.store(network as u8, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    if shared.is(Network::Cut) {
        return;
    }
    let port = shared.target.load(Ordering::Relaxed);
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let pairs = [(&client, &server), (&server, &client)].map(|(from, to)| {
        let _ = from.set_nonblocking(false);
        let _ = from.set_nodelay(true);
        let _ = from.set_read_timeout(Some(LOOK_EVERY));
        (from.try_clone(), to.try_clone())
    });
    for pair in pairs {
        let (Ok(from), Ok(to)) = pair else { return };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || copy(from, to, &shared));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    while !shared.ended.load(Ordering::Relaxed) && !shared.is(Network::Cut) {
        if shared.is(Network::Stalled) {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                // What was read before the network stalled waits, as it would in a switch.
                while shared.is(Network::Stalled) {
                    std::thread::sleep(LOOK_EVERY);
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
