//! Is the question one that the contract answers?
//!
//! [`resolve`] turns a question's texts into what the contract declares, or says what does not fit
//! and what would. It touches no store. Everything after it works on a [`Resolved`] and need not
//! doubt it.

use std::borrow::Cow;
use std::cmp::Ordering;

use contracts::model::{Dimension, Metric, Window};
use contracts::types::Type;
use duckdb::types::{TimeUnit, Value as SqlValue};

use super::groups::Member;
use super::nearest;
use crate::question::{Condition, Filters, GroupOrder, MetricQuestion, ReadError};
use crate::value::{date_text, parse_date, parse_moment, time_text};

/// How far `as_of` may lie ahead of the clock: clocks differ a little between machines.
const FUTURE_TOLERANCE: i64 = 5_000_000;

/// The window of a question that names none, where the contract declares it.
const DEFAULT_WINDOW: &str = "1h";

/// Bounds of DuckDB's TIMESTAMP type, µs.
const EARLIEST: i64 = -9_223_372_022_400_000_000;
pub(super) const LATEST: i64 = 9_223_372_036_854_775_806;

/// A question that fits its contract.
#[derive(Debug, Clone)]
pub(crate) struct Resolved<'a> {
    /// The metric that answers.
    pub(crate) metric: &'a Metric,
    /// Tenant that asks.
    pub(crate) tenant: &'a str,
    /// The window; of a span one that is called by its ends.
    pub(crate) window: Cow<'a, Window>,
    /// From and to, µs, in place of a declared window.
    pub(crate) span: Option<(i64, i64)>,
    /// Reference time asked for, µs.
    pub(crate) as_of: Option<i64>,
    /// What was applied after this time does not count, µs.
    pub(crate) known_at: Option<i64>,
    /// How old a cached answer may be, µs; `None`: as the contract says.
    pub(crate) max_staleness: Option<i64>,
    /// Reference time: `as_of`, else `known_at`, else now, µs.
    pub(crate) reference: i64,
    /// What must hold of dimensions.
    pub(crate) filters: Vec<Filter<'a>>,
    /// Dimensions to group by, in the order asked.
    pub(crate) group_by: Vec<&'a Dimension>,
    /// The order of groups.
    pub(crate) order_by: GroupOrder,
    /// Most groups that are named.
    pub(crate) limit: Option<usize>,
    /// Are all others one group?
    pub(crate) other: bool,
    /// The groups that are named, if that is said.
    pub(crate) named: Option<Vec<Vec<Member>>>,
    /// Is the window before wanted, too?
    pub(crate) compare: bool,
    /// Dimensions whose values in a row must together be none of `without_groups`. Never asked: this is how
    /// the rest of an answer's groups is measured.
    pub(crate) without: Vec<&'a Dimension>,
    /// See `without`.
    pub(crate) without_groups: Vec<Vec<Member>>,
}

/// A dimension and what must hold of its value.
#[derive(Debug, Clone)]
pub(crate) struct Filter<'a> {
    /// The dimension.
    pub(crate) dimension: &'a Dimension,
    /// What must hold.
    pub(crate) test: Test,
}

/// What must hold of a value, in its dimension's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// It is one of these, in order, or not there where `or_none`.
    In { values: Vec<FilterValue>, or_none: bool },
    /// It is none of these, in order. One that is not there is none of them, and fits unless `or_none`.
    NotIn { values: Vec<FilterValue>, or_none: bool },
    /// It is there and above the bound, or the same where `or_equal`.
    Above { bound: FilterValue, or_equal: bool },
    /// It is there and below the bound, or the same where `or_equal`.
    Below { bound: FilterValue, or_equal: bool },
}

