//! `POST /v1/contracts/{name}/validate`: what a version that may come would change.
//!
//! The candidate is a contract as it would stand in the folder (YAML or JSON with `kind`), which is then
//! checked in full beside all the others; or only its fields in the form in which `GET
//! /v1/contracts/{name}` shows them.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use contracts::compare::{self, CandidateField};
use contracts::model::{Document, DocumentField, Domain};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::{ChangeBody, split};
use super::{kind, newest_of, rank, versions};
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::query::Parameters;
use crate::http::routes::{Segments, events};
use crate::http::state::AppState;

/// What a candidate would change.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super::super) struct ContractValidation {
    /// Name of the contract.
    entity: String,
    /// The version compared with: the newest stable one.
    base_version: String,
    /// The candidate's version; that of the base when it does not say.
    candidate_version: String,
    /// What clients of the base cannot take.
    breaking_changes: Vec<ChangeBody>,
    /// What they need not notice.
    safe_changes: Vec<ChangeBody>,
    /// Is there something that breaks?
    is_breaking: bool,
    /// Is there, and the version does not grow?
    requires_version_bump: bool,
}

/// A candidate in the form in which contracts are shown; other members are passed over.
#[derive(Debug, Deserialize, ToSchema)]
pub(in super::super::super) struct CandidateBody {
    /// Name; must be that of the path.
    entity: Option<String>,
    /// `2` or `v2`; default the version of the base.
    #[schema(value_type = Option<String>)]
    version: Option<Number>,
    /// All fields of the candidate.
    fields: Vec<CandidateFieldBody>,
}

/// Versions come as texts and as numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u32),
    Text(String),
}

/// A field of a candidate.
#[derive(Debug, Deserialize, ToSchema)]
struct CandidateFieldBody {
    /// Name.
    name: String,
    /// As contracts show it: string, float, enum, ….
    #[serde(rename = "type")]
    ty: String,
    /// Always there? Default no.
    #[serde(default)]
    required: bool,
    /// What it is.
    description: Option<String>,
    /// Allowed values.
    values: Option<Vec<String>>,
    /// Unit.
    unit: Option<String>,
    /// Stands in when there is no value.
    #[schema(value_type = Option<serde_json::Value>)]
    default: Option<serde_json::Value>,
}

/// What the contract would be.
struct Candidate {
    version: Option<u32>,
    fields: Vec<CandidateField>,
}

const FORM: &str = r#"send a contract as it stands in a file (YAML as application/yaml), or {"fields": [{"name": "…", "type": "string", "required": true}]}"#;

/// What a version that may come would change, compared with the newest stable one.
#[utoipa::path(
    post,
    path = "/v1/contracts/{name}/validate",
    tag = "contracts",
    params(
        ("name" = String, Path, description = "An entity, an event contract, or `metric.<name>`."),
        ("kind" = Option<String>, Query,
            description = "`entity`, `event` or `metric`, where two share a name. Default: the entity."),
    ),
    request_body(
        description = "A contract as it stands in a file, in YAML or JSON; or its fields as contracts are shown.",
        content((CandidateBody = "application/json"), (String = "application/yaml")),
    ),
    responses(
        (status = 200, description = "The changes.", body = ContractValidation),
        (status = 400, description = "The body is no contract, or one of another name.", body = ErrorBody),
        (status = 404, description = "No such contract.", body = ErrorBody),
        (status = 422, description = "The contract would not load.", body = ErrorBody),
    ),
)]
pub(in super::super::super) async fn post(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ContractValidation>, ApiError> {
    let parameters = parameters.only(&["kind"])?;
    let kind = kind(&parameters)?;
    let bytes = events::read(body, &headers, state.options.max_body_bytes).await?;
    let base = newest_of(&versions(&state.domain, &name, kind)?).clone();
    let compared = base.clone();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_yaml = content_type.is_some_and(|text| text.contains("yaml"));
    // Loading a folder of contracts takes a while.
    let candidate = state.blocking(move |s| candidate(&s.domain, &base, &bytes, is_yaml)).await?;
    Ok(Json(judge(&compared, &candidate)))
}

fn judge(base: &Document, candidate: &Candidate) -> ContractValidation {
    let version = candidate.version.unwrap_or(base.version);
    let changes = compare::validate(&base.fields, &candidate.fields);
    let requires_version_bump = compare::requires_version_bump(&changes, base.version, version);
    let (breaking_changes, safe_changes) = split(changes, "safe");
    ContractValidation {
        entity: base.entity.clone(),
        base_version: base.version.to_string(),
        candidate_version: version.to_string(),
        is_breaking: !breaking_changes.is_empty(),
        breaking_changes,
        safe_changes,
        requires_version_bump,
    }
}

fn candidate(
    domain: &Domain,
    base: &Document,
    bytes: &[u8],
    is_yaml: bool,
) -> Result<Candidate, ApiError> {
    let no_contract = |why: String| ApiError::new(Code::InvalidBody, why).hint(FORM);
    let text =
        std::str::from_utf8(bytes).map_err(|_| no_contract("the body is not UTF-8".to_owned()))?;
    if is_yaml {
        return written(domain, base, text);
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(body)) if body.contains_key("kind") => {
            written(domain, base, text)
        }
        Ok(serde_json::Value::Object(body)) => shown(base, serde_json::Value::Object(body)),
        Ok(_) => Err(no_contract("the body is no object".to_owned())),
        Err(error) => Err(no_contract(format!("the body is no JSON: {error}"))),
    }
}

