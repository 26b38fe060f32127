//! Texts of schemas: what is read, and what is refused and why.

use crate::decode::avro::schema::{Logical, Schema, Shape};

/// A schema as one line.
fn shown(schema: &Schema, node: usize, depth: u32) -> String {
    let inner = |node: usize| match depth {
        0 => "…".to_owned(),
        _ => shown(schema, node, depth - 1),
    };
    let at = &schema.nodes[node];
    let mut text = match &at.shape {
        Shape::Record { name, fields } => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name, inner(field.node)))
                .collect();
            format!("{}{{{}}}", name.full, fields.join(", "))
        }
        Shape::Enum(symbols) => format!("enum{symbols:?}"),
        Shape::Fixed(size) => format!("fixed({size})"),
        Shape::Array(items) => format!("[{}]", inner(*items)),
        Shape::Map(values) => format!("map({})", inner(*values)),
        Shape::Union(branches) => {
            branches.iter().map(|branch| inner(*branch)).collect::<Vec<_>>().join("|")
        }
        shape => format!("{shape:?}").to_lowercase(),
    };
    if let Some(logical) = at.logical {
        text.push_str(&format!("~{logical:?}"));
    }
    text
}

#[track_caller]
fn check_with(references: &[&str], text: &str, want: Result<&str, &str>) {
    let is = Schema::parse(text, references.iter().copied());
    let is = is.map(|schema| shown(&schema, schema.root, 4));
    assert_eq!(is.as_deref().map_err(String::as_str), want, "{text}");
}

#[track_caller]
fn check(text: &str, want: Result<&str, &str>) {
    check_with(&[], text, want);
}

