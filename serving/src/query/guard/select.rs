//! Queries: CTEs, set operations, `select` and what follows it.

use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, NamedWindowDefinition, NamedWindowExpr, OrderBy, OrderByExpr,
    OrderByKind, OrderByOptions, Query, Select, SelectFlavor, SetExpr, SetOperator, SetQuantifier,
    TableAlias, TableAliasColumnDef, Values, With,
};

use super::limits::{QUERIES, WRITTEN};
use super::literals::{bare, name};
use super::page::{Page, page};
use super::refusal::Refusal;
use super::relations::{Offered, Relations};
use super::weight::{Scope, Weight, bounded, too_large};

/// Ends every query that others read from: conditions are not moved below it, where DuckDB would put
/// whole expressions in place of names, again and again.
pub(super) const FENCE: &str = " limit 9223372036854775807";

/// Writes a statement anew.
pub(super) struct Writer<'a> {
    pub(super) relations: &'a Relations<'a>,
    /// Relations named so far.
    pub(super) used: Vec<Offered>,
    /// What DuckDB has to do so far.
    pub(super) weight: Weight,
    /// Bytes of relations so far, which are ours and not the statement's.
    pub(super) relation_bytes: usize,
    /// CTEs that may be named here, innermost last.
    pub(super) ctes: Vec<NamedCte>,
    /// The lists of the queries under way, innermost last: DuckDB lets other columns and all clauses use
    /// the name of a column and copies its expression, so a chain of them grows without bound.
    pub(super) aliases: Vec<Scope>,
    /// The list of the query that was written last, which its `order by` may name.
    last: Scope,
    /// Nesting of expressions and queries.
    pub(super) depth: usize,
    queries: usize,
}

/// A CTE in scope.
pub(super) struct NamedCte {
    /// In small letters.
    pub(super) name: String,
    /// Scans that each use costs.
    pub(super) scans: usize,
}

/// The name that a CTE has in DuckDB: no table of ours can be called so.
pub(super) fn cte_name(name: &str) -> String {
    crate::metric::quote(&format!("with {}", name.to_lowercase()))
}

impl<'a> Writer<'a> {
    pub(super) fn new(relations: &'a Relations<'a>) -> Self {
        Self {
            relations,
            used: Vec::new(),
            weight: Weight::default(),
            relation_bytes: 0,
            ctes: Vec::new(),
            aliases: Vec::new(),
            last: Scope::default(),
            depth: 0,
            queries: 0,
        }
    }

    /// The statement without its last `limit` and `offset`, and those.
    pub(super) fn statement(&mut self, query: &Query) -> Result<(String, Page), Refusal> {
        self.query(query)
    }

    /// A query that another one reads from.
    pub(super) fn fenced(&mut self, query: &Query) -> Result<String, Refusal> {
        let (text, page) = self.query(query)?;
        Ok(format!("{text}{}", page.text()))
    }

    /// A query inside an expression.
    pub(super) fn nested(&mut self, query: &Query) -> Result<String, Refusal> {
        let (text, page) = self.query(query)?;
        match page == Page::default() {
            true => Ok(text),
            false => Ok(format!("{text}{}", page.text())),
        }
    }

