//! Statements made of the corpus by chance: cut, joined and mixed. Whatever becomes of them, nothing
//! changes, nothing of others shows up, and none runs on.

use std::sync::OnceLock;

use proptest::prelude::*;
use sqlparser::dialect::DuckDbDialect;
use sqlparser::tokenizer::Tokenizer;

use super::corpus::{cases, outcome_of};
use super::world::World;

/// Words of all statements of the corpus, and words that belong to none.
struct Words {
    statements: Vec<Vec<String>>,
    all: Vec<String>,
}

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut statements = Vec::new();
        for case in cases("/tmp/canary.csv") {
            if case.outcome == "timeout" {
                continue;
            }
            let Ok(tokens) = Tokenizer::new(&DuckDbDialect {}, &case.sql).tokenize() else {
                continue;
            };
            statements.push(tokens.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        let mut all: Vec<String> = statements.iter().flatten().cloned().collect();
        all.extend(
            [
                "_tenant",
                "\"_tenant\"",
                "en_order_v1",
                "ev_order",
                "dead_letters",
                "meta",
                "'",
                "\"",
                "--",
                "/*",
                "*/",
                "$1",
                "?",
                "#1",
                ";",
                "\\",
                "e'\\''",
                "::",
                "rowid",
            ]
            .map(str::to_owned),
        );
        Words { statements, all }
    })
}

/// One change of a list of words.
#[derive(Debug, Clone)]
enum Change {
    Delete(usize),
    Double(usize),
    Swap(usize, usize),
    Replace(usize, usize),
    Insert(usize, usize),
    Splice(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        at().prop_map(Change::Delete),
        at().prop_map(Change::Double),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at(), at()).prop_map(|(a, b)| Change::Replace(a, b)),
        (at(), at()).prop_map(|(a, b)| Change::Insert(a, b)),
        (at(), at(), at()).prop_map(|(a, b, c)| Change::Splice(a, b, c)),
    ]
}

fn changed(first: usize, changes: &[Change]) -> String {
    let Words { statements, all } = words();
    let mut text = statements[first % statements.len()].clone();
    for change in changes {
        if text.is_empty() {
            break;
        }
        let length = text.len();
        match *change {
            Change::Delete(at) => drop(text.remove(at % length)),
            Change::Double(at) => text.insert(at % length, text[at % length].clone()),
            Change::Swap(a, b) => text.swap(a % length, b % length),
            Change::Replace(at, word) => text[at % length] = all[word % all.len()].clone(),
            Change::Insert(at, word) => text.insert(at % length, all[word % all.len()].clone()),
            Change::Splice(at, other, from) => {
                let other = &statements[other % statements.len()];
                text.truncate(at % length);
                text.extend_from_slice(&other[from % other.len()..]);
            }
        }
    }
    text.concat()
}

thread_local! {
    static WORLD: (World, Vec<String>) = {
        let world = World::new();
        let before = world.fingerprint();
        (world, before)
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn mixed_statements_change_nothing_and_show_nothing(
        first in any::<usize>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let sql = changed(first, &changes);
        WORLD.with(|(world, before)| {
            // What is refused has not reached the store.
            if outcome_of(world, &sql) != "refused" {
                assert_eq!(&world.fingerprint(), before, "{sql}");
            }
        });
    }
}
