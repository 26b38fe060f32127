//! The list of columns of a `select`.

use std::collections::HashSet;

use sqlparser::ast::{SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions};

use super::limits::COLUMNS;
use super::literals::{bare, name, single};
use super::refusal::Refusal;
use super::select::{Writer, nothing};
use super::weight::{Scope, bounded};

impl Writer<'_> {
    /// The list; its names stay in scope until the caller takes them out.
    pub(super) fn projection(&mut self, items: &[SelectItem]) -> Result<String, Refusal> {
        if items.is_empty() {
            return Err(Refusal::refused("the list of columns is empty"));
        }
        if items.len() > COLUMNS {
            return Err(Refusal::refused(format!("a list has more than {COLUMNS} columns")));
        }
        let mut scope = Scope::default();
        for (place, item) in items.iter().enumerate() {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                scope.places.entry(bare(alias)?.to_lowercase()).or_default().push(place);
            }
        }
        self.aliases.push(scope);
        let mut stars: HashSet<String> = HashSet::new();
        let mut text = String::new();
        for (place, item) in items.iter().enumerate() {
            if let Some(scope) = self.aliases.last_mut() {
                scope.at = Some(place);
            }
            let before = self.weight;
            let column = match item {
                SelectItem::UnnamedExpr(expr) => self.expr(expr)?,
                SelectItem::ExprWithAlias { expr, alias } => {
                    format!("{} as {}", self.expr(expr)?, name(alias)?)
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
            };
            let weight = self.since(before, column.len());
            if let Some(scope) = self.aliases.last_mut() {
                scope.columns.push(weight);
                scope.at = None;
            }
            let comma = if place == 0 { "" } else { ", " };
            text = bounded(text + comma + &column)?;
        }
        if stars.contains("*") && stars.len() > 1 {
            return Err(Refusal::refused("`*` stands beside `….*`").hint("one of them is enough"));
        }
        Ok(text)
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
