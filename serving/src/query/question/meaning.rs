//! What a question means, and how it is asked of the store.

use std::collections::BTreeMap;

use contracts::model::{Domain, Entity};
use contracts::types::Type;
use serde_json::{Map, Value, json};

use super::time::text_of;
use crate::metric::quote;
use crate::query::metrics::MetricsQuery;
use crate::value::time_text;

/// What a question means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Metrics, as `POST /v1/query` takes them.
    Metrics(MetricMeaning),
    /// Rows of one entity, or something about all of them.
    Entity(EntityMeaning),
}

/// A question to metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricMeaning {
    /// Metrics by name.
    pub metrics: Vec<String>,
    /// Dimensions to group by.
    pub dimensions: Vec<String>,
    /// Dimension → value.
    pub filters: BTreeMap<String, String>,
    /// A declared window.
    pub window: Option<String>,
    /// A time in place of a window.
    pub span: Option<Span>,
    /// Windows of a series.
    pub grain: Option<String>,
    /// Only events before it have happened, µs.
    pub as_of: Option<i64>,
    /// Order by the first metric, downwards?
    pub down: Option<bool>,
    /// Only so many rows.
    pub limit: Option<u64>,
}

/// From and to, µs; no end: until now and on.
pub type Span = (i64, Option<i64>);

/// A question to an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityMeaning {
    /// Name of the entity.
    pub entity: String,
    /// What is asked of its rows.
    pub shape: Shape,
    /// Conditions that all must hold.
    pub conditions: Vec<Condition>,
}

/// What is asked of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The row with this key.
    Key(String),
    /// Rows, in order of a field (downwards?), so many.
    Rows {
        /// Field and "downwards?".
        order: Option<(String, bool)>,
        /// At most so many.
        limit: Option<u64>,
    },
    /// How many.
    Count,
    /// A function over a field: avg, sum, min or max.
    Measure {
        /// The function.
        function: &'static str,
        /// The field.
        field: String,
    },
}

/// `field operator value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: String,
    /// `=`, `>`, `>=`, `<` or `<=`.
    pub operator: &'static str,
    /// The value as text.
    pub value: String,
}

impl Meaning {
    /// In JSON, for answers and for tests.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Metrics(meaning) => meaning.to_json(),
            Self::Entity(meaning) => meaning.to_json(),
        }
    }
}

impl MetricMeaning {
    /// The query that it is, for a tenant.
    pub fn query(&self, tenant: &str) -> MetricsQuery {
        let order_by = match (self.down, self.metrics.first()) {
            (Some(down), Some(metric)) => vec![(metric.clone(), down)],
            _ => Vec::new(),
        };
        MetricsQuery {
            tenant: tenant.to_owned(),
            metrics: self.metrics.clone(),
            dimensions: self.dimensions.clone(),
            filters: self.filters.clone().into(),
            window: self.window.clone(),
            from: self.span.map(|(from, _)| from),
            to: self.span.and_then(|(_, to)| to),
            grain: self.grain.clone(),
            as_of: self.as_of,
            order_by,
            ..MetricsQuery::default()
        }
    }

    fn to_json(&self) -> Value {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            value.map(|value| shown.insert(name.to_owned(), value));
        };
        put("metrics", Some(json!(self.metrics)));
        put("dimensions", (!self.dimensions.is_empty()).then(|| json!(self.dimensions)));
        put("filters", (!self.filters.is_empty()).then(|| json!(self.filters)));
        put("window", self.window.as_ref().map(|text| json!(text)));
        put("from", self.span.map(|(from, _)| json!(time_text(from))));
        put("to", self.span.and_then(|(_, to)| to).map(|to| json!(time_text(to))));
        put("grain", self.grain.as_ref().map(|text| json!(text)));
        put("as_of", self.as_of.map(|time| json!(time_text(time))));
        let order = |down: bool| format!("{} {}", self.metrics[0], way(down));
        put("order_by", self.down.map(|down| json!(order(down))));
        put("limit", self.limit.map(|limit| json!(limit)));
        Value::Object(shown)
    }
}

