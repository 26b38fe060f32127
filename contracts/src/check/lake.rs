//! How the lake table of an event contract is laid out: partition, sort and commits.
//!
//! Columns are named as in expressions over events, so a declared field wins over a member of the
//! envelope of the same name.

use crate::check::values::{duration, size};
use crate::diagnostic::{Report, suggest};
use crate::expr::{Scope, ScopeColumn};
use crate::model::{LakeLayout, PartitionField, PartitionTransform};
use crate::raw::decode::{OneOrMany, Text, shorten};
use crate::raw::event as raw;
use crate::types::Type;

/// Commits more often than this would make a file for every few events.
const SHORTEST: i64 = 1_000_000;
/// Files smaller than this cost more to open than to read.
const SMALLEST: u64 = 1 << 20;
/// Most buckets, and the widest beginning of a text.
const MOST: u32 = 10_000;

const FUNCTIONS: [&str; 5] = ["day", "month", "hour", "bucket", "truncate"];

/// Checks the layout; `scope` has the names of the contract's columns, `is_personal` says of a column
/// whether it holds personal data.
pub(crate) fn lake(
    raw: &raw::Lake,
    scope: &Scope,
    is_personal: &dyn Fn(&str) -> bool,
    report: &mut Report,
) -> LakeLayout {
    let mut layout = LakeLayout::default();
    if let Some(partition) = &raw.partition {
        not_empty(partition, "partition", raw, report);
        for text in &partition.0 {
            let Some(field) = partition_field(text, scope, report) else { continue };
            if layout.partition.iter().any(|known| known.column == field.column) {
                twice(text, "one column is one part of a partition", report);
            } else if is_personal(&field.column) && shows(field.transform) {
                report.error(
                    text.at,
                    format!(
                        "`{}` holds personal data, which names of folders would show",
                        field.column
                    ),
                    format!("write `bucket(16, {})`, or leave it out", field.column),
                );
            } else {
                layout.partition.push(field);
            }
        }
    }
    if let Some(sort) = &raw.sort {
        not_empty(sort, "sort", raw, report);
        for text in &sort.0 {
            let Some(column) = sort_column(text, scope, report) else { continue };
            if layout.sort.contains(&column.column) {
                twice(text, "rows are sorted by it already", report);
            } else {
                layout.sort.push(column.column.clone());
            }
        }
    }
    let commit = raw.commit.as_ref();
    if let Some(text) = commit.and_then(|commit| commit.every.as_ref())
        && let Some(every) = duration(text, false, report)
    {
        if every < SHORTEST {
            report.error(
                text.at,
                format!("`{}` is too short between two commits", text.value),
                "write `1s` or more: each commit makes files that somebody has to merge",
            );
        }
        layout.commit_every = Some(every);
    }
    if let Some(text) = commit.and_then(|commit| commit.size.as_ref())
        && let Some(bytes) = size(text, report)
    {
        if bytes < SMALLEST {
            report.error(
                text.at,
                format!("`{}` is too small for a commit", text.value),
                "write `1MiB` or more: small files are slow to read",
            );
        }
        layout.commit_size = Some(bytes);
    }
    layout
}

/// Does the partition tell the value, or a part of it?
fn shows(transform: PartitionTransform) -> bool {
    matches!(transform, PartitionTransform::Identity | PartitionTransform::Truncate(_))
}

fn not_empty(list: &OneOrMany<Text>, key: &str, raw: &raw::Lake, report: &mut Report) {
    if list.0.is_empty() {
        report.error(
            raw.at,
            format!("`{key}` is empty"),
            format!("name a column, or leave `{key}` out for its default"),
        );
    }
}

fn twice(text: &Text, why: &str, report: &mut Report) {
    report.error(
        text.at,
        format!("the column of `{}` stands here twice", shorten(&text.value)),
        format!("remove one of them: {why}"),
    );
}

fn column<'s>(text: &Text, scope: &'s Scope, report: &mut Report) -> Option<&'s ScopeColumn> {
    let found = scope.columns.iter().find(|column| column.name == text.value);
    if found.is_none() {
        report.error(
            text.inside(1, 1),
            format!("there is no column `{}`", shorten(&text.value)),
            suggest(&text.value, scope.columns.iter().map(|c| c.name.as_str()), "columns"),
        );
    }
    found
}

/// A column whose values have an order.
fn sort_column<'s>(text: &Text, scope: &'s Scope, report: &mut Report) -> Option<&'s ScopeColumn> {
    if text.value.contains(['(', ')']) {
        report.error(
            text.at,
            format!("`{}` is not the name of a column", shorten(&text.value)),
            "name a column: rows are sorted by its values",
        );
        return None;
    }
    let column = column(text, scope, report)?;
    if matches!(column.ty, Type::List(_) | Type::Struct(_) | Type::Json) {
        report.error(
            text.at,
            format!("rows cannot be sorted by `{}`, which is {}", column.name, column.ty),
            "choose a column of single values",
        );
        return None;
    }
    Some(column)
}

