//! Reads that wait for what the caller wrote: `after=POSITION` with `wait=DURATION`.
//!
//! A position is one of the journal, as `POST /v1/events` tells it, or a record of a topic as its producer knows
//! it: `topic:partition:offset`. The read is answered once everything up to it is applied. When the time is over
//! and it is not, there is no answer but a 409 that says how far the store is: a value that lacks what the
//! caller has just written would be taken for one that has it.
//!
//! Who waits holds no thread, no connection to the store, and no place among the requests under way.
//!
//! What is told of a partition is its position, which `/v1/health` tells everybody.

use std::fmt;
use std::time::{Duration, Instant};

use pipeline::source::kafka::partition_name;

use super::error::{ApiError, Code};
use super::fields::Fields;
use super::layers::limits::Place;
use super::query::Parameters;
use super::state::{AppState, Caller};

/// How long a read waits that does not say.
const WAIT: Duration = Duration::from_secs(1);

/// Longest wait. A request has 30 seconds, and what was waited for is still to be read.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Most positions of one read: a producer may have written to that many partitions.
const MAX_POSITIONS: usize = 100;

/// Longest name of a topic that Kafka allows.
const MAX_TOPIC: usize = 249;

/// What a read waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct After {
    positions: Vec<Position>,
    wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// Of the journal.
    Journal(i64),
    /// A record of a topic.
    Record { topic: String, partition: i32, offset: u64 },
}

impl After {
    /// What the query parameters say; `None` when there is nothing to wait for.
    pub(super) fn of_parameters(parameters: &Parameters) -> Result<Option<Self>, ApiError> {
        let texts = parameters.all("after").flat_map(|text| text.split(','));
        Self::of(texts, parameters.duration("wait")?)
    }

    /// What the members of a body say.
    pub(super) fn of_fields(fields: &Fields) -> Result<Option<Self>, ApiError> {
        let texts = fields.texts("after")?;
        Self::of(texts.iter().map(String::as_str), fields.duration("wait")?)
    }

    fn of<'a>(
        texts: impl Iterator<Item = &'a str>,
        wait: Option<Duration>,
    ) -> Result<Option<Self>, ApiError> {
        let positions = texts.map(Position::of).collect::<Result<Vec<_>, _>>()?;
        let wait = match (positions.is_empty(), wait) {
            (true, None) => return Ok(None),
            (true, Some(_)) => {
                return Err(ApiError::invalid("`wait` says for how long, but there is no `after`")
                    .hint("add `after=POSITION`, or leave `wait` out"));
            }
            (false, wait) => wait.unwrap_or(WAIT),
        };
        if wait > MAX_WAIT {
            return Err(ApiError::invalid(format!(
                "`wait` must be at most {MAX_WAIT:?}, not {wait:?}"
            ))
            .hint("ask again when it was not long enough"));
        }
        if positions.len() > MAX_POSITIONS {
            return Err(ApiError::invalid(format!(
                "`after` names {} positions, which is more than {MAX_POSITIONS}",
                positions.len()
            )));
        }
        Ok(Some(Self { positions, wait }))
    }

    /// Returns once everything is applied; an error when the time is over, counted from `begun`.
    pub(super) async fn reached(
        &self,
        state: &AppState,
        caller: &Caller,
        place: &Place,
        begun: Instant,
    ) -> Result<(), ApiError> {
        let mut commits = state.pipeline.commits();
        let Some(mut missing) = self.missing(state).await? else { return Ok(()) };
        let allowed = self.wait.min(state.options.request_timeout * 2 / 3);
        let deadline = tokio::time::Instant::from_std(begun + allowed);
        let waiter = state.pipeline.waiter(&caller.tenant).map_err(|_| {
            ApiError::busy("too many reads wait already")
                .hint("try again after `Retry-After` seconds")
        })?;
        place.give_back();
        let give_way = state.pipeline.giving_way();
        tokio::pin!(give_way);
        loop {
            tokio::select! {
                biased;
                changed = commits.changed() => if changed.is_err() { break },
                // What it waits for comes with the contracts that follow.
                () = &mut give_way => return Err(contracts_changed()),
                () = tokio::time::sleep_until(deadline) => break,
            }
            match self.missing(state).await? {
                Some(still) => missing = still,
                None => {
                    drop(waiter);
                    return place.take_again().await;
                }
            }
        }
        let (position, applied) = missing;
        Err(ApiError {
            retry_after: Some(1),
            ..ApiError::new(
                Code::NotCaughtUp,
                format!("{position} is not applied: after {allowed:?} {applied}"),
            )
            .hint("ask again, with a longer `wait`; without `after` the answer is what holds now")
        })
    }

    /// The first position that is not applied, and how far the store is instead.
    async fn missing(&self, state: &AppState) -> Result<Option<(Position, String)>, ApiError> {
        for position in &self.positions {
            let applied = match position {
                Position::Journal(wanted) => match state.streams.position() {
                    applied if applied >= *wanted => continue,
                    applied => format!("the store is at position {applied}"),
                },
                Position::Record { topic, partition, offset } => {
                    let name = partition_name(topic, *partition);
                    match applied_of(state, &name).await? {
                        Some(next) if next > *offset => continue,
                        Some(0) | None => "nothing of its partition is".to_owned(),
                        Some(next) => format!("its partition is at offset {}", next - 1),
                    }
                }
            };
            return Ok(Some((position.clone(), applied)));
        }
        Ok(None)
    }
}

/// Offset of the first record of the partition that is not applied.
async fn applied_of(state: &AppState, name: &str) -> Result<Option<u64>, ApiError> {
    if !state.pipeline.knows_offsets() {
        // What the store had when this process began; from then on commits tell.
        state
            .blocking(|state| {
                state.pipeline.found_offsets(state.readers.partitions()?);
                Ok::<_, pipeline::store::StoreError>(())
            })
            .await?;
    }
    Ok(state.pipeline.offset(name))
}

impl Position {
    fn of(text: &str) -> Result<Self, ApiError> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let position = match text.rsplitn(3, ':').collect::<Vec<_>>().as_slice() {
            [number] if is_number(number) => number.parse().ok().map(Self::Journal),
            [offset, partition, topic]
                if is_number(offset)
                    && is_number(partition)
                    && !topic.is_empty()
                    && topic.len() <= MAX_TOPIC
                    && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) =>
            {
                let offset = offset.parse::<i64>().ok().and_then(|offset| offset.try_into().ok());
                offset.zip(partition.parse().ok()).map(|(offset, partition)| Self::Record {
                    topic: (*topic).to_owned(),
                    partition,
                    offset,
                })
            }
            _ => None,
        };
        position.ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            ApiError::invalid(format!("`after` is not a position: `{shown}`")).hint(
                "take `position` of the answer to `POST /v1/events`, or write topic:partition:offset \
                 of a record",
            )
        })
    }
}

fn contracts_changed() -> ApiError {
    ApiError {
        retry_after: Some(1),
        ..ApiError::new(Code::ContractsChanged, "the contracts changed while the read waited")
    }
    .hint("ask again: it is answered by the new ones")
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(position) => write!(f, "position {position}"),
            Self::Record { topic, partition, offset } => {
                write!(f, "record {topic}:{partition}:{offset}")
            }
        }
    }
}

/// Reads a duration; `0` needs no unit.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, ApiError> {
    let micros = if text == "0" { Some(0) } else { contracts::parse_duration(text) };
    micros.map(|micros| Duration::from_micros(micros.unsigned_abs())).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        ApiError::invalid(format!("`{name}` is not a duration: `{shown}`"))
            .hint("write a whole number and a unit: 250ms, 2s or 1m")
    })
}
