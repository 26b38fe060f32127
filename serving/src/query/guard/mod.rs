//! Callers' SQL, let through only as far as it is understood.
//!
//! ```text
//! text → limits → sqlparser → walk with an allow-list, writing anew → scoped text
//! ```
//!
//! The walk does not look for what is forbidden: it writes the statement again from the nodes that it
//! knows, and whatever it does not know is refused. So nothing reaches DuckDB but names in quotes,
//! literals, and words of ours; that sqlparser and DuckDB read a text differently does not matter.
//! Every match names all members of its node, so a newer sqlparser does not compile until somebody has
//! looked at what it brings.
//!
//! What always holds: each relation is the caller's ([`relations`]); each function is in the list
//! ([`functions`]); a statement cannot make more work than its length allows: whatever DuckDB puts in
//! place of a name, or has twice, is written out or counted ([`weight`]).
//!
//! Start at [`check`].

mod call;
mod expr;
mod functions;
mod limits;
mod literals;
mod page;
mod projection;
mod refusal;
mod relations;
mod select;
mod tables;
mod weight;

use std::sync::Arc;

use sqlparser::ast::Statement;
use sqlparser::dialect::DuckDbDialect;
use sqlparser::parser::Parser;

pub use refusal::{Refusal, RefusalKind};
pub use relations::{Offered, OfferedColumn, Relations, Source};

use page::Page;

/// A statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// The statement over the caller's rows, without its own last `limit` and `offset`.
    body: String,
    /// Those.
    page: Page,
    /// Whose rows it reads.
    pub(super) tenant: Arc<str>,
    /// The relations that it reads, in the order of their first appearance.
    pub relations: Vec<Offered>,
}

impl Guarded {
    /// The whole statement over the caller's rows.
    pub fn sql(&self) -> String {
        self.paged(u64::MAX, 0)
    }

    /// At most `limit` of its rows from row `offset` on.
    pub fn paged(&self, limit: u64, offset: u64) -> String {
        let left = self.page.limit.map_or(u64::MAX, |own| own.saturating_sub(offset));
        let limit = limit.min(left);
        let skipped = self.page.offset.saturating_add(offset);
        let mut text = self.body.clone();
        // DuckDB's limits are signed.
        if limit <= i64::MAX as u64 {
            text.push_str(&format!(" limit {limit}"));
        }
        if skipped > 0 {
            text.push_str(&format!(" offset {}", skipped.min(i64::MAX as u64)));
        }
        text
    }

    /// How many rows it has, counted up to `most`.
    pub fn counted(&self, most: u64) -> String {
        format!("select count(*) from (select 1 from ({}) r limit {most}) n", self.sql())
    }
}

/// Reads a statement and writes it anew over the rows of `relations`' caller.
pub fn check(text: &str, relations: &Relations<'_>) -> Result<Guarded, Refusal> {
    limits::check_text(text)?;
    let statements = Parser::new(&DuckDbDialect {})
        .with_recursion_limit(limits::PARSER_DEPTH)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| Refusal::invalid(format!("this is no SQL: {}", words_of(&error))))?;
    let [statement] = statements.as_slice() else {
        let count = statements.len();
        return Err(Refusal::refused(format!("one statement is expected, not {count}"))
            .hint("send each statement in a request of its own"));
    };
    let Statement::Query(query) = statement else {
        return Err(Refusal::refused("only `select` statements are let through"));
    };
    let mut writer = select::Writer::new(relations);
    let (body, page) = writer.statement(query)?;
    Ok(Guarded { body, page, tenant: relations.tenant(), relations: writer.used })
}

/// What sqlparser says, without its own name in front.
fn words_of(error: &sqlparser::parser::ParserError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
    text.chars().take(300).collect()
}
