//! Contracts as clients read them: a flat list of fields per version.

use crate::check::family::Draft;
use crate::check::names::Item;
use crate::check::relations::Relations;
use crate::model::{
    Constraints, Document, DocumentField, EnrichValue, EntityFieldKind, Kind, Metric,
};
use crate::raw;
use crate::types::Type;

/// The documents of all versions, by kind, name and version.
pub(crate) fn documents(
    drafts: &[Draft],
    entities: &[Item<raw::entity::Entity>],
    metric_items: &[Item<raw::metric::Metric>],
    relations: &Relations,
    metrics: &[Metric],
) -> Vec<Document> {
    let mut documents = Vec::new();
    for item in drafts.iter().flat_map(|d| &d.versions) {
        documents.extend(event(item, relations));
    }
    for item in entities {
        documents.extend(entity(item, relations));
    }
    for item in metric_items {
        documents.extend(metric(item, metrics));
    }
    documents.sort_by(|a, b| (&a.entity, a.version).cmp(&(&b.entity, b.version)));
    documents
}

fn document<T>(
    item: &Item<T>,
    kind: Kind,
    entity: String,
    released: Option<&String>,
    hash: u64,
) -> Document {
    Document {
        kind,
        entity,
        version: item.version,
        released: released.cloned().unwrap_or_default(),
        status: item.status,
        deprecation: None,
        fields: Vec::new(),
        source_events: Vec::new(),
        max_age: None,
        hash: format!("{hash:016x}"),
        yaml: item.source.text.clone(),
    }
}

fn field(name: &str, ty: &Type, required: bool) -> DocumentField {
    DocumentField {
        name: name.to_owned(),
        ty: type_name(ty, &Constraints::default()).to_owned(),
        required,
        description: None,
        values: None,
        unit: None,
    }
}

fn event(item: &Item<raw::event::Event>, relations: &Relations) -> Option<Document> {
    let contract = relations
        .families
        .iter()
        .filter(|f| f.name == item.name)
        .flat_map(|f| &f.versions)
        .find(|c| c.version == item.version)?;
    let released = item.raw.released.as_ref().map(|t| &t.value);
    let mut document = document(item, Kind::Event, item.name.clone(), released, contract.hash);
    document.deprecation.clone_from(&contract.deprecation);
    document.source_events = contract.names.clone();
    for f in &contract.fields {
        document.fields.push(DocumentField {
            ty: type_name(&f.ty, &f.constraints).to_owned(),
            description: f.description.clone(),
            values: f.constraints.values.clone(),
            ..field(&f.name, &f.ty, f.required)
        });
    }
    for enrich in &contract.enrich {
        let source = match &enrich.value {
            EnrichValue::Expr(_) => "added by the pipeline".to_owned(),
            EnrichValue::Lookup { entity, field, .. } => {
                format!("looked up: {field} of {}", relations.entities[*entity].name)
            }
        };
        document.fields.push(DocumentField {
            description: Some(source),
            ..field(&enrich.name, &enrich.ty, false)
        });
    }
    Some(document)
}

fn entity(item: &Item<raw::entity::Entity>, relations: &Relations) -> Option<Document> {
    let entity =
        relations.entities.iter().find(|e| e.name == item.name && e.version == item.version)?;
    let released = item.raw.released.as_ref().map(|t| &t.value);
    let mut document = document(item, Kind::Entity, item.name.clone(), released, entity.hash);
    document.deprecation.clone_from(&entity.deprecation);
    document.fields.push(field(&entity.key, &Type::String, true));
    for f in &entity.fields {
        // A fold that is taken of a required field has a value as soon as the entity exists.
        let required = match &f.kind {
            EntityFieldKind::Fold(_) => always_there(relations, entity, &f.name),
            EntityFieldKind::Derived(_) => false,
        };
        document.fields.push(DocumentField {
            description: f.description.clone(),
            values: values_of(relations, entity, &f.name),
            ..field(&f.name, &f.ty, required)
        });
    }
    for f in &mut document.fields {
        if f.values.is_some() {
            "enum".clone_into(&mut f.ty);
        }
    }
    Some(document)
}

/// The argument column of a fold in each input; `None` when an input lacks it.
fn arguments<'a>(
    entity: &'a crate::model::Entity,
    name: &str,
) -> Option<Vec<(crate::model::Relation, &'a crate::model::FoldArg)>> {
    let n = entity.folds().position(|(i, _, _)| entity.fields[i].name == name)?;
    entity.inputs.iter().map(|input| Some((input.relation, input.args.get(n)?.as_ref()?))).collect()
}

fn always_there(relations: &Relations, entity: &crate::model::Entity, name: &str) -> bool {
    let counts = entity.fields.iter().any(|f| {
        f.name == name
            && matches!(
                f.kind,
                EntityFieldKind::Fold(
                    crate::model::FoldOp::Count | crate::model::FoldOp::CountDistinct
                )
            )
    });
    counts
        || arguments(entity, name).is_some_and(|args| {
            args.iter().all(|(relation, arg)| match relation {
                crate::model::Relation::Family(i) => {
                    let family = &relations.families[*i];
                    arg.value.name.starts_with('_')
                        || (family.fields.iter().any(|f| f.name == arg.value.name)
                            && !crate::check::family::is_optional(family, &arg.value.name))
                }
                _ => false,
            })
        })
}

/// The allowed texts of the newest version of the field that is folded.
pub(crate) fn values_of(
    relations: &Relations,
    entity: &crate::model::Entity,
    name: &str,
) -> Option<Vec<String>> {
    let args = arguments(entity, name)?;
    let [(crate::model::Relation::Family(i), arg)] = args.as_slice() else { return None };
    let contract = relations.families[*i].versions.last()?;
    let field = contract.fields.iter().find(|f| f.name == arg.value.name)?;
    field.constraints.values.clone()
}

fn metric(item: &Item<raw::metric::Metric>, metrics: &[Metric]) -> Option<Document> {
    let metric = metrics.iter().find(|m| m.name == item.name && m.version == item.version)?;
    let released = item.raw.released.as_ref().map(|t| &t.value);
    let name = format!("metric.{}", item.name);
    let mut document = document(item, Kind::Metric, name, released, metric.hash);
    document.deprecation.clone_from(&metric.deprecation);
    document.source_events = metric.moved_by.clone();
    document.max_age = Some(metric.max_age);
    document.fields = vec![
        DocumentField {
            unit: Some(metric.unit.clone()),
            description: metric.description.clone(),
            ..field("value", &metric.value_type, true)
        },
        field("unit", &Type::String, true),
        DocumentField {
            values: Some(metric.windows.iter().map(|w| w.text.clone()).collect()),
            ty: "enum".to_owned(),
            ..field("window", &Type::String, true)
        },
        field("computed_at", &Type::Timestamp, true),
    ];
    Some(document)
}

fn type_name(ty: &Type, constraints: &Constraints) -> &'static str {
    match ty {
        Type::String if constraints.values.is_some() => "enum",
        Type::String => "string",
        Type::Bool => "boolean",
        Type::Int64 => "integer",
        Type::Float64 | Type::Decimal { .. } => "float",
        Type::Timestamp | Type::Date => "datetime",
        Type::List(_) => "list",
        Type::Struct(_) | Type::Json => "object",
    }
}
