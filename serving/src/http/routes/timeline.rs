//! `GET /v1/entity/{type}/{id}/timeline`: where one thing stands, how it came there, and what went
//! wrong on the way.
//!
//! Everything comes from the entity's contract: its stages, how long it may stay in each, and what
//! belongs to it. The state stands under `data` and, as published clients read it, under the name of the
//! entity type; what belongs to it stands under the names that the contract gives it.

use axum::Json;
use axum::extract::State;
use contracts::model::{Entity, Stage};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Segments;
use crate::history::{EntityEvent, History, key_columns};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::ledger::{self, Letter};
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time::{self, Time, seconds_between};
use crate::origin::Origin;
use crate::question::{EntityAnswer, EntityQuestion, ReadError, serialize_entries};

/// Most events of one answer.
const MOST_EVENTS: usize = 100;

/// Members that the body has for every entity: nothing that a contract names stands there.
const OWN_MEMBERS: [&str; 11] = [
    "entity_type",
    "entity_id",
    "data",
    "last_updated",
    "stage",
    "stage_history",
    "pipeline_trail",
    "trail_is_whole",
    "related",
    "exceptions",
    "exceptions_looked_at",
];

type Row = Vec<(String, Box<RawValue>)>;

/// Where an entity stands and how it came there.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct TimelineBody {
    /// Entity type.
    entity_type: String,
    /// Key.
    entity_id: String,
    /// The key and all fields of the contract.
    #[serde(serialize_with = "row")]
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    data: Row,
    /// Time of the newest event applied.
    last_updated: Option<Time>,
    /// The stage that it is in; null when the contract knows no stages.
    stage: Option<StageBody>,
    /// The stages that it came through, oldest first.
    stage_history: Vec<StageStep>,
    /// The events that made it, oldest first: the newest 100.
    pipeline_trail: Vec<TrailEvent>,
    /// Are these all? Not when there are more, when the journal has given some up, and when the events of
    /// one entity cannot be told from those of others.
    trail_is_whole: bool,
    /// What belongs to it, by the contract's name; null when there is none, or the key may not read it.
    #[serde(serialize_with = "rows")]
    #[schema(value_type = std::collections::BTreeMap<String, Option<std::collections::BTreeMap<String, serde_json::Value>>>)]
    related: Vec<(String, Option<Row>)>,
    /// Rejected records about it, newest first; empty for a key that is limited to entities or metrics.
    exceptions: Vec<ExceptionBody>,
    /// How many of the newest dead letters were looked at for that.
    exceptions_looked_at: i64,
    /// `data` under the name of the entity type and `related` under the contract's names.
    #[serde(flatten, serialize_with = "rows")]
    #[schema(value_type = std::collections::BTreeMap<String, Option<std::collections::BTreeMap<String, serde_json::Value>>>)]
    named: Vec<(String, Option<Row>)>,
}

/// The stage that an entity is in.
#[derive(Debug, Serialize, ToSchema)]
struct StageBody {
    /// Its name.
    current: String,
    /// Event time at which it was entered.
    entered_at: Option<Time>,
    /// Seconds since then.
    in_stage_seconds: Option<f64>,
    /// Minutes that an entity should stay in it at most.
    sla_minutes: Option<f64>,
    /// Is it there for longer? False where there is no limit.
    breached: bool,
    /// `journal`: the event that brought it there is known. `fallback`: it was there at the oldest event
    /// that is known, and may have been there before.
    clock: &'static str,
    /// Is it the end?
    terminal: bool,
    /// What it means.
    description: Option<String>,
}

/// A stage that was entered.
#[derive(Debug, Serialize, ToSchema)]
struct StageStep {
    /// Name of the stage.
    status: String,
    /// Event time.
    at: Time,
}

