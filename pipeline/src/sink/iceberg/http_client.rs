//! The HTTP client with which catalogs are asked.

use std::time::Duration;

use reqwest::Client;

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for an answer: a catalog may write metadata to a slow store before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A client that does not wait for ever, as those of the library do.
pub(super) fn new() -> reqwest::Result<Client> {
    Client::builder().connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN).build()
}