#[test]
fn shapes() {
    check("\"long\"", Ok("long"));
    check(r#"{"type":"string"}"#, Ok("string"));
    check(r#"{"type":{"type":{"type":"int","logicalType":"date"}}}"#, Ok("int~Date"));
    check(r#"["null",{"type":"array","items":"bytes"}]"#, Ok("null|[bytes]"));
    check(r#"{"type":"map","values":["null","float"]}"#, Ok("map(null|float)"));
    check(r#"{"type":"fixed","name":"f","size":7}"#, Ok("fixed(7)"));
    check(r#"{"type":"enum","name":"e","symbols":["A"],"default":"A"}"#, Ok("enum[\"A\"]"));
    check(r#"{"type":"error","name":"e","fields":[]}"#, Ok("e{}"));
    // Defaults that do not fit, and names that the specification would not have, harm nobody.
    check(
        r#"{"type":"record","name":"a-b","doc":1,"fields":[{"name":"x y","type":"int","default":"?"}]}"#,
        Ok("a-b{x y: int}"),
    );
}

#[test]
fn names_and_namespaces() {
    check(
        r#"{"type":"record","name":"R","namespace":"a.b","fields":[
            {"name":"x","type":{"type":"enum","name":"E","symbols":[]}},
            {"name":"y","type":"E"},
            {"name":"z","type":"a.b.E"},
            {"name":"r","type":{"type":"array","items":"R"}}]}"#,
        Ok(
            "a.b.R{x: enum[], y: enum[], z: enum[], r: [a.b.R{x: enum[], y: enum[], z: enum[], r: [a.b.R{x: …, y: …, z: …, r: …}]}]}",
        ),
    );
    check(
        r#"{"type":"record","name":"c.R","namespace":"a","fields":[
            {"name":"x","type":{"type":"record","name":"I","fields":[]}},
            {"name":"y","type":{"type":"record","name":"O","namespace":"","fields":[{"name":"i","type":"c.I"}]}},
            {"name":"o","type":"O"}]}"#,
        Ok("c.R{x: c.I{}, y: O{i: c.I{}}, o: O{i: c.I{}}}"),
    );
    check(
        r#"{"type":"record","name":"R","namespace":"a","fields":[{"name":"x","type":"I"}]}"#,
        Err("field `x` of `a.R`: unknown type `a.I`"),
    );
}

#[test]
fn references_come_first() {
    let part = r#"{"type":"record","name":"Part","namespace":"t","fields":[]}"#;
    let whole =
        r#"{"type":"record","name":"Whole","namespace":"t","fields":[{"name":"p","type":"Part"}]}"#;
    check_with(&[part, whole], r#"["t.Part","t.Whole"]"#, Ok("t.Part{}|t.Whole{p: t.Part{}}"));
    check_with(&[part], whole, Ok("t.Whole{p: t.Part{}}"));
    check_with(&[], whole, Err("field `p` of `t.Whole`: unknown type `t.Part`"));
    check_with(&[part, part], whole, Err("`t.Part` is defined twice"));
}

#[test]
fn logical_types() {
    let check_logical = |rest: &str, want: Option<Logical>| {
        let text = format!("{{{rest}}}");
        let schema = Schema::parse(&text, []).expect("a schema");
        assert_eq!(schema.nodes[schema.root].logical, want, "{text}");
    };
    let decimal = r#""type":"bytes","logicalType":"decimal""#;
    check_logical(&format!("{decimal},\"precision\":4"), Some(Logical::Decimal(0)));
    check_logical(&format!("{decimal},\"precision\":4,\"scale\":4"), Some(Logical::Decimal(4)));
    for wrong in ["", ",\"precision\":0", ",\"precision\":4,\"scale\":5", ",\"precision\":\"4\""] {
        check_logical(&format!("{decimal}{wrong}"), None);
    }
    check_logical(&format!("{decimal},\"precision\":4,\"scale\":-1"), None);
    check_logical(&format!("{decimal},\"precision\":99999,\"scale\":99999"), None);
    check_logical(r#""type":"long","logicalType":"timestamp-nanos""#, Some(Logical::Timestamp(9)));
    check_logical(r#""type":"int","logicalType":"timestamp-nanos""#, None);
    check_logical(r#""type":"long","logicalType":5"#, None);
    check_logical(
        r#""type":"fixed","name":"f","size":12,"logicalType":"duration""#,
        Some(Logical::Duration),
    );
    check_logical(r#""type":"fixed","name":"f","size":11,"logicalType":"duration""#, None);
}

#[test]
fn what_is_no_schema() {
    check("", Err("not JSON: EOF while parsing a value at line 1 column 0"));
    check("long", Err("not JSON: expected value at line 1 column 1"));
    check("7", Err("`7` is no type"));
    check("{}", Err("a type without `type`"));
    check("\"record\"", Err("unknown type `record`"));
    check(r#"{"type":"record","fields":[]}"#, Err("`name` is missing"));
    check(r#"{"type":"record","name":7,"fields":[]}"#, Err("a name that is no text"));
    check(r#"{"type":"record","name":"r"}"#, Err("`fields` is missing"));
    check(r#"{"type":"record","name":"r","fields":{}}"#, Err("`fields` is no list"));
    check(
        r#"{"type":"record","name":"r","fields":[{"name":"x","type":"int"},{"name":"x","type":"int"}]}"#,
        Err("field `x` of `r` stands twice"),
    );
    check(
        r#"{"type":"record","name":"r","fields":[{"name":"x"}]}"#,
        Err("field `x` of `r`: `type` is missing"),
    );
    check(r#"{"type":"array"}"#, Err("`items` is missing"));
    check(r#"{"type":"fixed","name":"f","size":-1}"#, Err("a fixed without `size`"));
    check(r#"{"type":"enum","name":"e","symbols":[1]}"#, Err("a symbol that is no text"));
    check(r#"[["null"]]"#, Err("a union directly in a union"));
    let deep = format!("{}\"int\"{}", "{\"type\":".repeat(200), "}".repeat(200));
    check(&deep, Err("not JSON: recursion limit exceeded at line 1 column 1017"));
}
