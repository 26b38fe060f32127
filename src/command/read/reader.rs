//! Who answers: the running server, or the store opened for as long as the command runs.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serving::http::body::MetricBody;
use serving::metric::{MetricEngine, parse_at};
use serving::question::{MetricQuestion, ReadError};
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
        engine: Box<MetricEngine>,
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

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::NotFound { hint, .. } | ReadError::Invalid { hint, .. } => {
                Self::Question { message, hint }
            }
            ReadError::Beyond { hint, cause: None, .. } | ReadError::Overflow { hint, .. } => {
                Self::Question { message, hint: Some(hint) }
            }
            ReadError::Beyond { hint, .. } | ReadError::Backfilling { hint, .. } => {
                Self::Ours(Failure::ours(message).hint(hint))
            }
            ReadError::Unavailable { .. } => Self::Ours(Failure::ours(message)),
        }
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
                let engine = Box::new(MetricEngine::new(domain, store.readers()));
                Ok(Self::Store { engine, _directory: directory })
            }
        }
    }

    /// The answer as the API's JSON text.
    pub(super) fn ask(&self, question: &Question) -> Result<String, Refusal> {
        match self {
            Self::Server(server) => {
                let path = ["v1", "metrics", &question.metric];
                let (status, body) =
                    server.get(&path, &question.parameters()).map_err(Refusal::Ours)?;
                match status {
                    200 => Ok(body),
                    _ => Err(refusal(status, &body)),
                }
            }
            Self::Store { engine, .. } => {
                let time = |name, text: &Option<String>| {
                    text.as_deref().map(|text| parse_at(name, text)).transpose()
                };
                let answer = engine.read(&MetricQuestion {
                    metric: question.metric.clone(),
                    tenant: TENANT.to_owned(),
                    window: question.window.clone(),
                    as_of: time("as_of", &question.as_of)?,
                    known_at: time("known_at", &question.known_at)?,
                    filters: question.filters.clone(),
                    group_by: question.group_by.clone(),
                    ..Default::default()
                })?;
                serde_json::to_string(&MetricBody::new(answer)).map_err(|error| {
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