/// `column`, `day(column)` or `bucket(16, column)`.
fn partition_field(text: &Text, scope: &Scope, report: &mut Report) -> Option<PartitionField> {
    let (name, transform) = match call(text, report)? {
        None => (text.with_value(text.value.trim()), PartitionTransform::Identity),
        Some((function, arguments)) => transform(&function, &arguments, report)?,
    };
    let column = column(&name, scope, report)?;
    if let Some(hint) = problem(transform, &column.ty) {
        let (text_value, ty) = (shorten(&text.value), &column.ty);
        report.error(
            text.at,
            format!("`{text_value}` cannot be part of a partition: `{}` is {ty}", column.name),
            hint,
        );
        return None;
    }
    Some(PartitionField { column: column.column.clone(), transform })
}

/// Function and arguments of `f(a, b)`; nothing for a plain name.
fn call(text: &Text, report: &mut Report) -> Option<Option<(Text, Vec<Text>)>> {
    let Some((function, rest)) = text.value.split_once('(') else {
        if text.value.contains(')') {
            return unbalanced(text, report);
        }
        return Some(None);
    };
    let Some(inner) = rest.trim_end().strip_suffix(')').filter(|inner| !inner.contains(['(', ')']))
    else {
        return unbalanced(text, report);
    };
    let mut arguments = Vec::new();
    let mut start = function.chars().count() + 1;
    for part in inner.split(',') {
        let blank = part.chars().take_while(|c| c.is_whitespace()).count();
        let offset = u32::try_from(start + blank).unwrap_or(0);
        arguments.push(text.part(part.trim(), offset));
        start += part.chars().count() + 1;
    }
    Some(Some((text.with_value(function.trim()), arguments)))
}

fn unbalanced<T>(text: &Text, report: &mut Report) -> Option<T> {
    report.error(
        text.at,
        format!("`{}` is not a part of a partition", shorten(&text.value)),
        "write a column or `function(column)`, and put a function with a comma in quotes: \
         `'bucket(16, user_id)'`",
    );
    None
}

fn transform(
    function: &Text,
    arguments: &[Text],
    report: &mut Report,
) -> Option<(Text, PartitionTransform)> {
    let name = function.value.to_ascii_lowercase();
    if !FUNCTIONS.contains(&name.as_str()) {
        report.error(
            function.at,
            format!("partitions know no function `{}`", shorten(&function.value)),
            suggest(&name, FUNCTIONS, "functions"),
        );
        return None;
    }
    let counts = matches!(name.as_str(), "bucket" | "truncate");
    let (number, column) = match (counts, arguments) {
        (false, [column]) if !column.value.is_empty() => (0, column),
        (true, [number, column]) => (count(number, report)?, column),
        _ => {
            let form =
                if counts { format!("{name}(16, column)") } else { format!("{name}(column)") };
            report.error(
                function.at,
                format!(
                    "`{name}` takes {}",
                    if counts { "a number and a column" } else { "a column" }
                ),
                format!("write `{form}`"),
            );
            return None;
        }
    };
    let transform = match name.as_str() {
        "day" => PartitionTransform::Day,
        "month" => PartitionTransform::Month,
        "hour" => PartitionTransform::Hour,
        "bucket" => PartitionTransform::Bucket(number),
        _ => PartitionTransform::Truncate(number),
    };
    Some((column.clone(), transform))
}

fn count(text: &Text, report: &mut Report) -> Option<u32> {
    let digits = text.value.bytes().all(|b| b.is_ascii_digit());
    let parsed = text.value.parse().ok().filter(|n| digits && (1..=MOST).contains(n));
    if parsed.is_none() {
        report.error(
            text.inside(1, 1),
            format!("`{}` is not a number of buckets or characters", shorten(&text.value)),
            format!("write a whole number from 1 to {MOST}"),
        );
    }
    parsed
}

/// What to do when values of that type have no such part.
fn problem(transform: PartitionTransform, ty: &Type) -> Option<&'static str> {
    use PartitionTransform::{Bucket, Day, Hour, Identity, Month, Truncate};
    let hint = match (transform, ty) {
        (Identity, Type::String | Type::Int64 | Type::Bool | Type::Date)
        | (Day | Month, Type::Timestamp | Type::Date)
        | (Hour, Type::Timestamp)
        | (Bucket(_), Type::String | Type::Int64 | Type::Timestamp | Type::Date)
        | (Truncate(_), Type::String | Type::Int64) => return None,
        (Identity, Type::Timestamp) => "write `day(…)`, `month(…)` or `hour(…)` of it",
        (Identity, _) => "choose a string, an int64, a bool or a date, or a part of a timestamp",
        (Day | Month, _) => "take the day or month of a timestamp or a date",
        (Hour, _) => "take the hour of a timestamp",
        (Bucket(_), _) => "put strings, int64s, timestamps or dates into buckets",
        (Truncate(_), _) => "truncate strings or int64s",
    };
    Some(hint)
}