/// A candidate in the form in which contracts are shown.
fn shown(base: &Document, body: serde_json::Value) -> Result<Candidate, ApiError> {
    let body: CandidateBody = serde_json::from_value(body).map_err(|error| {
        ApiError::invalid(format!("the body is no contract: {error}")).hint(FORM)
    })?;
    if let Some(entity) = body.entity.as_ref().filter(|entity| **entity != base.entity) {
        return Err(other_name(entity, &base.entity));
    }
    let version = match body.version {
        None => None,
        Some(Number::Whole(number)) => Some(number),
        Some(Number::Text(text)) => {
            let number = text.strip_prefix('v').unwrap_or(&text).parse();
            Some(number.map_err(|_| {
                ApiError::invalid(format!("`version` is not a version: `{text}`"))
                    .hint("write it as 2 or v2")
            })?)
        }
    };
    let mut fields: Vec<CandidateField> = Vec::with_capacity(body.fields.len());
    for field in body.fields {
        if fields.iter().any(|known| known.field.name == field.name) {
            let detail = format!("`fields` names `{}` twice", field.name);
            return Err(ApiError::invalid(detail).hint("leave one of them out"));
        }
        let CandidateFieldBody { name, ty, required, description, values, unit, default } = field;
        let field = DocumentField { name, ty, required, description, values, unit };
        fields.push(CandidateField { field, has_default: default.is_some() });
    }
    Ok(Candidate { version, fields })
}

/// A candidate as it would stand in the folder.
fn written(domain: &Domain, base: &Document, text: &str) -> Result<Candidate, ApiError> {
    let document = contracts::candidate(domain, text).map_err(|found| {
        let Some(first) = found.first() else {
            return ApiError::internal("a contract was refused without a reason");
        };
        let more = match found.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let place = format!("{}:{}:{}", first.file.display(), first.line, first.column);
        ApiError::invalid(format!("the contract would not load: {place}: {}{more}", first.message))
            .hint(first.hint.clone())
    })?;
    if document.entity != base.entity || rank(document.kind) != rank(base.kind) {
        return Err(other_name(&document.entity, &base.entity));
    }
    let fields = document.fields.into_iter().map(CandidateField::from).collect();
    Ok(Candidate { version: Some(document.version), fields })
}

fn other_name(found: &str, expected: &str) -> ApiError {
    if found == expected {
        return ApiError::new(
            Code::InvalidBody,
            format!("the body is another kind of contract than the one of `{expected}`"),
        )
        .hint("name the kind: `?kind=event` or `?kind=entity`");
    }
    ApiError::new(
        Code::InvalidBody,
        format!("the body is a contract of `{found}`, the path says `{expected}`"),
    )
    .hint(format!("post it to `/v1/contracts/{found}/validate`"))
}
