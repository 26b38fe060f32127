//! Dead letters: whose they are. They could not be read as events, so their bytes have to tell.

use serde_json::Value;

use super::Eraser;

/// Stands for the detail of a dead letter that was erased.
pub const ERASED_DETAIL: &str = "erased with the data of a person";

/// The parts of a dead letter that may hold personal data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Letter<'a> {
    /// Tenant.
    pub tenant: &'a str,
    /// Number of the letter.
    pub id: i64,
    /// The record's bytes.
    pub payload: &'a [u8],
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's headers as JSON text.
    pub headers: Option<&'a str>,
    /// What was found and expected.
    pub detail: &'a str,
    /// Event id, as far as it could be read.
    pub event_id: Option<&'a str>,
}

impl Eraser {
    /// Does the letter name the subject, or something of it?
    ///
    /// The subject is looked for in all texts, as a word of its own: `7` is not in `70`. What lies below
    /// it is looked for among the values of a record in JSON.
    pub fn concerns_letter(&self, letter: &Letter<'_>) -> bool {
        let order = &self.order;
        if letter.tenant != order.subject.tenant || letter.id > order.until_letter {
            return false;
        }
        // The words that stand there now may be a key.
        if letter.detail == ERASED_DETAIL && letter.payload.is_empty() {
            return false;
        }
        let subject = order.subject.key.as_str();
        let headers = letter.headers.unwrap_or_default();
        let texts = [
            letter.payload,
            letter.key.unwrap_or_default(),
            headers.as_bytes(),
            letter.detail.as_bytes(),
            letter.event_id.unwrap_or_default().as_bytes(),
        ];
        if texts.into_iter().any(|text| names(text, subject)) {
            return true;
        }
        match serde_json::from_slice::<Value>(letter.payload) {
            Ok(record) => self.names_value(&record),
            Err(_) => false,
        }
    }

    fn names_value(&self, value: &Value) -> bool {
        let is_key = |text: &str| (0..self.chain.len()).any(|level| self.has_key(level, text));
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => is_key(&number.to_string()),
            Value::String(text) => is_key(text),
            Value::Array(values) => values.iter().any(|value| self.names_value(value)),
            Value::Object(members) => members.values().any(|value| self.names_value(value)),
        }
    }
}

/// Does `bytes` have `key` as a word of its own? In bytes that are no text anything may stand beside it.
fn names(bytes: &[u8], key: &str) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return bytes.windows(key.len()).any(|window| window == key.as_bytes());
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(key).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_key_is_a_word_of_its_own() {
        #[track_caller]
        fn check(text: &str, key: &str, expected: bool) {
            assert_eq!(names(text.as_bytes(), key), expected, "{text}: {key}");
        }
        check(r#"{"user_id":"USR-7","a":1}"#, "USR-7", true);
        check(r#"{"user_id":"USR-70","a":1}"#, "USR-7", false);
        check(r#"{"user_id":"XUSR-7"}"#, "USR-7", false);
        check(r#"{"user_id":7,"n":70}"#, "7", true);
        check(r#"{"user_id":70}"#, "7", false);
        check("/users/USR-7/orders", "USR-7", true);
        check("cut off: {\"user_id\":\"USR-7", "USR-7", true);
        check("é7é 7", "7", true);
        check("é7é", "7", false);
        check("", "7", false);
        check("ana@example.org, bo@example.org", "bo@example.org", true);
    }

    #[test]
    fn bytes_that_are_no_text_have_no_words() {
        assert!(names(b"\xff\x0cUSR-70", "USR-7"));
        assert!(!names(b"\xff\x0cUSR-6", "USR-7"));
        assert!(!names(b"\xff", "USR-7"));
    }
}
