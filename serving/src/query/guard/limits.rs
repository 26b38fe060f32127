//! How large a statement may be, in every way in which it can be large.

use sqlparser::dialect::DuckDbDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::refusal::Refusal;

/// Longest text, in bytes.
const TEXT_BYTES: usize = 8 * 1024;
/// Most words, signs and literals.
const TOKENS: usize = 2_000;
/// Deepest nesting of brackets.
const BRACKETS: usize = 12;
/// Deepest nesting of brackets behind a word. sqlparser reads `cast(`, `position(` and such as what they are
/// and, where that fails, as any function: where the innermost fails, each level doubles the time or triples
/// it.
const CALLS: usize = 8;
/// Deepest nesting that the parser goes into.
pub(super) const PARSER_DEPTH: usize = 64;
/// Deepest nesting of expressions and queries.
pub(super) const DEPTH: usize = 48;
/// Longest chain of operators, `a and b and c …`, which is read as one nested to the left.
pub(super) const CHAIN: usize = 256;
/// Deepest nesting of queries.
pub(super) const QUERIES: usize = 8;
/// Most scans of relations, counting those behind a CTE each time that it is named.
pub(super) const SCANS: usize = 24;
/// Most columns of a list.
pub(super) const COLUMNS: usize = 200;
/// Longest name, in bytes.
pub(super) const NAME_BYTES: usize = 128;
/// Longest text that joining texts gives, in characters. DuckDB joins the texts of some 2,000 rows at
/// once, in memory that it does not count.
pub(super) const JOINED: usize = 1_000;
/// Most times that texts are joined, for the same reason.
pub(super) const JOINS: usize = 32;
/// Longest statement as we write it, without the relations, in bytes.
pub(super) const WRITTEN: usize = 128 * 1024;

/// Refuses texts that are too large to look at.
pub(super) fn check_text(text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_BYTES {
        return Err(Refusal::refused(format!(
            "the statement has {} bytes, at most {TEXT_BYTES} are read",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Refusal::refused("the statement has a NUL character"));
    }
    let tokens = Tokenizer::new(&DuckDbDialect {}, text)
        .tokenize()
        .map_err(|error| Refusal::invalid(format!("this is no SQL: {error}")))?;
    let mut count = 0;
    // Of each open bracket: does it stand behind a word?
    let mut open: Vec<bool> = Vec::new();
    let mut is_behind_word = false;
    for token in &tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => open.push(is_behind_word),
            Token::RParen | Token::RBracket | Token::RBrace => drop(open.pop()),
            _ => {}
        }
        is_behind_word = matches!(token, Token::Word(_));
        count += 1;
        if count > TOKENS {
            return Err(Refusal::refused(format!("the statement has more than {TOKENS} words")));
        }
        if open.len() > BRACKETS {
            return Err(Refusal::refused(format!("brackets nest deeper than {BRACKETS}")));
        }
        if open.iter().filter(|is_call| **is_call).count() > CALLS {
            return Err(Refusal::refused(format!("calls nest deeper than {CALLS}")));
        }
    }
    Ok(())
}
