//! The list of columns of a `select`.

use std::collections::HashSet;

use sqlparser::ast::{SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions};

use super::limits::COLUMNS;
use super::literals::{bare, name, single};
use super::refusal::Refusal;
use super::select::{Writer, nothing};

impl Writer<'_> {
    pub(super) fn projection(&mut self, items: &[SelectItem]) -> Result<String, Refusal> {
        if items.is_empty() {
            return Err(Refusal::refused("the list of columns is empty"));
        }
        if items.len() > COLUMNS {
            return Err(Refusal::refused(format!("a list has more than {COLUMNS} columns")));
        }
        self.aliases.push(HashSet::new());
        let mut stars: HashSet<String> = HashSet::new();
        let mut parts = Vec::with_capacity(items.len());
        for item in items {
            parts.push(match item {
                SelectItem::UnnamedExpr(expr) => self.expr(expr)?,
                SelectItem::ExprWithAlias { expr, alias } => {
                    let text = format!("{} as {}", self.expr(expr)?, name(alias)?);
                    if let Some(known) = self.aliases.last_mut() {
                        known.insert(bare(alias)?.to_lowercase());
                    }
                    text
                }
                SelectItem::Wildcard(options) => {
                    plain_star(options)?;
                    once(&mut stars, "*")?;
                    "*".to_owned()
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    plain_star(options)?;
                    let SelectItemQualifiedWildcardKind::ObjectName(of) = kind else {
                        return Err(Refusal::refused("`.*` of an expression is not let through"));
                    };
                    let of = single(of)?;
                    once(&mut stars, &bare(of)?.to_lowercase())?;
                    format!("{}.*", name(of)?)
                }
            });
        }
        if stars.contains("*") && stars.len() > 1 {
            return Err(Refusal::refused("`*` stands beside `….*`").hint("one of them is enough"));
        }
        self.aliases.pop();
        Ok(parts.join(", "))
    }
}

fn plain_star(options: &WildcardAdditionalOptions) -> Result<(), Refusal> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
    } = options;
    nothing(opt_ilike, "`* ilike`")?;
    nothing(opt_exclude, "`* exclude`")?;
    nothing(opt_except, "`* except`")?;
    nothing(opt_replace, "`* replace`")?;
    nothing(opt_rename, "`* rename`")
}

/// Each list shows each table's columns once: they would double with every query around it.
fn once(stars: &mut HashSet<String>, star: &str) -> Result<(), Refusal> {
    match stars.insert(star.to_owned()) {
        true => Ok(()),
        false => Err(Refusal::refused("a list shows all columns of a table twice")),
    }
}