/// An event that changed the entity.
#[derive(Debug, Serialize, ToSchema)]
struct TrailEvent {
    /// Event id.
    event_id: String,
    /// The topic that it came from; else the topics that its contract names, or the contract's name.
    topic: String,
    /// Event type.
    event_type: String,
    /// Milliseconds from its arrival until it was applied.
    latency_ms: Option<f64>,
    /// When it was applied.
    processed_at: Option<Time>,
    /// Event time.
    event_time: Time,
    /// When it arrived.
    arrived_at: Time,
    /// Journal sequence number.
    position: i64,
    /// Version of the contract that it was read with.
    contract_version: i64,
    /// Did it come late?
    late: bool,
    /// Source partition.
    partition: String,
    /// Offset in it.
    offset: i64,
}

/// A rejected record about the entity.
#[derive(Debug, Serialize, ToSchema)]
struct ExceptionBody {
    /// Number of the dead letter.
    id: i64,
    /// Event id, as far as it could be read.
    event_id: Option<String>,
    /// Reason code.
    failure_reason: String,
    /// Always `failed` so far.
    status: &'static str,
    /// When it arrived.
    occurred_at: Time,
    /// What can be done about it: nothing over HTTP so far.
    actions: Actions,
}

/// Where to act on a dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct Actions {
    /// Where to send it through the pipeline again.
    replay: Option<String>,
    /// Where to put it aside.
    dismiss: Option<String>,
}

