//! Texts through the contract loader.
//!
//! An input that begins with `=` is an expression: it takes the place of a rule, a metric's
//! argument and a metric's filter in a small domain, so that the expression language is reached
//! without a fuzzer having to find its way through YAML first.

#![no_main]

use std::path::PathBuf;

use contracts::model::Domain;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let file = match text.strip_prefix('=') {
        Some(expression) => around(expression),
        None => text.into_owned(),
    };
    check(&file);
});

/// A domain with the expression in every place that takes one.
fn around(expression: &str) -> String {
    // A JSON text is a YAML text, so this quotes whatever comes.
    let quoted = serde_json::Value::from(expression);
    let argument = serde_json::Value::from(format!("sum({expression})"));
    let rule = format!("{{name: r, field: a, check: {quoted}, severity: warning}}");
    format!(
        "kind: event\nnames: [e]\nkey: a\n\
         fields: {{a: string, n: int64, d: 'decimal(10,2)', f: float64, t: timestamp, b: bool, \
         l: 'list<struct<q: int64, s: string>>'}}\n\
         enrich: {{x: {quoted}}}\nrules: [{rule}]\n---\n\
         kind: metric\nname: m\nmeasure: {argument}\nfrom: e\nwhere: {quoted}\nwindows: 1h\n\
         moved_by: e\n"
    )
}

fn check(text: &str) {
    let load = || contracts::load(&[(PathBuf::from("fuzz.yaml"), text.to_owned())]);
    // A line ends with LF, CR LF or CR alone; what is missing at the end stands on the line after.
    let lines = text.matches(['\n', '\r']).count() as u32 + 2;
    match load() {
        Ok(domain) => describe(&domain),
        Err(found) => {
            assert!(!found.is_empty());
            for finding in &found {
                assert!(!finding.message.is_empty() && !finding.hint.is_empty());
                // 0: about the file as a whole.
                assert!(finding.line <= lines, "line {} of {lines}", finding.line);
            }
            // Some of them: it costs as much as the first look.
            if text.len() % 8 == 0 {
                assert_eq!(load().err().as_ref(), Some(&found), "a second look differs");
            }
        }
    }
}

/// What the rest of the product asks of every domain.
fn describe(domain: &Domain) {
    for family in &domain.families {
        assert!(family.schema().fields().len() >= family.fields.len());
        for contract in &family.versions {
            assert!(contracts::export::json_schema(domain, contract).is_object());
            if let Err(error) = contracts::export::avro(domain, contract) {
                assert!(!error.message.is_empty() && !error.hint.is_empty());
            }
        }
    }
    for entity in &domain.entities {
        assert!(entity.schema().fields().len() >= entity.fields.len());
    }
    for (topic, _) in domain.topics() {
        assert!(!topic.as_str().is_empty());
    }
    for metric in &domain.metrics {
        assert!(domain.metric(&metric.name).is_some());
    }
}
