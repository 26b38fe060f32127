use super::*;

fn parse_text(text: &str) -> (Vec<YamlDocument>, Vec<String>) {
    let mut report = Report::default();
    let documents = parse(0, text, &mut report);
    let found = report
        .into_diagnostics(&["f.yaml".into()])
        .iter()
        .map(|d| format!("{}:{} {}", d.line, d.column, d.message))
        .collect();
    (documents, found)
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let (_, found) = parse_text(text);
    assert!(found.iter().any(|f| f.contains(expected)), "{text:?} gave {found:?}");
}

#[test]
fn places_are_counted_from_one_in_characters() {
    let (documents, found) = parse_text("a: é\nb:\n  - x\n");
    assert_eq!(found, Vec::<String>::new());
    let Value::Map(entries) = &documents[0].root.value else { panic!("a mapping") };
    assert_eq!((entries[0].1.at.line, entries[0].1.at.column), (1, 4));
    let Value::List(items) = &entries[1].1.value else { panic!("a list") };
    assert_eq!((items[0].at.line, items[0].at.column), (3, 5));
}

#[test]
fn documents_keep_their_own_lines_and_comments() {
    let (documents, _) = parse_text("# first\na: 1\n---\n# second\nb: 2\n");
    let texts: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, ["# first\na: 1\n", "# second\nb: 2\n"]);
}

#[test]
fn a_block_scalar_knows_where_its_text_starts() {
    let (documents, _) = parse_text("a: |\n    one\n    two\n");
    let Value::Map(entries) = &documents[0].root.value else { panic!("a mapping") };
    let Value::Scalar(scalar) = &entries[0].1.value else { panic!("a scalar") };
    assert_eq!((scalar.content.line, scalar.content.column, scalar.literal), (2, 5, true));
}

#[test]
fn what_contracts_do_not_need_is_refused_with_its_place() {
    refused("a: &x 1\nb: *x\n", "1:4 anchors");
    refused("a: !!str 1\n", "tags");
    refused("a: 1\nb: 2\na: 3\n", "3:1 the key `a` stands here twice");
    refused("{[1, 2]: 3}\n", "a key must be a plain text");
    refused(&"[".repeat(5000), "recursion limit");
    refused(&"- ".repeat(5000), "nested more than");
    refused(&"x".repeat(MAX_FILE_BYTES + 1), "bytes");
    refused(&"- 1\n".repeat(MAX_ITEMS + 1), "more than 10000 items");
    refused("a:\n\tb: 1\n", "not YAML");
    refused("a: 'open", "not YAML");
}

#[test]
fn documents_before_a_syntax_error_are_kept() {
    let (documents, found) = parse_text("a: 1\n---\nb: [1\n");
    assert_eq!((documents.len(), found.len()), (1, 1));
}
