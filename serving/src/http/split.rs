//! A request body becomes records, each with the bytes that the sender wrote.
//!
//! Nothing is parsed that would have to be written again: the elements of an array are cut out of
//! the body as they stand, so a rejected event reaches the dead letters unchanged. What a record
//! says is the decoder's business; here only the body as a whole can be wrong.

use serde_json::value::RawValue;

/// Why a body has no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// There is nothing in it.
    #[error("the body is empty")]
    Empty,
    /// It begins as an array and is none.
    #[error("the body begins with `[` and is not a JSON array: {0}")]
    NotAnArray(String),
    /// More records than one request may have.
    #[error("the body has more than {0} events")]
    TooMany(usize),
}

/// Cuts a body into records.
///
/// `lines` says that the content type is NDJSON. Otherwise the first byte decides: `[` is an array
/// of events. Anything else is one event, unless its first line is a whole JSON value and more
/// lines follow.
pub(super) fn split(body: &[u8], lines: bool, most: usize) -> Result<Vec<&[u8]>, SplitError> {
    let Some(&first) = body.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return Err(SplitError::Empty);
    };
    let records = if lines {
        split_lines(body).take(most.saturating_add(1)).collect()
    } else if first == b'[' {
        split_array(body)?
    } else if begins_with_a_line_of_json(body) {
        split_lines(body).take(most.saturating_add(1)).collect()
    } else {
        vec![without_line_end(body)]
    };
    if records.len() > most { Err(SplitError::TooMany(most)) } else { Ok(records) }
}

fn split_array(body: &[u8]) -> Result<Vec<&[u8]>, SplitError> {
    match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(elements) => Ok(elements.into_iter().map(|raw| raw.get().as_bytes()).collect()),
        Err(error) => Err(SplitError::NotAnArray(error.to_string())),
    }
}

/// Lines without their ends; empty ones hold no event.
fn split_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&byte| byte == b'\n')
        .map(without_line_end)
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn begins_with_a_line_of_json(body: &[u8]) -> bool {
    let mut lines = split_lines(body);
    match (lines.next(), lines.next()) {
        (Some(first), Some(_)) => serde_json::from_slice::<&RawValue>(first).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: impl AsRef<[u8]>, lines: bool, expected: &[&[u8]]) {
        assert_eq!(split(body.as_ref(), lines, 100).unwrap(), expected);
    }

    #[test]
    fn one_event_keeps_its_bytes() {
        check(r#"{"a":1}"#, false, &[br#"{"a":1}"#]);
        check("{\"a\":1}\n", false, &[br#"{"a":1}"#]);
        check(" { \"a\" : 1 } ", false, &[b" { \"a\" : 1 } "]);
        check("{\n  \"a\": 1\n}\r\n", false, &[b"{\n  \"a\": 1\n}"]);
    }

    #[test]
    fn a_broken_single_event_is_one_record() {
        check(r#"{"a":"#, false, &[br#"{"a":"#]);
        check("{\n  \"a\": 1,\n", false, &[b"{\n  \"a\": 1,"]);
        check(b"\xff\xfe", false, &[b"\xff\xfe"]);
        check("hello", false, &[b"hello"]);
    }

    #[test]
    fn array_elements_keep_their_bytes() {
        check("[]", false, &[]);
        check(
            "[ {\"a\": 1.50} ,\n{\"a\":1,\"a\":2}, 3, [4] ]",
            false,
            &[b"{\"a\": 1.50}", b"{\"a\":1,\"a\":2}", b"3", b"[4]"],
        );
    }

    #[test]
    fn lines_are_events() {
        let expected: &[&[u8]] = &[b"{\"a\":1}", b"{\"a\":2}"];
        check("{\"a\":1}\n{\"a\":2}", false, expected);
        check("{\"a\":1}\r\n\r\n{\"a\":2}\r\n", false, expected);
        check("{\"a\":1}\n{\"a\":2}\n", true, expected);
        check(b"{\"a\":1}\n\xff\n{", true, &[b"{\"a\":1}", b"\xff", b"{"]);
        check("[1]\n{\"a\":1}", true, &[b"[1]", b"{\"a\":1}"]);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = "[".repeat(500_000);
        assert!(matches!(split(deep.as_bytes(), false, 100), Err(SplitError::NotAnArray(_))));
        let deep = format!("[{}{}]", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(split(deep.as_bytes(), false, 100).unwrap().len(), 1);
    }

    #[test]
    fn the_body_as_a_whole_can_be_wrong() {
        for empty in ["", " \r\n\t "] {
            assert_eq!(split(empty.as_bytes(), false, 9), Err(SplitError::Empty));
            assert_eq!(split(empty.as_bytes(), true, 9), Err(SplitError::Empty));
        }
        for broken in ["[{}", "[{},]", "[{}] x", "[{}{}]"] {
            let result = split(broken.as_bytes(), false, 9);
            assert!(matches!(result, Err(SplitError::NotAnArray(_))), "{broken}: {result:?}");
        }
        assert_eq!(split(b"[1,2,3]", false, 2), Err(SplitError::TooMany(2)));
        assert_eq!(split(b"1\n2\n3", true, 2), Err(SplitError::TooMany(2)));
    }
}
