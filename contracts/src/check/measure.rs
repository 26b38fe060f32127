//! Measures as written: `sum(total)`, `quantile(delay, 0.9)`, `ratio(a, b)`.

use crate::check::call::{names_in, parse_call};
use crate::check::values::duration;
use crate::diagnostic::{Report, suggest};
use crate::model::Measure;
use crate::raw::decode::{Text, shorten};
use crate::types::Type;

const MEASURES: [&str; 14] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "latest",
    "count_distinct",
    "quantile",
    "active",
    "conversion",
    "time_weighted",
    "duration_in_state",
    "ratio",
    "derived",
];

/// Word for "estimated is good enough".
const APPROX: &str = "approx";

/// A metric as a measure names it: `orders`, or `orders@2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name.
    pub(crate) name: String,
    /// The version, where it says one.
    pub(crate) version: Option<u32>,
}

impl Part {
    pub(crate) fn of(text: &str) -> Self {
        let pinned = text.split_once('@');
        let pinned = pinned.and_then(|(name, version)| Some((name, version.parse().ok()?)));
        match pinned {
            Some((name, version)) => Self { name: name.to_owned(), version: Some(version) },
            None => Self { name: text.to_owned(), version: None },
        }
    }
}

/// A measure's text, read.
#[derive(Debug)]
pub(crate) enum MeasureText {
    /// An aggregate over rows, with its argument.
    Rows(Measure, Option<Text>),
    /// A conversion over rows, with its steps.
    Steps(Measure, [Text; 2]),
    /// Quotient of two metrics.
    Ratio(Text, Text),
    /// Expression over metrics.
    Derived(Text),
}

/// Reads a measure, or reports what is wrong with it.
pub(crate) fn read(text: &Text, report: &mut Report) -> Option<MeasureText> {
    let call = parse_call(text).filter(|call| MEASURES.contains(&call.name.as_str()));
    let Some(call) = call else {
        let first = text.value.split(['(', ' ']).next().unwrap_or_default();
        let hint = if names_in(&text.value).is_empty() || !MEASURES.contains(&first) {
            suggest(first, MEASURES, "measures")
        } else {
            "declare each aggregate as a metric of its own, then write `derived(a / b)` over their \
             names"
                .to_owned()
        };
        report.error(text.at, format!("`{}` is not a measure", shorten(&text.value)), hint);
        return None;
    };
    let usage = |report: &mut Report, usage: &str| {
        report.error(
            text.at,
            format!("`{}` has a wrong number of arguments", call.name),
            format!("write `{usage}`"),
        );
        None
    };
    match (call.name.as_str(), call.args.as_deref().unwrap_or_default()) {
        ("count", []) => Some(MeasureText::Rows(Measure::Count, None)),
        ("count", [arg]) if arg.value == "*" => Some(MeasureText::Rows(Measure::Count, None)),
        ("quantile", [arg, q]) => {
            Some(MeasureText::Rows(Measure::Quantile(rank(q, report)?), Some(arg.clone())))
        }
        ("quantile", [arg, q, how]) if how.value == APPROX => {
            Some(MeasureText::Rows(Measure::ApproxQuantile(rank(q, report)?), Some(arg.clone())))
        }
        ("quantile", _) => usage(report, "quantile(value, 0.9)` or `quantile(value, 0.9, approx)"),
        ("count_distinct", [arg, how]) if how.value == APPROX => {
            Some(MeasureText::Rows(Measure::ApproxCountDistinct, Some(arg.clone())))
        }
        ("count_distinct", [_, _, ..]) => {
            usage(report, "count_distinct(expression)` or `count_distinct(expression, approx)")
        }
        ("conversion", [from, to, within]) => {
            let length = within.value.strip_prefix("within ").map(str::trim);
            let Some(length) = length else {
                report.error(
                    within.inside(1, 1),
                    format!("`{}` does not say within which time", shorten(&within.value)),
                    "write `within` and a duration, such as `within 30m`",
                );
                return None;
            };
            let within = duration(&within.with_value(length), false, report)?;
            let measure = Measure::Conversion { within };
            Some(MeasureText::Steps(measure, [from.clone(), to.clone()]))
        }
        ("conversion", _) => usage(report, "conversion(first step, second step, within 30m)"),
        ("ratio", [a, b]) => Some(MeasureText::Ratio(a.clone(), b.clone())),
        ("ratio", _) => usage(report, "ratio(metric, metric)"),
        ("derived", []) => usage(report, "derived(expression over metric names)"),
        ("derived", [first, ..]) => {
            // Commas inside the expression (`coalesce(a, b)` is one argument) belong to it.
            let from = text.value.find('(').map_or(0, |i| i + 1);
            let inner = text.value[from..].trim_end();
            let inner = inner.strip_suffix(')').unwrap_or(inner).trim();
            Some(MeasureText::Derived(first.with_value(inner)))
        }
        (name, [arg]) => {
            let measure = match name {
                "count" => Measure::Count,
                "sum" => Measure::Sum,
                "avg" => Measure::Avg,
                "min" => Measure::Min,
                "max" => Measure::Max,
                "latest" => Measure::Latest,
                "active" => Measure::Active,
                "time_weighted" => Measure::TimeWeighted,
                "duration_in_state" => Measure::DurationInState,
                _ => Measure::CountDistinct,
            };
            Some(MeasureText::Rows(measure, Some(arg.clone())))
        }
        (name, _) => usage(report, &format!("{name}(expression)")),
    }
}

