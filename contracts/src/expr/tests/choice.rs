use super::{has_type, rows, value};

#[test]
fn searched_case() {
    rows(
        "case when i < 0 then 'negative' when i = 0 then 'zero' else 'positive' end",
        ["positive", "zero", "positive", "negative", "negative", "positive"],
    );
    rows(
        "case when i > 0 then i end",
        ["null", "null", "7", "null", "null", "9223372036854775807"],
    );
    rows(
        "case when amount < 50 then 'small' when amount < 500 then 'medium' else 'large' end",
        ["large", "small", "medium", "small", "large", "small"],
    );
    has_type("case when b then 1 else 2.5 end", "decimal(2,1)");
    has_type("case when b then i else 2.5 end", "decimal(20,1)");
    has_type("case when b then f else 2.5 end", "float64");
    has_type("case when b then null else day end", "date");
    value("case when null then 1 else 2 end", "2");
}

#[test]
fn case_with_an_operand() {
    rows(
        "case i when 0 then 'zero' when 7 then 'seven' end",
        ["null", "zero", "seven", "null", "null", "null"],
    );
    rows("case s when 'abc' then 1 when '' then 2 else 3 end", ["3", "2", "1", "3", "3", "3"]);
    rows(
        "case i when j then 'same' else 'other' end",
        ["other", "same", "other", "other", "other", "other"],
    );
    rows(
        "case f when 0 then 'zero' else 'other' end",
        ["other", "zero", "other", "other", "other", "other"],
    );
    rows("case i when 0.5 then 1 when 7 then 2 end", ["null", "null", "2", "null", "null", "null"]);
    rows("case j when null then 1 else 2 end", ["2"; 6]);
    value("case 2 when 1 then 'one' when 2 then 'two' end", "two");
}

#[test]
fn the_first_that_is_not_null() {
    rows("coalesce(i, j)", ["2", "0", "7", "-7", "-9223372036854775808", "9223372036854775807"]);
    rows(
        "coalesce(i, 0.5)",
        ["0.5", "0.0", "7.0", "-7.0", "-9223372036854775808.0", "9223372036854775807.0"],
    );
    rows("coalesce(f, g, 0)", ["2.0", "0.0", "1.5", "1.0", "0.0", "1e308"]);
    rows("coalesce(s, 'none')", ["none", "", "abc", "ÄÖß", "a,b,,c", "e\u{301}😀 "]);
    rows("coalesce(b, false)", ["false", "true", "false", "true", "false", "false"]);
    rows("length(coalesce(items, items))", ["null", "0", "2", "2", "2", "1"]);
    rows("coalesce(i / j, -1)", ["-1", "-1", "3", "-3", "-1", "-1"]);
    value("coalesce(null, 5)", "5");
}

#[test]
fn nullif_gives_null_for_equal_values() {
    rows("nullif(j, 0)", ["2", "null", "2", "2", "-1", "null"]);
    rows(
        "nullif(amount, 149.9)",
        ["null", "0.00", "null", "-149.90", "9999999999.99", "-9999999999.99"],
    );
    rows("nullif(g, 0)", ["2.0", "null", "2.0", "1.0", "null", "1e308"]);
    rows("nullif(s, '')", ["null", "null", "abc", "ÄÖß", "a,b,,c", "e\u{301}😀 "]);
    rows("10 / nullif(j, 0)", ["5", "null", "5", "5", "-10", "null"]);
}

#[test]
fn extremes_pass_over_nulls() {
    rows("greatest(i, j)", ["2", "0", "7", "2", "-1", "9223372036854775807"]);
    rows("least(i, j)", ["2", "0", "2", "-7", "-9223372036854775808", "9223372036854775807"]);
    rows("greatest(i, j, 3)", ["3", "3", "7", "3", "3", "9223372036854775807"]);
    rows("least(f, g)", ["2.0", "0.0", "1.5", "1.0", "null", "1e308"]);
    rows(
        "greatest(amount, 100)",
        ["100.00", "100.00", "149.90", "100.00", "9999999999.99", "100.00"],
    );
    rows("greatest(s, 'b')", ["b", "b", "b", "ÄÖß", "b", "e\u{301}😀 "]);
    value("least(date '2024-01-02', date '2024-01-01')", "2024-01-01");
    value("greatest(null, 1)", "1");
}
