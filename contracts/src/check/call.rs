//! `name(argument, argument)`: the outer shape of folds and measures.
//!
//! Only the shape is read here; the arguments are expressions and compiled as such.

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::BTreeSet;

use crate::raw::decode::Text;

/// A name with arguments, or a bare name.
#[derive(Debug)]
pub(crate) struct Call {
    /// The name, in small letters.
    pub(crate) name: String,
    /// The arguments; `None` for a bare name, empty for `name()`.
    pub(crate) args: Option<Vec<Text>>,
}

/// Reads `text` as one call over its whole length; anything else (`sum(a) / 2`) is `None`.
pub(crate) fn parse_call(text: &Text) -> Option<Call> {
    let chars: Vec<char> = text.value.chars().collect();
    let start = chars.iter().position(|c| !c.is_whitespace())?;
    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let end = start + chars[start..].iter().take_while(|c| word(c)).count();
    let name: String = chars[start..end].iter().collect::<String>().to_lowercase();
    let rest = end + chars[end..].iter().take_while(|c| c.is_whitespace()).count();
    if name.is_empty() || rest == chars.len() {
        return (!name.is_empty()).then_some(Call { name, args: None });
    }
    if chars[rest] != '(' {
        return None;
    }
    let mut args = Vec::new();
    let mut from = rest + 1;
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    for i in rest..chars.len() {
        let c = chars[i];
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    if chars[i + 1..].iter().any(|c| !c.is_whitespace()) {
                        return None;
                    }
                    push(text, &chars, from, i, &mut args);
                    if args.len() == 1 && args[0].value.is_empty() {
                        args.clear();
                    }
                    return Some(Call { name, args: Some(args) });
                }
            }
            (None, ',') if depth == 1 => {
                push(text, &chars, from, i, &mut args);
                from = i + 1;
            }
            _ => {}
        }
    }
    None
}

fn push(text: &Text, chars: &[char], from: usize, to: usize, args: &mut Vec<Text>) {
    let blanks = chars[from..to].iter().take_while(|c| c.is_whitespace()).count();
    let value: String = chars[from + blanks..to].iter().collect();
    args.push(text.part(value.trim_end(), (from + blanks) as u32));
}

/// The names that an expression may be reading: all words that are not called as a function.
pub(crate) fn names_in(text: &str) -> BTreeSet<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let mut names = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let next = tokens[i + 1..].iter().find(|t| !matches!(t, Token::Whitespace(_)));
        if next != Some(&Token::LParen) {
            names.insert(word.value.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Report;
    use crate::raw::decode::Decode;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<&[&str]>)>) {
        let mut report = Report::default();
        let quoted = format!("\"{text}\"");
        let documents = crate::yaml::parse(0, &quoted, &mut report);
        let text = Text::decode(&documents[0].root, &mut report).expect("a text");
        let call = parse_call(&text);
        let args = call.as_ref().map(|c| {
            c.args.as_ref().map(|a| a.iter().map(|t| t.value.as_str()).collect::<Vec<_>>())
        });
        assert_eq!(call.as_ref().map(|c| c.name.as_str()), expected.map(|e| e.0));
        assert_eq!(args, expected.map(|e| e.1.map(<[&str]>::to_vec)));
    }

    #[test]
    fn a_call_spans_the_whole_text() {
        check("count", Some(("count", None)));
        check("count()", Some(("count", Some(&[]))));
        check("quantile(a + f(b, c), 0.9)", Some(("quantile", Some(&["a + f(b, c)", "0.9"]))));
        check(
            "sum(case when a = ')' then 1 end)",
            Some(("sum", Some(&["case when a = ')' then 1 end"]))),
        );
        check("sum(a) / 2", None);
        check("a + b", None);
        check("sum(a", None);
        check("(a)", None);
    }

    #[test]
    fn names_are_words_that_are_not_called() {
        let names = names_in("abs(a - b.c) > 0 and d = 'e f'");
        assert!(["a", "b", "c", "d"].iter().all(|n| names.contains(*n)), "{names:?}");
        assert!(!names.contains("abs") && !names.contains("e"));
    }
}
