//! What stands behind `from`.

use sqlparser::ast::{Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins};

use super::literals::{bare, name, single};
use super::refusal::Refusal;
use super::select::{Writer, cte_name, none_of, nothing};
use super::weight::Weight;

impl Writer<'_> {
    pub(super) fn table_with_joins(&mut self, table: &TableWithJoins) -> Result<String, Refusal> {
        let TableWithJoins { relation, joins } = table;
        let mut text = self.table(relation)?;
        for Join { relation, global, join_operator } in joins {
            if *global {
                return Err(Refusal::refused("`global join` is not let through"));
            }
            let (words, constraint) = kind_of(join_operator)?;
            let right = self.table(relation)?;
            let constraint = self.constraint(constraint)?;
            text.push_str(&format!(" {words} {right}{constraint}"));
        }
        Ok(text)
    }

    fn constraint(&mut self, constraint: &JoinConstraint) -> Result<String, Refusal> {
        match constraint {
            JoinConstraint::On(expr) => Ok(format!(" on {}", self.expr(expr)?)),
            JoinConstraint::Using(columns) => {
                let columns: Vec<String> =
                    columns.iter().map(|column| name(single(column)?)).collect::<Result<_, _>>()?;
                Ok(format!(" using ({})", columns.join(", ")))
            }
            JoinConstraint::Natural => Err(Refusal::refused("`natural join` is not let through")
                .hint("write `join … using (column)`")),
            JoinConstraint::None => Ok(String::new()),
        }
    }

    fn table(&mut self, table: &TableFactor) -> Result<String, Refusal> {
        self.deeper(|writer| match table {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                nothing(args, "a function in place of a table")?;
                none_of(with_hints, "a hint")?;
                nothing(version, "a version of a table")?;
                none_of(partitions, "a partition")?;
                nothing(json_path, "a path into a table")?;
                nothing(sample, "a sample")?;
                none_of(index_hints, "a hint")?;
                if *with_ordinality {
                    return Err(Refusal::refused("`with ordinality` is not let through"));
                }
                let called = bare(single(name)?)?;
                writer.relation(called, alias.as_ref())
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                nothing(sample, "a sample")?;
                if *lateral {
                    return Err(Refusal::refused("`lateral` is not let through"));
                }
                let body = writer.fenced(subquery)?;
                Ok(format!("({body}){}", writer.alias(alias.as_ref())?))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let inner = writer.table_with_joins(table_with_joins)?;
                Ok(format!("({inner}){}", writer.alias(alias.as_ref())?))
            }
            TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::XmlTable { .. } => {
                Err(Refusal::refused("functions in place of a table are not let through"))
            }
            TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::SemanticView { .. } => {
                Err(Refusal::refused("only relations, queries and joins may stand after `from`"))
            }
        })
    }

    /// A CTE in scope, else a relation that is offered.
    fn relation(&mut self, called: &str, alias: Option<&TableAlias>) -> Result<String, Refusal> {
        let lower = called.to_lowercase();
        if let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == lower) {
            let scans = cte.scans.max(1);
            self.add(Weight { scans, ..Weight::default() }, 1)?;
            let shown = match alias {
                Some(_) => self.alias(alias)?,
                None => format!(" as {}", crate::metric::quote(called)),
            };
            return Ok(format!("{}{shown}", cte_name(&lower)));
        }
        let relation = self.relations.find(called)?;
        self.add(Weight { scans: 1, ..Weight::default() }, 1)?;
        let select = self.relations.select(&relation);
        self.relation_bytes += select.len();
        let shown = match alias {
            Some(_) => self.alias(alias)?,
            None => format!(" as {}", crate::metric::quote(called)),
        };
        if !self.used.contains(&relation) {
            self.used.push(relation);
        }
        Ok(format!("{select}{shown}"))
    }

    fn alias(&self, alias: Option<&TableAlias>) -> Result<String, Refusal> {
        let Some(TableAlias { explicit: _, name: ident, columns }) = alias else {
            return Ok(String::new());
        };
        Ok(format!(" as {}{}", name(ident)?, self.alias_columns(columns)?))
    }
}

fn kind_of(operator: &JoinOperator) -> Result<(&'static str, &JoinConstraint), Refusal> {
    Ok(match operator {
        JoinOperator::Join(on) | JoinOperator::Inner(on) => ("join", on),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => ("left join", on),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) => ("right join", on),
        JoinOperator::FullOuter(on) => ("full join", on),
        JoinOperator::CrossJoin(on) => ("cross join", on),
        JoinOperator::Semi(on) | JoinOperator::LeftSemi(on) => ("semi join", on),
        JoinOperator::Anti(on) | JoinOperator::LeftAnti(on) => ("anti join", on),
        JoinOperator::RightSemi(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::AsOf { .. }
        | JoinOperator::StraightJoin(_) => {
            return Err(Refusal::refused("this kind of join is not let through")
                .hint("joins are inner, left, right, full, cross, semi and anti"));
        }
    })
}
