//! `GET /v1/search`: entities, fields and metrics by words.

use axum::Json;
use axum::extract::State;
use contracts::personal;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorBody};
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::metric::hint;
use crate::question::{EntityAnswer, EntityQuestion, ReadError};
use crate::search::{Hit, SearchQuestion};

/// Longest question, in characters.
const LONGEST: usize = 256;

/// Longest snippet, in characters.
const LONGEST_SNIPPET: usize = 200;

/// More results than asked for, in case that rows have gone.
const SPARE: usize = 10;

/// What a segment of a path may hold as it is.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct SearchBody {
    /// The question.
    query: String,
    /// Best first.
    results: Vec<ResultBody>,
    /// Are there entity types of which only the newest rows are searched? A row beyond is found by its
    /// key.
    partial: bool,
    /// Could the rows of some entity types not be read?
    degraded: bool,
    /// Documents that were searched: those that the key may read.
    indexed_documents: usize,
    /// Most rows of one entity type that are searched.
    entity_scan_limit: usize,
    /// Entity types of which only the newest rows are searched.
    partial_entity_types: Vec<String>,
    /// Entity types whose rows could not be read.
    failed_entity_types: Vec<String>,
}

/// A result.
#[derive(Debug, Serialize, ToSchema)]
struct ResultBody {
    /// `entity`, `metric` or `catalog_field`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Key of the entity, name of the metric, or `entity.field`.
    id: String,
    /// Entity type, of an entity and of a field.
    entity_type: Option<String>,
    /// How well it fits; the best result has 1.
    score: f64,
    /// What it is.
    snippet: String,
    /// Where to read it.
    endpoint: String,
}