impl Test {
    /// Does it hold of a value? As `tested` in `sql.rs` says it in SQL.
    pub(crate) fn passes(&self, member: &Member) -> bool {
        let value = FilterValue::of(member);
        let is_one_of =
            |values: &[FilterValue]| value.as_ref().is_some_and(|value| values.contains(value));
        let compared = |bound: &FilterValue| value.as_ref().map(|value| value.cmp(bound));
        match self {
            Self::In { values, or_none: true } => value.is_none() || is_one_of(values),
            // Nothing is listed but what is not there.
            Self::In { values, .. } if values.is_empty() => value.is_none(),
            Self::In { values, or_none: false } => is_one_of(values),
            Self::NotIn { values, .. } if values.is_empty() => value.is_some(),
            Self::NotIn { values, or_none: true } => value.is_some() && !is_one_of(values),
            Self::NotIn { values, or_none: false } => !is_one_of(values),
            Self::Above { bound, or_equal } => match compared(bound) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => *or_equal,
                _ => false,
            },
            Self::Below { bound, or_equal } => match compared(bound) {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => *or_equal,
                _ => false,
            },
        }
    }

    fn canonical(&self) -> Condition {
        let texts = |values: &[FilterValue], or_none: bool| {
            let values = values.iter().map(|value| Some(value.canonical()));
            values.chain(or_none.then_some(None)).collect()
        };
        match self {
            Self::In { values, or_none } => Condition::In(texts(values, *or_none)),
            Self::NotIn { values, or_none } => Condition::NotIn(texts(values, *or_none)),
            Self::Above { bound, or_equal } => {
                Condition::Above { bound: bound.canonical(), or_equal: *or_equal }
            }
            Self::Below { bound, or_equal } => {
                Condition::Below { bound: bound.canonical(), or_equal: *or_equal }
            }
        }
    }
}

/// The value of a filter, in its dimension's type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FilterValue {
    Text(String),
    Bool(bool),
    Int(i64),
    Date(i32),
}

impl FilterValue {
    /// The value of a group; `None`: it is not there.
    fn of(member: &Member) -> Option<Self> {
        match member {
            Member::Bool(value) => Some(Self::Bool(*value)),
            Member::Int(value) => Some(Self::Int(*value)),
            Member::Date(days) => Some(Self::Date(*days)),
            Member::Text(text) => Some(Self::Text(text.clone())),
            Member::None | Member::Other => None,
        }
    }

    /// For binding to a statement.
    pub(crate) fn to_sql(&self) -> SqlValue {
        match self {
            Self::Text(text) => SqlValue::Text(text.clone()),
            Self::Bool(value) => SqlValue::Boolean(*value),
            Self::Int(value) => SqlValue::BigInt(*value),
            Self::Date(days) => SqlValue::Date32(*days),
        }
    }

    /// One spelling per value.
    fn canonical(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Date(days) => date_text(*days),
        }
    }
}