/// Where an entity stands and how it came there.
#[utoipa::path(
    get,
    path = "/v1/entity/{type}/{id}/timeline",
    tag = "entities",
    params(
        ("type" = String, Path, description = "Entity type."),
        ("id" = String, Path, description = "Its key, percent-encoded."),
        ("version" = Option<u32>, Query,
            description = "Version of the contract. Default: the newest stable one that is complete."),
    ),
    responses(
        (status = 200, description = "The timeline.", body = TimelineBody),
        (status = 403, description = "The key may not read it.", body = ErrorBody),
        (status = 404, description = "No such entity type or version, or no such entity.",
            body = ErrorBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now, or the version is being backfilled.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Segments((entity, id)): Segments<(String, String)>,
    parameters: Parameters,
) -> Result<Json<TimelineBody>, ApiError> {
    let parameters = parameters.only(&["version"])?;
    caller.entity(&entity)?;
    let version = parameters.version("version")?;
    let body = state.blocking(move |state| timeline(state, &caller, entity, version, id)).await?;
    Ok(Json(body))
}

fn timeline(
    state: &AppState,
    caller: &Caller,
    entity: String,
    version: Option<u32>,
    id: String,
) -> Result<TimelineBody, ApiError> {
    let engine = state.cache.engine();
    let contract = engine.find_entity(&entity, version)?;
    let answer = state.cache.entity(&question(caller, &entity, Some(contract.version), &id))?;
    let history = engine.history(contract, &caller.tenant, &id, MOST_EVENTS)?;
    let letters = match caller.sees_events() {
        true => {
            let columns = key_columns(&state.domain, contract);
            let members: Vec<String> = columns.into_iter().map(|(_, name)| name).collect();
            ledger::dead_letters_about(&state.readers, &caller.tenant, &id, &members)?
        }
        false => Vec::new(),
    };
    let mut related = Vec::with_capacity(contract.relationships.len());
    for relationship in &contract.relationships {
        let key = answer.data.iter().find(|(name, _)| *name == relationship.key);
        let key = key.and_then(|(_, value)| key_text(value));
        let found = match key.filter(|_| caller.sees_entity(&relationship.entity)) {
            Some(key) => other(state, &question(caller, &relationship.entity, None, &key))?,
            None => None,
        };
        related.push((relationship.name.clone(), found));
    }
    Ok(TimelineBody::new(state, contract, answer, history, related, letters))
}

fn question(caller: &Caller, entity: &str, version: Option<u32>, id: &str) -> EntityQuestion {
    EntityQuestion {
        entity: entity.to_owned(),
        version,
        tenant: caller.tenant.to_string(),
        id: id.to_owned(),
        as_of: None,
        known_at: None,
    }
}

/// A key as text, from its JSON.
fn key_text(value: &RawValue) -> Option<String> {
    match serde_json::from_str(value.get()).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An entity that belongs to another: none may be there.
fn other(state: &AppState, question: &EntityQuestion) -> Result<Option<Row>, ApiError> {
    match state.cache.entity(question) {
        Ok(answer) => Ok(Some(answer.data)),
        Err(ReadError::NotFound { .. } | ReadError::Backfilling { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl TimelineBody {
    fn new(
        state: &AppState,
        entity: &Entity,
        answer: EntityAnswer,
        history: History,
        related: Vec<(String, Option<Row>)>,
        letters: Vec<Letter>,
    ) -> Self {
        let now = time::now();
        let steps = steps(&history.events);
        let stage = entity.stages.as_ref().and_then(|stages| {
            let field = answer.data.iter().find(|(name, _)| *name == stages.field);
            let current = field.and_then(|(_, value)| key_text(value))?;
            Some(StageBody::new(stages.stage(&current), current, &steps, history.is_whole, now))
        });
        let mut named = vec![(answer.entity.clone(), Some(answer.data.clone()))];
        for (name, row) in &related {
            if named.iter().all(|(known, _)| known != name) {
                named.push((name.clone(), row.clone()));
            }
        }
        named.retain(|(name, _)| !OWN_MEMBERS.contains(&name.as_str()));
        let trail = history.events.into_iter().map(|event| TrailEvent::new(state, event));
        Self {
            entity_type: answer.entity,
            entity_id: answer.id,
            data: answer.data,
            last_updated: answer.last_updated.map(Time),
            stage,
            stage_history: steps,
            pipeline_trail: trail.collect(),
            trail_is_whole: history.is_whole,
            related,
            exceptions: letters.into_iter().map(ExceptionBody::from).collect(),
            exceptions_looked_at: ledger::LETTERS_LOOKED_AT,
            named,
        }
    }
}

/// The stages in the order in which they were entered.
fn steps(events: &[EntityEvent]) -> Vec<StageStep> {
    let mut steps: Vec<StageStep> = Vec::new();
    for event in events {
        let Some(stage) = &event.stage else { continue };
        if steps.last().is_none_or(|last| last.status != *stage) {
            steps.push(StageStep { status: stage.clone(), at: Time(event.time) });
        }
    }
    steps
}

impl StageBody {
    fn new(
        stage: Option<&Stage>,
        current: String,
        steps: &[StageStep],
        is_whole: bool,
        now: i64,
    ) -> Self {
        let entered = steps.last().filter(|step| step.status == current).map(|step| step.at.0);
        let is_known = entered.is_some() && (is_whole || steps.len() > 1);
        let in_stage = entered.map(|at| seconds_between(at, now).max(0.0));
        let sla = stage.and_then(|stage| stage.sla).map(|micros| micros as f64 / 1e6);
        Self {
            current,
            entered_at: entered.map(Time),
            in_stage_seconds: in_stage,
            sla_minutes: sla.map(|seconds| seconds / 60.0),
            breached: in_stage.zip(sla).is_some_and(|(there, most)| there > most),
            clock: if is_known { "journal" } else { "fallback" },
            terminal: stage.is_some_and(|stage| stage.terminal),
            description: stage.and_then(|stage| stage.description.clone()),
        }
    }
}

impl TrailEvent {
    fn new(state: &AppState, event: EntityEvent) -> Self {
        let family = &state.domain.families[event.family];
        let contract = family.versions.iter().find(|v| i64::from(v.version) == event.version);
        let topics = contract.map(|contract| {
            contract.topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>().join(",")
        });
        let topics = topics.filter(|topics| !topics.is_empty());
        let topic = Origin::of(&event.partition).topic.map(str::to_owned).or(topics);
        let took = event.applied_at.map(|at| at.saturating_sub(event.arrived_at).max(0));
        Self {
            event_id: event.id,
            topic: topic.unwrap_or_else(|| family.name.clone()),
            event_type: event.event_type,
            latency_ms: took.map(|micros| micros as f64 / 1e3),
            processed_at: event.applied_at.map(Time),
            event_time: Time(event.time),
            arrived_at: Time(event.arrived_at),
            position: event.position,
            contract_version: event.version,
            late: event.is_late,
            partition: event.partition,
            offset: event.offset,
        }
    }
}

impl From<Letter> for ExceptionBody {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            event_id: letter.event_id,
            failure_reason: letter.reason,
            status: "failed",
            occurred_at: Time(letter.arrived_at),
            actions: Actions { replay: None, dismiss: None },
        }
    }
}

fn row<S: serde::Serializer>(row: &Row, serializer: S) -> Result<S::Ok, S::Error> {
    serialize_entries(row, serializer)
}

/// A row as an object.
struct Object<'a>(&'a Row);

impl Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_entries(self.0, serializer)
    }
}

fn rows<S: serde::Serializer>(
    rows: &[(String, Option<Row>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|(name, row)| (name, row.as_ref().map(Object))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: i64, stage: Option<&str>) -> EntityEvent {
        EntityEvent {
            position: time,
            id: String::new(),
            event_type: String::new(),
            time,
            arrived_at: time,
            applied_at: None,
            version: 1,
            is_late: false,
            warnings: None,
            partition: String::new(),
            offset: 0,
            family: 0,
            stage: stage.map(str::to_owned),
        }
    }

    /// `a1 b2`: the stage and the second at which it was entered.
    fn check(events: &[(i64, Option<&str>)], expected: &str) -> Vec<StageStep> {
        let events: Vec<_> = events.iter().map(|(at, stage)| event(*at, *stage)).collect();
        let steps = steps(&events);
        let told: Vec<String> =
            steps.iter().map(|step| format!("{}{}", step.status, step.at.0)).collect();
        assert_eq!(told.join(" "), expected);
        steps
    }

    #[test]
    fn a_stage_is_entered_when_another_was_left() {
        check(&[], "");
        check(&[(1, Some("a")), (2, Some("a")), (3, Some("b"))], "a1 b3");
        check(&[(1, Some("a")), (2, Some("b")), (3, Some("a"))], "a1 b2 a3");
        check(&[(1, None), (2, Some("a"))], "a2");
    }

    #[test]
    fn the_clock_tells_whether_the_entry_was_seen() {
        let stage = |sla, terminal| Stage { name: "a".into(), sla, terminal, description: None };
        let minute = 60_000_000;
        for (events, is_whole, clock, breached) in [
            (&[(0, Some("a"))][..], true, "journal", true),
            (&[(0, Some("a"))][..], false, "fallback", true),
            (&[(0, Some("b")), (5 * minute, Some("a"))][..], false, "journal", false),
            (&[(0, Some("b"))][..], true, "fallback", false),
        ] {
            let events: Vec<_> = events.iter().map(|(at, stage)| event(*at, *stage)).collect();
            let known = stage(Some(2 * minute), false);
            let body =
                StageBody::new(Some(&known), "a".into(), &steps(&events), is_whole, 6 * minute);
            assert_eq!((body.clock, body.breached), (clock, breached), "{events:?}");
            assert_eq!(body.sla_minutes, Some(2.0));
        }
        let end = StageBody::new(Some(&stage(None, true)), "a".into(), &[], true, 0);
        assert_eq!((end.terminal, end.breached, end.in_stage_seconds), (true, false, None));
        let unknown = StageBody::new(None, "x".into(), &[], true, 0);
        assert_eq!((unknown.sla_minutes, unknown.breached), (None, false));
    }
}
