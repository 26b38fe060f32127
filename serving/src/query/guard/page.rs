//! How many rows a statement itself wants.

use sqlparser::ast::{Expr, LimitClause, Offset, OffsetRows, Value};

use super::literals::whole;
use super::refusal::Refusal;
use super::select::{FENCE, none_of};

/// What the statement itself says about how many of its rows are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// At most so many.
    pub(super) limit: Option<u64>,
    /// From this one on.
    pub(super) offset: u64,
}

impl Page {
    /// As it is written behind a query that others read from.
    pub(super) fn text(self) -> String {
        let limit = self.limit.map_or_else(|| FENCE.to_owned(), |limit| format!(" limit {limit}"));
        match self.offset {
            0 => limit,
            offset => format!("{limit} offset {offset}"),
        }
    }
}

/// What a clause says.
pub(super) fn page(clause: Option<&LimitClause>) -> Result<Page, Refusal> {
    let (limit, offset) = match clause {
        None => return Ok(Page::default()),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
            none_of(limit_by, "`limit by`")?;
            let offset = offset.as_ref().map(|Offset { value, rows }| match rows {
                OffsetRows::None | OffsetRows::Row | OffsetRows::Rows => value,
            });
            (limit.as_ref(), offset)
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
    };
    Ok(Page {
        limit: limit.map(count).transpose()?,
        offset: offset.map(count).transpose()?.unwrap_or(0),
    })
}

fn count(expr: &Expr) -> Result<u64, Refusal> {
    if let Expr::Value(value) = expr
        && let Value::Number(digits, false) = &value.value
        && let Some(count) = whole(digits)
        && count <= i64::MAX as u64
    {
        return Ok(count);
    }
    Err(Refusal::refused("`limit` and `offset` must be whole numbers, written as such"))
}
