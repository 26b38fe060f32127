//! Rules over decoded rows. Bounds are in the decoder's golden file.

use contracts::expr::{Expr, Scope, ScopeColumn};
use contracts::model::{EventContract, Rule, Severity};
use contracts::types::Type;

use crate::decode::support::{contract, decimal, decode, domain, field, show};

fn rule(name: &str, check: &str, severity: Severity) -> Rule {
    let column =
        |name: &str, ty| ScopeColumn { name: name.to_owned(), column: name.to_owned(), ty };
    let scope = Scope {
        columns: vec![
            column("a", Type::Int64),
            column("b", Type::Int64),
            column("c", decimal(9, 2)),
        ],
    };
    let check = match Expr::compile(check, &scope, Some(&Type::Bool)) {
        Ok(check) => check,
        Err(error) => panic!("{error}"),
    };
    Rule { name: name.to_owned(), check, severity, field: Some("a".to_owned()) }
}

fn ruled(rules: Vec<Rule>) -> EventContract {
    let mut a = field("a", Type::Int64);
    a.constraints.max = Some("100".to_owned());
    let mut contract =
        contract(&["e"], vec![a, field("b", Type::Int64), field("c", decimal(9, 2))]);
    contract.rules = rules;
    contract
}

/// Outcomes of records with these members, all in one batch.
#[track_caller]
fn check(rules: Vec<Rule>, cases: &[(&str, &str)]) {
    let records: Vec<String> = cases
        .iter()
        .map(|(members, _)| {
            format!(
                r#"{{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00Z",{members}}}"#
            )
        })
        .collect();
    let lines: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
    let batch = decode(domain(vec![vec![ruled(rules)]]), &lines);
    for (ordinal, (members, want)) in cases.iter().enumerate() {
        let shown = show(&batch, ordinal as u32);
        assert!(shown.contains(want), "{members}: {shown}");
    }
}

#[test]
fn one_bad_row_does_not_cost_its_batch() {
    check(
        vec![rule("ratio", "a / b >= 1", Severity::Error)],
        &[
            (r#""a":4,"b":2"#, "e v1"),
            (r#""a":1,"b":2"#, "rejected rule_failed field=a rule=ratio id=1 type=e"),
            (r#""a":4,"b":0"#, "rejected rule_undecided field=a rule=ratio"),
            (r#""a":4"#, "rejected rule_undecided field=a rule=ratio"),
            (r#""a":6,"b":3"#, "e v1"),
        ],
    );
}

#[test]
fn bounds_come_before_rules_and_rules_in_order() {
    check(
        vec![rule("first", "b > 0", Severity::Error), rule("second", "c > 0", Severity::Error)],
        &[
            (r#""a":101,"b":0,"c":0"#, "rejected out_of_range field=a id=1"),
            (r#""a":1,"b":0,"c":0"#, "rule=first"),
            (r#""a":1,"b":1,"c":0"#, "rule=second"),
            (r#""a":1,"b":1,"c":0.01"#, "e v1"),
        ],
    );
}

#[test]
fn warnings_stay_with_their_rows() {
    check(
        vec![
            rule("small", "a < 10", Severity::Warning),
            rule("sure", "b > 0", Severity::Error),
            rule("known", "c > 0", Severity::Warning),
        ],
        &[
            (r#""a":50,"b":0"#, "rejected rule_failed field=a rule=sure"),
            (r#""a":50,"b":1"#, "warnings=small,known"),
            (r#""a":5,"b":1,"c":1"#, "_extra=null"),
            (r#""a":5,"b":1,"c":-1"#, "warnings=known"),
        ],
    );
}
