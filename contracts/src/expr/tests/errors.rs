use super::{compile, error};

/// The text, a part of the message, `line:column`, and a part of the hint (empty for none).
#[track_caller]
fn check(text: &str, message: &str, place: &str, hint: &str) {
    let error = error(text);
    let got =
        format!("{text}\n  {} | {}:{} | {:?}", error.message, error.line, error.column, error.hint);
    assert!(error.message.contains(message), "{got}");
    assert_eq!(format!("{}:{}", error.line, error.column), place, "{got}");
    let found = error.hint.as_deref().unwrap_or_default();
    assert!(found.contains(hint) && (hint.is_empty() == found.is_empty()), "{got}");
}

#[test]
fn syntax() {
    check("", "the expression is empty", "1:1", "");
    check("  -- only a comment", "the expression is empty", "1:20", "");
    check("i +", "expected a value, found the end", "1:4", "");
    check("i i", "unexpected `i` after the expression", "1:3", "");
    check("i = 1 adn b", "unexpected `adn`", "1:7", "did you mean `and`?");
    check("(i", "expected `)`, found the end", "1:3", "");
    check("i)", "unexpected `)`", "1:2", "closes nothing");
    check("i == 1", "`==` is not part", "1:3", "equality is written `=`");
    check("i::int64", "`::` is not part", "1:2", "cast(x as type)");
    check("i;", "`;` is not part", "1:2", "without `;`");
    check("i = 1 && b", "is not part", "1:7", "`and`");
    check("$1", "is not part", "1:1", "name a field");
    check("'abc", "unterminated", "1:1", "single quotes");
    // Found by fuzzing: the tokenizer names a place behind the text.
    check("i > 0\nand s = $tag$ x\n", "unterminated", "2:16", "single quotes");
    check("1 < i < 3", "unexpected `<`", "1:7", "join two of them with `and`");
    check("i in ()", "empty list", "1:1", "");
    check("(1, 2)", "expected `)`, found `,`", "1:3", "only after `in`");
    check("count_of(*)", "`*` does not stand", "1:10", "count_of(list)");
    check("1.", "is not a number", "1:1", "");
    check("case i end", "expected `when`", "1:8", "");
    check("case when b then 1", "expected `when`, `else` or `end`", "1:19", "");
    check("i is 5", "expected `null`, `true` or `false`", "1:6", "");
    check("i is distinct from j", "is distinct from", "1:6", "case when");
    check("s like 'a' escape 'x'", "escape", "1:12", "backslash");
    check("interval 5", "is a text", "1:1", "interval '30 minutes'");
    check("time '10:00'", "may not follow", "1:1", "");
    check("end + 1", "expected a value, found `end`", "1:1", "\"end\"");
    check("i +\n  k", "unknown name `k`", "2:3", "known names");
    check("'ä' = k", "unknown name `k`", "1:7", "known names");
    check("sum(i) over ()", "unexpected `over`", "1:8", "window");
    check("extract(5 from t)", "expected a unit", "1:9", "");
    check("items[1", "expected `]`", "1:8", "");
    check("address.1", "", "1:8", "");
    check("select 1", "unexpected `1`", "1:8", "");
}

#[test]
fn names() {
    check("amont > 5", "unknown name `amont`", "1:1", "did you mean `amount`?");
    check("I", "unknown name `I`", "1:1", "did you mean `i`?");
    check("nowhere", "unknown name `nowhere`", "1:1", "known names: i, j, amount");
    check("lower", "unknown name `lower`", "1:1", "write `lower(…)`");
    check("lowr(s)", "unknown function `lowr`", "1:1", "did you mean `lower`?");
    check("sum(i)", "unknown function `sum`", "1:1", "sum_of(list, …)");
    check("now()", "unknown function `now`", "1:1", "its own time");
    check("ifnull(i, 0)", "unknown function", "1:1", "coalesce");
    check("random()", "unknown function", "1:1", "event");
    check("address.town", "no member `town`", "1:1", "its members: city, geo");
    check("address.cty", "no member `cty`", "1:1", "did you mean `city`?");
    check("items.sku", "needs a struct", "1:1", "sum_of(list, sku)");
    check("i.sku", "needs a struct, found int64", "1:1", "");
    check("raw.x", "needs a struct, found json", "1:1", "declare");
    check("sum_of(items, pric)", "unknown name `pric`", "1:15", "did you mean `price`?");
    check("sku", "unknown name `sku`", "1:1", "known names");
    check("item", "unknown name `item`", "1:1", "did you mean `items`?");
    check("cast(i as bigint)", "unknown type `bigint`", "1:11", "int64");
    check("cast(i as decimal)", "needs precision", "1:11", "decimal(12,2)");
    check("cast(i as decimal(40,2))", "does not exist", "1:11", "1 to 38");
    check("cast(i as decimal(2,3))", "does not exist", "1:11", "1 to 38");
    check("cast(i as foo)", "unknown type `foo`", "1:11", "string, bool");
}

