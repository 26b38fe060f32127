//! An HTTP server that passes requests on to another one, and sometimes does not, or loses the answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// It is not passed on; the answer is this status.
    Refuse(u16),
    /// It is not passed on; the answer is an error of that name, as AWS writes it.
    RefuseAs(&'static str),
    /// It takes effect, and the answer is this status.
    Answer(u16),
    /// It takes effect, and there is no answer.
    Lose,
}

/// The server; it ends with this value.
pub struct FaultyHttp {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl FaultyHttp {
    /// Passes on to `upstream` (`http://HOST:PORT…`). `rule` is asked for each request: method, path
    /// (for AWS's protocol the operation that is asked for) and how many requests there were before.
    #[track_caller]
    pub fn before(
        upstream: &str,
        rule: impl Fn(&str, &str, u64) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let upstream = upstream.trim_start_matches("http://");
        let upstream = upstream.split('/').next().expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, faults) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&faults));
        let rule = Arc::new(rule);
        std::thread::spawn(move || {
            let requests = Arc::new(AtomicU64::new(0));
            for client in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let (upstream, rule) = (upstream.clone(), Arc::clone(&rule));
                let (requests, counted) = (Arc::clone(&requests), Arc::clone(&counted));
                std::thread::spawn(move || {
                    // A client or a server that went away: there is nobody to tell.
                    let _ = pass(&client, &upstream, &*rule, &requests, &counted);
                });
            }
        });
        Self { address, stop, faults }
    }

    /// The address with which to replace the other server's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests did not simply pass.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyHttp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener looks when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection: a single request.
fn pass(
    client: &TcpStream,
    upstream: &str,
    rule: &dyn Fn(&str, &str, u64) -> Fault,
    requests: &AtomicU64,
    faults: &AtomicU64,
) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(client);
    let (mut head, mut length, mut first) = (Vec::new(), 0, String::new());
    let mut operation = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if lower.starts_with("x-amz-target:") {
            operation = line.split_once(':').map(|(_, value)| value.trim().to_owned());
        }
        if line == "\r\n" {
            head.extend_from_slice(b"Connection: close\r\n\r\n");
            break;
        }
        if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = operation.as_deref().unwrap_or(path);
    let fault = rule(method, path, requests.fetch_add(1, Ordering::Relaxed));
    faults.fetch_add(u64::from(fault != Fault::Pass), Ordering::Relaxed);
    let answer = match fault {
        Fault::Refuse(status) => status_only(status),
        Fault::RefuseAs(name) => error(name),
        Fault::Pass | Fault::Answer(_) | Fault::Lose => {
            let mut server = TcpStream::connect(upstream)?;
            server.write_all(&head)?;
            server.write_all(&body)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            match fault {
                Fault::Answer(status) => status_only(status),
                Fault::Lose => return client.shutdown(std::net::Shutdown::Both),
                Fault::Pass | Fault::Refuse(_) | Fault::RefuseAs(_) => answer,
            }
        }
    };
    let mut client = client;
    client.write_all(&answer)
}

fn error(name: &str) -> Vec<u8> {
    let body = format!(r#"{{"__type": "{name}", "Message": "a fault"}}"#);
    let length = body.len();
    format!("HTTP/1.1 400 Fault\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn status_only(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}
