//! Every statement of `corpus.sql`: what becomes of it, and that nothing else happens.
//!
//! A case is a comment with its outcome (`-- ok 3`: three rows; `-- refused`, `-- invalid`,
//! `-- timeout`; `-- safe`: any of them), the statement, and an empty line.

use std::time::Instant;

use super::world::{CANARY, LIMIT, MARK, MARKED_NUMBER, World};
use crate::query::QueryError;
use crate::query::guard::RefusalKind;

const CORPUS: &str = include_str!("corpus.sql");

/// A case of the file.
pub(super) struct Case {
    pub(super) outcome: String,
    pub(super) sql: String,
}

/// All cases; `{canary}` stands for the file that nobody may read.
pub(super) fn cases(canary: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for block in CORPUS.split("\n\n") {
        let block = block.trim_matches('\n');
        let Some((head, sql)) = block.split_once('\n') else { continue };
        let Some(outcome) = head.strip_prefix("-- ") else { panic!("no outcome: {block}") };
        cases.push(Case { outcome: outcome.to_owned(), sql: sql.replace("{canary}", canary) });
    }
    cases
}

/// Runs a statement and checks what must hold of every one. What became of it, in a word.
#[track_caller]
pub(super) fn outcome_of(world: &World, sql: &str) -> String {
    let begun = Instant::now();
    let result = world.ask(sql);
    let took = begun.elapsed();
    assert!(took < LIMIT + LIMIT, "{took:?}: {sql}");
    let (outcome, shown) = match result {
        Ok(page) => {
            let rows = serde_json::to_string(&page.rows).unwrap();
            (format!("ok {}", page.rows.len()), format!("{:?}{rows}", page.columns))
        }
        Err(QueryError::Refused(refusal)) => {
            let kind = match refusal.kind {
                RefusalKind::Invalid => "invalid",
                RefusalKind::Refused => "refused",
                RefusalKind::Forbidden => "forbidden",
                RefusalKind::Backfilling => "backfilling",
            };
            (kind.to_owned(), refusal.message)
        }
        Err(QueryError::TimedOut { .. }) => ("timeout".to_owned(), String::new()),
        Err(QueryError::TooLarge(message)) => ("too large".to_owned(), message),
        Err(error) => panic!("{sql}: {error:?}"),
    };
    // What the statement itself says may be said again.
    for secret in [MARK, CANARY] {
        assert!(!shown.contains(secret) || sql.contains(secret), "{sql} shows {shown}");
    }
    // Numbers of the other tenant are within a thousand of its mark.
    let digits = (MARKED_NUMBER / 1000).to_string();
    assert!(!shown.contains(&digits) || sql.contains(&digits), "{sql} shows {shown}");
    outcome
}

#[test]
fn every_statement_has_its_outcome_and_nothing_else_happens() {
    let world = World::new();
    let before = world.fingerprint();
    let canary = world.canary().display().to_string();
    let cases = cases(&canary);
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case { outcome, sql } in &cases {
        let found = outcome_of(&world, sql);
        if found != *outcome && outcome != "safe" {
            let why = world.ask(sql).map(|_| ()).err().map(|e| e.to_string()).unwrap_or_default();
            wrong.push(format!("-- {outcome}\n{sql}\n=> {found} {why}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(world.fingerprint(), before);
}
