//! Access to a data directory for commands that only read: through the server that holds it, or
//! by opening it for a moment.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::contracts::model::Domain;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serving::store::data_dir::{DataDir, Holder};
use serving::store::{OpenError, Store, StoreOptions};

use crate::failure::{Failure, chain};

/// How long another short command (or a server that is just starting) is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answers.
pub(crate) enum Access {
    /// The server that holds the directory.
    Server(Server),
    /// Nobody holds it, now we do.
    Directory(DataDir),
}

/// Finds out who answers for `data`; `role` is our own name while we hold it.
pub(crate) fn access(data: &Path, role: &str) -> Result<Access, Failure> {
    if !Store::exists(data) {
        let what = if data.is_dir() { "no store in" } else { "no data directory" };
        return Err(Failure::input(format!("there is {what} `{}`", data.display())).hint(
            "give the directory that `agentflow run` or `agentflow serve` wrote with --data",
        ));
    }
    let started = Instant::now();
    loop {
        let holder = match DataDir::lock(data, role, None) {
            Ok(directory) => return Ok(Access::Directory(directory)),
            Err(OpenError::Held { holder, .. }) => holder,
            Err(error) => return Err(refused(&error)),
        };
        if let Some(address) = holder.listen {
            return Ok(Access::Server(Server::new(address, holder.tls, DataDir::token(data))?));
        }
        if started.elapsed() > PATIENCE || !is_passing(&holder) {
            let held = OpenError::Held { dir: data.to_path_buf(), holder };
            return Err(refused(&held));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Will the holder be gone, or have an address, in a moment?
fn is_passing(holder: &Holder) -> bool {
    holder.role != "run"
}

/// Opens the store of a directory that we hold.
pub(crate) fn open_with(
    directory: &DataDir,
    domain: Arc<Domain>,
    options: StoreOptions,
) -> Result<Store, Failure> {
    Store::open(directory.path(), domain, options).map_err(|error| refused(&error))
}

/// Tells why a data directory is not to be had.
pub(crate) fn refused(error: &OpenError) -> Failure {
    let text = chain(error);
    let failure = match error {
        // The engine refused; nothing that the caller gave us explains it.
        OpenError::Store(_) => Failure::ours(text),
        _ => Failure::input(text),
    };
    failure.maybe_hint(error.hint())
}

/// The running server.
pub(crate) struct Server {
    url: String,
    http: reqwest::blocking::Client,
    token: Option<String>,
    admin_key: Option<String>,
}

impl Server {
    fn new(address: SocketAddr, tls: bool, token: Option<String>) -> Result<Self, Failure> {
        let scheme = if tls { "https" } else { "http" };
        // A server that listens everywhere listens here as well.
        let address = match address.ip().is_unspecified() {
            true if address.is_ipv4() => {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
            }
            true => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
            false => address,
        };
        let http = reqwest::blocking::Client::builder()
            .no_proxy()
            // Its own file says where it is: the name in its certificate is one for others.
            .danger_accept_invalid_certs(tls)
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|error| Failure::ours(chain(&error)))?;
        Ok(Self { url: format!("{scheme}://{address}"), http, token, admin_key: None })
    }

    /// A server anywhere, for what only whoever runs it may ask.
    pub(crate) fn at(url: &str, admin_key: Option<String>) -> Result<Self, Failure> {
        let parsed = reqwest::Url::parse(url).ok();
        if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(Failure::input(format!("`{url}` is no address of a server"))
                .hint("write it as http://HOST:PORT"));
        }
        let http = reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|error| Failure::ours(chain(&error)))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http, token: None, admin_key })
    }

    /// Status and body of a GET; the path may carry any text in its segments.
    pub(crate) fn get(
        &self,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> Result<(u16, String), Failure> {
        self.ask(Method::GET, path, parameters)
    }

    /// Status and body of a POST of JSON.
    pub(crate) fn post(
        &self,
        path: &[&str],
        body: &impl serde::Serialize,
    ) -> Result<(u16, String), Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::ours(format!("write a request: {error}")))?;
        let request = self.request(Method::POST, path)?;
        self.answer(request.header("content-type", "application/json").body(body))
    }

    /// Status and body of any request without a body.
    pub(crate) fn ask(
        &self,
        method: Method,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> Result<(u16, String), Failure> {
        self.answer(self.request(method, path)?.query(parameters))
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Failure> {
        let mut url = reqwest::Url::parse(&self.url)
            .map_err(|error| Failure::ours(format!("address `{}`: {error}", self.url)))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let request = self.http.request(method, url);
        let request = match &self.admin_key {
            Some(key) => request.header("X-Admin-Key", key),
            None => request,
        };
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    fn answer(&self, request: RequestBuilder) -> Result<(u16, String), Failure> {
        let failed = |error: &reqwest::Error| {
            Failure::ours(format!("ask the running server at {}: {}", self.url, chain(error)))
        };
        let response = request.send().map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = response.text().map_err(|error| failed(&error))?;
        Ok((status, body))
    }
}
