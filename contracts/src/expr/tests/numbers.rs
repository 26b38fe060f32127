use super::{has_type, rows, value};

#[test]
fn literals_keep_every_digit() {
    for (text, ty, expected) in [
        ("1", "int64", "1"),
        ("007", "int64", "7"),
        ("-9223372036854775808", "int64", "-9223372036854775808"),
        ("9223372036854775807", "int64", "9223372036854775807"),
        ("9223372036854775808", "decimal(19,0)", "9223372036854775808"),
        ("1.10", "decimal(3,2)", "1.10"),
        (".5", "decimal(1,1)", "0.5"),
        ("0.01", "decimal(2,2)", "0.01"),
        ("12345678901234567.89", "decimal(19,2)", "12345678901234567.89"),
        (
            "99999999999999999999999999999999999999",
            "decimal(38,0)",
            "99999999999999999999999999999999999999",
        ),
        ("1e3", "float64", "1000.0"),
        ("-0e0", "float64", "0.0"),
        ("-(-5)", "int64", "5"),
        ("+5", "int64", "5"),
    ] {
        has_type(text, ty);
        value(text, expected);
    }
}

#[test]
fn int_arithmetic_is_checked() {
    const MIN: &str = "-9223372036854775808";
    const MAX: &str = "9223372036854775807";
    rows("i + j", ["null", "0", "9", "-5", "null", "null"]);
    rows("i - 1", ["null", "-1", "6", "-8", "null", "9223372036854775806"]);
    rows("i * j", ["null", "0", "14", "-14", "null", "null"]);
    rows("i / j", ["null", "null", "3", "-3", "null", "null"]);
    rows("i % j", ["null", "null", "1", "-1", "0", "null"]);
    rows("-i", ["null", "0", "-7", "7", "null", "-9223372036854775807"]);
    rows("abs(i)", ["null", "0", "7", "7", "null", MAX]);
    rows("i / 0", ["null"; 6]);
    rows("10 / j", ["5", "null", "5", "5", "-10", "null"]);
    rows("i + 0", ["null", "0", "7", "-7", MIN, MAX]);
    value("7 / 2", "3");
    value("-7 / 2", "-3");
    value("7 % -2", "1");
    value("2 + 3 * 4 - 1", "13");
    value("(2 + 3) * 4", "20");
    value("-2 * -3", "6");
}

#[test]
fn decimals_are_exact_and_round_half_away_from_zero() {
    for (text, ty, expected) in [
        ("0.1 + 0.2", "decimal(2,1)", "0.3"),
        ("1.005 * 100", "decimal(7,3)", "100.500"),
        ("1.1 * 1.1", "decimal(4,2)", "1.21"),
        ("1.0 / 3", "decimal(7,6)", "0.333333"),
        ("2.0 / 3", "decimal(7,6)", "0.666667"),
        ("-2.0 / 3", "decimal(7,6)", "-0.666667"),
        ("1.00000 / 8", "decimal(10,9)", "0.125000000"),
        ("1.0 / 0", "decimal(7,6)", "null"),
        ("1.0 / 0.0", "decimal(8,6)", "null"),
        ("7.5 % 2", "decimal(2,1)", "1.5"),
        ("-7.5 % 2", "decimal(2,1)", "-1.5"),
        ("7.5 % 0", "decimal(2,1)", "null"),
        ("5 - 0.01", "decimal(4,2)", "4.99"),
        ("12345678901234567.89 + 0.01", "decimal(20,2)", "12345678901234567.90"),
    ] {
        has_type(text, ty);
        value(text, expected);
    }
    has_type("amount * amount * amount", "decimal(36,6)");
    has_type("amount * i", "decimal(31,2)");
    has_type("amount * 2", "decimal(13,2)");
    has_type("amount + i", "decimal(22,2)");
    rows(
        "amount * 1.1",
        ["null", "0.000", "164.890", "-164.890", "10999999999.989", "-10999999999.989"],
    );
    rows("-amount", ["null", "0.00", "-149.90", "149.90", "-9999999999.99", "9999999999.99"]);
    rows("abs(amount)", ["null", "0.00", "149.90", "149.90", "9999999999.99", "9999999999.99"]);
}