#[test]
fn types() {
    check("s = 5", "`=` compares string with int64", "1:5", "cast(x as int64)");
    check("amount > '5'", "compares decimal(12,2) with string", "1:10", "as a text");
    check("t > '2024-01-01'", "compares timestamp with string", "1:5", "timestamp '");
    check("day = t", "compares date with timestamp", "1:7", "cast");
    check("b = 'true'", "compares bool with string", "1:5", "without quotes");
    check("b = 1", "compares bool with int64", "1:5", "case when");
    check("b < true", "bool has none", "1:5", "`=` or `<>`");
    check("i = null", "always null", "1:5", "is null");
    check("items = items", "cannot be compared", "1:9", "any_of");
    check("raw = raw", "cannot be compared", "1:7", "any_of");
    check("s + 1", "`+` needs numbers, found string and int64", "1:3", "||");
    check("s * 2", "`*` needs numbers", "1:3", "cast");
    check("t - t", "`-` needs numbers", "1:3", "seconds_between(");
    check("t + 5", "`+` needs numbers", "1:3", "interval");
    check("b + 1", "`+` needs numbers", "1:3", "case when");
    check("-s", "`-` needs numbers, found string", "1:1", "cast");
    check("null + 1", "found null and int64", "1:6", "always be null");
    check("items + 1", "`+` needs numbers", "1:7", "sum_of");
    check("i + interval '1 day'", "moves a timestamp", "1:1", "seconds_between");
    check("interval '1 day'", "not a value of its own", "1:1", "add it");
    check("t + interval 'soon'", "is not an interval", "1:5", "30 minutes");
    check("t + interval '1 eon'", "unknown unit `eon`", "1:5", "30 minutes");
    check("day + interval '1 hour'", "whole days", "1:5", "as timestamp");
    check("not i", "`not` needs a bool, found int64", "1:5", "compare it");
    check("i and b", "`and` needs a bool", "1:1", "compare it");
    check("case when i then 1 end", "`when` needs a bool", "1:11", "compare it");
    check("case when b then 1 else 'x' end", "mixes int64 and string", "1:25", "as a text");
    check("case i when 'x' then 1 end", "mixes int64 and string", "1:13", "as a text");
    check("case when b then null end", "nothing but nulls", "1:1", "cast(null as");
    check("coalesce(i, s)", "mixes int64 and string", "1:13", "cast");
    check("coalesce(big, fine)", "no decimal of 38 digits", "1:1", "cast");
    check("i in (1, 'x')", "mixes int64 and string", "1:10", "cast");
    check("null", "type of `null` is not known", "1:1", "cast(null as type)");
    check("s like s", "pattern of `like`", "1:8", "contains");
    check("i like 'x'", "`like` needs string, found int64", "1:1", "cast");
    check("regexp_like(s, s)", "a text in quotes", "1:16", "regexp_like(text");
    check("regexp_like(s, '(')", "the pattern is not valid", "1:16", "regex");
    check(r"regexp_like(s, '(a)\1')", "the pattern is not valid", "1:16", "back-references");
    check("regexp_like(s, '(?=a)')", "the pattern is not valid", "1:16", "look-around");
    check("lower(i)", "`lower` needs string, found int64", "1:7", "cast(x as string)");
    check("left(s, 'x')", "argument 2 of `left` needs int64, found string", "1:9", "");
    check("lower(s, s)", "takes 1 argument, found 2", "1:1", "lower(text)");
    check("round(1, 2, 3)", "takes 1 or 2 arguments", "1:1", "round(number[, digits])");
    check("coalesce()", "takes at least 1", "1:1", "coalesce(");
    check("substr(s, 0)", "starts at 1", "1:11", "right(");
    check("round(amount, i)", "digits of `round`", "1:15", "");
    check("round(amount, 99)", "digits of `round`", "1:15", "");
    check("abs(s)", "`abs` needs a number, found string", "1:5", "");
    check("length(i)", "needs a text or a list", "1:8", "");
    check("date_trunc('dya', t)", "unknown unit `dya`", "1:12", "did you mean `day`?");
    check("date_trunc('hour', day)", "no unit finer", "1:20", "");
    check("date_trunc(s, t)", "is a text in quotes", "1:12", "date_trunc('unit'");
    check("extract(isodow from t)", "unknown unit", "1:9", "iso_weekday");
    check("extract(epoch from t)", "unknown unit", "1:9", "seconds_between");
    check("iso_weekday(s)", "needs a timestamp or a date", "1:13", "timestamp '");
    check("greatest(b, b)", "cannot compare bool", "1:1", "");
    check("sum_of(i, 1)", "needs a list, found int64", "1:8", "_of");
    check(
        "sum_of(items, sku)",
        "`sum_of` needs a number from each element, found string",
        "1:15",
        "",
    );
    check("sum_of(items)", "needs a value to take", "1:1", "sum_of(list, value)");
    check("any_of(items, quantity)", "needs a bool", "1:15", "x > 0");
    check("max_of(items, marks)", "needs a number, a text or a time", "1:15", "");
    check("contains(nums, 'x')", "compares int64 with string", "1:16", "cast");
    check("contains(items, 1)", "compares struct", "1:17", "cast");
    check("nums['x']", "an index is an int64", "1:6", "from 1");
    check("s[1]", "needs a list, found string", "1:1", "substr");
    check("timestamp 'yesterday'", "not a timestamp", "1:1", "2024-01-31");
    check("date '2024-02-30'", "not a date", "1:1", "2024-01-31");
    check("cast(b as int64)", "no cast from bool to int64", "1:1", "case when");
    check("cast(t as int64)", "no cast from timestamp", "1:1", "seconds_between");
    check("cast(items as string)", "no cast from list", "1:1", "");
    check("fine * fine", "76 digits after the point", "1:6", "round");
    check("1e999", "out of the range", "1:1", "");
    check("0.123456789012345678901234567890123456789", "at most 38 digits", "1:1", "exponent");
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    check(&long, "more than the 16384 allowed", "1:1", "derived fields");
    let deep = format!("{}1{}", "(".repeat(8_000), ")".repeat(8_000));
    check(&deep, "nested more than 48 levels", "1:49", "derived fields");
    check(&"(".repeat(16_000), "nested more than 48 levels", "1:49", "derived fields");
    check(&"not ".repeat(4_000), "nested more than 48 levels", "1:193", "derived fields");
    check(&"- ".repeat(8_000), "nested more than 48 levels", "1:97", "derived fields");
    check(&"case ".repeat(3_000), "nested more than 48 levels", "1:241", "derived fields");
    check(&"abs(".repeat(4_000), "nested more than 48 levels", "1:193", "derived fields");
    check(&"nums[".repeat(3_000), "nested more than 48 levels", "1:241", "derived fields");
    let sum = vec!["i"; 8_000].join("+");
    check(&sum, "more than 160 levels deep", "1:320", "derived fields");
    let path = format!("address{}", ".geo".repeat(4_000));
    check(&path, "more than 160 levels deep", "1:644", "derived fields");
    // Long chains that need no depth are fine.
    compile(&vec!["b"; 2_000].join(" or "));
    compile(&format!("i in ({})", vec!["1"; 5_000].join(", ")));
    compile(&format!("{}i = 1{}", "(".repeat(47), ")".repeat(47)));
}
