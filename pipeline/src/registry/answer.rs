//! What an answer of the registry means: status and body in, a decision out.
//!
//! The registry's errors carry a code of their own beside HTTP's. That is what tells "there is no
//! such schema" from the 404 of a wrong path or of somebody who is no registry: the first makes a
//! dead letter, the second must not.

use serde::{Deserialize, Serialize};

/// Codes for "no such subject", "no such version" and "no such schema".
const MISSING: std::ops::RangeInclusive<u32> = 40_401..=40_403;

/// A schema that another one uses by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// Full name of the type.
    pub name: String,
    /// Subject that it is registered under.
    pub subject: String,
    /// Version in the subject.
    pub version: u32,
}

/// A schema as the registry tells it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Schema {
    /// Its text.
    pub(super) schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
}

impl Schema {
    /// The kind when it is not Avro.
    pub(super) fn foreign(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("AVRO"))
    }
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Found(T),
    /// The registry says that it has no such thing.
    Missing,
    /// Something between us and a registry that works.
    NotAvailable(String),
    /// Our credentials.
    Refused(String),
    /// Something is wrong with what we asked.
    NotTaken(String),
}

/// To `GET /schemas/ids/{id}` and `GET /subjects/{subject}/versions/{version}`.
pub(super) fn schema(status: u16, body: &[u8]) -> Answer<Schema> {
    read(status, body)
}

/// To `POST /subjects/{subject}/versions`: the id.
pub(super) fn registered(status: u16, body: &[u8]) -> Answer<u32> {
    match read::<Registered>(status, body) {
        Answer::Found(registered) => Answer::Found(registered.id),
        Answer::Missing => Answer::NotTaken(says(status, &problem(body))),
        Answer::NotAvailable(message) => Answer::NotAvailable(message),
        Answer::Refused(message) => Answer::Refused(message),
        Answer::NotTaken(message) => Answer::NotTaken(message),
    }
}

fn read<'b, T: Deserialize<'b>>(status: u16, body: &'b [u8]) -> Answer<T> {
    let problem = match status {
        200 => {
            return match serde_json::from_slice(body) {
                Ok(found) => Answer::Found(found),
                Err(error) => {
                    Answer::NotAvailable(format!("the answer is not a schema registry's: {error}"))
                }
            };
        }
        _ => problem(body),
    };
    match status {
        401 | 403 => Answer::Refused(says(status, &problem)),
        404 if MISSING.contains(&problem.error_code) => Answer::Missing,
        409 | 422 => Answer::NotTaken(says(status, &problem)),
        _ => Answer::NotAvailable(says(status, &problem)),
    }
}

fn problem(body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_default()
}

fn says(status: u16, problem: &Problem) -> String {
    match problem.message.trim() {
        "" => format!("it answers with status {status}"),
        message => {
            let message: String = message.chars().take(300).collect();
            format!("it answers with status {status}: {message}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, want: Answer<&str>) {
        let is = match schema(status, body.as_bytes()) {
            Answer::Found(schema) => Answer::Found(schema.schema),
            Answer::Missing => Answer::Missing,
            Answer::NotAvailable(message) => Answer::NotAvailable(message),
            Answer::Refused(message) => Answer::Refused(message),
            Answer::NotTaken(message) => Answer::NotTaken(message),
        };
        let want = match want {
            Answer::Found(schema) => Answer::Found(schema.to_owned()),
            Answer::Missing => Answer::Missing,
            Answer::NotAvailable(message) => Answer::NotAvailable(message),
            Answer::Refused(message) => Answer::Refused(message),
            Answer::NotTaken(message) => Answer::NotTaken(message),
        };
        assert_eq!(is, want, "{status} {body}");
    }

    #[test]
    fn a_schema_is_a_schema() {
        check(200, r#"{"schema":"\"string\""}"#, Answer::Found("\"string\""));
        check(
            200,
            r#"{"subject":"s","version":1,"id":1,"schemaType":"AVRO","schema":"x","references":[],"new":1}"#,
            Answer::Found("x"),
        );
        let body = br#"{"schema":"x","schemaType":"PROTOBUF"}"#;
        let Answer::Found(found) = schema(200, body) else { panic!("a schema") };
        assert_eq!(found.foreign(), Some("PROTOBUF"));
    }

    #[test]
    fn only_the_registrys_own_word_makes_an_id_unknown() {
        let away = |message: &str| Answer::NotAvailable(message.to_owned());
        check(404, r#"{"error_code":40403,"message":"Schema 7 not found"}"#, Answer::Missing);
        check(404, r#"{"error_code":40401,"message":"Subject not found"}"#, Answer::Missing);
        check(
            404,
            r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#,
            away("it answers with status 404: HTTP 404 Not Found"),
        );
        check(404, "<html>nginx</html>", away("it answers with status 404"));
        check(404, "", away("it answers with status 404"));
        check(
            200,
            "<html>welcome</html>",
            away("the answer is not a schema registry's: expected value at line 1 column 1"),
        );
    }

    #[test]
    fn failures_are_told_apart() {
        let body = r#"{"error_code":50001,"message":"Error in the backend"}"#;
        let away = "it answers with status 500: Error in the backend".to_owned();
        check(500, body, Answer::NotAvailable(away));
        check(429, "", Answer::NotAvailable("it answers with status 429".to_owned()));
        check(401, "", Answer::Refused("it answers with status 401".to_owned()));
        let body = r#"{"error_code":40301,"message":"User is denied"}"#;
        let refused = "it answers with status 403: User is denied".to_owned();
        check(403, body, Answer::Refused(refused));
    }

    #[test]
    fn a_registered_schema_has_an_id() {
        assert_eq!(registered(200, br#"{"id":12}"#), Answer::Found(12));
        let body = br#"{"error_code":409,"message":"incompatible"}"#;
        let not_taken = "it answers with status 409: incompatible".to_owned();
        assert_eq!(registered(409, body), Answer::NotTaken(not_taken));
        let body = br#"{"error_code":40402,"message":"no such version"}"#;
        let not_taken = "it answers with status 404: no such version".to_owned();
        assert_eq!(registered(404, body), Answer::NotTaken(not_taken));
    }
}