impl EntityMeaning {
    /// The statement that it is, over the relations that callers may name.
    pub fn sql(&self, domain: &Domain) -> Option<String> {
        let entity = domain.entity(&self.entity)?;
        let table = quote(&self.entity.replace('.', "_"));
        let mut conditions: Vec<String> =
            self.conditions.iter().map(|condition| condition.sql(entity)).collect();
        let (columns, end) = match &self.shape {
            Shape::Key(key) => {
                // The key may be shown as a number.
                conditions.push(format!("cast({} as varchar) = {}", quote(&entity.key), text(key)));
                ("*".to_owned(), String::new())
            }
            Shape::Rows { order, limit } => {
                let key = quote(&entity.key);
                let order = match order {
                    Some((field, down)) => {
                        format!(" order by {} {} nulls last, {key}", quote(field), way(*down))
                    }
                    None => format!(" order by {key}"),
                };
                let limit = limit.map(|limit| format!(" limit {limit}")).unwrap_or_default();
                ("*".to_owned(), format!("{order}{limit}"))
            }
            Shape::Count => (format!("count(*) as {}", quote(&self.count_name())), String::new()),
            Shape::Measure { function, field } => {
                let name = quote(&format!("{function}_{field}"));
                (format!("{function}({}) as {name}", quote(field)), String::new())
            }
        };
        let conditions = match conditions.is_empty() {
            true => String::new(),
            false => format!(" where {}", conditions.join(" and ")),
        };
        Some(format!("select {columns} from {table}{conditions}{end}"))
    }

    fn count_name(&self) -> String {
        format!("{}_count", self.entity.replace('.', "_"))
    }

    fn to_json(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("entity".into(), json!(self.entity));
        match &self.shape {
            Shape::Key(key) => drop(shown.insert("id".into(), json!(key))),
            Shape::Rows { order, limit } => {
                if let Some((field, down)) = order {
                    shown.insert("order_by".into(), json!(format!("{field} {}", way(*down))));
                }
                if let Some(limit) = limit {
                    shown.insert("limit".into(), json!(limit));
                }
            }
            Shape::Count => drop(shown.insert("measure".into(), json!("count"))),
            Shape::Measure { function, field } => {
                shown.insert("measure".into(), json!(format!("{function}({field})")));
            }
        }
        if !self.conditions.is_empty() {
            let texts = self.conditions.iter();
            let texts = texts.map(|c| format!("{} {} {}", c.field, c.operator, c.value));
            shown.insert("where".into(), json!(texts.collect::<Vec<_>>()));
        }
        Value::Object(shown)
    }
}

impl Condition {
    fn sql(&self, entity: &Entity) -> String {
        let field = entity.fields.iter().find(|field| field.name == self.field);
        let value = match field.map(|field| &field.ty) {
            // Both were read as what they are; other texts would be in quotes.
            Some(Type::Bool) if ["true", "false"].contains(&self.value.as_str()) => {
                self.value.clone()
            }
            Some(Type::Int64 | Type::Float64 | Type::Decimal { .. })
                if self.value.parse::<f64>().is_ok_and(f64::is_finite) =>
            {
                self.value.clone()
            }
            _ => text(&self.value),
        };
        format!("{} {} {value}", quote(&self.field), self.operator)
    }
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn way(down: bool) -> &'static str {
    if down { "desc" } else { "asc" }
}

/// The declared window of a length, else the span until now.
pub(super) fn window_or_span<'a>(
    mut windows: impl Iterator<Item = &'a [contracts::model::Window]>,
    length: i64,
    now: i64,
) -> (Option<String>, Option<Span>) {
    let text = text_of(length);
    let mut found: Option<String> = None;
    let declared = windows.all(|windows| {
        match windows.iter().find(|window| window.length == Some(length)) {
            // Two contracts may write it differently: then none of the texts will do for both.
            Some(window) if found.as_ref().is_none_or(|text| *text == window.text) => {
                found = Some(window.text.clone());
                true
            }
            _ => false,
        }
    });
    match declared {
        true => (found.or(Some(text)), None),
        false => (None, Some((now.saturating_sub(length), None))),
    }
}
