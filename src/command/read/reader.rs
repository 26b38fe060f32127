//! Who answers: the running server, or the store opened for as long as the command runs.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serving::cache::{Cache, CacheMode};
use serving::http::error::ApiError;
use serving::http::read_metric;
use serving::metric::MetricEngine;
use serving::store::data_dir::DataDir;
use serving::store::{LakeArchive, StoreOptions};

use super::question::Question;
use crate::failure::Failure;
use crate::lake_args::{self, LakeArgs};
use crate::opened::{self, Access, Server};

/// The tenant that the command line asks for, as HTTP does while there are no keys.
const TENANT: &str = "default";

/// Answers questions.
pub(super) enum Reader {
    Server(Server),
    Store {
        /// Keeps nothing: it stands where the server has its own.
        cache: Box<Cache>,
        /// Held as long as the store is open.
        _directory: DataDir,
    },
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The question does not fit.
    Question { message: String, hint: Option<String> },
    /// Nothing that asking differently would help.
    Ours(Failure),
}

impl Refusal {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Question { message, hint } => Failure::input(message).maybe_hint(hint),
            Self::Ours(failure) => failure,
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        if error.code.is_the_callers() {
            return Self::Question { message: error.detail, hint: error.hint };
        }
        // What a server writes to its log.
        let message = match error.cause {
            Some(cause) => format!("{}: {cause}", error.detail),
            None => error.detail,
        };
        Self::Ours(Failure::ours(message).maybe_hint(error.hint))
    }
}

/// The API's error body, as far as it is told here.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Reader {
    /// The contracts are read only when no server answers: it has its own.
    pub(super) fn new(contracts: &Path, data: &Path, lake: &LakeArgs) -> Result<Self, Failure> {
        match opened::access(data, "read")? {
            Access::Server(server) => Ok(Self::Server(server)),
            Access::Directory(directory) => {
                let domain = crate::domain::load(contracts)?;
                let config = lake_args::config(&directory, lake.catalog()?)?;
                let options = StoreOptions {
                    archive: Some(Arc::new(LakeArchive::new(config, Arc::clone(&domain)))),
                    ..StoreOptions::default()
                };
                let store = opened::open_with(&directory, Arc::clone(&domain), options)?;
                let engine = Arc::new(MetricEngine::new(domain, store.readers()));
                let cache = Box::new(Cache::with_mode(engine, CacheMode::Off));
                Ok(Self::Store { cache, _directory: directory })
            }
        }
    }

    /// The answer as the API's JSON text.
    pub(super) fn ask(&self, question: &Question) -> Result<String, Refusal> {
        match self {
            Self::Server(server) => {
                let path = ["v1", "metrics", &question.metric];
                let (status, body) =
                    server.get(&path, &question.parameters).map_err(Refusal::Ours)?;
                match status {
                    200 => Ok(body),
                    _ => Err(refusal(status, &body)),
                }
            }
            Self::Store { cache, .. } => {
                let parameters = question.parameters.iter();
                let parameters =
                    parameters.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                let body = read_metric(cache, TENANT, &question.metric, parameters)?;
                serde_json::to_string(&body).map_err(|error| {
                    Refusal::Ours(Failure::ours(format!("write the answer as JSON: {error}")))
                })
            }
        }
    }
}

fn refusal(status: u16, body: &str) -> Refusal {
    let said: Option<ErrorBody> = serde_json::from_str(body).ok();
    let (message, hint) = match said {
        Some(body) => (body.detail, body.hint),
        None => (format!("the running server answered with status {status}"), None),
    };
    match status {
        400..=499 => Refusal::Question { message, hint },
        _ => Refusal::Ours(Failure::ours(message).maybe_hint(hint)),
    }
}
