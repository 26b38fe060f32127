//! `GET /v1/deadletter`: rejected records, newest first, with their original bytes but for personal data.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipeline::outcome::Reason;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorBody};
use crate::http::ledger;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time::Time;
use crate::metric::hint;
use crate::personal::{Personal, Shown};
use crate::store::StoredDeadLetter;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct DeadLetterPage {
    /// Newest first.
    items: Vec<DeadLetterBody>,
    /// Which page.
    pagination: Pagination,
}

/// Which page of how many.
#[derive(Debug, Serialize, ToSchema)]
struct Pagination {
    /// This page, from 1.
    page: u64,
    /// Most items of a page.
    page_size: u64,
    /// Items in all.
    total: u64,
    /// Pages in all.
    pages: u64,
}

/// A rejected record.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterBody {
    /// Number of the dead letter.
    pub id: i64,
    /// Event id, as far as it could be read.
    pub event_id: Option<String>,
    /// Event type, as far as it could be read.
    pub event_type: Option<String>,
    /// Reason code; the same as `reason`.
    pub failure_reason: String,
    /// What was found and what was expected.
    pub failure_detail: String,
    /// When it arrived.
    pub received_at: Time,
    /// How often it was sent through the pipeline again.
    pub retry_count: u32,
    /// When that was last.
    pub last_retried_at: Option<Time>,
    /// Always `failed` so far.
    pub status: &'static str,
    /// Reason code.
    pub reason: String,
    /// Stage that rejected it.
    pub stage: String,
    /// Field concerned.
    pub field: Option<String>,
    /// Rule concerned.
    pub rule: Option<String>,
    /// Contract that it was judged by.
    pub contract: Option<String>,
    /// Version of that contract.
    pub version: Option<i64>,
    /// Event time, as far as it could be read.
    pub event_time: Option<Time>,
    /// Where it came from.
    pub place: Place,
    /// The original bytes, when they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The original bytes in Base64, when they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The record's key, when it has one that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The record's key in Base64, when it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The record's headers in their order, when it has some: each with its `name` and its `value`
    /// (null for a header without one), or `value_base64` when the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<std::collections::BTreeMap<String, Option<String>>>>)]
    pub headers: Option<serde_json::Value>,
    /// Were personal data hidden? `***` stands for a value; a payload that is no JSON is left out.
    pub masked: bool,
}

/// Where a record came from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Place {
    /// Source partition.
    pub partition: String,
    /// Offset in it.
    pub offset: i64,
}

impl DeadLetterBody {
    /// A letter without the personal data in it; all of it without `personal`.
    pub fn new(row: StoredDeadLetter, personal: &Personal) -> Self {
        let Shown { payload, key, headers, is_masked } = personal.show(&row);
        let (payload, payload_base64) = payload.map_or((None, None), text_or_base64);
        let (key, key_base64) = key.map_or((None, None), text_or_base64);
        Self {
            id: row.id,
            event_id: row.event_id,
            event_type: row.event_type,
            failure_reason: row.reason.clone(),
            failure_detail: row.detail,
            received_at: Time(row.arrived_at),
            retry_count: 0,
            last_retried_at: None,
            status: "failed",
            reason: row.reason,
            stage: row.stage,
            field: row.field,
            rule: row.rule,
            contract: row.contract,
            version: row.contract_version,
            event_time: row.event_time.map(Time),
            place: Place { partition: row.partition, offset: row.offset },
            payload,
            payload_base64,
            key,
            key_base64,
            headers,
            masked: is_masked,
        }
    }
}

fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    }
}

/// Rejected records, newest first.
#[utoipa::path(
    get,
    path = "/v1/deadletter",
    tag = "events",
    params(
        ("page" = Option<u64>, Query, description = "From 1.", minimum = 1),
        ("page_size" = Option<u64>, Query, description = "Default 50.", minimum = 1, maximum = 100),
        ("reason" = Option<String>, Query, description = "Only with this reason code."),
    ),
    responses(
        (status = 200, description = "A page.", body = DeadLetterPage),
        (status = 403, description = "The key is limited to entities or metrics.", body = ErrorBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<DeadLetterPage>, ApiError> {
    let parameters = parameters.only(&["page", "page_size", "reason"])?;
    caller.events("dead letters")?;
    let page = parameters.number("page", 1, 1..=1_000_000_000)?;
    let page_size = parameters.number("page_size", 50, 1..=100)?;
    let reason = parameters.one("reason")?.map(reason).transpose()?;
    let skip = (page - 1) * page_size;
    let domain = Arc::clone(&state.domain);
    let found = state
        .blocking(move |state| {
            ledger::dead_letters(&state.readers, &caller.tenant, reason, skip, page_size)
        })
        .await?;
    let personal = Personal::of(&domain);
    let items = found.letters.into_iter().map(|letter| DeadLetterBody::new(letter, &personal));
    let total = found.total;
    Ok(Json(DeadLetterPage {
        items: items.collect(),
        pagination: Pagination { page, page_size, total, pages: total.div_ceil(page_size) },
    }))
}

fn reason(code: &str) -> Result<Reason, ApiError> {
    Reason::from_code(code).ok_or_else(|| ApiError {
        hint: hint(code, Reason::ALL.map(Reason::code)),
        ..ApiError::invalid(format!("`reason` names no reason: `{code}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_headers_are_shown_where_there_are_any() {
        #[track_caller]
        fn check(key: Option<&[u8]>, headers: Option<&str>, expected: serde_json::Value) {
            let letter = StoredDeadLetter {
                id: 1,
                tenant: "default".into(),
                arrived_at: 0,
                partition: "kafka:t/0".into(),
                offset: 3,
                stage: "decode".into(),
                reason: "not_json".into(),
                field: None,
                rule: None,
                detail: "empty line".into(),
                event_id: None,
                event_type: None,
                event_time: None,
                contract: None,
                contract_version: None,
                payload: Vec::new(),
                key: key.map(<[u8]>::to_vec),
                headers: headers.map(str::to_owned),
            };
            let mut body =
                serde_json::to_value(DeadLetterBody::new(letter, &Personal::default())).unwrap();
            let body = body.as_object_mut().unwrap();
            body.retain(|name, _| name.starts_with("key") || name == "headers");
            assert_eq!(serde_json::Value::Object(body.clone()), expected);
        }
        check(None, None, serde_json::json!({}));
        check(Some(b""), None, serde_json::json!({"key": ""}));
        check(Some(&[255]), None, serde_json::json!({"key_base64": "/w=="}));
        check(
            Some(b"k"),
            Some(r#"[{"name":"a","value":null}]"#),
            serde_json::json!({"key": "k", "headers": [{"name": "a", "value": null}]}),
        );
    }
}
