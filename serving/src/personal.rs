//! Personal data in dead letters and events, hidden from those who only look at them.
//!
//! A rejected record was not read as an event, so what is a field and what is not has to be told from its
//! bytes. The rule errs on the side of hiding: in a record that is JSON the members that are called like
//! a personal field are hidden, at any depth; a record that is no JSON is hidden as a whole. Where no
//! contract that may have been meant declares personal data, nothing is hidden.

use std::collections::BTreeSet;

use contracts::model::Domain;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::Members;
use crate::store::StoredDeadLetter;

/// Stands for a value that is hidden.
pub const HIDDEN: &str = "***";

/// Which names are those of personal data, by the contracts.
#[derive(Debug, Clone, Default)]
pub struct Personal {
    contracts: Vec<Contract>,
}

#[derive(Debug, Clone)]
struct Contract {
    name: String,
    fields: BTreeSet<String>,
    /// Is the record's key one of them?
    in_key: bool,
}

/// What is shown of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The record's bytes, if they may be seen.
    pub payload: Option<Vec<u8>>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Its headers as JSON.
    pub headers: Option<Value>,
    /// Was something hidden?
    pub is_masked: bool,
}

impl Personal {
    /// What the contracts of a domain declare.
    pub fn of(domain: &Domain) -> Self {
        let contracts = domain.families.iter().map(|family| {
            let fields = family.versions.iter().flat_map(|version| &version.fields);
            let personal = fields.filter(|field| field.pii).map(|field| field.name.clone());
            let fields: BTreeSet<String> = personal.collect();
            let mut keys = family.versions.iter().filter_map(|version| version.key.as_ref());
            let in_key = keys.any(|key| fields.contains(key));
            Contract { name: family.name.clone(), fields, in_key }
        });
        Self { contracts: contracts.filter(|contract| !contract.fields.is_empty()).collect() }
    }

    /// Does this contract declare personal data?
    pub fn is_in(&self, contract: &str) -> bool {
        self.of_contract(contract).is_some()
    }

    /// Is the key of this contract's events personal?
    pub fn is_in_key(&self, contract: &str) -> bool {
        self.of_contract(contract).is_some_and(|contract| contract.in_key)
    }

    /// What of an accepted event's record may be seen, by the rule for rejected ones: an event may have
    /// members of a personal field's name that its contract does not know. `record` is a JSON object.
    pub fn show_event(&self, contract: &str, record: &[u8]) -> Vec<u8> {
        match self.of_contract(contract) {
            None => record.to_vec(),
            Some(contract) => hidden(record, &|name| contract.fields.contains(name))
                .unwrap_or_else(|| format!("\"{HIDDEN}\"").into_bytes()),
        }
    }

    fn of_contract(&self, name: &str) -> Option<&Contract> {
        self.contracts.iter().find(|contract| contract.name == name)
    }

    /// What of a letter may be seen.
    pub fn show(&self, letter: &StoredDeadLetter) -> Shown {
        let headers = letter.headers.as_ref();
        let headers =
            headers.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
        let mut shown = Shown {
            payload: Some(letter.payload.clone()),
            key: letter.key.clone(),
            headers,
            is_masked: false,
        };
        // One that names no contract may have been meant for any.
        let meant = self
            .contracts
            .iter()
            .filter(|contract| letter.contract.as_ref().is_none_or(|name| *name == contract.name));
        let meant: Vec<&Contract> = meant.collect();
        if meant.is_empty() {
            return shown;
        }
        let is_personal = |name: &str| meant.iter().any(|contract| contract.fields.contains(name));
        match hidden(&letter.payload, &is_personal) {
            Some(payload) => {
                shown.is_masked = payload != letter.payload;
                shown.payload = Some(payload);
            }
            None if letter.payload.is_empty() => {}
            None => {
                shown.payload = None;
                shown.is_masked = true;
            }
        }
        if shown.key.is_some() && meant.iter().any(|contract| contract.in_key) {
            shown.key = Some(HIDDEN.into());
            shown.is_masked = true;
        }
        if let Some(Value::Array(headers)) = &mut shown.headers {
            for header in headers {
                // Bridges put a field into a header under its own name, or behind a prefix.
                let name = header["name"].as_str().unwrap_or_default().to_ascii_lowercase();
                let field = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
                let mut fields = meant.iter().flat_map(|contract| &contract.fields);
                if fields.any(|known| *known == name || known == field) {
                    *header = serde_json::json!({"name": header["name"], "value": HIDDEN});
                    shown.is_masked = true;
                }
            }
        }
        shown
    }
}

/// The record with the values of personal members hidden and everything else as it was sent, to the
/// digit; `None` when it is no JSON object or list.
fn hidden(record: &[u8], is_personal: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(record).ok()?;
    let record: &RawValue = serde_json::from_str(text).ok()?;
    if !record.get().starts_with(['{', '[']) {
        return None;
    }
    let mut places = Vec::new();
    find(record, is_personal, &mut places);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for value in places {
        // A raw value lies in the text that it was read from.
        let start = value.as_ptr() as usize - text.as_ptr() as usize;
        shown.push_str(&text[at..start]);
        shown.push('"');
        shown.push_str(HIDDEN);
        shown.push('"');
        at = start + value.len();
    }
    shown.push_str(&text[at..]);
    Some(shown.into_bytes())
}

