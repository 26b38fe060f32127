//! A domain's own tests: the examples of its metrics, run through the real pipeline into a store in
//! memory and read by the metric engine.
//!
//! Three things are found out, each reported as a [`Finding`]: every expected value is the value
//! answered; every edge of `moved_by` moves its metric in at least one example (leave the events of
//! that type out, and an answer changes); and no event moves a metric that is not on its edges.
//!
//! Nothing here reads a clock: events arrive just before the example's time of reading.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use contracts::model::{Domain, Example, Expectation, GivenEvent, Metric};
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::headers;
use pipeline::processor::{ProcessError, Processor};
use pipeline::store::StoreError;
use serde::Serialize;

use crate::metric::MetricEngine;
use crate::question::{MetricQuestion, ReadError};
use crate::store::{OpenError, Store};
use crate::value::Value;

const TENANT: &str = "default";

/// The origin that stands for every record received.
const INGEST: &str = "ingest";

/// Why the examples could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// No store in memory.
    #[error("open a store in memory")]
    Open(#[from] OpenError),
    /// The store failed.
    #[error("run example")]
    Store(#[from] StoreError),
    /// The pipeline failed.
    #[error("run example")]
    Process(#[from] ProcessError),
}

/// One thing that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The metric.
    pub metric: String,
    /// Its version.
    pub version: u32,
    /// File of its contract.
    pub file: PathBuf,
    /// Line of the example, or 0 when no single example is concerned.
    pub line: u32,
    /// What was checked.
    pub checked: String,
    /// Did it hold?
    pub passed: bool,
    /// If not: what was expected and what came.
    pub detail: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}: {}", self.metric, self.version, self.checked)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if !self.passed {
            write!(f, " ({}", self.file.display())?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Runs all examples of the versions that answer questions (an older version answers none).
pub fn run(domain: &Arc<Domain>) -> Result<Vec<Finding>, ExampleError> {
    let mut findings = Vec::new();
    for metric in &domain.metrics {
        if domain.metric(&metric.name).is_some_and(|current| current.index == metric.index) {
            of_metric(domain, metric, &mut findings)?;
        }
    }
    Ok(findings)
}

fn of_metric(
    domain: &Arc<Domain>,
    metric: &Metric,
    findings: &mut Vec<Finding>,
) -> Result<(), ExampleError> {
    let mut unmoved: BTreeSet<&str> = metric.moved_by.iter().map(String::as_str).collect();
    for example in &metric.examples {
        let all = World::with(domain, example, |_| true)?;
        for expectation in &example.expect {
            let (passed, detail) = judge(expectation, all.ask(metric, expectation));
            let name = example.name.as_deref().unwrap_or("example");
            findings.push(Finding {
                line: example.line,
                checked: format!("{name}, window {}", expectation.window),
                passed,
                detail,
                ..finding(metric)
            });
        }
        for event_type in types_of(example) {
            let without = World::with(domain, example, |name| name != event_type)?;
            let moves = |metric: &Metric| {
                let asked = asked_of(metric, example);
                asked.iter().any(|expectation| {
                    all.ask(metric, expectation).ok() != without.ask(metric, expectation).ok()
                })
            };
            if moves(metric) {
                unmoved.remove(event_type);
                unmoved.remove(INGEST);
            }
            for other in &domain.metrics {
                let on_edge = other.moved_by.iter().any(|by| by == event_type || by == INGEST);
                if !on_edge && moves(other) {
                    findings.push(Finding {
                        line: example.line,
                        checked: format!("event {event_type} moves {}", other.name),
                        passed: false,
                        detail: Some("it is not in its `moved_by`".to_owned()),
                        ..finding(metric)
                    });
                }
            }
        }
    }
    for event_type in &metric.moved_by {
        let passed = !unmoved.contains(event_type.as_str());
        findings.push(Finding {
            checked: format!("moved by {event_type}"),
            passed,
            detail: (!passed).then(|| {
                "no example has such an event without which the answer would differ".to_owned()
            }),
            ..finding(metric)
        });
    }
    Ok(())
}

fn finding(metric: &Metric) -> Finding {
    Finding {
        metric: metric.name.clone(),
        version: metric.version,
        file: metric.file.clone(),
        line: 0,
        checked: String::new(),
        passed: false,
        detail: None,
    }
}

/// Questions to `metric` at the times of `example`: its own expectations if the example belongs to
/// it, else each of its windows at those times.
fn asked_of(metric: &Metric, example: &Example) -> Vec<Expectation> {
    let own = metric.examples.iter().any(|candidate| std::ptr::eq(candidate, example));
    if own {
        return example.expect.clone();
    }
    let times: BTreeSet<i64> = example.expect.iter().map(|expect| expect.as_of).collect();
    let mut asked = Vec::new();
    for as_of in times {
        asked.extend(metric.windows.iter().map(|window| Expectation {
            window: window.text.clone(),
            as_of,
            filters: Default::default(),
            value: serde_json::Value::Null,
        }));
    }
    asked
}

/// Event types among the given events.
fn types_of(example: &Example) -> BTreeSet<&str> {
    example.given.iter().map(|event| event.event_type.as_str()).collect()
}

/// A store in memory with the events of an example.
struct World {
    engine: MetricEngine,
}

impl World {
    /// The given events whose type is `wanted`, arrived in one batch.
    fn with(
        domain: &Arc<Domain>,
        example: &Example,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, ExampleError> {
        let store = Store::in_memory(Arc::clone(domain))?;
        let mut processor = Processor::new(Arc::clone(domain), Box::new(store.writer()?))?;
        let times = example.expect.iter().map(|expect| expect.as_of);
        let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
        let given: Vec<&GivenEvent> =
            example.given.iter().filter(|event| wanted(&event.event_type)).collect();
        if !given.is_empty() {
            let mut decoder = Decoder::new(domain);
            processor.process(&[&decoder.decode(raw(&given, first - 1))])?;
        }
        // Read a moment after the last question, so that none of them lies in the future.
        let clock = Arc::new(move || last);
        Ok(Self { engine: MetricEngine::with_clock(Arc::clone(domain), store.readers(), clock) })
    }

    fn ask(&self, metric: &Metric, expectation: &Expectation) -> Result<Value, ReadError> {
        let answer = self.engine.read(&MetricQuestion {
            metric: metric.name.clone(),
            version: Some(metric.version),
            tenant: TENANT.to_owned(),
            window: Some(expectation.window.clone()),
            as_of: Some(expectation.as_of),
            filters: expectation.filters.clone().into(),
            ..Default::default()
        })?;
        Ok(answer.value.unwrap_or(Value::Null))
    }
}

fn raw(given: &[&GivenEvent], arrived_at: i64) -> RawBatch {
    let mut bytes = Vec::new();
    let mut records = Vec::with_capacity(given.len());
    for event in given {
        let start = bytes.len();
        bytes.extend_from_slice(event.record.to_string().as_bytes());
        let end = bytes.len();
        for (name, text) in &event.headers {
            headers::push(&mut bytes, name, Some(text.as_bytes()));
        }
        records.push(RawRecord {
            start,
            len: end - start,
            offset: records.len() as u64,
            arrived_at,
            tenant: Arc::from(TENANT),
            tenant_fixed: true,
            attached: Attached { headers_len: (bytes.len() - end) as u32, ..Attached::default() },
        });
    }
    RawBatch {
        partition: Arc::from("example"),
        source: "example",
        next_offset: given.len() as u64,
        bytes,
        records,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}

/// Is the answer the expected one? If not, both.
fn judge(expectation: &Expectation, answer: Result<Value, ReadError>) -> (bool, Option<String>) {
    match answer {
        Err(error) => (false, Some(error.to_string())),
        Ok(value) => {
            // As text first: it has all the digits.
            let text = serde_json::to_string(&value).unwrap_or_default();
            let got = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
            let passed = same(&got, &expectation.value);
            let detail = (!passed).then(|| format!("expected {}, got {text}", expectation.value));
            (passed, detail)
        }
    }
}

/// Equal, or both numbers and equal to 1e-9 of their size.
fn same(got: &serde_json::Value, want: &serde_json::Value) -> bool {
    match (got.as_f64(), want.as_f64()) {
        (Some(got), Some(want)) => (got - want).abs() <= 1e-9 * want.abs().max(1.0),
        _ => got == want,
    }
}

#[cfg(test)]
mod tests;
