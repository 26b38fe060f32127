//! Why a command did not do what was asked, told to a person: what, where and the next step.

use std::fmt::Write as _;
use std::process::ExitCode;

/// Exit code: something in what the caller gave us.
pub(crate) const INPUT: u8 = 1;
/// Exit code: we failed.
pub(crate) const OURS: u8 = 2;
/// Exit code: stopped by a signal before the end, as shells say it.
pub(crate) const INTERRUPTED: u8 = 130;

/// A failed command. Printed once, in `main`.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// What is wrong, each with its next step. Never empty, except when all has been said already.
    findings: Vec<(String, Option<String>)>,
}

impl Failure {
    /// Something the caller gave us is wrong.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { code: INPUT, findings: vec![(message.into(), None)] }
    }

    /// Several things the caller gave us are wrong, each with a hint.
    pub(crate) fn inputs(findings: Vec<(String, Option<String>)>) -> Self {
        Self { code: INPUT, findings }
    }

    /// We failed.
    pub(crate) fn ours(message: impl Into<String>) -> Self {
        Self { code: OURS, findings: vec![(message.into(), None)] }
    }

    /// The data on stdout says what went wrong (an answer per line, a failed example): only the
    /// exit code is left to tell.
    pub(crate) fn told() -> Self {
        Self { code: INPUT, findings: Vec::new() }
    }

    /// Nobody reads what we write any more: nothing to say, nothing went wrong.
    pub(crate) fn quiet() -> Self {
        Self { code: 0, findings: Vec::new() }
    }

    /// A signal ended the command before its work was done; what was done is kept.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { code: INTERRUPTED, findings: vec![(message.into(), None)] }
    }

    /// Adds the next step to the last finding.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.findings.last_mut() {
            last.1 = Some(hint.into());
        }
        self
    }

    /// Adds the next step if there is one.
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// The first thing that is wrong, and its next step.
    pub(crate) fn first(&self) -> (String, Option<String>) {
        self.findings.first().cloned().unwrap_or_default()
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The lines for stderr.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (message, hint) in &self.findings {
            writeln!(out, "error: {message}").expect("writes to a string");
            if let Some(hint) = hint {
                writeln!(out, "hint: {hint}").expect("writes to a string");
            }
        }
        out
    }
}

/// Puts what we were doing in front of a foreign error.
pub(crate) trait Context<T> {
    /// The caller's input is to blame.
    fn input(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
    /// We are.
    fn ours(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Context<T> for Result<T, E> {
    fn input(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::input(format!("{}: {}", doing(), chain(&error))))
    }

    fn ours(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::ours(format!("{}: {}", doing(), chain(&error))))
    }
}

/// An error and its causes as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_error_and_hint() {
        let failure = Failure::input("metric `revenu` not found").hint("did you mean `revenue`?");
        assert_eq!(
            failure.text(),
            "error: metric `revenu` not found\nhint: did you mean `revenue`?\n"
        );
    }

    #[test]
    fn several_findings_keep_their_own_hints() {
        let failure = Failure::inputs(vec![
            ("first".to_owned(), Some("do this".to_owned())),
            ("second".to_owned(), None),
        ]);
        assert_eq!(failure.text(), "error: first\nhint: do this\nerror: second\n");
    }

    #[test]
    fn what_was_told_already_is_not_said_again() {
        assert_eq!(Failure::told().text(), "");
    }
}
