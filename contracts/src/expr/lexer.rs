//! Text to tokens: sqlparser's tokenizer, cut down to the tokens of the dialect.
//!
//! Every token keeps its place. The length of a text is bounded here, its nesting in the parser.

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Token as SqlToken, Tokenizer};

use super::error::{ExprError, Pos};

/// Longest text in bytes. The longest reasonable one (a list of a few hundred codes) is far below.
pub(super) const MAX_TEXT_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name. Keywords are recognised by the parser, in any letter case.
    Word(String),
    /// A name in double quotes: never a keyword.
    Quoted(String),
    Number(String),
    Text(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// How an error message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Quoted(name) => format!("`\"{name}\"`"),
            Self::Number(number) => format!("`{number}`"),
            Self::Text(_) => "a text".to_owned(),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end of the expression".to_owned(),
        }
    }
}

/// Standard SQL lexing with names of letters, digits and underscores.
#[derive(Debug)]
struct ContractDialect;

impl Dialect for ContractDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }
}

/// The tokens of `text`, ending in [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Pos)>, ExprError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Pos::START
            .error(format!(
                "the expression has {} bytes, more than the {MAX_TEXT_BYTES} allowed",
                text.len()
            ))
            .hint("split it into several derived fields"));
    }
    let raw = Tokenizer::new(&ContractDialect, text).tokenize_with_location().map_err(|error| {
        let message = error.message.to_lowercase();
        // The tokenizer names places past the end for what is never closed.
        let (said, end) = (at(error.location.line, error.location.column), end_of(text));
        let pos = if (said.line, said.column) > (end.line, end.column) { end } else { said };
        pos.error(message.trim_end_matches('.'))
            .hint("texts stand in 'single quotes', names in \"double quotes\"")
    })?;
    let mut tokens = Vec::with_capacity(raw.len() + 1);
    for token in raw {
        let pos = at(token.span.start.line, token.span.start.column);
        if let Some(token) = convert(token.token, pos)? {
            tokens.push((token, pos));
        }
    }
    tokens.push((Token::End, end_of(text)));
    Ok(tokens)
}

fn at(line: u64, column: u64) -> Pos {
    let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Pos { line: clip(line), column: clip(column) }
}

/// Behind the last character that is no space: what ends too early ends there.
fn end_of(text: &str) -> Pos {
    let text = text.trim_end();
    let line = text.matches('\n').count() as u64 + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    at(line, last.chars().count() as u64 + 1)
}

fn convert(token: SqlToken, pos: Pos) -> Result<Option<Token>, ExprError> {
    let symbol = match token {
        SqlToken::Whitespace(_) | SqlToken::EOF => return Ok(None),
        SqlToken::Word(word) if word.quote_style.is_none() => {
            return Ok(Some(Token::Word(word.value)));
        }
        SqlToken::Word(word) => return Ok(Some(Token::Quoted(word.value))),
        SqlToken::Number(number, false) => return Ok(Some(Token::Number(number))),
        SqlToken::SingleQuotedString(text) => return Ok(Some(Token::Text(text))),
        SqlToken::LParen => "(",
        SqlToken::RParen => ")",
        SqlToken::LBracket => "[",
        SqlToken::RBracket => "]",
        SqlToken::Comma => ",",
        SqlToken::Period => ".",
        SqlToken::Plus => "+",
        SqlToken::Minus => "-",
        SqlToken::Mul => "*",
        SqlToken::Div => "/",
        SqlToken::Mod => "%",
        SqlToken::StringConcat => "||",
        SqlToken::Eq => "=",
        SqlToken::Neq => "<>",
        SqlToken::Lt => "<",
        SqlToken::LtEq => "<=",
        SqlToken::Gt => ">",
        SqlToken::GtEq => ">=",
        other => {
            return Err(pos
                .error(format!("`{other}` is not part of the expression dialect"))
                .hint_if(hint_for(&other)));
        }
    };
    Ok(Some(Token::Symbol(symbol)))
}

fn hint_for(token: &SqlToken) -> Option<&'static str> {
    Some(match token {
        SqlToken::DoubleEq => "equality is written `=`",
        SqlToken::ExclamationMark => "negation is written `not`",
        SqlToken::DoubleColon => "write `cast(x as type)`",
        SqlToken::Overlap => "write `and`",
        SqlToken::Pipe => "write `or`, or `||` to join texts",
        SqlToken::Tilde | SqlToken::TildeAsterisk => "write `regexp_like(text, 'pattern')`",
        SqlToken::SemiColon => "an expression is a single one and ends without `;`",
        SqlToken::Spaceship => "write `case when a is null then b is null else a = b end`",
        SqlToken::DuckIntDiv => "`/` between two int64 values already gives the truncated int64",
        SqlToken::Placeholder(_) | SqlToken::AtSign => "name a field of the contract instead",
        SqlToken::Number(..) => "write the number without a suffix",
        _ => return None,
    })
}