#[test]
fn a_decimal_past_38_digits_is_null_in_its_row_only() {
    const MAX: &str = "99999999999999999999999999999999999999";
    rows("big + 1", ["null", "1", "2", "0", "null", "-99999999999999999999999999999999999998"]);
    rows("big * big", ["null", "0", "1", "1", "null", "null"]);
    rows("big - big", ["null", "0", "0", "0", "0", "0"]);
    rows("big / big", ["null", "null", "1.000000", "1.000000", "1.000000", "1.000000"]);
    rows("big % 10", ["null", "0", "1", "-1", "9", "-9"]);
    rows(
        "big + fine",
        ["null", "0.00000000000000000000000000000000000000", "null", "null", "null", "null"],
    );
    rows("round(big, -37)", ["null", "0", "0", "0", "null", "null"]);
    rows("abs(big)", ["null", "0", "1", "1", MAX, MAX]);
}

#[test]
fn floats_are_finite_or_null_and_zero_has_no_sign() {
    rows("f", ["null", "0.0", "1.5", "null", "null", "1e308"]);
    rows("f + g", ["null", "0.0", "3.5", "null", "null", "null"]);
    rows("f * g", ["null", "0.0", "3.0", "null", "null", "null"]);
    rows("f / g", ["null", "null", "0.75", "null", "null", "1.0"]);
    rows("f % g", ["null", "null", "1.5", "null", "null", "0.0"]);
    rows("-g", ["-2.0", "0.0", "-2.0", "-1.0", "null", "-1e308"]);
    rows("abs(f)", ["null", "0.0", "1.5", "null", "null", "1e308"]);
    rows("f + i", ["null", "0.0", "8.5", "null", "null", "1e308"]);
    rows("f * amount", ["null", "0.0", "224.85000000000002", "null", "null", "null"]);
    rows("f = 0", ["null", "true", "false", "null", "null", "false"]);
    rows("f is null", ["true", "false", "false", "true", "true", "false"]);
    has_type("f * 1.1", "float64");
}

#[test]
fn rounding() {
    for (text, expected) in [
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(1.005, 2)", "1.01"),
        ("round(1.005, 5)", "1.005"),
        ("round(149.99, -1)", "150"),
        ("round(145, -1)", "150"),
        ("round(-145, -1)", "-150"),
        ("round(144, 2)", "144"),
        ("round(1.005e0, 2)", "1.01"),
        ("round(2.5e0)", "3.0"),
        ("round(-0.4e0)", "0.0"),
        ("round(1e308, 2)", "1e308"),
        ("round(1234.5e0, -2)", "1200.0"),
        ("round(9.99, 1)", "10.0"),
        ("floor(-1.5)", "-2"),
        ("ceil(-1.5)", "-1"),
        ("floor(1.5)", "1"),
        ("ceil(1.5)", "2"),
        ("ceil(1.00)", "1"),
        ("floor(7)", "7"),
        ("floor(-1.5e0)", "-2.0"),
        ("ceil(-0.5e0)", "0.0"),
        ("abs(-5)", "5"),
        ("abs(-5.5)", "5.5"),
    ] {
        value(text, expected);
    }
    has_type("round(amount)", "decimal(11,0)");
    has_type("round(amount, 1)", "decimal(12,1)");
    rows("ceil(amount)", ["null", "0", "150", "-149", "10000000000", "-9999999999"]);
    rows("floor(amount)", ["null", "0", "149", "-150", "9999999999", "-10000000000"]);
    rows("round(i, -18)", ["null", "0", "0", "0", "-9000000000000000000", "9000000000000000000"]);
    rows("round(i, -19)", ["null", "0", "0", "0", "null", "null"]);
    rows("round(fine, 2)", ["null", "0.00", "0.00", "0.00", "1.00", "-1.00"]);
}