fn rank(q: &Text, report: &mut Report) -> Option<f64> {
    let rank = q.value.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q));
    if rank.is_none() {
        report.error(
            q.inside(1, 1),
            format!("`{}` is not a quantile", shorten(&q.value)),
            "write a number from 0 to 1: 0.5 is the median, 0.9 the 90th percentile",
        );
    }
    rank
}

/// The metrics that a measure reads, of those whose names exist.
pub(crate) fn parts(text: &Text, exists: impl Fn(&str) -> bool) -> Vec<Part> {
    let mut ignored = Report::default();
    let names: Vec<String> = match read(text, &mut ignored) {
        Some(MeasureText::Ratio(a, b)) => vec![a.value, b.value],
        Some(MeasureText::Derived(expr)) => names_in(&expr.value).into_iter().collect(),
        _ => Vec::new(),
    };
    let parts = names.iter().map(|name| Part::of(name));
    parts.filter(|part| exists(&part.name)).collect()
}

/// The type of a measure's value over an argument, or what the argument should be.
pub(crate) fn value_type(measure: &Measure, arg: Option<&Type>) -> Result<Type, &'static str> {
    if matches!(measure, Measure::Conversion { .. }) {
        return Ok(Type::Float64);
    }
    let Some(arg) = arg else { return Ok(Type::Int64) };
    if matches!(arg, Type::List(_) | Type::Struct(_)) {
        return Err("a single value, not a list or struct");
    }
    match measure {
        Measure::Active if !matches!(arg, Type::String | Type::Int64) => {
            Err("a key: a string or int64")
        }
        measure if measure.is_count() => Ok(Type::Int64),
        Measure::Sum => crate::check::fold::sum_type(arg).ok_or("a number"),
        Measure::Avg
        | Measure::Quantile(_)
        | Measure::ApproxQuantile(_)
        | Measure::TimeWeighted
            if arg.is_numeric() =>
        {
            Ok(Type::Float64)
        }
        Measure::Avg
        | Measure::Quantile(_)
        | Measure::ApproxQuantile(_)
        | Measure::TimeWeighted => Err("a number"),
        // Seconds, exact to the microsecond.
        Measure::DurationInState if *arg == Type::Bool => {
            Ok(Type::Decimal { precision: 38, scale: 6 })
        }
        Measure::DurationInState => Err("a condition: a bool"),
        Measure::Min | Measure::Max if *arg == Type::Json => Err("a number, text or time"),
        _ => Ok(arg.clone()),
    }
}
