//! The client against a registry of the tests' own, and against a real one where
//! `AGENTFLOW_SCHEMA_REGISTRY` names it; records through a whole pipeline while it comes and goes.

mod lookup;
mod pipeline;
pub(crate) mod server;
mod settings;
mod tls;

use super::{BaseUrl, Credentials, Registry, RegistryConfig};
use server::Server;

/// A schema under which nothing is registered anywhere.
const NO_SUCH_ID: u32 = 2_000_000_000;

fn config(urls: &[String]) -> RegistryConfig {
    let urls = urls.iter().map(|url| url.parse::<BaseUrl>().expect("an address")).collect();
    RegistryConfig::new(urls)
}

fn registry(urls: &[String]) -> Registry {
    Registry::new(config(urls)).expect("good settings")
}

/// Runs a test with our own server, and with the real one if there is one.
fn everywhere(test: impl Fn(&Registry)) {
    let server = Server::start();
    test(&registry(&[server.url()]));
    if let Ok(url) = std::env::var("AGENTFLOW_SCHEMA_REGISTRY") {
        let mut config = config(&[url]);
        if let Ok(text) = std::env::var("AGENTFLOW_SCHEMA_REGISTRY_AUTH") {
            config.credentials = Some(Credentials::parse("the environment", &text).expect("good"));
        }
        test(&Registry::new(config).expect("good settings"));
    }
}

/// A subject that no other test has.
fn subject(name: &str) -> String {
    format!("agentflow-test-{}-{name}", uuid::Uuid::new_v4())
}
