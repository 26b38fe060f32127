//! Which columns name a key, and which letters.

use std::path::PathBuf;
use std::sync::Arc;

use contracts::model::Domain;

use super::letters::Letter;
use super::{EraseError, Eraser, Subject};

fn domain(yaml: &str) -> Arc<Domain> {
    match contracts::load(&[(PathBuf::from("test.yaml"), yaml.to_owned())]) {
        Ok(domain) => Arc::new(domain),
        Err(errors) => panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>()),
    }
}

const SHOP: &str = "
kind: event
name: order
names: [order.made]
version: 1
fields:
  order_id: string
  buyer: {type: string, required: false}
  item: string
  mail: {type: string, required: false, pii: true}
---
kind: event
name: visit
names: [visit.seen]
version: 1
fields: {user: {type: string, required: false}, item: string, page: string}
---
kind: event
name: ticket
names: [ticket.made]
version: 1
fields: {order_id: string, mail: {type: string, required: false, pii: true}, town: {type: string, required: false}}
---
kind: entity
name: order
version: 1
from: [order.made]
key: order_id
fields: {buyer: last, item: last, count: count}
---
kind: entity
name: user
version: 1
from: {entity: order}
key: buyer
fields: {orders: count}
---
kind: entity
name: item
version: 1
from: [visit.seen]
key: item
fields: {views: count}
---
kind: entity
name: mail
version: 1
from: [ticket.made]
key: mail
fields: {tickets: count, town: {value: last(lower(town))}}
---
kind: entity
name: town
version: 1
from: {entity: mail}
key: town
fields: {mails: count}
---
kind: entity
name: event
version: 1
from: [ticket.made]
key: event_id
fields: {tickets: count}
---
kind: entity
name: by_count
version: 1
from: {entity: order}
key: count
fields: {orders: count}
";

fn eraser(domain: &Arc<Domain>, entity: &str, key: &str) -> Result<Eraser, EraseError> {
    let subject = Subject { tenant: "t".into(), entity: entity.into(), key: key.into() };
    Eraser::new(Arc::clone(domain), subject, 100, 100)
}

/// `family: level column…` of all families that have some.
fn columns(domain: &Arc<Domain>, entity: &str) -> Vec<String> {
    let eraser = eraser(domain, entity, "k").unwrap();
    let families = domain.families.iter().filter(|family| eraser.concerns(family.index));
    let told = families.map(|family| {
        let columns = eraser.key_columns(family.index);
        let columns: Vec<String> = columns
            .map(|(level, column)| {
                // Computed columns are named by a hash.
                let computed = family.computed.iter().find(|computed| computed.name == column);
                let name = computed.map_or(column, |computed| computed.expr.canonical());
                format!("{level} {name}")
            })
            .collect();
        format!("{}: {}", family.name, columns.join(", "))
    });
    told.collect()
}

#[test]
fn columns_name_keys_by_the_contracts_alone() {
    let domain = domain(SHOP);
    // The upper key is picked from a column of the lower one's events; the lower key is called like a
    // column of another family.
    assert_eq!(columns(&domain, "user"), ["order: 0 buyer, 1 order_id", "ticket: 1 order_id"]);
    assert_eq!(columns(&domain, "order"), ["order: 0 order_id", "ticket: 0 order_id"]);
    // `item` is what visits are keyed by, and orders have a column that is called like it.
    assert_eq!(columns(&domain, "item"), ["order: 0 item", "visit: 0 item"]);
    // A key that is computed when it is picked: the value is compared, the sources are erased.
    let expected = ["order: 1 mail", "ticket: 0 town, 0 lower(town), 1 mail"];
    assert_eq!(columns(&domain, "town"), expected);
}

#[test]
fn a_column_that_is_the_key_of_something_else_is_not_taken_for_this_one() {
    let text = "
kind: event
name: a
names: [a]
version: 1
fields: {id: string}
---
kind: event
name: b
names: [b]
version: 1
fields: {id: string}
---
kind: entity
name: thing
version: 1
from: [a]
key: id
fields: {n: count}
---
kind: entity
name: other
version: 1
from: [b]
key: id
fields: {n: count}
";
    let domain = domain(text);
    assert_eq!(columns(&domain, "thing"), ["a: 0 id"]);
    assert_eq!(columns(&domain, "other"), ["b: 0 id"]);
}

#[test]
fn what_cannot_be_told_is_refused() {
    let domain = domain(SHOP);
    let refused = |entity: &str, key: &str| eraser(&domain, entity, key).unwrap_err();
    assert_eq!(refused("nobody", "k"), EraseError::UnknownEntity("nobody".into()));
    assert_eq!(refused("user", ""), EraseError::NoKey);
    // How many events an order has had is told by none of them.
    assert_eq!(refused("by_count", "3"), EraseError::Untraceable("by_count".into()));
    assert_eq!(refused("event", "e1"), EraseError::Envelope("event".into()));
}

#[test]
fn letters_tell_by_words_and_by_values() {
    let domain = domain(SHOP);
    let mut order = eraser(&domain, "user", "U-1").unwrap().order().clone();
    order.below[0].insert("O-5".into());
    order.below[0].insert("77".into());
    let eraser = Eraser::resume(domain, order).unwrap();
    let letter =
        Letter { tenant: "t", id: 7, payload: b"{}", detail: "empty", ..Letter::default() };
    let check = |letter: Letter<'_>, expected: bool| {
        assert_eq!(eraser.concerns_letter(&letter), expected, "{letter:?}");
    };
    check(letter, false);
    check(Letter { payload: br#"{"buyer": "U-1"}"#, ..letter }, true);
    check(Letter { payload: br#"{"buyer": "U-1"}"#, tenant: "other", ..letter }, false);
    check(Letter { payload: br#"{"buyer": "U-1"}"#, id: 101, ..letter }, false);
    check(Letter { payload: br#"{"buyer": "U-12"}"#, ..letter }, false);
    check(Letter { payload: br#"{"buyer": "\u0055-1"}"#, ..letter }, true);
    check(Letter { payload: br#"{"in": [{"order": "O-5"}]}"#, ..letter }, true);
    check(Letter { payload: br#"{"in": [{"order": 77}]}"#, ..letter }, true);
    // A key below is looked for among values only.
    check(Letter { payload: b"order O-5, cut", ..letter }, false);
    check(Letter { payload: br#"{"text": "about O-5"}"#, ..letter }, false);
    check(Letter { payload: b"user U-1, cut", ..letter }, true);
    check(Letter { key: Some(b"U-1"), ..letter }, true);
    check(Letter { headers: Some(r#"[{"name":"user","value":"U-1"}]"#), ..letter }, true);
    check(Letter { detail: "`U-1` is no number", ..letter }, true);
    check(Letter { event_id: Some("U-1"), ..letter }, true);
    check(Letter { payload: b"\xff\x08U-1\x00", ..letter }, true);
}
