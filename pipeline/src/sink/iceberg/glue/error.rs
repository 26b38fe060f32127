//! What Glue refuses, and in which words that is told.

use iceberg::{Error, ErrorKind};
use serde::Deserialize;

/// Where the permissions that are needed are listed.
const PERMISSIONS: &str = "docs/glue.md";

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(super) enum GlueError {
    /// There is no such database or table.
    #[error("{0}")]
    NotFound(String),
    /// It is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// Somebody else changed it meanwhile: nothing happened.
    #[error("somebody else committed first: {0}")]
    Conflict(String),
    /// The caller is known and may not do it.
    #[error("Glue does not permit it, grant what {PERMISSIONS} lists: {0}")]
    Forbidden(String),
    /// The caller is not known, or the signature is wrong.
    #[error(
        "Glue refuses the credentials, check the access key, the region and this machine's clock: {0}"
    )]
    Unauthenticated(String),
    /// No credentials were found.
    #[error(
        "no credentials for AWS were found: set `glue.access-key-id` and `glue.secret-access-key`, \
         or what AWS's own programs read (AWS_ACCESS_KEY_ID, AWS_PROFILE, a role of the machine): {0}"
    )]
    NoCredentials(String),
    /// Too many calls: nothing happened.
    #[error("Glue asks for fewer calls: {0}")]
    Throttled(String),
    /// An error of the server: a change may have taken effect.
    #[error("Glue has failed: {0}")]
    Failed(String),
    /// No answer: a change may have taken effect.
    #[error("no answer from Glue at `{endpoint}`")]
    NoAnswer {
        /// Where it was asked.
        endpoint: String,
        /// Why there was none.
        source: reqwest::Error,
    },
    /// Anything else.
    #[error("Glue refuses it: {0}")]
    Refused(String),
    /// An answer that says something else than the protocol has.
    #[error("Glue's answer is not understood: {0}")]
    Unreadable(String),
}

/// The body of a refusal. The names differ in case by service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(alias = "Message", alias = "errorMessage")]
    message: String,
}

/// Most characters of an answer that is no error of the protocol.
const SHOWN: usize = 200;

impl GlueError {
    /// From an answer that is none of success: `kind` is its header `x-amzn-errortype`.
    pub(super) fn of(status: u16, kind: Option<&str>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let told: Body = serde_json::from_str(&text).unwrap_or_default();
        // `com.amazonaws.glue#EntityNotFoundException`, `EntityNotFoundException:http://…`
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or(&told.kind);
        let kind = kind.split(':').next().unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default();
        let message = match (kind, told.message.as_str()) {
            ("", "") => format!("{status}: {}", one_line(&text)),
            ("", message) => format!("{status}: {message}"),
            (kind, "") => format!("{kind} ({status})"),
            (kind, message) => format!("{kind}: {message}"),
        };
        match kind {
            "EntityNotFoundException" => Self::NotFound(message),
            "AlreadyExistsException" => Self::AlreadyExists(message),
            "ConcurrentModificationException" => Self::Conflict(message),
            "AccessDeniedException" | "AccessDenied" | "GlueEncryptionException" => {
                Self::Forbidden(message)
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired" => Self::Unauthenticated(message),
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException" => Self::Throttled(message),
            // It comes with a status that says that the caller is wrong.
            "OperationTimeoutException" | "RequestTimeout" | "RequestTimeoutException" => {
                Self::Failed(message)
            }
            _ if status == 429 => Self::Throttled(message),
            _ if status >= 500 => Self::Failed(message),
            // A proxy on the way, or a service that speaks XML.
            _ if status == 401 || status == 403 => Self::Unauthenticated(message),
            _ => Self::Refused(message),
        }
    }

    /// Did surely nothing happen? Otherwise a change may have taken effect.
    pub(super) fn is_sure(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::NoAnswer { .. } | Self::Unreadable(_))
    }

