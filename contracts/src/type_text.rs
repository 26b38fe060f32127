//! Types as contracts write them: `decimal(12,2)`, `list<struct<id: string, n: int64>>`.
//!
//! The counterpart of the `Display` of [`Type`]. Start at [`parse_type`].

use crate::diagnostic::closest;
use crate::types::Type;

/// Why a text is not a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// The next step.
    pub hint: String,
    /// Column (in characters) inside the text, from 1.
    pub column: u32,
}

/// Deepest nesting of lists and structs.
const MAX_DEPTH: usize = 16;
const SIMPLE: &[&str] = &["string", "bool", "int64", "float64", "timestamp", "date", "json"];
const ALL: &str = "types: string, bool, int64, float64, decimal(p,s), timestamp, date, json, \
                   list<T>, struct<a: T, b: T>";

/// Reads a type.
pub fn parse_type(text: &str) -> Result<Type, TypeError> {
    let mut reader = Reader { chars: text.chars().collect(), next: 0 };
    let ty = reader.ty(0)?;
    reader.blanks();
    if reader.next < reader.chars.len() {
        return Err(reader.error("unexpected text after the type", "end the type here"));
    }
    Ok(ty)
}

struct Reader {
    chars: Vec<char>,
    next: usize,
}

impl Reader {
    fn ty(&mut self, depth: usize) -> Result<Type, TypeError> {
        if depth > MAX_DEPTH {
            return Err(self.error("the type is nested too deep", "use `json` for the inner part"));
        }
        self.blanks();
        let start = self.next;
        let name = self.word();
        match name.as_str() {
            "string" => Ok(Type::String),
            "bool" => Ok(Type::Bool),
            "int64" => Ok(Type::Int64),
            "float64" => Ok(Type::Float64),
            "timestamp" => Ok(Type::Timestamp),
            "date" => Ok(Type::Date),
            "json" => Ok(Type::Json),
            "decimal" => self.decimal(),
            "list" => {
                self.expect('<', "write `list<T>`, for example `list<string>`")?;
                let inner = self.ty(depth + 1)?;
                self.expect('>', "close the list with `>`")?;
                Ok(Type::List(Box::new(inner)))
            }
            "struct" => self.members(depth),
            _ => {
                self.next = start;
                let shown: String = name.chars().take(40).collect();
                let message = match shown.as_str() {
                    "" => "a type is missing".to_owned(),
                    shown => format!("unknown type `{shown}`"),
                };
                Err(self.error(message, hint_for(&name)))
            }
        }
    }

    fn decimal(&mut self) -> Result<Type, TypeError> {
        const HINT: &str = "write `decimal(p,s)`: p digits in all (1 to 38), s after the point";
        self.expect('(', HINT)?;
        let at = self.next;
        let precision = self.number();
        self.expect(',', HINT)?;
        let scale = self.number();
        self.expect(')', HINT)?;
        match (precision, scale) {
            (Some(precision @ 1..=38), Some(scale)) if scale <= precision => {
                Ok(Type::Decimal { precision, scale: scale as i8 })
            }
            _ => {
                self.next = at;
                Err(self.error("these are not the digits of a decimal", HINT))
            }
        }
    }

    fn members(&mut self, depth: usize) -> Result<Type, TypeError> {
        const HINT: &str = "write `struct<name: T, other: T>`";
        self.expect('<', HINT)?;
        let mut members: Vec<(String, Type)> = Vec::new();
        loop {
            self.blanks();
            let name = self.word();
            if name.is_empty() {
                return Err(self.error("the name of a member is missing", HINT));
            }
            if members.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err(self.error(
                    format!("the member `{name}` stands here twice"),
                    "give each member its own name, not only another case",
                ));
            }
            self.expect(':', HINT)?;
            members.push((name, self.ty(depth + 1)?));
            self.blanks();
            match self.chars.get(self.next) {
                Some(',') => self.next += 1,
                _ => break,
            }
        }
        self.expect('>', "close the struct with `>`")?;
        Ok(Type::Struct(members))
    }

    fn blanks(&mut self) {
        while self.chars.get(self.next).is_some_and(|c| c.is_whitespace()) {
            self.next += 1;
        }
    }

    fn word(&mut self) -> String {
        let rest = &self.chars[self.next..];
        let length = rest.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').count();
        self.next += length;
        rest[..length].iter().collect()
    }

    fn number(&mut self) -> Option<u8> {
        self.blanks();
        self.word().parse().ok()
    }

    fn expect(&mut self, wanted: char, hint: &str) -> Result<(), TypeError> {
        self.blanks();
        if self.chars.get(self.next) == Some(&wanted) {
            self.next += 1;
            return Ok(());
        }
        Err(self.error(format!("expected `{wanted}` in the type"), hint))
    }

    fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> TypeError {
        TypeError { message: message.into(), hint: hint.into(), column: self.next as u32 + 1 }
    }
}

/// What the names of other systems are called here.
fn hint_for(name: &str) -> String {
    let ours = match name.to_ascii_lowercase().as_str() {
        "str" | "text" | "varchar" | "utf8" | "uuid" | "enum" => "string",
        "int" | "integer" | "long" | "bigint" | "int32" | "i64" => "int64",
        "float" | "double" | "number" | "real" | "float32" | "f64" => "float64",
        "boolean" => "bool",
        "datetime" | "time" | "timestamptz" => "timestamp",
        "numeric" | "money" => "decimal(12,2)",
        "array" => "list<string>",
        "object" | "map" | "record" | "dict" | "any" => "json",
        _ => return closest(name, SIMPLE.iter().copied()).map_or(ALL.to_owned(), meant),
    };
    meant(ours)
}

fn meant(name: &str) -> String {
    format!("did you mean `{name}`?")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, column: u32, message: &str) {
        let error = parse_type(text).expect_err(text);
        assert_eq!((error.column, error.message.as_str()), (column, message), "{text}");
    }

    #[test]
    fn every_type_reads_back_as_it_prints() {
        for text in [
            "string",
            "bool",
            "int64",
            "float64",
            "timestamp",
            "date",
            "json",
            "decimal(38,0)",
            "list<list<int64>>",
            "struct<a: string, b: list<struct<c: decimal(12,2)>>>",
        ] {
            assert_eq!(parse_type(text).map(|ty| ty.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(
            parse_type(" decimal( 12 , 2 ) "),
            Ok(Type::Decimal { precision: 12, scale: 2 })
        );
    }

    #[test]
    fn errors_say_where() {
        refused("", 1, "a type is missing");
        refused("strng", 1, "unknown type `strng`");
        refused("list<integer>", 6, "unknown type `integer`");
        refused("decimal(39,2)", 9, "these are not the digits of a decimal");
        refused("decimal(2,3)", 9, "these are not the digits of a decimal");
        refused("list<string", 12, "expected `>` in the type");
        refused("struct<a: string, A: string>", 20, "the member `A` stands here twice");
        refused("string x", 8, "unexpected text after the type");
    }

    #[test]
    fn words_of_other_systems_get_ours_as_a_hint() {
        let hint = |text: &str| parse_type(text).expect_err(text).hint;
        assert_eq!(hint("varchar"), "did you mean `string`?");
        assert_eq!(hint("boolean"), "did you mean `bool`?");
        assert_eq!(hint("timestmp"), "did you mean `timestamp`?");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_type_or_an_error(text in "(list<|struct<|decimal\\(|[a-z0-9 ,:<>()]){0,40}") {
            let _ = parse_type(&text);
        }
    }
}
