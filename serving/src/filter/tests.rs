//! Both written forms, as tables.

use serde_json::json;

use super::*;

fn of(texts: &[&str]) -> Result<Filters, NoFilter> {
    let mut filters = Filters::default();
    texts.iter().try_for_each(|text| filters.add_text(text))?;
    Ok(filters)
}

fn values(values: &[Option<&str>]) -> Vec<Option<String>> {
    values.iter().map(|value| value.map(str::to_owned)).collect()
}

fn above(bound: &str, or_equal: bool) -> Condition {
    Condition::Above { bound: bound.to_owned(), or_equal }
}

fn below(bound: &str, or_equal: bool) -> Condition {
    Condition::Below { bound: bound.to_owned(), or_equal }
}

#[track_caller]
fn check(texts: &[&str], json: Value, conditions: &[Condition]) {
    let mut expected = Filters::default();
    conditions.iter().for_each(|condition| expected.add("city", condition.clone()));
    let read = Filters::of_json(&json).expect("it is of the form").expect("it is a filter");
    assert_eq!(read, expected, "{json}");
    if !texts.is_empty() {
        assert_eq!(of(texts).expect("they are filters"), expected, "{texts:?}");
    }
}

#[test]
fn every_operator_has_both_forms() {
    let is = |one: &[Option<&str>]| Condition::In(values(one));
    let not = |one: &[Option<&str>]| Condition::NotIn(values(one));
    check(&["city:Ulm"], json!({"city": "Ulm"}), &[is(&[Some("Ulm")])]);
    check(&["city:7"], json!({"city": 7}), &[is(&[Some("7")])]);
    check(&["city:true"], json!({"city": true}), &[is(&[Some("true")])]);
    check(&["city:null"], json!({"city": "null"}), &[is(&[Some("null")])]);
    check(&["city.null:true"], json!({"city": null}), &[is(&[None])]);
    check(&["city.null:true"], json!({"city": {"null": true}}), &[is(&[None])]);
    check(&["city.null:false"], json!({"city": {"not": null}}), &[not(&[None])]);
    check(&["city.null:false"], json!({"city": {"null": false}}), &[not(&[None])]);
    check(&["city.in:a,b"], json!({"city": ["a", "b"]}), &[is(&[Some("a"), Some("b")])]);
    check(&["city.in:a,b"], json!({"city": {"in": ["a", "b"]}}), &[is(&[Some("a"), Some("b")])]);
    check(&["city.in_or_null:a"], json!({"city": ["a", null]}), &[is(&[Some("a"), None])]);
    check(
        &["city.in_or_null:a,b"],
        json!({"city": {"in_or_null": ["a", "b"]}}),
        &[is(&[Some("a"), Some("b"), None])],
    );
    check(&["city.not:a,b"], json!({"city": {"not": "a,b"}}), &[not(&[Some("a,b")])]);
    check(
        &["city.not_in:a,b"],
        json!({"city": {"not": ["a", "b"]}}),
        &[not(&[Some("a"), Some("b")])],
    );
    check(
        &["city.gte:1", "city.lt:5"],
        json!({"city": {"gte": 1, "lt": 5}}),
        &[above("1", true), below("5", false)],
    );
    check(
        &["city.gt:1", "city.lte:5"],
        json!({"city": {"gt": "1", "lte": "5"}}),
        &[above("1", false), below("5", true)],
    );
    check(
        &["city.between:1,5"],
        json!({"city": {"between": [1, 5]}}),
        &[above("1", true), below("5", true)],
    );
    check(&["city:Ulm", "city:Ulm"], json!(["city:Ulm", "city:Ulm"]), &[is(&[Some("Ulm")])]);
}

#[test]
fn a_value_may_be_any_text() {
    for value in ["", ":", "a:b", "not:a", "gte:1", ".in:a", "a,b", "\\", "🦀", "null"] {
        let filters = of(&[&format!("city:{value}")]).expect("it is a filter");
        assert_eq!(filters, [("city".to_owned(), value.to_owned())].into_iter().collect());
    }
    let filters = of(&["city.in:a\\,b,c\\\\,\\"]).expect("it is a filter");
    let expected = Condition::In(values(&[Some("a,b"), Some("c\\"), Some("\\")]));
    assert_eq!(filters.iter().collect::<Vec<_>>(), [("city", &[expected][..])]);
}

#[test]
fn what_is_written_is_read_again() {
    for texts in [
        &["city:a,b\\c"][..],
        &["city.in:a\\,b,\\\\,"],
        &["city.null:true", "level.null:false"],
        &["city.in_or_null:a\\,b,", "level.in_or_null:1"],
        &["level.between:1,5", "level.not:3", "city.not_in:a,b"],
        &["day.gt:2026-01-01", "day.lte:2026-01-31"],
    ] {
        let filters = of(texts).expect("they are filters");
        let written = filters.to_texts();
        let again = of(&written.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(again.as_ref(), Ok(&filters), "{texts:?} became {written:?}");
    }
}

#[test]
fn what_is_no_filter_says_what_would_be_one() {
    for (texts, message, hint) in [
        (&["city"][..], "has no colon: `city`", "write it as dimension:value"),
        (&["city.is:a"], "has the operator `is`", "did you mean `in`?"),
        (&["city.:a"], "has the operator ``", "in"),
        (&["city.in.not:a"], "has the operator `in.not`", "in"),
        (&["city.between:1"], "has no two bounds: `city.between:1`", "low,high"),
        (&["city.between:1,2,3"], "has no two bounds", "low,high"),
        (&["city.null:"], "has neither `true` nor `false`", "dimension.null:true"),
        (&["city:a", "city:b"], "names the dimension `city` twice", "city.in:a,b"),
        (&["city:a", "city.in:a,b"], "names the dimension `city` twice", "city.in:a,b"),
    ] {
        let error = of(texts).expect_err("it is none");
        assert!(error.message.contains(message), "{texts:?}: {error:?}");
        assert!(error.hint.contains(hint), "{texts:?}: {error:?}");
    }
    for (json, message) in [
        (json!({"city": []}), "names no value of `city`"),
        (json!({"city": {"in": []}}), "names no value of `city`"),
        (json!({"city": {}}), "says nothing of `city`"),
        (json!({"city": {"like": "a"}}), "has the operator `like`"),
        (json!(["city:a", "city:b"]), "twice"),
        (json!({"city": vec!["a"; MAX_VALUES + 1]}), "names 1001 values"),
    ] {
        let error = Filters::of_json(&json).expect("it is of the form").expect_err("it is none");
        assert!(error.message.contains(message), "{json}: {error:?}");
    }
    for json in [
        json!(7),
        json!([7]),
        json!({"city": [["a"]]}),
        json!({"city": {"gte": null}}),
        json!({"city": {"gte": [1]}}),
        json!({"city": {"in": "a"}}),
        json!({"city": {"not": {}}}),
        json!({"city": {"null": "true"}}),
        json!({"city": {"between": [1]}}),
        json!({"city": {"between": [1, null]}}),
    ] {
        assert_eq!(Filters::of_json(&json), None, "{json}");
    }
}
