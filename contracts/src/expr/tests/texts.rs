use super::{compile, has_type, hostile, rows, shown, value};

#[test]
fn letters_and_blanks() {
    rows("lower(s)", ["null", "", "abc", "äöß", "a,b,,c", "e\u{301}😀 "]);
    rows("upper(s)", ["null", "", "ABC", "ÄÖSS", "A,B,,C", "E\u{301}😀 "]);
    rows("length(s)", ["null", "0", "3", "3", "6", "4"]);
    rows("trim(s)", ["null", "", "abc", "ÄÖß", "a,b,,c", "e\u{301}😀"]);
    value("trim('  a b  ')", "a b");
}

#[test]
fn parts_count_characters_from_one() {
    rows("substr(s, 2)", ["null", "", "bc", "Öß", ",b,,c", "\u{301}😀 "]);
    rows("substr(s, 2, 1)", ["null", "", "b", "Ö", ",", "\u{301}"]);
    rows("left(s, 2)", ["null", "", "ab", "ÄÖ", "a,", "e\u{301}"]);
    rows("right(s, 2)", ["null", "", "bc", "Öß", ",c", "😀 "]);
    rows("left(s, i)", ["null", "", "abc", "null", "null", "e\u{301}😀 "]);
    rows("right(s, i)", ["null", "", "abc", "null", "null", "e\u{301}😀 "]);
    rows("substr(s, i)", ["null", "null", "", "null", "null", ""]);
    rows("substr(s, 1, i)", ["null", "", "abc", "null", "null", "e\u{301}😀 "]);
    rows("split_part(s, ',', 2)", ["null", "", "", "", "b", ""]);
    rows("split_part(s, ',', 3)", ["null", "", "", "", "", ""]);
    rows("split_part(s, ',', j)", ["null", "null", "", "", "null", "null"]);
    value("split_part('a', '', 1)", "null");
    rows("strpos(s, 'ß')", ["null", "0", "0", "3", "0", "0"]);
    value("strpos('abc', '')", "1");
}

#[test]
fn joining_and_replacing() {
    rows("s || '!'", ["null", "!", "abc!", "ÄÖß!", "a,b,,c!", "e\u{301}😀 !"]);
    rows("concat(s, '!')", ["!", "!", "abc!", "ÄÖß!", "a,b,,c!", "e\u{301}😀 !"]);
    rows("replace(s, ',', ';')", ["null", "", "abc", "ÄÖß", "a;b;;c", "e\u{301}😀 "]);
    value("replace('abc', '', 'x')", "abc");
    value("replace('aaa', 'a', '')", "");
    value("'a' || 'b' || 'c'", "abc");
    value("'it''s'", "it's");
    value("concat(null, 'x')", "x");
    value("'a' || null", "null");
}

#[test]
fn tests_on_texts() {
    rows("starts_with(s, 'a')", ["null", "false", "true", "false", "true", "false"]);
    rows("ends_with(s, 'c')", ["null", "false", "true", "false", "true", "false"]);
    rows("contains(s, 'Ö')", ["null", "false", "false", "true", "false", "false"]);
    rows("contains(s, '')", ["null", "true", "true", "true", "true", "true"]);
    rows("s like 'a%'", ["null", "false", "true", "false", "true", "false"]);
    rows("s not like 'a%'", ["null", "true", "false", "true", "false", "true"]);
    rows("s like '___'", ["null", "false", "true", "true", "false", "false"]);
    rows("s ilike 'äö_'", ["null", "false", "false", "true", "false", "false"]);
    rows("regexp_like(s, '^[a-c]+$')", ["null", "false", "true", "false", "false", "false"]);
    rows(r"regexp_like(s, '^\p{L}{3}$')", ["null", "false", "true", "true", "false", "false"]);
    value(r"'50%' like '50\%'", "true");
    value(r"'50x' like '50\%'", "false");
    value(r"'a\b' like 'a\\b'", "true");
    has_type("s like 'a'", "bool");
}

#[test]
fn texts_cannot_explode() {
    // Each level would multiply the length by eight: 8^12 bytes.
    let mut text = "'aaaaaaaa'".to_owned();
    for _ in 0..12 {
        text = format!("replace({text}, 'a', 'aaaaaaaa')");
    }
    value(&text, "null");
    let doubled = (0..14).fold("s".to_owned(), |text, _| format!("replace({text}, 'a', 'aaaa')"));
    let expr = compile(&doubled);
    assert_eq!(shown(&expr.evaluate(&hostile()), 2), "null");
    assert_eq!(shown(&expr.evaluate(&hostile()), 3), "ÄÖß");
}
