use super::{has_type, rows};

#[test]
fn sums() {
    rows(
        "sum_of(items, quantity * price)",
        ["null", "0.00", "21.01", "0.00", "92233720368455524349631452243.93", "0.00"],
    );
    rows("sum_of(items, quantity)", ["null", "0", "3", "0", "null", "-1"]);
    rows("sum_of(items, price)", ["null", "0.00", "10.51", "5.00", "10000000001.99", "0.00"]);
    rows("sum_of(items, weight)", ["null", "0.0", "2.0", "0.0", "null", "0.0"]);
    rows("sum_of(nums)", ["null", "0", "6", "5", "null", "4"]);
    rows("sum_of(nums, item * 2)", ["null", "0", "12", "10", "2", "8"]);
    rows("sum_of(weights)", ["null", "0.0", "1.5", "0.0", "null", "0.0"]);
    has_type("sum_of(items, quantity * price)", "decimal(38,2)");
    has_type("sum_of(items, quantity)", "int64");
}

#[test]
fn a_consistency_rule() {
    rows(
        "abs(amount - sum_of(items, quantity * price)) <= 0.01",
        ["null", "true", "false", "false", "false", "false"],
    );
}

#[test]
fn averages() {
    rows(
        "avg_of(items, quantity)",
        ["null", "null", "1.500000", "null", "4611686018427387904.000000", "-1.000000"],
    );
    rows(
        "avg_of(items, price)",
        ["null", "null", "5.255000", "5.000000", "5000000000.995000", "null"],
    );
    rows("avg_of(weights)", ["null", "null", "0.75", "null", "null", "0.0"]);
    rows(
        "avg_of(nums)",
        ["null", "null", "2.000000", "5.000000", "4611686018427387904.000000", "2.000000"],
    );
}

#[test]
fn counts() {
    rows("count_of(items)", ["null", "0", "2", "2", "2", "1"]);
    rows("count_of(items, quantity > 1)", ["null", "0", "1", "0", "1", "0"]);
    rows("length(items)", ["null", "0", "2", "2", "2", "1"]);
    rows("distinct_of(items, sku)", ["null", "0", "2", "1", "1", "1"]);
    rows("distinct_of(tags)", ["null", "0", "2", "1", "1", "1"]);
    rows("distinct_of(items, price)", ["null", "0", "2", "1", "2", "0"]);
    rows("distinct_of(nums)", ["null", "0", "3", "1", "2", "1"]);
}

#[test]
fn chosen_values() {
    rows("min_of(items, price)", ["null", "null", "0.01", "5.00", "2.00", "null"]);
    rows("max_of(items, price)", ["null", "null", "10.50", "5.00", "9999999999.99", "null"]);
    rows("max_of(nums)", ["null", "null", "3", "5", "9223372036854775807", "2"]);
    rows("min_of(tags)", ["null", "null", "x", "ß", "x", ""]);
    rows("max_of(items, at)", ["null", "null", "2024-01-02T00:00:00", "null", "null", "null"]);
    rows("first_of(items, sku)", ["null", "null", "A", "C", "A", "D"]);
    rows("first_of(nums)", ["null", "null", "1", "5", "9223372036854775807", "2"]);
    rows("max_by_of(items, sku, price)", ["null", "null", "A", "C", "A", "null"]);
    rows("max_by_of(items, price, at)", ["null", "null", "0.01", "null", "null", "null"]);
    rows(
        "max_by_of(items, quantity, sku)",
        ["null", "null", "1", "null", "9223372036854775807", "-1"],
    );
    rows("first_of(items, item).sku", ["null", "null", "A", "C", "A", "D"]);
    rows("length(first_of(items, marks))", ["null", "null", "2", "null", "null", "null"]);
}

#[test]
fn predicates_are_three_valued() {
    rows("any_of(items, price > 1)", ["null", "false", "true", "true", "true", "null"]);
    rows("all_of(items, price > 1)", ["null", "true", "false", "null", "true", "null"]);
    rows("any_of(nums, item > 100)", ["null", "false", "false", "null", "true", "false"]);
    rows("all_of(items, sku is not null)", ["null", "true", "true", "false", "true", "true"]);
    rows("all_of(nums, null)", ["null", "true", "null", "null", "null", "null"]);
    rows("contains(nums, 2)", ["null", "false", "true", "null", "false", "true"]);
    rows("contains(nums, 2.0)", ["null", "false", "true", "null", "false", "true"]);
    rows("contains(tags, 'x')", ["null", "false", "true", "null", "true", "false"]);
    rows("contains(tags, s)", ["null", "false", "false", "null", "false", "false"]);
    rows("contains(weights, 0)", ["null", "false", "true", "null", "false", "true"]);
}

#[test]
fn the_inner_expression_sees_the_outer_names() {
    rows("any_of(items, price > amount)", ["null", "false", "false", "true", "false", "null"]);
    rows("sum_of(nums, item + j)", ["null", "0", "12", "7", "9223372036854775806", "0"]);
    rows("count_of(items, sku = s)", ["null", "0", "0", "0", "0", "0"]);
    rows("sum_of(items, sum_of(marks, item * quantity))", ["null", "0", "6", "0", "0", "0"]);
    rows("sum_of(items, sum_of(marks, item + i))", ["null", "0", "17", "0", "0", "0"]);
    rows("count_of(items, f > 1)", ["null", "0", "2", "0", "0", "1"]);
    rows("sum_of(items, 1)", ["null", "0", "2", "2", "2", "1"]);
}

#[test]
fn inside_case_only_some_rows_are_evaluated() {
    rows(
        "case when i > 0 then sum_of(nums, item + j) else count_of(items, price > amount) end",
        ["null", "0", "12", "1", "0", "0"],
    );
}

#[test]
fn elements_and_members() {
    rows("nums[1]", ["null", "null", "1", "null", "9223372036854775807", "2"]);
    rows("nums[3]", ["null", "null", "3", "null", "null", "null"]);
    rows("nums[0]", ["null"; 6]);
    rows("nums[-1]", ["null"; 6]);
    rows("nums[j]", ["null", "null", "2", "5", "null", "null"]);
    rows("nums[9223372036854775807]", ["null"; 6]);
    rows("items[1].sku", ["null", "null", "A", "null", "A", "D"]);
    rows("items[2].price * 2", ["null", "null", "0.02", "10.00", "4.00", "null"]);
    rows("address.city", ["null", "null", "Riga", "null", "", "Oslo"]);
    rows("address.geo.lat", ["null", "null", "56.9", "null", "null", "0.0"]);
    rows("address.geo is null", ["true", "true", "false", "true", "false", "false"]);
    rows("items[1].marks[2]", ["null", "null", "2", "null", "null", "null"]);
    rows("weights[2]", ["null", "null", "0.0", "null", "1e308", "null"]);
}
