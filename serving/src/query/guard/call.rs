//! Calls of functions, and windows.

use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use super::expr::short_text;
use super::functions::{self, Kind};
use super::limits::JOINED;
use super::literals::{bare, name, single};
use super::refusal::Refusal;
use super::relations::{literal, timestamp_text};
use super::select::{Writer, none_of, nothing};
use super::weight::{Weight, bounded};

impl Writer<'_> {
    pub(super) fn function(&mut self, call: &Function) -> Result<String, Refusal> {
        let Function {
            name: called,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = call;
        let ident = single(called)
            .map_err(|_| Refusal::refused(format!("function `{called}` may not be called")))?;
        let function = functions::find(bare(ident)?)?;
        let name = function.name;
        if *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None) {
            return Err(Refusal::refused(format!("this way to call `{name}` is not let through")));
        }
        nothing(null_treatment, "`ignore nulls`")?;
        none_of(within_group, "`within group`")?;
        let (distinct, args) = match args {
            FunctionArguments::None => (false, &[][..]),
            FunctionArguments::List(list) => {
                let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
                none_of(clauses, "a clause inside a call")?;
                let distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
                (distinct, args.as_slice())
            }
            FunctionArguments::Subquery(_) => {
                return Err(Refusal::refused(format!("a query as the argument of `{name}`"))
                    .hint("put it in brackets of its own"));
            }
        };
        if args.len() < function.least || args.len() > function.most {
            let (least, most) = (function.least, function.most);
            let expected =
                if least == most { least.to_string() } else { format!("{least} to {most}") };
            return Err(Refusal::invalid(format!(
                "`{name}` takes {expected} arguments, not {}",
                args.len()
            )));
        }
        let is_aggregate = function.kind == Kind::Aggregate;
        if !is_aggregate && (distinct || filter.is_some()) {
            return Err(Refusal::refused(format!("`{name}` takes no `distinct` and no `filter`")));
        }
        let mut texts = Vec::with_capacity(args.len());
        for (place, arg) in args.iter().enumerate() {
            let arg = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => arg,
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "count" && !distinct => {
                    texts.push("*".to_owned());
                    continue;
                }
                _ => {
                    return Err(Refusal::refused(format!(
                        "an argument of `{name}` is not let through"
                    )));
                }
            };
            let before = self.weight;
            texts.push(match function.kind {
                Kind::Literal(literal_at) if literal_at == place => {
                    literal(short_text(arg, &format!("argument {} of `{name}`", place + 1))?)
                }
                _ => self.expr(arg)?,
            });
            // Its first argument stands in it twice.
            if function.kind == Kind::NullIf && place == 0 {
                self.again(before, 1)?;
            }
        }
        let over = match (over, function.kind) {
            (None, Kind::Window) => {
                return Err(Refusal::invalid(format!("`{name}` needs `over (…)`")));
            }
            (None, _) => String::new(),
            (Some(over), Kind::Window | Kind::Aggregate) => self.over(over)?,
            (Some(_), _) => {
                return Err(Refusal::refused(format!("`{name}` takes no `over (…)`")));
            }
        };
        let now = self.relations.now;
        Ok(match function.kind {
            Kind::Now => format!("cast({} as timestamp)", literal(&timestamp_text(now))),
            Kind::Today => {
                let text = timestamp_text(now);
                let day = text.split(' ').next().unwrap_or_default();
                format!("cast({} as date)", literal(day))
            }
            Kind::NullIf => match texts.as_slice() {
                // What DuckDB's macro does.
                [text, other] => {
                    bounded(format!("(case when ({text} = {other}) then null else {text} end)"))?
                }
                _ => return Err(Refusal::invalid("`nullif` takes 2 arguments")),
            },
            Kind::Concat => {
                let joins = texts.len().saturating_sub(1).max(1);
                self.add(Weight { joins, ..Weight::default() }, 1)?;
                let texts: Vec<String> =
                    texts.iter().map(|text| format!("cast({text} as varchar)")).collect();
                format!("left(concat({}), {JOINED})", texts.join(", "))
            }
            _ => {
                let distinct = if distinct { "distinct " } else { "" };
                let filter = match filter {
                    Some(filter) => format!(" filter (where {})", self.expr(filter)?),
                    None => String::new(),
                };
                format!("{name}({distinct}{}){filter}{over}", texts.join(", "))
            }
        })
    }

    fn over(&mut self, over: &WindowType) -> Result<String, Refusal> {
        Ok(match over {
            WindowType::NamedWindow(ident) => {
                let copied = self.aliases.last().map_or(0, |list| list.window);
                self.add(Weight { windows: 1, copied, ..Weight::default() }, 1)?;
                format!(" over {}", name(ident)?)
            }
            WindowType::WindowSpec(spec) => format!(" over ({})", self.window(spec)?),
        })
    }

    pub(super) fn window(&mut self, spec: &WindowSpec) -> Result<String, Refusal> {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        nothing(window_name, "a window inside a window")?;
        let mut parts = Vec::new();
        if !partition_by.is_empty() {
            parts.push(format!("partition by {}", self.expressions(partition_by)?));
        }
        if !order_by.is_empty() {
            parts.push(format!("order by {}", self.order_keys(order_by)?));
        }
        if let Some(WindowFrame { units, start_bound, end_bound }) = window_frame {
            let units = match units {
                WindowFrameUnits::Rows => "rows",
                WindowFrameUnits::Range => "range",
                WindowFrameUnits::Groups => "groups",
            };
            let start = self.bound(start_bound)?;
            parts.push(match end_bound {
                Some(end) => format!("{units} between {start} and {}", self.bound(end)?),
                None => format!("{units} {start}"),
            });
        }
        Ok(parts.join(" "))
    }

    fn bound(&mut self, bound: &WindowFrameBound) -> Result<String, Refusal> {
        Ok(match bound {
            WindowFrameBound::CurrentRow => "current row".to_owned(),
            WindowFrameBound::Preceding(None) => "unbounded preceding".to_owned(),
            WindowFrameBound::Following(None) => "unbounded following".to_owned(),
            WindowFrameBound::Preceding(Some(by)) => format!("{} preceding", self.expr(by)?),
            WindowFrameBound::Following(Some(by)) => format!("{} following", self.expr(by)?),
        })
    }
}
