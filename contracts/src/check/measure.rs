//! Measures as written: `sum(total)`, `quantile(delay, 0.9)`, `ratio(a, b)`.

use crate::check::call::{names_in, parse_call};
use crate::diagnostic::{Report, suggest};
use crate::model::Measure;
use crate::raw::decode::{Text, shorten};
use crate::types::Type;

const MEASURES: [&str; 10] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "latest",
    "count_distinct",
    "quantile",
    "ratio",
    "derived",
];

/// A measure's text, read.
#[derive(Debug)]
pub(crate) enum MeasureText {
    /// An aggregate over rows, with its argument.
    Rows(Measure, Option<Text>),
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
        ("quantile", [arg, q]) => match q.value.parse::<f64>() {
            Ok(q) if (0.0..=1.0).contains(&q) => {
                Some(MeasureText::Rows(Measure::Quantile(q), Some(arg.clone())))
            }
            _ => {
                report.error(
                    q.inside(1, 1),
                    format!("`{}` is not a quantile", shorten(&q.value)),
                    "write a number from 0 to 1: 0.5 is the median, 0.9 the 90th percentile",
                );
                None
            }
        },
        ("quantile", _) => usage(report, "quantile(value, 0.9)"),
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
                _ => Measure::CountDistinct,
            };
            Some(MeasureText::Rows(measure, Some(arg.clone())))
        }
        (name, _) => usage(report, &format!("{name}(expression)")),
    }
}

/// Names of the metrics that a measure reads, of those that exist.
pub(crate) fn parts(text: &Text, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut ignored = Report::default();
    match read(text, &mut ignored) {
        Some(MeasureText::Ratio(a, b)) => {
            [a.value, b.value].into_iter().filter(|name| exists(name)).collect()
        }
        Some(MeasureText::Derived(expr)) => {
            names_in(&expr.value).into_iter().filter(|name| exists(name)).collect()
        }
        _ => Vec::new(),
    }
}

/// The type of a measure's value over an argument, or what the argument should be.
pub(crate) fn value_type(measure: &Measure, arg: Option<&Type>) -> Result<Type, &'static str> {
    let Some(arg) = arg else { return Ok(Type::Int64) };
    if matches!(arg, Type::List(_) | Type::Struct(_)) {
        return Err("a single value, not a list or struct");
    }
    match measure {
        Measure::Count | Measure::CountDistinct => Ok(Type::Int64),
        Measure::Sum => crate::check::fold::sum_type(arg).ok_or("a number"),
        Measure::Avg | Measure::Quantile(_) if arg.is_numeric() => Ok(Type::Float64),
        Measure::Avg | Measure::Quantile(_) => Err("a number"),
        Measure::Min | Measure::Max if *arg == Type::Json => Err("a number, text or time"),
        _ => Ok(arg.clone()),
    }
}
