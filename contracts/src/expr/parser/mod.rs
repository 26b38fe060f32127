//! Tokens to the syntax tree: recursive descent, one function per level of binding.
//!
//! The dialect is closed, so the grammar is small: what is not here is refused at its place. The
//! nesting is bounded on the way down and the height of the tree on the way up, so that no text
//! can exhaust the stack, neither here nor in whoever walks the tree later.

mod primary;
mod types;

use super::ast::{ArithmeticOp, Ast, AstKind, CompareOp, IsTest};
use super::error::{ExprError, Pos};
use super::lexer::{Token, tokens};
use super::suggest::nearest;

/// How deep parentheses, calls and `case` may stand in each other.
pub(super) const MAX_NESTING: usize = 48;
/// How high a tree may grow, by nesting and by chains such as `a + b + c + …`.
pub(super) const MAX_DEPTH: usize = 160;

/// Words that are never names unless quoted.
const RESERVED: [&str; 17] = [
    "and", "or", "not", "is", "null", "true", "false", "in", "between", "like", "ilike", "case",
    "when", "then", "else", "end", "as",
];

pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|r| word.eq_ignore_ascii_case(r))
}

/// Parses the whole of `text`.
pub(super) fn parse(text: &str) -> Result<Ast, ExprError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, nesting: 0 };
    if *parser.peek() == Token::End {
        return Err(parser.pos().error("the expression is empty"));
    }
    let ast = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(ast),
        other => Err(parser
            .pos()
            .error(format!("unexpected {} after the expression", other.describe()))
            .hint_if(parser.trailing_hint())),
    }
}

struct Parser {
    tokens: Vec<(Token, Pos)>,
    at: usize,
    nesting: usize,
}