impl Resolved<'_> {
    /// Start of the window, µs; `None` for `now` and `all`.
    pub(crate) fn start(&self) -> Option<i64> {
        if let Some((from, _)) = self.span {
            return Some(from);
        }
        Some(self.window.start(self.reference)?.max(EARLIEST))
    }

    /// The same question to the window of the same length before this one. Of a window to date the same
    /// part of the period before: of a day until noon the day before until noon.
    pub(crate) fn previous(&self) -> Option<Self> {
        let (from, to) = match self.span {
            Some((from, to)) if to == LATEST => (from, self.reference.max(from)),
            Some(span) => span,
            None => (self.start()?, self.reference),
        };
        let length = to.saturating_sub(from);
        let period = self.window.period.filter(|_| self.span.is_none());
        let span = match period.and_then(|period| period.start(from.saturating_sub(1))) {
            Some(before) => (before, before.saturating_add(length).min(from)),
            None => (from.saturating_sub(length).max(EARLIEST), from),
        };
        let span = Some(span);
        // All of its groups are needed: which of them are shown depends on this window.
        let named = self.named.clone().or(Some(Vec::new()));
        self.compare.then(|| Self { span, named, compare: false, ..self.clone() })
    }

    /// A question over all the time that an answer is about: with the window before, where that is wanted.
    pub(crate) fn widest(&self) -> Self {
        let start = self.previous().and_then(|previous| previous.start());
        let span = start.map(|start| (start, LATEST)).or(self.span);
        Self { span, ..self.clone() }
    }

    /// The question with one spelling for all questions that mean the same.
    pub(crate) fn canonical(&self) -> MetricQuestion {
        let mut filters = Filters::default();
        for filter in &self.filters {
            filters.add(&filter.dimension.name, filter.test.canonical());
        }
        MetricQuestion {
            metric: self.metric.name.clone(),
            version: Some(self.metric.version),
            tenant: self.tenant.to_owned(),
            window: self.span.is_none().then(|| self.window.text.clone()),
            span: self.span,
            as_of: self.as_of,
            known_at: self.known_at,
            filters: filters.sorted(),
            group_by: self.group_by.iter().map(|dimension| dimension.name.clone()).collect(),
            order_by: self.order_by,
            limit: self.limit,
            other: self.other,
            named: self.named.as_ref().map(|named| {
                named.iter().map(|key| key.iter().map(Member::text).collect()).collect()
            }),
            compare: self.compare,
            // The same answer, whatever it may be taken for.
            max_staleness: None,
        }
    }
}

/// An instant for binding to a statement.
pub(crate) fn timestamp(micros: i64) -> SqlValue {
    SqlValue::Timestamp(TimeUnit::Microsecond, micros)
}

/// Reads the text of an `as_of` or `known_at` parameter.
pub fn parse_at(parameter: &'static str, text: &str) -> Result<i64, ReadError> {
    parse_moment(text).ok_or_else(|| ReadError::Invalid {
        message: format!("{parameter} `{text}` is not a time"),
        hint: Some("write it in RFC 3339, for example `2026-01-31T10:00:00Z`".to_owned()),
        parameter,
    })
}

/// The question to `metric` in the contract's terms. `now` in µs.
pub(crate) fn resolve<'a>(
    metric: &'a Metric,
    question: &'a MetricQuestion,
    now: i64,
) -> Result<Resolved<'a>, ReadError> {
    let window = match question.span {
        Some(span) => Cow::Owned(spanned(span)?),
        None => Cow::Borrowed(window(metric, question.window.as_deref())?),
    };
    let as_of = check_time("as_of", question.as_of, now)?;
    let known_at = check_time("known_at", question.known_at, now)?;
    let reference = as_of.or(known_at).unwrap_or(now);
    let mut filters = Vec::new();
    for (name, conditions) in question.filters.iter() {
        for condition in conditions {
            filters.push(filter(metric, name, condition)?);
        }
    }
    let mut group_by: Vec<&Dimension> = Vec::with_capacity(question.group_by.len());
    for name in &question.group_by {
        let dimension = dimension(metric, name, "group_by")?;
        if group_by.iter().any(|other| other.name == dimension.name) {
            return Err(ReadError::Invalid {
                message: format!("group_by names `{name}` twice"),
                hint: Some("name each dimension once".to_owned()),
                parameter: "group_by",
            });
        }
        group_by.push(dimension);
    }
    let (tenant, span) = (question.tenant.as_str(), question.span);
    let has_length = question.span.is_some() || window.start(reference).is_some();
    shape(question, &window, has_length)?;
    let named = question.named.as_ref().map(|named| {
        let key = |key: &Vec<Option<String>>| members(&group_by, key);
        named.iter().map(key).collect::<Result<Vec<_>, _>>()
    });
    let named = named.transpose()?;
    let max_staleness = question.max_staleness;
    Ok(Resolved {
        metric,
        tenant,
        window,
        span,
        as_of,
        known_at,
        max_staleness,
        reference,
        filters,
        group_by,
        order_by: question.order_by,
        limit: question.limit,
        other: question.other,
        named,
        compare: question.compare,
        without: Vec::new(),
        without_groups: Vec::new(),
    })
}