    fn query(&mut self, query: &Query) -> Result<(String, Page), Refusal> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        nothing(fetch, "`fetch`")?;
        none_of(locks, "`for update`")?;
        nothing(for_clause, "`for`")?;
        nothing(settings, "`settings`")?;
        nothing(format_clause, "`format`")?;
        none_of(pipe_operators, "`|>`")?;
        self.queries += 1;
        if self.queries > QUERIES {
            return Err(Refusal::refused(format!("queries nest deeper than {QUERIES}")));
        }
        let outer = self.ctes.len();
        let mut text = match with {
            Some(with) => self.with(with)?,
            None => String::new(),
        };
        text.push_str(&self.set(body)?);
        if let Some(order_by) = order_by {
            let list = std::mem::take(&mut self.last);
            self.aliases.push(list);
            text.push_str(&self.order_by(order_by)?);
            self.last = self.aliases.pop().unwrap_or_default();
        }
        if text.len() > WRITTEN.saturating_add(self.relation_bytes) {
            return Err(too_large());
        }
        self.ctes.truncate(outer);
        self.queries -= 1;
        Ok((text, page(limit_clause.as_ref())?))
    }

    fn with(&mut self, with: &With) -> Result<String, Refusal> {
        let With { with_token: _, recursive, cte_tables } = with;
        if *recursive {
            return Err(Refusal::refused("recursive queries are not let through"));
        }
        let mut parts = Vec::with_capacity(cte_tables.len());
        for cte in cte_tables {
            let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
            nothing(from, "`from` after a CTE")?;
            let TableAlias { explicit: _, name: ident, columns } = alias;
            let called = bare(ident)?.to_lowercase();
            if self.relations.is_name(&called) {
                return Err(Refusal::refused(format!(
                    "a CTE is called `{called}` like a relation"
                ))
                .hint("give it another name"));
            }
            if self.ctes.iter().any(|cte| cte.name == called) {
                return Err(Refusal::refused(format!("two CTEs are called `{called}`")));
            }
            let columns = self.alias_columns(columns)?;
            let before = self.weight.scans;
            let body = self.fenced(query)?;
            parts.push(format!("{}{columns} as ({body})", cte_name(&called)));
            self.ctes.push(NamedCte { name: called, scans: self.weight.scans - before });
        }
        Ok(format!("with {} ", parts.join(", ")))
    }

    fn set(&mut self, body: &SetExpr) -> Result<String, Refusal> {
        self.deeper(|writer| match body {
            SetExpr::Select(select) => writer.select(select),
            SetExpr::Query(query) => Ok(format!("({})", writer.nested(query)?)),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                let op = match op {
                    SetOperator::Union => "union",
                    SetOperator::Except | SetOperator::Minus => "except",
                    SetOperator::Intersect => "intersect",
                };
                let quantifier = match set_quantifier {
                    SetQuantifier::None | SetQuantifier::Distinct => "",
                    SetQuantifier::All => " all",
                    SetQuantifier::ByName
                    | SetQuantifier::AllByName
                    | SetQuantifier::DistinctByName => {
                        return Err(Refusal::refused("`by name` is not let through"));
                    }
                };
                let (left, right) = (writer.set(left)?, writer.set(right)?);
                Ok(format!("({left}) {op}{quantifier} ({right})"))
            }
            SetExpr::Values(values) => writer.values(values),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(Refusal::refused("only `select` statements are let through"))
            }
            SetExpr::Table(_) => {
                Err(Refusal::refused("`table` is not let through").hint("write `select * from …`"))
            }
        })
    }

    fn values(&mut self, values: &Values) -> Result<String, Refusal> {
        let Values { explicit_row: _, value_keyword: _, rows } = values;
        let rows: Vec<String> = rows
            .iter()
            .map(|row| Ok(format!("({})", self.expressions(row)?)))
            .collect::<Result<_, Refusal>>()?;
        Ok(format!("values {}", rows.join(", ")))
    }

    fn select(&mut self, select: &Select) -> Result<String, Refusal> {
        let Select {
            select_token: _,
            optimizer_hint,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        nothing(optimizer_hint, "an optimizer hint")?;
        if select_modifiers.as_ref().is_some_and(|modifiers| modifiers.is_any_set()) {
            return Err(Refusal::refused("a modifier of `select` is not let through"));
        }
        nothing(top, "`top`")?;
        nothing(exclude, "`exclude`")?;
        nothing(into, "`into`")?;
        none_of(lateral_views, "`lateral view`")?;
        nothing(prewhere, "`prewhere`")?;
        none_of(connect_by, "`connect by`")?;
        none_of(cluster_by, "`cluster by`")?;
        none_of(distribute_by, "`distribute by`")?;
        none_of(sort_by, "`sort by`")?;
        nothing(value_table_mode, "`as value`")?;
        match flavor {
            SelectFlavor::Standard => {}
            SelectFlavor::FromFirst | SelectFlavor::FromFirstNoSelect => {
                return Err(Refusal::refused("`from` before `select` is not let through")
                    .hint("write `select … from …`"));
            }
        }
        // The tables first: what they are called is not yet hidden by names of columns.
        let tables: Vec<String> =
            from.iter().map(|table| self.table_with_joins(table)).collect::<Result<_, _>>()?;
        // Then the list: all that follows may name its columns.
        let windows_before = self.weight.windows;
        let list = self.projection(projection)?;
        let mut text = String::from("select ");
        match distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => text.push_str("distinct "),
            Some(Distinct::On(keys)) => {
                text.push_str(&format!("distinct on ({}) ", self.keys(keys)?));
            }
        }
        text.push_str(&list);
        if !tables.is_empty() {
            text.push_str(&format!(" from {}", tables.join(", ")));
        }
        if let Some(selection) = selection {
            text.push_str(&format!(" where {}", self.expr(selection)?));
        }
        text.push_str(&self.group_by(group_by)?);
        if let Some(having) = having {
            text.push_str(&format!(" having {}", self.expr(having)?));
        }
        let qualify = match qualify {
            Some(qualify) => format!(" qualify {}", self.expr(qualify)?),
            None => String::new(),
        };
        let uses = self.weight.windows - windows_before;
        text.push_str(&self.windows(named_window, uses)?);
        text.push_str(&qualify);
        self.last = self.aliases.pop().unwrap_or_default();
        Ok(text)
    }

    fn group_by(&mut self, group_by: &GroupByExpr) -> Result<String, Refusal> {
        match group_by {
            GroupByExpr::All(modifiers) => {
                none_of(modifiers, "a modifier of `group by`")?;
                Ok(" group by all".to_owned())
            }
            GroupByExpr::Expressions(keys, modifiers) => {
                none_of(modifiers, "a modifier of `group by`")?;
                match keys.is_empty() {
                    true => Ok(String::new()),
                    false => Ok(format!(" group by {}", self.keys(keys)?)),
                }
            }
        }
    }

    /// Windows with names, of which DuckDB makes a copy for each of `uses`.
    fn windows(
        &mut self,
        windows: &[NamedWindowDefinition],
        uses: usize,
    ) -> Result<String, Refusal> {
        let mut parts = Vec::with_capacity(windows.len());
        for NamedWindowDefinition(ident, window) in windows {
            let NamedWindowExpr::WindowSpec(spec) = window else {
                return Err(Refusal::refused("a window that is called like another"));
            };
            let before = self.weight;
            let window = self.window(spec)?;
            let weight = self.since(before, window.len());
            self.add(weight, uses)?;
            if let Some(list) = self.aliases.last_mut() {
                list.window = list.window.max(weight.copied);
            }
            parts.push(format!("{} as ({window})", name(ident)?));
        }
        match parts.is_empty() {
            true => Ok(String::new()),
            false => Ok(format!(" window {}", parts.join(", "))),
        }
    }

    fn order_by(&mut self, order_by: &OrderBy) -> Result<String, Refusal> {
        let OrderBy { kind, interpolate } = order_by;
        nothing(interpolate, "`interpolate`")?;
        match kind {
            OrderByKind::All(_) => {
                Err(Refusal::refused("`order by all` is not let through").hint("name the columns"))
            }
            OrderByKind::Expressions(keys) => Ok(format!(" order by {}", self.order_keys(keys)?)),
        }
    }

    pub(super) fn order_keys(&mut self, keys: &[OrderByExpr]) -> Result<String, Refusal> {
        let mut parts = Vec::with_capacity(keys.len());
        for OrderByExpr { expr, options, with_fill } in keys {
            nothing(with_fill, "`with fill`")?;
            let OrderByOptions { asc, nulls_first } = options;
            let mut text = self.key(expr)?;
            if *asc == Some(false) {
                text.push_str(" desc");
            }
            match nulls_first {
                Some(true) => text.push_str(" nulls first"),
                Some(false) => text.push_str(" nulls last"),
                None => {}
            }
            parts.push(text);
        }
        Ok(parts.join(", "))
    }

    /// `(a, b)` after the name of a table, or nothing.
    pub(super) fn alias_columns(&self, columns: &[TableAliasColumnDef]) -> Result<String, Refusal> {
        let mut names = Vec::with_capacity(columns.len());
        for TableAliasColumnDef { name: column, data_type } in columns {
            nothing(data_type, "a type in a list of names")?;
            names.push(name(column)?);
        }
        match names.is_empty() {
            true => Ok(String::new()),
            false => Ok(format!("({})", names.join(", "))),
        }
    }

    pub(super) fn expressions(&mut self, list: &[Expr]) -> Result<String, Refusal> {
        let mut text = String::new();
        for (place, expr) in list.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            text = bounded(text + comma + &self.expr(expr)?)?;
        }
        Ok(text)
    }

    /// Keys to group by or to be distinct by.
    fn keys(&mut self, keys: &[Expr]) -> Result<String, Refusal> {
        let keys: Vec<String> = keys.iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
        Ok(keys.join(", "))
    }

    /// An expression, or the number of a column.
    fn key(&mut self, key: &Expr) -> Result<String, Refusal> {
        let text = self.expr(key)?;
        self.check_number(text.trim_matches(['(', ')']))?;
        Ok(text)
    }
}

/// Refuses a part that is there.
pub(super) fn nothing<T>(part: &Option<T>, what: &str) -> Result<(), Refusal> {
    match part {
        None => Ok(()),
        Some(_) => Err(Refusal::refused(format!("{what} is not let through"))),
    }
}

/// Refuses parts of which there are any.
pub(super) fn none_of<T>(parts: &[T], what: &str) -> Result<(), Refusal> {
    match parts {
        [] => Ok(()),
        _ => Err(Refusal::refused(format!("{what} is not let through"))),
    }
}