/// The values of personal members that are not null, in order.
fn find<'a>(value: &'a RawValue, is_personal: &dyn Fn(&str) -> bool, places: &mut Vec<&'a str>) {
    let text = value.get();
    if text.starts_with('[') {
        let values: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
        values.into_iter().for_each(|value| find(value, is_personal, places));
    }
    if text.starts_with('{') {
        let Ok(Members(members)) = serde_json::from_str(text) else { return };
        for (name, value) in members {
            if !is_personal(&name) {
                find(value, is_personal, places);
            } else if value.get() != "null" {
                places.push(value.get());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn personal() -> Personal {
        let contract = |name: &str, fields: &[&str], in_key| Contract {
            name: name.to_owned(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            in_key,
        };
        Personal {
            contracts: vec![
                contract("click", &["user", "mail"], false),
                contract("login", &["user"], true),
            ],
        }
    }

    fn letter(contract: Option<&str>, payload: &str) -> StoredDeadLetter {
        StoredDeadLetter {
            id: 1,
            tenant: "default".into(),
            arrived_at: 0,
            partition: "kafka:t/0".into(),
            offset: 3,
            stage: "decode".into(),
            reason: "not_json".into(),
            field: None,
            rule: None,
            detail: "empty line".into(),
            event_id: None,
            event_type: None,
            event_time: None,
            contract: contract.map(str::to_owned),
            contract_version: None,
            payload: payload.as_bytes().to_vec(),
            key: Some(b"k".to_vec()),
            headers: Some(r#"[{"name":"ce_mail","value":"a@b"},{"name":"x","value":"y"}]"#.into()),
        }
    }

    #[track_caller]
    fn check(
        contract: Option<&str>,
        payload: &str,
        expected: Option<&str>,
        key: &str,
        masked: bool,
    ) {
        let shown = personal().show(&letter(contract, payload));
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(text(shown.payload).as_deref(), expected, "{payload}");
        assert_eq!(text(shown.key).as_deref(), Some(key));
        assert_eq!(shown.is_masked, masked);
    }

    #[test]
    fn personal_members_are_hidden_and_what_is_no_json_is_not_shown() {
        let record =
            r#"{"a": 1.50, "user": "U1", "in": [{"mail": "a@b", "n": null}], "name": "x"}"#;
        let hidden =
            r#"{"a": 1.50, "user": "***", "in": [{"mail": "***", "n": null}], "name": "x"}"#;
        check(Some("click"), record, Some(hidden), "k", true);
        let twice = r#"{"user":{"mail":1},"us\u0065r":[2],"x":"user"}"#;
        check(
            Some("click"),
            twice,
            Some(r#"{"user":"***","us\u0065r":"***","x":"user"}"#),
            "k",
            true,
        );
        check(Some("click"), r#""U1""#, None, "k", true);
        check(Some("click"), r#"{"user": null}"#, Some(r#"{"user": null}"#), "k", true);
        check(Some("click"), r#"{"user": "U1", "cut"#, None, "k", true);
        check(Some("click"), "", Some(""), "k", true);
        // Another contract, and one that declares nothing.
        check(Some("login"), r#"{"mail": "a@b"}"#, Some(r#"{"mail": "a@b"}"#), "***", true);
        check(Some("order"), r#"{"user": "U1", "cut"#, Some(r#"{"user": "U1", "cut"#), "k", false);
        // Any may have been meant.
        check(None, r#"{"user":1}"#, Some(r#"{"user":"***"}"#), "***", true);
    }

    #[test]
    fn an_event_is_shown_by_the_same_rule() {
        let shown = |contract: &str, record: &str| {
            String::from_utf8(personal().show_event(contract, record.as_bytes())).unwrap()
        };
        let record = r#"{"a":1.50,"user":"U1","x":{"mail":"a@b"}}"#;
        assert_eq!(shown("click", record), r#"{"a":1.50,"user":"***","x":{"mail":"***"}}"#);
        assert_eq!(shown("login", record), r#"{"a":1.50,"user":"***","x":{"mail":"a@b"}}"#);
        assert_eq!(shown("order", record), record);
        assert!(personal().is_in("click") && !personal().is_in_key("click"));
        assert!(personal().is_in_key("login") && !personal().is_in("order"));
    }

    #[test]
    fn headers_that_are_called_like_a_field_are_hidden() {
        let shown = personal().show(&letter(Some("click"), "{}"));
        let expected = serde_json::json!([
            {"name": "ce_mail", "value": "***"}, {"name": "x", "value": "y"}
        ]);
        assert_eq!(shown.headers, Some(expected));
    }

    #[test]
    fn without_personal_data_everything_is_shown() {
        let letter = letter(None, "no json at all");
        let shown = Personal::default().show(&letter);
        assert_eq!((shown.payload, shown.key), (Some(letter.payload), letter.key));
        assert!(!shown.is_masked);
    }
}