type Parsed = Result<Ast, ExprError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn peek_second(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |t| &t.0)
    }

    fn pos(&self) -> Pos {
        self.tokens[self.at].1
    }

    /// Takes the current token. The last one, the end, stays where it is.
    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn is_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn eat_word(&mut self, keyword: &str) -> bool {
        let found = self.is_word(keyword);
        if found {
            self.next();
        }
        found
    }

    fn eat(&mut self, symbol: &'static str) -> bool {
        let found = *self.peek() == Token::Symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    fn expected(&self, what: &str) -> ExprError {
        self.pos().error(format!("expected {what}, found {}", self.peek().describe()))
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), ExprError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    fn expect_word(&mut self, keyword: &str) -> Result<(), ExprError> {
        if self.eat_word(keyword) { Ok(()) } else { Err(self.expected(&format!("`{keyword}`"))) }
    }

    /// What a text after a complete expression was probably meant to be.
    fn trailing_hint(&self) -> Option<String> {
        match self.peek() {
            Token::Symbol(")" | "]") => Some("it closes nothing".to_owned()),
            Token::Symbol("=" | "<>" | "<" | "<=" | ">" | ">=") => {
                Some("comparisons do not chain: join two of them with `and`".to_owned())
            }
            Token::Word(word) if word.eq_ignore_ascii_case("over") => {
                Some("window functions are not part of the dialect".to_owned())
            }
            Token::Word(word) => {
                nearest(word, RESERVED).map(|keyword| format!("did you mean `{keyword}`?"))
            }
            _ => None,
        }
    }

    fn node(&self, pos: Pos, kind: AstKind, depth_below: usize) -> Parsed {
        let depth = depth_below + 1;
        if depth > MAX_DEPTH {
            return Err(pos
                .error(format!("the expression is more than {MAX_DEPTH} levels deep"))
                .hint("use `in (…)` for many comparisons, or split it into derived fields"));
        }
        Ok(Ast { pos, kind, depth })
    }

    fn leaf(&self, pos: Pos, kind: AstKind) -> Parsed {
        self.node(pos, kind, 0)
    }

    fn unary(&self, pos: Pos, of: Ast, kind: impl FnOnce(Box<Ast>) -> AstKind) -> Parsed {
        let depth = of.depth;
        self.node(pos, kind(Box::new(of)), depth)
    }

    fn binary(
        &self,
        pos: Pos,
        left: Ast,
        right: Ast,
        kind: impl FnOnce(Box<Ast>, Box<Ast>) -> AstKind,
    ) -> Parsed {
        let depth = left.depth.max(right.depth);
        self.node(pos, kind(Box::new(left), Box::new(right)), depth)
    }

    fn expression(&mut self) -> Parsed {
        self.nested(Self::or)
    }

    /// Runs `inner` one level further down.
    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.nesting >= MAX_NESTING {
            return Err(self
                .pos()
                .error(format!("nested more than {MAX_NESTING} levels deep"))
                .hint("split the expression into derived fields"));
        }
        self.nesting += 1;
        let ast = inner(self);
        self.nesting -= 1;
        ast
    }

    fn or(&mut self) -> Parsed {
        self.chain("or", Self::and, AstKind::Or, |kind| match kind {
            AstKind::Or(terms) => Ok(terms),
            other => Err(other),
        })
    }

    fn and(&mut self) -> Parsed {
        self.chain("and", Self::not, AstKind::And, |kind| match kind {
            AstKind::And(terms) => Ok(terms),
            other => Err(other),
        })
    }

    /// `term keyword term keyword …`, flattened: both connectives are associative.
    fn chain(
        &mut self,
        keyword: &str,
        term: fn(&mut Self) -> Parsed,
        join: fn(Vec<Ast>) -> AstKind,
        split: fn(AstKind) -> Result<Vec<Ast>, AstKind>,
    ) -> Parsed {
        let first = term(self)?;
        if !self.is_word(keyword) {
            return Ok(first);
        }
        let pos = first.pos;
        let mut terms = Vec::new();
        let mut push = |ast: Ast| match split(ast.kind) {
            Ok(inner) => terms.extend(inner),
            Err(kind) => terms.push(Ast { kind, ..ast }),
        };
        push(first);
        while self.eat_word(keyword) {
            push(term(self)?);
        }
        let depth = terms.iter().map(|term| term.depth).max().unwrap_or(0);
        self.node(pos, join(terms), depth)
    }

    fn not(&mut self) -> Parsed {
        let pos = self.pos();
        if self.eat_word("not") {
            let of = self.nested(Self::not)?;
            return self.unary(pos, of, AstKind::Not);
        }
        self.comparison()
    }

    /// At most one comparison, then any number of `is …` tests.
    fn comparison(&mut self) -> Parsed {
        let mut left = self.additive()?;
        let pos = left.pos;
        if let Some(op) = self.compare_op() {
            let right = self.additive()?;
            left = self.binary(pos, left, right, |l, r| AstKind::Compare(op, l, r))?;
        } else {
            let negated = self.is_word("not")
                && matches!(self.peek_second(), Token::Word(word)
                    if ["in", "between", "like", "ilike"].iter().any(|k| word.eq_ignore_ascii_case(k)));
            if negated {
                self.next();
            }
            left = self.keyword_comparison(left, negated)?;
        }
        while self.eat_word("is") {
            left = self.is_test(left)?;
        }
        Ok(left)
    }

    fn compare_op(&mut self) -> Option<CompareOp> {
        let op = match self.peek() {
            Token::Symbol("=") => CompareOp::Equal,
            Token::Symbol("<>") => CompareOp::NotEqual,
            Token::Symbol("<") => CompareOp::Less,
            Token::Symbol("<=") => CompareOp::LessOrEqual,
            Token::Symbol(">") => CompareOp::Greater,
            Token::Symbol(">=") => CompareOp::GreaterOrEqual,
            _ => return None,
        };
        self.next();
        Some(op)
    }

    fn keyword_comparison(&mut self, left: Ast, negated: bool) -> Parsed {
        let pos = left.pos;
        if self.eat_word("in") {
            self.expect("(")?;
            let list = self.list(")")?;
            if list.is_empty() {
                return Err(pos.error("`in ()` has an empty list"));
            }
            let depth = list.iter().map(|a| a.depth).max().unwrap_or(0).max(left.depth);
            let kind = AstKind::In { operand: Box::new(left), list, negated };
            return self.node(pos, kind, depth);
        }
        if self.eat_word("between") {
            let low = self.additive()?;
            self.expect_word("and")?;
            let high = self.additive()?;
            let depth = left.depth.max(low.depth).max(high.depth);
            let kind = AstKind::Between {
                operand: Box::new(left),
                low: Box::new(low),
                high: Box::new(high),
                negated,
            };
            return self.node(pos, kind, depth);
        }
        let ignore_case = self.is_word("ilike");
        if ignore_case || self.is_word("like") {
            self.next();
            let pattern = self.additive()?;
            if self.is_word("escape") {
                return Err(self
                    .pos()
                    .error("`escape` is not part of the dialect")
                    .hint("a backslash before `%` or `_` makes it an ordinary character"));
            }
            return self.binary(pos, left, pattern, |operand, pattern| AstKind::Like {
                operand,
                pattern,
                ignore_case,
                negated,
            });
        }
        Ok(left)
    }

    fn is_test(&mut self, operand: Ast) -> Parsed {
        let pos = operand.pos;
        let negated = self.eat_word("not");
        let test = match self.peek() {
            _ if self.is_word("null") => IsTest::Null,
            _ if self.is_word("true") => IsTest::True,
            _ if self.is_word("false") => IsTest::False,
            _ if self.is_word("distinct") => {
                return Err(self
                    .pos()
                    .error("`is distinct from` is not part of the dialect")
                    .hint("write `case when a is null then b is not null else (a <> b) is not false end`"));
            }
            _ => return Err(self.expected("`null`, `true` or `false` after `is`")),
        };
        self.next();
        self.unary(pos, operand, |operand| AstKind::Is { operand, test, negated })
    }

    fn additive(&mut self) -> Parsed {
        let mut left = self.multiplicative()?;
        loop {
            let pos = self.pos();
            if self.eat("||") {
                let right = self.multiplicative()?;
                left = self.binary(pos, left, right, AstKind::Concat)?;
                continue;
            }
            let op = match self.peek() {
                Token::Symbol("+") => ArithmeticOp::Add,
                Token::Symbol("-") => ArithmeticOp::Subtract,
                _ => return Ok(left),
            };
            self.next();
            let right = self.multiplicative()?;
            left = self.binary(pos, left, right, |l, r| AstKind::Arithmetic(op, l, r))?;
        }
    }

    fn multiplicative(&mut self) -> Parsed {
        let mut left = self.signed()?;
        loop {
            let pos = self.pos();
            let op = match self.peek() {
                Token::Symbol("*") => ArithmeticOp::Multiply,
                Token::Symbol("/") => ArithmeticOp::Divide,
                Token::Symbol("%") => ArithmeticOp::Remainder,
                _ => return Ok(left),
            };
            self.next();
            let right = self.signed()?;
            left = self.binary(pos, left, right, |l, r| AstKind::Arithmetic(op, l, r))?;
        }
    }

    fn signed(&mut self) -> Parsed {
        let pos = self.pos();
        if self.eat("+") {
            return self.nested(Self::signed);
        }
        if !self.eat("-") {
            return self.postfix();
        }
        let of = self.nested(Self::signed)?;
        match of.kind {
            // The sign belongs to the number: the lowest int64 has no positive counterpart.
            AstKind::Number(number) => {
                let number = match number.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{number}"),
                };
                self.leaf(pos, AstKind::Number(number))
            }
            kind => self.unary(pos, Ast { kind, ..of }, AstKind::Negate),
        }
    }

    fn postfix(&mut self) -> Parsed {
        let mut of = self.primary()?;
        loop {
            let pos = self.pos();
            if self.eat(".") {
                let name = match self.next() {
                    Token::Word(name) | Token::Quoted(name) => name,
                    _ => return Err(pos.error("expected the name of a member after `.`")),
                };
                of = self.unary(pos, of, |of| AstKind::Member(of, name))?;
            } else if self.eat("[") {
                let index = self.expression()?;
                self.expect("]")?;
                of = self.binary(pos, of, index, AstKind::Index)?;
            } else {
                return Ok(of);
            }
        }
    }

    /// Expressions separated by commas up to `close`, which is consumed.
    fn list(&mut self, close: &'static str) -> Result<Vec<Ast>, ExprError> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            if *self.peek() == Token::Symbol("*") {
                return Err(self
                    .pos()
                    .error("`*` does not stand for a value")
                    .hint("count the elements of a list with `count_of(list)`"));
            }
            items.push(self.expression()?);
            if self.eat(close) {
                return Ok(items);
            }
            if !self.eat(",") {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
    }
}