/// Most groups that may be named beside all others.
const MAX_NAMED: usize = 1_000;

/// Does what is asked of groups and windows go together?
fn shape(question: &MetricQuestion, window: &Window, has_length: bool) -> Result<(), ReadError> {
    let invalid = |parameter, message: String, hint: &str| ReadError::Invalid {
        message,
        hint: Some(hint.to_owned()),
        parameter,
    };
    if question.group_by.is_empty() {
        let asked = [
            ("limit", question.limit.is_some()),
            ("other", question.other),
            ("order_by", question.order_by != GroupOrder::Dimensions),
        ];
        if let Some((parameter, _)) = asked.into_iter().find(|(_, is_asked)| *is_asked) {
            let message = format!("`{parameter}` is about groups, but nothing is grouped");
            return Err(invalid(parameter, message, "name dimensions in `group_by`"));
        }
    }
    match question.limit {
        None if question.other => {
            let message = "`other` gathers what `limit` leaves, but there is no `limit`".to_owned();
            return Err(invalid("other", message, "say with `limit` how many groups are named"));
        }
        Some(limit) if question.other && !(1..=MAX_NAMED).contains(&limit) => {
            let message =
                format!("with `other`, `limit` must be from 1 to {MAX_NAMED}, not {limit}");
            return Err(invalid("limit", message, "name fewer groups"));
        }
        _ => {}
    }
    if question.compare && !has_length {
        let message = format!("window `{}` has no length: there is none before it", window.text);
        return Err(invalid("compare", message, "compare another window"));
    }
    Ok(())
}

/// Texts as values of dimensions.
fn members(dimensions: &[&Dimension], key: &[Option<String>]) -> Result<Vec<Member>, ReadError> {
    let member = |(dimension, text): (&&Dimension, &Option<String>)| match text {
        None => Ok(Member::None),
        Some(text) => filter_value(dimension, text).map(|value| match value {
            FilterValue::Text(text) => Member::Text(text),
            FilterValue::Bool(value) => Member::Bool(value),
            FilterValue::Int(value) => Member::Int(value),
            FilterValue::Date(days) => Member::Date(days),
        }),
    };
    dimensions.iter().zip(key).map(member).collect()
}

/// Passes `as_of` or `known_at` on unless it lies further in the future than clocks differ, or outside
/// what can be stored. What is known at a time is settled only once that time has passed, so
/// `known_at` may not lie ahead at all.
pub(crate) fn check_time(
    parameter: &'static str,
    time: Option<i64>,
    now: i64,
) -> Result<Option<i64>, ReadError> {
    let Some(at) = time else { return Ok(None) };
    let invalid = |message, hint| ReadError::Invalid { message, hint, parameter };
    let tolerance = if parameter == "as_of" { FUTURE_TOLERANCE } else { 0 };
    if at > now.saturating_add(tolerance) {
        return Err(invalid(
            format!("{parameter} {} lies in the future", time_text(at)),
            Some(format!(
                "the clock here says {}; leave {parameter} out to read what holds now",
                time_text(now)
            )),
        ));
    }
    if !(EARLIEST..=LATEST).contains(&at) {
        return Err(invalid(format!("{parameter} {at} is outside the range of times"), None));
    }
    Ok(Some(at))
}

/// The window between two times.
fn spanned((from, to): (i64, i64)) -> Result<Window, ReadError> {
    let fits = (EARLIEST..=LATEST).contains(&from) && (EARLIEST..=LATEST).contains(&to);
    if !fits || from >= to {
        return Err(ReadError::Invalid {
            message: format!("from {} to {} is no span of time", time_text(from), time_text(to)),
            hint: Some("`from` must lie before `to`".to_owned()),
            parameter: "from",
        });
    }
    // ISO 8601 writes an open end as two points.
    let end = if to == LATEST { "..".to_owned() } else { time_text(to) };
    let text = format!("{}/{end}", time_text(from));
    Ok(Window::trailing(text, to.saturating_sub(from)))
}