    /// The library's form of it; `absent` is its word for what was not found.
    pub(super) fn into_iceberg(self, absent: ErrorKind) -> Error {
        let kind = match &self {
            Self::NotFound(_) => absent,
            Self::AlreadyExists(_) if absent == ErrorKind::NamespaceNotFound => {
                ErrorKind::NamespaceAlreadyExists
            }
            Self::AlreadyExists(_) => ErrorKind::TableAlreadyExists,
            Self::Conflict(_) => ErrorKind::CatalogCommitConflicts,
            Self::Forbidden(_) | Self::Unauthenticated(_) | Self::NoCredentials(_) => {
                ErrorKind::PreconditionFailed
            }
            _ => ErrorKind::Unexpected,
        };
        let error = Error::new(kind, self.to_string());
        // The library builds its commit anew on the head that it then finds.
        let error = error.with_retryable(kind == ErrorKind::CatalogCommitConflicts);
        match self {
            Self::NoAnswer { source, .. } => error.with_source(source),
            _ => error,
        }
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, kind: Option<&str>, body: &str, expected: &str) {
        let error = GlueError::of(status, kind, body.as_bytes());
        let shown = format!("{:?}: {error}", std::mem::discriminant(&error));
        let shown = shown.split_once(": ").map(|(_, text)| text.to_owned());
        assert_eq!(shown.as_deref(), Some(expected));
    }

    #[test]
    fn an_answer_is_told_by_what_it_means() {
        let json = |kind: &str| format!(r#"{{"__type": "{kind}", "Message": "it says"}}"#);
        let permit = "Glue does not permit it, grant what docs/glue.md lists: ";
        let refuse = "Glue refuses the credentials, check the access key, the region and this machine's clock: ";
        check(400, None, &json("EntityNotFoundException"), "EntityNotFoundException: it says");
        check(400, None, &json("AlreadyExistsException"), "AlreadyExistsException: it says");
        check(
            400,
            None,
            &json("com.amazonaws.glue#ConcurrentModificationException"),
            "somebody else committed first: ConcurrentModificationException: it says",
        );
        check(
            400,
            None,
            r#"{"__type": "AccessDeniedException", "message": "small letters"}"#,
            &format!("{permit}AccessDeniedException: small letters"),
        );
        check(
            400,
            Some("ExpiredTokenException:http://x/"),
            "{}",
            &format!("{refuse}ExpiredTokenException (400)"),
        );
        check(403, None, "<html>\n <b>no</b>", &format!("{refuse}403: <html> <b>no</b>"));
        check(
            400,
            None,
            &json("ThrottlingException"),
            "Glue asks for fewer calls: ThrottlingException: it says",
        );
        check(429, None, "", "Glue asks for fewer calls: 429: ");
        check(
            500,
            None,
            &json("InternalServiceException"),
            "Glue has failed: InternalServiceException: it says",
        );
        check(503, None, "", "Glue has failed: 503: ");
        check(
            400,
            None,
            &json("OperationTimeoutException"),
            "Glue has failed: OperationTimeoutException: it says",
        );
        check(
            400,
            None,
            &json("ValidationException"),
            "Glue refuses it: ValidationException: it says",
        );
        check(
            400,
            None,
            &json("InvalidInputException"),
            "Glue refuses it: InvalidInputException: it says",
        );
    }

    #[test]
    fn the_library_is_told_what_it_may_try_again() {
        let of = |error: GlueError| error.into_iceberg(ErrorKind::TableNotFound);
        let conflict = of(GlueError::Conflict(String::new()));
        assert_eq!(
            (conflict.kind(), conflict.retryable()),
            (ErrorKind::CatalogCommitConflicts, true)
        );
        // Who knows whether it took effect?
        let failed = of(GlueError::Failed(String::new()));
        assert_eq!((failed.kind(), failed.retryable()), (ErrorKind::Unexpected, false));
        let absent = GlueError::NotFound(String::new());
        assert_eq!(
            absent.into_iceberg(ErrorKind::NamespaceNotFound).kind(),
            ErrorKind::NamespaceNotFound
        );
        let there = GlueError::AlreadyExists(String::new());
        assert_eq!(of(there).kind(), ErrorKind::TableAlreadyExists);
    }

    #[test]
    fn what_may_have_taken_effect_is_never_taken_for_refused() {
        for (status, kind, is_sure) in [
            (400, "ConcurrentModificationException", true),
            (400, "AccessDeniedException", true),
            (400, "ValidationException", true),
            (400, "ThrottlingException", true),
            (400, "OperationTimeoutException", false),
            (500, "InternalServiceException", false),
            (503, "", false),
        ] {
            assert_eq!(
                GlueError::of(status, Some(kind), b"").is_sure(),
                is_sure,
                "{status} {kind}"
            );
        }
        assert!(!GlueError::Unreadable(String::new()).is_sure());
    }
}