/// Entities, fields and metrics by words.
#[utoipa::path(
    get,
    path = "/v1/search",
    tag = "contracts",
    params(
        ("q" = String, Query, description = "Words; those that are rare weigh more.",
            min_length = 2, max_length = 256),
        ("limit" = Option<u64>, Query, description = "Most results; default 10.",
            minimum = 1, maximum = 50),
        ("entity_types" = Option<Vec<String>>, Query,
            description = "Only these entity types and their fields; joined by commas, or repeated."),
    ),
    responses(
        (status = 200, description = "What was found that the key may read.", body = SearchBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<SearchBody>, ApiError> {
    let parameters = parameters.only(&["q", "limit", "entity_types"])?;
    let text = parameters.one("q")?.ok_or_else(|| {
        ApiError::invalid("`q` is missing").hint("write the words to look for as q=…")
    })?;
    let length = text.trim().chars().count();
    if !(2..=LONGEST).contains(&length) {
        return Err(ApiError::invalid(format!(
            "`q` must have from 2 to {LONGEST} characters, not {length}"
        )));
    }
    let text = text.to_owned();
    let limit = parameters.number("limit", 10, 1..=50)? as usize;
    let types = parameters.listed("entity_types");
    if types.is_none() && parameters.one("entity_types")?.is_some() {
        return Err(ApiError::invalid("`entity_types` names no entity type")
            .hint("leave it out to look through all"));
    }
    for name in types.iter().flatten() {
        if state.domain.entity(name).is_none() {
            let known = state.domain.entities.iter().map(|entity| entity.name.as_str());
            return Err(ApiError {
                hint: hint(name, known),
                ..ApiError::invalid(format!("`entity_types` names no entity type: `{name}`"))
            });
        }
    }
    let body = state.blocking(move |state| find(state, &caller, text, limit, types)).await?;
    Ok(Json(body))
}

fn find(
    state: &AppState,
    caller: &Caller,
    text: String,
    limit: usize,
    types: Option<Vec<String>>,
) -> Result<SearchBody, ApiError> {
    let question =
        SearchQuestion { text: &text, entity_types: types.as_deref(), most: limit + SPARE };
    let answer = state.search.ask(caller, &question)?;
    let mut results = Vec::with_capacity(limit);
    for (hit, score) in answer.hits {
        if results.len() == limit {
            break;
        }
        let score = (score * 1e4).round() / 1e4;
        match hit {
            Hit::Entity(entity, key) => results.extend(row(state, caller, entity, key, score)?),
            Hit::Field(entity, field) => results.push(catalog_field(state, entity, &field, score)),
            Hit::Metric(name) => results.push(metric(state, name, score)),
        }
    }
    Ok(SearchBody {
        results,
        partial: !answer.partial.is_empty(),
        degraded: !answer.failed.is_empty(),
        indexed_documents: answer.documents,
        entity_scan_limit: state.search.options().rows_per_type,
        partial_entity_types: answer.partial,
        failed_entity_types: answer.failed,
        query: text,
    })
}

/// A row as it is now; `None` when it has gone since it was found.
fn row(
    state: &AppState,
    caller: &Caller,
    entity: String,
    key: String,
    score: f64,
) -> Result<Option<ResultBody>, ApiError> {
    let question = EntityQuestion {
        entity: entity.clone(),
        version: None,
        tenant: caller.tenant.to_string(),
        id: key.clone(),
        as_of: None,
        known_at: None,
    };
    let answer = match state.cache.entity(&question) {
        Ok(answer) => answer,
        Err(ReadError::NotFound { .. }) => {
            state.search.gone(&caller.tenant, &entity, &key);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Some(ResultBody {
        kind: "entity",
        endpoint: format!("/v1/entity/{entity}/{}", utf8_percent_encode(&key, &SEGMENT)),
        snippet: snippet_of_row(state, &answer),
        id: key,
        entity_type: Some(entity),
        score,
    }))
}

/// `order: status pending, total_amount 149.00`, without personal fields.
fn snippet_of_row(state: &AppState, answer: &EntityAnswer) -> String {
    let versions = state.domain.entities.iter().filter(|entity| entity.name == answer.entity);
    let entity = versions.into_iter().find(|entity| entity.version == answer.contract_version);
    let Some(entity) = entity else { return String::new() };
    let personal = personal::of_entity(&state.domain, entity);
    let shown = answer
        .data
        .iter()
        .filter(|(name, _)| *name != entity.key && !personal.fields.contains(name));
    let shown = shown.filter_map(|(name, value)| Some(format!("{name} {}", plain(value)?)));
    cut(format!("{}: {}", answer.entity, shown.collect::<Vec<_>>().join(", ")))
}

/// A value without quotes; `None` for null and what has members.
fn plain(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'n' | b'{' | b'[' => None,
        b'"' => serde_json::from_str(value.get()).ok(),
        _ => Some(value.get().to_owned()),
    }
}

fn catalog_field(state: &AppState, entity: String, field: &str, score: f64) -> ResultBody {
    let found = state.cache.engine().answering_entity(&entity);
    let found = found.and_then(|entity| entity.fields.iter().find(|known| known.name == field));
    let meaning = match found {
        None => format!("key of `{entity}`"),
        Some(known) => match &known.description {
            None => format!("{} of `{entity}`", known.ty),
            Some(description) => format!("{} of `{entity}`: {description}", known.ty),
        },
    };
    ResultBody {
        kind: "catalog_field",
        id: format!("{entity}.{field}"),
        score,
        snippet: cut(meaning),
        endpoint: format!("/v1/contracts/{entity}"),
        entity_type: Some(entity),
    }
}

/// A metric without a value: that is read where the endpoint says, with its proof.
fn metric(state: &AppState, name: String, score: f64) -> ResultBody {
    let snippet = state.cache.engine().answering(&name).map(|metric| {
        let windows: Vec<&str> = metric.windows.iter().map(|w| w.text.as_str()).collect();
        let about = format!("in {}, over {}", metric.unit, windows.join(" "));
        match &metric.description {
            None => about,
            Some(description) => format!("{} ({about})", description.trim_end_matches('.')),
        }
    });
    ResultBody {
        kind: "metric",
        endpoint: format!("/v1/metrics/{name}"),
        id: name,
        entity_type: None,
        score,
        snippet: cut(snippet.unwrap_or_default()),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_SNIPPET) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
