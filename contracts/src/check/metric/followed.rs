//! Measures that follow a key from row to row: conversions and states over time.

use crate::check::hash::{self, Facts};
use crate::check::relations::Relations;
use crate::check::values::is_contract_name;
use crate::diagnostic::{Report, suggest};
use crate::model::{Followed, Measure, Relation, Step, Window};
use crate::raw::decode::{Text, shorten};
use crate::raw::metric as raw;
use crate::types::Type;

/// Does the contract say what such a measure needs, and only where it needs it?
pub(super) fn check(
    raw: &raw::Metric,
    measure: &Measure,
    windows: &[Window],
    report: &mut Report,
) -> Option<()> {
    let before = report.count();
    if raw.mixed_time.is_some() {
        report.error(
            raw.at,
            "`mixed_time` says nothing about a metric over rows",
            "remove it; it belongs to metrics that are made of others",
        );
    }
    if !measure.follows_keys() {
        if let Some(key) = &raw.key {
            report.error(
                key.at,
                "this measure follows no key",
                "remove `key`; `conversion`, `time_weighted` and `duration_in_state` have one",
            );
        }
        return (report.count() == before).then_some(());
    }
    let name = raw.measure.value.split('(').next().unwrap_or_default().trim();
    if raw.key.is_none() {
        report.error(
            raw.measure.at,
            format!("`{name}` needs the key `key`: whose rows belong together?"),
            "write `key: field`: the field that names the entity, such as `key: user_id`",
        );
    }
    if let Some(raw::MetricSource::Ingest(_)) = &raw.from {
        report.error(
            raw.measure.at,
            format!("`{name}` follows the events of an entity, and `ingest` has none"),
            "write `from: {event: [event types]}`",
        );
    }
    if let Some(raw::MetricSource::Details(details)) = &raw.from
        && let Some(entity) = &details.entity
    {
        report.error(
            entity.at,
            format!("`{name}` follows events, and an entity has only its newest state"),
            "write `from: {event: [event types]}`: those that change the state",
        );
    }
    if let Some(text) = raw.windows.0.iter().find(|text| text.value == "now") {
        report.error(
            text.at,
            format!("`{name}` looks at a span of time, and `now` is none"),
            "write `all` for all time, or a length such as `24h`",
        );
    }
    let lengths = windows.iter().filter(|window| window.length.is_some());
    if let Measure::Conversion { within } = measure
        && let Some(shortest) = lengths.min_by_key(|window| window.length)
        && shortest.length.is_some_and(|length| *within > length)
    {
        report.error(
            raw.measure.at,
            format!(
                "no first step in the window `{}` has had this long for its second one",
                shorten(&shortest.text)
            ),
            "shorten `within`, or leave out the windows that are shorter",
        );
    }
    (report.count() == before).then_some(())
}

/// The columns that follow a key over one source. `event_types` are those that the metric names.
pub(super) fn columns(
    raw: &raw::Metric,
    relation: Relation,
    event_types: &[Text],
    steps: Option<&[Text; 2]>,
    relations: &mut Relations,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Followed> {
    let text = raw.key.as_ref()?;
    let key = relations.compile(relation, text, None, report)?;
    if !matches!(key.column.ty, Type::String | Type::Int64) {
        report.error(
            text.inside(1, 1),
            format!("the key is {}", key.column.ty),
            "a key is a string or int64",
        );
        return None;
    }
    let source = hash::relation(relations, relation);
    facts.add(&["key", &source, &hash::expression(relations, relation, &key.expr)]);
    let steps = match steps {
        None => None,
        Some([from, to]) => {
            let mut read = |n: &str, text: &Text| {
                if event_types.iter().any(|known| known.value == text.value) {
                    facts.add(&["step", n, &source, "type", &text.value]);
                    return Some(Step::EventType(text.value.clone()));
                }
                if is_contract_name(&text.value, true) && text.value.contains('.') {
                    report.error(
                        text.inside(1, 1),
                        format!("`{}` is none of the event types under `from`", text.value),
                        suggest(
                            &text.value,
                            event_types.iter().map(|known| known.value.as_str()),
                            "event types",
                        ),
                    );
                    return None;
                }
                let step = relations.compile(relation, text, Some(&Type::Bool), report)?;
                let meaning = hash::expression(relations, relation, &step.expr);
                facts.add(&["step", n, &source, &meaning]);
                Some(Step::Where(step.column))
            };
            let (from, to) = (read("1", from), read("2", to));
            Some([from?, to?])
        }
    };
    Some(Followed { key: key.column, steps })
}
