//! Values: literals, names, calls, `case` and parentheses.

use super::{Parsed, Parser, is_reserved};
use crate::expr::ast::AstKind;
use crate::expr::error::Pos;
use crate::expr::lexer::Token;
use crate::expr::suggest::nearest;

/// Words that start a typed literal when a text follows.
const TYPED_LITERALS: [&str; 3] = ["timestamp", "date", "interval"];

impl Parser {
    pub(super) fn primary(&mut self) -> Parsed {
        let pos = self.pos();
        match self.next() {
            Token::Number(number) => self.number(pos, &number),
            Token::Text(text) => self.leaf(pos, AstKind::Text(text)),
            Token::Quoted(name) => self.leaf(pos, AstKind::Name(name)),
            Token::Symbol("(") => {
                let inner = self.expression()?;
                if *self.peek() == Token::Symbol(",") {
                    return Err(self
                        .expected("`)`")
                        .hint("a list of values stands only after `in`"));
                }
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.word(pos, word),
            other => Err(pos.error(format!("expected a value, found {}", other.describe()))),
        }
    }

    /// Brings a number into one spelling.
    fn number(&self, pos: Pos, number: &str) -> Parsed {
        let lower = number.to_ascii_lowercase();
        let (mantissa, exponent) = match lower.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (lower.as_str(), None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let valid = digits(whole)
            && fraction.is_none_or(|part| !part.is_empty() && digits(part))
            && exponent.is_none_or(|part| {
                let part = part.strip_prefix(['+', '-']).unwrap_or(part);
                !part.is_empty() && digits(part)
            });
        if !valid {
            return Err(pos.error(format!("`{number}` is not a number")));
        }
        let whole = whole.trim_start_matches('0');
        let mut text = if whole.is_empty() { "0" } else { whole }.to_owned();
        if let Some(fraction) = fraction {
            text = format!("{text}.{fraction}");
        }
        if let Some(exponent) = exponent {
            text = format!("{text}e{}", exponent.trim_start_matches('+'));
        }
        self.leaf(pos, AstKind::Number(text))
    }

    fn word(&mut self, pos: Pos, word: String) -> Parsed {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "null" => return self.leaf(pos, AstKind::Null),
            "true" | "false" => return self.leaf(pos, AstKind::Bool(lower == "true")),
            "case" => return self.case(pos),
            _ if is_reserved(&lower) => {
                return Err(pos
                    .error(format!("expected a value, found `{word}`"))
                    .hint(format!("a field of that name is written \"{word}\"")));
            }
            _ => {}
        }
        if let Token::Text(text) = self.peek() {
            if !TYPED_LITERALS.contains(&lower.as_str()) {
                return Err(pos.error(format!("a text may not follow `{word}`")).hint_if(
                    nearest(&lower, TYPED_LITERALS).map(|k| format!("did you mean `{k}`?")),
                ));
            }
            let text = text.trim().to_owned();
            self.next();
            return self.leaf(
                pos,
                match lower.as_str() {
                    "timestamp" => AstKind::Timestamp(text),
                    "date" => AstKind::Date(text),
                    _ => AstKind::Interval(text),
                },
            );
        }
        if lower == "interval" && matches!(self.peek(), Token::Number(_)) {
            return Err(pos
                .error("the value of an interval is a text")
                .hint("write it as `interval '30 minutes'`"));
        }
        if self.eat("(") {
            return match lower.as_str() {
                "cast" => self.cast(pos),
                "extract" => self.extract(pos),
                _ => {
                    if self.is_word("distinct") && matches!(self.peek_second(), Token::Word(_)) {
                        return Err(self
                            .pos()
                            .error("`distinct` is not part of the dialect")
                            .hint(
                                "count distinct values of a list with `distinct_of(list, value)`",
                            ));
                    }
                    let args = self.list(")")?;
                    let depth = args.iter().map(|a| a.depth).max().unwrap_or(0);
                    self.node(pos, AstKind::Call(lower, args), depth)
                }
            };
        }
        self.leaf(pos, AstKind::Name(word))
    }

    /// `case [operand] when … then … [else …] end`; the first word is already taken.
    fn case(&mut self, pos: Pos) -> Parsed {
        let operand = if self.is_word("when") { None } else { Some(Box::new(self.expression()?)) };
        let mut branches = Vec::new();
        while self.eat_word("when") {
            let when = self.expression()?;
            self.expect_word("then")?;
            branches.push((when, self.expression()?));
        }
        if branches.is_empty() {
            return Err(self.expected("`when`"));
        }
        let otherwise =
            if self.eat_word("else") { Some(Box::new(self.expression()?)) } else { None };
        if !self.eat_word("end") {
            return Err(self.expected("`when`, `else` or `end`"));
        }
        let depth = branches
            .iter()
            .flat_map(|(when, then)| [when.depth, then.depth])
            .chain(operand.iter().chain(&otherwise).map(|ast| ast.depth))
            .max()
            .unwrap_or(0);
        let kind = AstKind::Case { operand, branches, otherwise };
        self.node(pos, kind, depth)
    }
}
