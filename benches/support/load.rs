//! Many connections that ask at a steady rate: how long an answer takes from when it was due.
//!
//! Times count from the moment at which the request should have gone out, so that a server that stalls is
//! charged for all requests that had to wait, and not for the one that met the stall.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a load is made of.
pub struct Load {
    /// `HOST:PORT`
    pub address: String,
    /// Path and query; `{n}` is replaced by the number of the request.
    pub path: String,
    /// Lines of more headers, each with its end.
    pub headers: String,
    pub connections: usize,
    /// Requests a second of all connections.
    pub rate: f64,
    pub time: Duration,
}

impl Load {
    /// Asks and waits until all answers are there; each must be a 200.
    pub fn run(self) -> Vec<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(self.ask())
    }

    async fn ask(self) -> Vec<Duration> {
        let begin = Instant::now() + Duration::from_millis(100);
        let step = self.connections as f64 / self.rate;
        let per_connection = (self.time.as_secs_f64() / step) as usize;
        let mut tasks = Vec::new();
        for place in 0..self.connections {
            let (address, path, headers) =
                (self.address.clone(), self.path.clone(), self.headers.clone());
            let first =
                begin + Duration::from_secs_f64(step * place as f64 / self.connections as f64);
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(&address).await.expect("connect");
                stream.set_nodelay(true).expect("nodelay");
                let mut times = Vec::with_capacity(per_connection);
                let mut buffer = Vec::with_capacity(8 << 10);
                for number in 0..per_connection {
                    let due = first + Duration::from_secs_f64(step * number as f64);
                    tokio::time::sleep_until(due.into()).await;
                    let path = path.replace("{n}", &(place * per_connection + number).to_string());
                    let request =
                        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
                    stream.write_all(request.as_bytes()).await.expect("send");
                    answer(&mut stream, &mut buffer).await;
                    times.push(due.elapsed());
                }
                times
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("a connection"));
        }
        all
    }
}

/// Reads one answer with a body of a known length.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.expect("read") > 0, "the server closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.split("content-length: ").nth(1).expect("a length");
        let length: usize = length.split("\r\n").next().unwrap_or("").parse().expect("a number");
        while buffer.len() < head + 4 + length {
            assert!(stream.read_buf(buffer).await.expect("read") > 0, "the server closed");
        }
        return;
    }
}
