//! A schema registry of the tests' own: what of Confluent's API the client uses, over real sockets,
//! with the failures that a real one has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

/// Where the API lies, as Apicurio has it.
const BASE: &str = "/apis/ccompat/v7";

/// Puts TLS around a connection.
pub(crate) type Wrap = Arc<dyn Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync>;

pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A registry that can be taken away.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    wrap: Wrap,
    down: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it has and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    /// By id − 1: what `GET /schemas/ids/{id}` gives.
    schemas: Vec<Value>,
    /// Subject and id, in order of version.
    versions: Vec<(String, usize)>,
    /// `Authorization` that is asked for.
    pub(crate) authorization: Option<String>,
    /// Answers that come instead, the next one first: status and body; status 0 is no answer.
    pub(crate) instead: Vec<(u16, &'static str)>,
    /// Requests so far: method and path.
    pub(crate) requests: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::wrapped(Arc::new(|stream| Some(Box::new(stream))))
    }

    pub(crate) fn wrapped(wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut server =
            Self { address, state: Arc::default(), wrap, down: Arc::default(), thread: None };
        server.listen(listener);
        server
    }

    fn listen(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("a listener can");
        self.down.store(false, Ordering::SeqCst);
        let (state, down) = (Arc::clone(&self.state), Arc::clone(&self.down));
        let wrap = Arc::clone(&self.wrap);
        self.thread = Some(std::thread::spawn(move || {
            while !down.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).expect("a stream can");
                stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a stream can");
                // A client that goes away half-way is no matter of the server's.
                let _ = wrap(stream).map(|stream| answer(stream, &state));
            }
        }));
    }

    /// Takes it away: connections are refused.
    pub(crate) fn down(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }

    /// Brings it back on the same port, with what it had.
    pub(crate) fn up(&mut self) {
        self.listen(TcpListener::bind(self.address).expect("the port is still ours"));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no panic while held"))
    }

    /// Registers something as it is; gives its id.
    pub(crate) fn put(&self, subject: &str, schema: Value) -> u32 {
        self.with(|state| state.put(subject, schema)) as u32
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}

impl State {
    fn put(&mut self, subject: &str, schema: Value) -> usize {
        let id = match self.schemas.iter().position(|known| *known == schema) {
            Some(at) => at + 1,
            None => {
                self.schemas.push(schema);
                self.schemas.len()
            }
        };
        if !self.versions.contains(&(subject.to_owned(), id)) {
            self.versions.push((subject.to_owned(), id));
        }
        id
    }

    fn answer(&mut self, request: &Request) -> (u16, String) {
        self.requests.push(format!("{} {}", request.method, request.path));
        if !self.instead.is_empty() {
            let (status, body) = self.instead.remove(0);
            return (status, body.to_owned());
        }
        if self.authorization.is_some() && self.authorization != request.authorization {
            return (401, r#"{"error_code":401,"message":"Unauthorized"}"#.to_owned());
        }
        let missing =
            |code: u32, what: &str| (404, json!({"error_code": code, "message": what}).to_string());
        let Some(path) = request.path.strip_prefix(BASE) else {
            return (404, "<html>no such page</html>".to_owned());
        };
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["schemas", "ids", id]) => {
                let at = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
                match at.and_then(|at| self.schemas.get(at)) {
                    Some(schema) => (200, schema.to_string()),
                    None => missing(40403, &format!("Schema {id} not found")),
                }
            }
            ("GET", ["subjects", subject, "versions", version]) => {
                let known = self.versions.iter().filter(|(known, _)| known == subject);
                let at = version.parse::<usize>().ok().and_then(|version| version.checked_sub(1));
                match at.and_then(|at| known.map(|(_, id)| *id).nth(at)) {
                    Some(id) => {
                        let mut schema = self.schemas[id - 1].clone();
                        schema["id"] = id.into();
                        (200, schema.to_string())
                    }
                    None => missing(40402, "Version not found"),
                }
            }
            ("POST", ["subjects", subject, "versions"]) => {
                let mut schema: Value = match serde_json::from_slice(&request.body) {
                    Ok(schema) => schema,
                    Err(error) => return (422, json!({"message": error.to_string()}).to_string()),
                };
                if serde_json::from_str::<Value>(schema["schema"].as_str().unwrap_or("")).is_err() {
                    let body = r#"{"error_code":42201,"message":"Invalid schema"}"#;
                    return (422, body.to_owned());
                }
                if schema.get("references").is_none() {
                    schema["references"] = json!([]);
                }
                (200, json!({"id": self.put(subject, schema)}).to_string())
            }
            _ => missing(404, "HTTP 404 Not Found"),
        }
    }
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

fn answer(mut stream: Box<dyn Stream>, state: &Mutex<State>) -> std::io::Result<()> {
    let request = read(&mut stream)?;
    let (status, body) = state.lock().expect("no panic while held").answer(&request);
    if status == 0 {
        return Ok(());
    }
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn read(stream: &mut dyn Stream) -> std::io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.to_owned())
    };
    let mut words = head.split(' ').map(str::to_owned);
    let len = header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        authorization: header("authorization"),
        body,
    })
}

/// Percent encoding undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
