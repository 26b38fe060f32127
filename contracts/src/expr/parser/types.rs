//! Forms with words of their own inside: `cast(x as type)` and `extract(unit from t)`.

use super::{Parsed, Parser};
use crate::expr::ast::AstKind;
use crate::expr::error::{ExprError, Pos};
use crate::expr::lexer::Token;
use crate::expr::suggest::nearest;
use crate::types::Type;

impl Parser {
    /// `cast(x as type)`; taken up to the parenthesis.
    pub(super) fn cast(&mut self, pos: Pos) -> Parsed {
        let of = self.expression()?;
        self.expect_word("as")?;
        let ty = self.type_name()?;
        self.expect(")")?;
        self.unary(pos, of, |of| AstKind::Cast(of, ty))
    }

    fn type_name(&mut self) -> Result<Type, ExprError> {
        const NAMES: [&str; 7] =
            ["string", "bool", "int64", "float64", "decimal", "timestamp", "date"];
        let pos = self.pos();
        let Token::Word(word) = self.peek() else {
            return Err(self.expected("the name of a type"));
        };
        let lower = word.to_ascii_lowercase();
        self.next();
        Ok(match lower.as_str() {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "timestamp" => Type::Timestamp,
            "date" => Type::Date,
            "decimal" => return self.decimal_type(pos),
            other => {
                let known = match other {
                    "varchar" | "text" | "char" => Some("string"),
                    "boolean" => Some("bool"),
                    "int" | "integer" | "bigint" | "smallint" | "int32" | "long" => Some("int64"),
                    "double" | "float" | "real" => Some("float64"),
                    "numeric" | "number" => Some("decimal(precision,scale)"),
                    "datetime" | "timestamptz" => Some("timestamp"),
                    _ => nearest(other, NAMES),
                };
                return Err(pos.error(format!("unknown type `{other}`")).hint(match known {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("the types of a cast are {}", NAMES.join(", ")),
                }));
            }
        })
    }

    fn decimal_type(&mut self, pos: Pos) -> Result<Type, ExprError> {
        const HINT: &str = "write it as `decimal(12,2)`: 1 to 38 digits, of them the fraction";
        let part = |parser: &mut Self, open: &'static str| -> Result<u8, ExprError> {
            if !parser.eat(open) {
                return Err(pos.error("a decimal needs precision and scale").hint(HINT));
            }
            match parser.next() {
                Token::Number(number) => number
                    .parse()
                    .map_err(|_| pos.error(format!("`{number}` is out of range")).hint(HINT)),
                _ => Err(pos.error("a decimal needs precision and scale").hint(HINT)),
            }
        };
        let precision = part(self, "(")?;
        let scale = part(self, ",")?;
        self.expect(")")?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(pos
                .error(format!("decimal({precision},{scale}) does not exist"))
                .hint(HINT));
        }
        Ok(Type::Decimal { precision, scale: scale as i8 })
    }

    /// `extract(unit from t)`, which is `date_part('unit', t)`; taken up to the parenthesis.
    pub(super) fn extract(&mut self, pos: Pos) -> Parsed {
        let unit_pos = self.pos();
        let Token::Word(unit) = self.next() else {
            return Err(unit_pos.error("expected a unit such as `hour` after `extract(`"));
        };
        self.expect_word("from")?;
        let of = self.expression()?;
        self.expect(")")?;
        let depth = of.depth;
        let unit = self.leaf(unit_pos, AstKind::Text(unit.to_ascii_lowercase()))?;
        self.node(pos, AstKind::Call("date_part".to_owned(), vec![unit, of]), depth)
    }
}
