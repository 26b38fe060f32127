use super::{has_type, rows, value};

#[test]
fn comparisons_with_null_are_null() {
    rows("i > 0", ["null", "false", "true", "false", "false", "true"]);
    rows("i <= j", ["null", "true", "false", "true", "true", "null"]);
    rows("s = 'abc'", ["null", "false", "true", "false", "false", "false"]);
    rows("s <> ''", ["null", "false", "true", "true", "true", "true"]);
    rows("b = true", ["null", "true", "false", "true", "false", "null"]);
    rows("t < timestamp '2024-03-01'", ["null", "true", "true", "true", "false", "true"]);
    rows("day >= date '1970-01-01'", ["null", "true", "true", "false", "true", "false"]);
}

#[test]
fn numbers_of_different_types_compare_by_value() {
    rows("amount > 149.899", ["null", "false", "true", "false", "true", "false"]);
    rows("amount = 149.9", ["null", "false", "true", "false", "false", "false"]);
    rows("i < 7.5", ["null", "true", "true", "true", "true", "false"]);
    rows("f > 1.4", ["null", "false", "true", "null", "null", "true"]);
    rows("i < f", ["null", "false", "false", "null", "null", "true"]);
    // Together they have 76 digits.
    rows("big > fine", ["null", "false", "true", "false", "true", "false"]);
    rows("big = fine", ["null", "true", "false", "false", "false", "false"]);
    rows("big <> 0.5", ["null", "true", "true", "true", "true", "true"]);
    value("0.1 + 0.2 = 0.3", "true");
    value("-0e0 = 0", "true");
    value("9223372036854775807 = 9223372036854775806", "false");
}

#[test]
fn logic_is_three_valued() {
    rows("b and i > 0", ["null", "false", "false", "false", "false", "null"]);
    rows("b or i > 0", ["null", "true", "true", "true", "false", "true"]);
    rows("not b", ["null", "false", "true", "false", "true", "null"]);
    value("true and null", "null");
    value("false and null", "false");
    value("null or true", "true");
    value("null or false", "null");
    value("not null", "null");
    value("true or false and false", "true");
    value("not true or true", "true");
    value("not (true or true)", "false");
    has_type("b or b and b", "bool");
}

#[test]
fn a_guard_keeps_the_other_rows() {
    // Row 2 divides by zero; only it would be undecided without its guard.
    rows("j <> 0 and i / j > 1", ["null", "false", "true", "false", "null", "null"]);
    rows(
        "case when j <> 0 then i / j > 1 else false end",
        ["null", "false", "true", "false", "null", "false"],
    );
}

#[test]
fn tests_for_null_true_and_false_are_never_null() {
    rows("b is null", ["true", "false", "false", "false", "false", "true"]);
    rows("b is not null", ["false", "true", "true", "true", "true", "false"]);
    rows("b is true", ["false", "true", "false", "true", "false", "false"]);
    rows("b is not true", ["true", "false", "true", "false", "true", "true"]);
    rows("b is false", ["false", "false", "true", "false", "true", "false"]);
    rows("b is not false", ["true", "true", "false", "true", "false", "true"]);
    rows("items is null", ["true", "false", "false", "false", "false", "false"]);
    rows("address is not null", ["false", "true", "true", "true", "true", "true"]);
    rows("raw is null", ["true", "false", "false", "false", "false", "false"]);
    rows("i > 0 is true", ["false", "false", "true", "false", "false", "true"]);
    rows("(i > 0) is not true is false", ["false", "false", "true", "false", "false", "true"]);
    value("null is null", "true");
}

#[test]
fn lists_of_values() {
    rows("i in (7, -7)", ["null", "false", "true", "true", "false", "false"]);
    rows("i not in (7, -7)", ["null", "true", "false", "false", "true", "true"]);
    rows("i in (7, null)", ["null", "null", "true", "null", "null", "null"]);
    rows("s in ('abc', '')", ["null", "true", "true", "false", "false", "false"]);
    rows("amount in (149.9, 0)", ["null", "true", "true", "false", "false", "false"]);
    rows("f in (1.5, 0)", ["null", "true", "true", "null", "null", "false"]);
    rows("i in (j, 7)", ["null", "true", "true", "false", "false", "null"]);
    rows(
        "i in (case i when i then 1 end, 7)",
        ["null", "false", "true", "false", "false", "false"],
    );
    rows(
        "i not in (case when i = 0 then 0 end)",
        ["null", "false", "null", "null", "null", "null"],
    );
    rows("2 in (j, null)", ["true", "null", "true", "true", "null", "null"]);
    rows("b in (true)", ["null", "true", "false", "true", "false", "null"]);
    rows("day in (date '1970-01-01')", ["null", "true", "false", "false", "false", "false"]);
    rows("i in (0.5, 7)", ["null", "false", "true", "false", "false", "false"]);
    value("null in (1, 2)", "null");
    value("2 in (1, 2)", "true");
}

#[test]
fn ranges_include_both_ends() {
    rows("i between -7 and 7", ["null", "true", "true", "true", "false", "false"]);
    rows("i not between -7 and 7", ["null", "false", "false", "false", "true", "true"]);
    rows("amount between 0 and 149.9", ["null", "true", "true", "false", "false", "false"]);
    rows("f between 0 and 1.5", ["null", "true", "true", "null", "null", "false"]);
    rows("i between 0.5 and f", ["null", "false", "false", "false", "false", "true"]);
    rows("s between 'a' and 'b'", ["null", "false", "true", "false", "true", "false"]);
    rows("i between j and 100", ["null", "true", "true", "false", "false", "false"]);
    value("5 between 1 and 10 and true", "true");
}
