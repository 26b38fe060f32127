//! The loader over texts from anywhere: it may refuse them, never panic.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;

fn load(text: &str) -> Vec<contracts::Diagnostic> {
    match contracts::load(&[(PathBuf::from("hostile.yaml"), text.to_owned())]) {
        Ok(domain) => {
            exported(&domain);
            Vec::new()
        }
        Err(found) => found,
    }
}

/// Whatever loads can be written as a schema, or is refused by name.
fn exported(domain: &contracts::model::Domain) {
    for contract in domain.families.iter().flat_map(|family| &family.versions) {
        contracts::export::json_schema(domain, contract);
        match contracts::export::avro(domain, contract) {
            Ok(schema) => {
                let parsed = apache_avro::Schema::parse(&schema);
                assert!(parsed.is_ok(), "{parsed:?}: {schema}");
            }
            Err(error) => assert!(!error.message.is_empty() && !error.hint.is_empty()),
        }
    }
}

/// All files of the two domains as one text.
static CONTRACTS: LazyLock<String> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in [
        "domains/shop",
        "domains/flights",
        "tests/cases/good",
        "tests/cases/bad",
        "tests/cases/export",
    ] {
        for (_, text) in contracts::files::read_dir(&root.join(folder)).expect("contract files") {
            all += &text;
            all += "\n---\n";
        }
    }
    all
});

/// A piece of a real contract.
fn piece() -> impl Strategy<Value = String> {
    (0..CONTRACTS.len(), 0..400_usize).prop_map(|(from, length)| {
        let from = CONTRACTS.floor_char_boundary(from);
        let to = CONTRACTS.floor_char_boundary((from + length).min(CONTRACTS.len()));
        CONTRACTS[from..to].to_owned()
    })
}

#[test]
fn known_nasty_texts_are_refused() {
    for text in [
        String::new(),
        "\u{feff}".to_owned(),
        "\0\u{1}\u{7f}".to_owned(),
        "kind: event\n\tnames: [a]".to_owned(),
        "kind: event\nnames: [a".to_owned(),
        "&a [*a, *a, *a]".to_owned(),
        "a: &x [1]\nb: [*x, *x]".to_owned(),
        "{".repeat(100_000),
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "a:\n ".repeat(10_000),
        "x".repeat(10_000_000),
        "? ? ? ?".to_owned(),
        "--- --- ---".to_owned(),
        "%YAML 9.9\n---\na: 1".to_owned(),
        "kind: event\nkind: event".to_owned(),
        "!!binary |\n  AAAA".to_owned(),
        "kind: metric\nname: m\nmeasure: derived(((((((((((((((((((1)".to_owned(),
        format!("kind: event\nnames: [a]\nfields: {{a: '{}'}}", "list<".repeat(50_000)),
        format!(
            "kind: event\nnames: [a]\nfields: {{a: int64}}\nenrich: {{b: \"{}1\"}}",
            "(".repeat(50_000)
        ),
        format!(
            "kind: event\nnames: [a]\nfields: {{a: {{type: string, pattern: '{}'}}}}",
            "(a{1000}){1000}"
        ),
        "kind: event\nnames: [a]\nversion: 99999999999999999999999\nfields: {a: int64}".to_owned(),
        "kind: event\nnames: [a]\nfields: {a: {type: int64, min: 1e999999999}}".to_owned(),
        "kind: event\nnames: [a]\ndedup: {horizon: 999999999999d}\nfields: {a: int64}".to_owned(),
    ] {
        let shown: String = text.chars().take(60).collect();
        assert!(!load(&text).is_empty(), "{shown}");
    }
}

#[test]
fn a_chain_of_ten_thousand_metrics_is_only_long() {
    let mut text = "kind: event\nnames: [a]\nfields: {a: int64}\n".to_owned();
    for i in 0..10_000 {
        let next = i + 1;
        text += &format!(
            "---\n{{kind: metric, name: m{i}, measure: 'ratio(m{next}, m{next})', windows: 1h, moved_by: a}}\n"
        );
    }
    assert!(!load(&text).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_refused_without_a_panic(text in any::<String>()) {
        for found in load(&text) {
            prop_assert!(!found.message.is_empty() && !found.hint.is_empty());
        }
    }

    #[test]
    fn yaml_like_text_is_refused_without_a_panic(
        text in "((kind|names?|fields|enrich|measure|from|where|windows): ?|event|entity|metric|\\[|\\]|\\{|\\}|,|\n|\n  |\n- |'|\"|#|&a|\\*a|!t|\\||>|[a-z(]{1,4}|[0-9.]{1,3}){0,60}"
    ) {
        load(&text);
    }

    #[test]
    fn pieces_of_contracts_are_refused_without_a_panic(pieces in prop::collection::vec(piece(), 1..6)) {
        load(&pieces.concat());
    }
}
