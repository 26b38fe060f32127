//! Folds as SQL aggregates over the rows that an entity is made of.

use contracts::model::{
    ColumnRef, Entity, EntityFieldKind, EntityInput, FoldArg, FoldOp, Relation,
};
use contracts::types::Type;

use super::entity::Entities;
use super::journal::Rows;
use super::session::Session;
use super::sql::{name, narrowed, quoted, sql_type};

/// Rows that an entity is folded from: `t` tenant, `k` key, `tm` µs, `s` position, and of fold number
/// `n` the value `v<n>`, the order `b<n>` and whether the row gives anything, `g<n>`.
pub(super) fn rows(
    session: &Session<'_>,
    families: &std::collections::BTreeMap<usize, Rows>,
    entities: &Entities,
    entity: &Entity,
    before: Option<i64>,
) -> Result<String, String> {
    let parts = entity
        .inputs
        .iter()
        .map(|input| match input.relation {
            Relation::Family(family) => {
                let rows = families.get(&family).ok_or("its events could not be read")?;
                of_family(session, rows, entity, input, before)
            }
            Relation::Entity(below) => of_entity(entities, below, entity, input),
            Relation::Ingest => Err("an entity over `ingest`".to_owned()),
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(parts.join(" union all "))
}

fn of_family(
    session: &Session<'_>,
    rows: &Rows,
    entity: &Entity,
    input: &EntityInput,
    before: Option<i64>,
) -> Result<String, String> {
    let column =
        |column: &ColumnRef| rows.column(column).ok_or_else(|| "a column is missing".to_owned());
    let mut list = format!(
        "_tenant as t, ({})::varchar as k, epoch_us(_time) as tm, _seq as s",
        column(&input.key)?
    );
    folds(entity, input, "true", &mut list, |arg| {
        let by = arg.by.as_ref().map(&column).transpose()?;
        Ok((column(&arg.value)?, by))
    })?;
    let mut from = format!(
        "select {list} from {} where {} is not null{}",
        rows.view,
        column(&input.key)?,
        session.of_tenant("_tenant")
    );
    if !input.event_types.is_empty() {
        let types: Vec<String> = input.event_types.iter().map(|ty| quoted(ty)).collect();
        from.push_str(&format!(" and _type in ({})", types.join(", ")));
    }
    if let Some(filter) = &input.filter {
        from.push_str(&format!(" and {}", column(filter)?));
    }
    if let Some(before) = before {
        from.push_str(&format!(" and epoch_us(_time) < {before}"));
    }
    Ok(from)
}

/// A row of the entity below names a key also when it does not pass: then it gives nothing, but the
/// entity above is there.
fn of_entity(
    entities: &Entities,
    below: usize,
    entity: &Entity,
    input: &EntityInput,
) -> Result<String, String> {
    let rows = entities.get(below)?;
    let column =
        |wanted: &ColumnRef| rows.open(&wanted.name).ok_or_else(|| "a field is missing".to_owned());
    let passes = match &input.filter {
        Some(filter) => format!("coalesce({}, false)", column(filter)?),
        None => "true".to_owned(),
    };
    let mut list =
        format!("t, ({})::varchar as k, updated_at as tm, updated_seq as s", column(&input.key)?);
    // The names of the table below and of this list are the same; a sub-select keeps them apart.
    folds(entity, input, &passes, &mut list, |arg| {
        let by = arg.by.as_ref().map(&column).transpose()?;
        Ok((column(&arg.value)?, by))
    })?;
    Ok(format!("select * from (select {list} from {}) where k is not null", rows.table))
}

/// Adds the columns of each fold. `passes` says of a row whether it counts, `give` of an argument its
/// value and its order.
fn folds(
    entity: &Entity,
    input: &EntityInput,
    passes: &str,
    list: &mut String,
    give: impl Fn(&FoldArg) -> Result<(String, Option<String>), String>,
) -> Result<(), String> {
    for (fold, (field, op, ty)) in entity.folds().enumerate() {
        let (held, by_type) = types(entity, fold, ty);
        match input.args.get(fold).and_then(Option::as_ref) {
            Some(arg) => {
                let (value, by) = give(arg)?;
                let scale = |ty: &Type| match ty {
                    Type::Decimal { scale, .. } => i32::from(*scale),
                    _ => 0,
                };
                // All inputs and the field at one scale.
                let value = match (&arg.value.ty, &held) {
                    (Type::Int64 | Type::Decimal { .. }, Type::Decimal { .. }) => {
                        let shift = scale(&held) - scale(&arg.value.ty);
                        if shift < 0 {
                            return Err(format!(
                                "`{}` has several scales",
                                entity.fields[field].name
                            ));
                        }
                        format!("({value})::hugeint * '1{}'::hugeint", "0".repeat(shift as usize))
                    }
                    _ => value,
                };
                let picks = matches!(op, FoldOp::First | FoldOp::Last);
                let mut given = passes.to_owned();
                match arg.absent_bit {
                    Some(bit) => {
                        given.push_str(&format!(" and (_absent & {}) = 0", 1_i64 << bit));
                    }
                    // The null of an expression says that the event does not know.
                    None if picks => given.push_str(&format!(" and ({value}) is not null")),
                    None => {}
                }
                list.push_str(&format!(", {value} as v{fold}, {given} as g{fold}"));
                let by = by.unwrap_or_else(|| format!("null::{}", sql_type(&by_type)));
                list.push_str(&format!(", {by} as b{fold}"));
            }
            None => {
                let (value, by) = (sql_type(&held), sql_type(&by_type));
                list.push_str(&format!(
                    ", null::{value} as v{fold}, {passes} and {} as g{fold}, null::{by} as b{fold}",
                    counts_rows(entity, fold)
                ));
            }
        }
    }
    Ok(())
}

/// The types of a fold's values and of what it orders by.
fn types(entity: &Entity, fold: usize, result: &Type) -> (Type, Type) {
    let mut args = entity.inputs.iter().filter_map(|input| input.args.get(fold)?.as_ref());
    let by = args.clone().find_map(|arg| arg.by.as_ref()).map_or(Type::Int64, |by| by.ty.clone());
    let own = args.next().map_or(Type::Int64, |arg| arg.value.ty.clone());
    let is_result =
        matches!(result, Type::Decimal { .. }) && matches!(own, Type::Decimal { .. } | Type::Int64);
    (if is_result { result.clone() } else { own }, by)
}

/// Does a `count` count rows? Not where one of the inputs gives it a value.
fn counts_rows(entity: &Entity, fold: usize) -> bool {
    let op = entity.folds().nth(fold).map(|(_, op, _)| op);
    op == Some(FoldOp::Count)
        && entity.inputs.iter().all(|input| matches!(input.args.get(fold), Some(None)))
}

/// The value of fold number `fold`. `over` is empty for one value per key, or a window.
pub(super) fn aggregate(entity: &Entity, fold: usize, over: &str) -> Result<String, String> {
    let Some((_, op, ty)) = entity.folds().nth(fold) else { return Err("no such fold".to_owned()) };
    let (v, g, b) = (format!("v{fold}"), format!("g{fold}"), format!("b{fold}"));
    let given = format!("filter (where {g}){over}");
    let present = format!("filter (where {g} and {v} is not null and {b} is not null){over}");
    Ok(match op {
        FoldOp::Last => format!("(arg_max({{'v': {v}}}, row(tm, s)) {given}).v"),
        FoldOp::First => format!("(arg_min({{'v': {v}}}, row(tm, s)) {given}).v"),
        FoldOp::Min => format!("min({v}) {given}"),
        FoldOp::Max => format!("max({v}) {given}"),
        FoldOp::Count if counts_rows(entity, fold) => format!("count(*) {given}"),
        FoldOp::Count => format!("count({v}) {given}"),
        FoldOp::Sum if *ty == Type::Float64 => format!("coalesce(sum({v}) {given}, 0.0::double)"),
        FoldOp::Sum => {
            let sum = format!("coalesce(sum(({v})::hugeint) {given}, 0::hugeint)");
            match ty {
                Type::Int64 => narrowed(&sum, "bigint"),
                _ => format!("{}::hugeint", narrowed(&sum, "decimal(38, 0)")),
            }
        }
        FoldOp::CountDistinct => format!("count(distinct {v}) {given}"),
        FoldOp::ArgMax => format!("arg_max({v}, row({b}, tm, s)) {present}"),
        FoldOp::ArgMin => format!("arg_min({v}, row({b}, tm, s)) {present}"),
        // Its ties go to the smaller value, which needs a statement of its own.
        FoldOp::Mode if over.is_empty() => format!("any_value(m{fold})"),
        FoldOp::Mode => return Err("the mode of the rows so far".to_owned()),
    })
}

/// One row per key with all folds as `f_<field>`.
pub(super) fn folded(entity: &Entity, rows: &str) -> Result<String, String> {
    let mut list = "t, k, max(tm) as updated_at, max(s) as updated_seq".to_owned();
    let mut from = format!("({rows}) r");
    for (fold, (field, op, _)) in entity.folds().enumerate() {
        let column = name(&format!("f_{}", entity.fields[field].name));
        list.push_str(&format!(", {} as {column}", aggregate(entity, fold, "")?));
        if op == FoldOp::Mode {
            from.push_str(&format!(
                " left join (select t as mt{fold}, k as mk{fold}, arg_min(v{fold}, row(-n, v{fold})) \
                 as m{fold} from (select t, k, v{fold}, count(*) as n from ({rows}) where g{fold} and \
                 v{fold} is not null group by t, k, v{fold}) group by t, k) m{fold}t \
                 on t = mt{fold} and k = mk{fold}"
            ));
        }
    }
    Ok(format!("select {list} from {from} group by t, k"))
}

/// The same after each row: what was known of the key up to position `s`.
pub(super) fn running(entity: &Entity, rows: &str) -> Result<String, String> {
    let over = " over (partition by t, k order by s rows unbounded preceding)";
    let mut list = "t, k, s".to_owned();
    for (fold, (field, ..)) in entity.folds().enumerate() {
        let column = name(&format!("f_{}", entity.fields[field].name));
        list.push_str(&format!(", {} as {column}", aggregate(entity, fold, over)?));
    }
    Ok(format!("select {list} from ({rows}) r"))
}

/// The fields of an entity that are folds.
pub(super) fn fields(entity: &Entity) -> impl Iterator<Item = &contracts::model::EntityField> {
    entity.fields.iter().filter(|field| matches!(field.kind, EntityFieldKind::Fold(_)))
}