fn window<'a>(metric: &'a Metric, asked: Option<&str>) -> Result<&'a Window, ReadError> {
    let find = |text: &str| metric.windows.iter().find(|window| window.text == text);
    let found = match asked {
        Some(text) => find(text),
        None => find(DEFAULT_WINDOW).or_else(|| metric.windows.first()),
    };
    found.ok_or_else(|| ReadError::Invalid {
        message: match asked {
            Some(text) => format!("metric `{}` has no window `{text}`", metric.name),
            None => format!("metric `{}` declares no window", metric.name),
        },
        hint: (!metric.windows.is_empty()).then(|| {
            let windows = metric.windows.iter().map(|window| window.text.as_str());
            format!("its windows are {}", nearest::list(windows, ", "))
        }),
        parameter: "window",
    })
}

fn dimension<'a>(
    metric: &'a Metric,
    name: &str,
    parameter: &'static str,
) -> Result<&'a Dimension, ReadError> {
    metric.dimensions.iter().find(|dimension| dimension.name == name).ok_or_else(|| {
        ReadError::Invalid {
            message: format!("metric `{}` has no dimension `{name}`", metric.name),
            hint: if metric.dimensions.is_empty() {
                Some("it declares no dimensions".to_owned())
            } else {
                nearest::hint(name, metric.dimensions.iter().map(|d| d.name.as_str()))
            },
            parameter,
        }
    })
}

fn filter<'a>(
    metric: &'a Metric,
    name: &str,
    condition: &Condition,
) -> Result<Filter<'a>, ReadError> {
    let dimension = dimension(metric, name, "filter")?;
    let one = |text: &str| filter_value(dimension, text);
    let several = |texts: &[Option<String>]| {
        let values = texts.iter().flatten().map(|text| one(text));
        let mut values = values.collect::<Result<Vec<_>, _>>()?;
        values.sort_unstable();
        values.dedup();
        Ok((values, texts.contains(&None)))
    };
    let bound = |text: &str| match dimension.ty {
        Type::Bool => Err(ReadError::Invalid {
            message: format!("dimension `{name}` is `true` or `false`: it has no above and below"),
            hint: Some(format!("write {name}:true or {name}.not:true")),
            parameter: "filter",
        }),
        _ => one(text),
    };
    let test = match condition {
        Condition::In(texts) => {
            several(texts).map(|(values, or_none)| Test::In { values, or_none })?
        }
        Condition::NotIn(texts) => {
            several(texts).map(|(values, or_none)| Test::NotIn { values, or_none })?
        }
        Condition::Above { bound: text, or_equal } => {
            Test::Above { bound: bound(text)?, or_equal: *or_equal }
        }
        Condition::Below { bound: text, or_equal } => {
            Test::Below { bound: bound(text)?, or_equal: *or_equal }
        }
    };
    Ok(Filter { dimension, test })
}

/// A value in the dimension's type.
fn filter_value(dimension: &Dimension, text: &str) -> Result<FilterValue, ReadError> {
    let (value, form) = match dimension.ty {
        Type::Bool => (text.parse().ok().map(FilterValue::Bool), "`true` or `false`"),
        Type::Int64 => (text.parse().ok().map(FilterValue::Int), "a whole number"),
        Type::Date => (parse_date(text).map(FilterValue::Date), "a day such as `2026-01-31`"),
        // A text with a NUL character cannot be stored, so it cannot be found either.
        _ => (
            (!text.contains('\0')).then(|| FilterValue::Text(text.to_owned())),
            "a text without NUL characters",
        ),
    };
    value.ok_or_else(|| ReadError::Invalid {
        message: format!(
            "filter value `{text}` does not fit dimension `{}` of type {}",
            dimension.name, dimension.ty
        ),
        hint: Some(format!("write {form}")),
        parameter: "filter",
    })
}
