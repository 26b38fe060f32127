//! What the contracts call things: the only place that words of a domain come from.

use std::collections::BTreeSet;

use contracts::model::{
    Dimension, Domain, EnrichValue, Entity, EntityField, EntityFieldKind, Family, Metric, Relation,
};
use contracts::types::Type;

use super::words::{Word, is_idle, phrase};

/// A phrase, word by word.
pub(super) type Phrase = Vec<Word>;

/// Names and synonyms as phrases.
fn phrases<'a>(name: &'a str, synonyms: &'a [String]) -> impl Iterator<Item = Phrase> + 'a {
    std::iter::once(name).chain(synonyms.iter().map(String::as_str)).map(phrase)
}

/// What a metric is called.
pub(super) fn of_metric(metric: &Metric) -> Vec<Phrase> {
    phrases(&metric.name, &metric.synonyms).collect()
}

/// What a dimension is called.
pub(super) fn of_dimension(dimension: &Dimension) -> Vec<Phrase> {
    phrases(&dimension.name, &dimension.synonyms).collect()
}

/// What an entity is called.
pub(super) fn of_entity(entity: &Entity) -> Vec<Phrase> {
    phrases(&entity.name, &entity.synonyms).collect()
}

/// What a field is called.
pub(super) fn of_field(field: &EntityField) -> Vec<Phrase> {
    phrases(&field.name, &field.synonyms).collect()
}

/// What the contrary of a field is called.
pub(super) fn against_field(field: &EntityField) -> Vec<Phrase> {
    field.opposites.iter().map(|text| phrase(text)).collect()
}

/// All words that the contracts have names for, for comparison: of metrics, dimensions, entities, fields and
/// values.
pub(super) fn words_of(domain: &Domain) -> BTreeSet<String> {
    let metrics = domain.metrics.iter().flat_map(|metric| {
        let dimensions = metric.dimensions.iter().flat_map(of_dimension);
        of_metric(metric).into_iter().chain(dimensions)
    });
    let entities = domain.entities.iter().flat_map(|entity| {
        let fields = entity.fields.iter();
        let fields =
            fields.flat_map(|field| of_field(field).into_iter().chain(against_field(field)));
        of_entity(entity).into_iter().chain(fields)
    });
    let fields = domain.families.iter().flat_map(|family| {
        let columns = family.versions.iter().flat_map(|version| {
            let added = version.enrich.iter().map(|added| &added.name);
            version.fields.iter().map(|field| &field.name).chain(added)
        });
        let mut values = BTreeSet::new();
        columns.for_each(|column| family_values(family, column, &mut values));
        values
    });
    let values = fields.map(|value| phrase(&value));
    metrics.chain(entities).chain(values).flatten().map(|word| word.norm).collect()
}

/// Where a phrase stands among words that nothing has used yet, in one piece.
pub(super) fn place_of(words: &[Word], wanted: &[Word]) -> Option<Vec<usize>> {
    if wanted.is_empty() || wanted.len() > words.len() {
        return None;
    }
    (0..=words.len() - wanted.len())
        .find(|at| stands_at(words, *at, wanted))
        .map(|at| (at..at + wanted.len()).collect())
}

/// Does a phrase stand at this place?
pub(super) fn stands_at(words: &[Word], at: usize, wanted: &[Word]) -> bool {
    let here = words.get(at..at + wanted.len());
    !wanted.is_empty()
        && here.is_some_and(|here| {
            here.iter().zip(wanted).all(|(word, wanted)| !word.used && word.norm == wanted.norm)
        })
}

/// Where the telling words of a phrase stand, in any order.
pub(super) fn scattered(words: &[Word], wanted: &[Word]) -> Option<Vec<usize>> {
    let telling: Vec<&Word> = wanted.iter().filter(|word| !is_idle(&word.low)).collect();
    let mut places: Vec<usize> = Vec::with_capacity(telling.len());
    for wanted in &telling {
        let found = words.iter().enumerate().position(|(at, word)| {
            !word.used && word.norm == wanted.norm && !places.contains(&at)
        })?;
        places.push(found);
    }
    (!places.is_empty()).then_some(places)
}

/// Texts that a column may have, as far as the contracts say: the allowed values of a field, and what
/// an expression that makes classes makes.
pub(super) fn values_of(domain: &Domain, relation: Relation, column: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match relation {
        Relation::Family(family) => family_values(&domain.families[family], column, &mut found),
        Relation::Entity(entity) => {
            let entity = &domain.entities[entity];
            let computed = entity.computed.iter().find(|computed| computed.name == column);
            if let Some(computed) = computed {
                classes(computed.expr.canonical(), &mut found);
            }
            for (relation, column) in sources(entity, column) {
                found.extend(values_of(domain, relation, &column));
            }
            let field = entity.fields.iter().find(|field| field.name == column);
            if let Some(EntityFieldKind::Derived(expr)) = field.map(|field| &field.kind) {
                classes(expr.canonical(), &mut found);
            }
        }
        Relation::Ingest => {}
    }
    found
}

/// Does a text have the form that the contracts ask of a column? `None`: they ask none.
pub(super) fn fits_pattern(
    domain: &Domain,
    relation: Relation,
    column: &str,
    text: &str,
) -> Option<bool> {
    match relation {
        Relation::Family(family) => {
            let fields = domain.families[family].versions.iter().flat_map(|v| &v.fields);
            let mut fits = None;
            for field in fields.filter(|field| field.name == column) {
                if let Some(pattern) = &field.constraints.pattern {
                    fits = Some(fits.unwrap_or(false) || pattern.is_match(text));
                }
            }
            fits
        }
        Relation::Entity(entity) => sources(&domain.entities[entity], column)
            .into_iter()
            .filter_map(|(relation, column)| fits_pattern(domain, relation, &column, text))
            .reduce(|one, other| one || other),
        Relation::Ingest => None,
    }
}

/// Has a text the form of a key of the entity? `None`: its contracts ask no form.
pub(super) fn is_key(domain: &Domain, entity: &Entity, text: &str) -> Option<bool> {
    let columns = entity.inputs.iter().map(|input| (input.relation, &input.key.name));
    columns
        .filter_map(|(relation, column)| fits_pattern(domain, relation, column, text))
        .reduce(|one, other| one || other)
}

/// Is it a value that contracts list for some field, or does it look like an identifier?
pub(super) fn means_something_else(domain: &Domain, text: &str) -> bool {
    let fields = domain.families.iter().flat_map(|family| &family.versions).flat_map(|v| &v.fields);
    let mut values = fields.filter_map(|field| field.constraints.values.as_ref()).flatten();
    let is_identifier = text.contains('-') && text.contains(|c: char| c.is_ascii_digit());
    is_identifier || values.any(|value| value.as_str() == text)
}

/// The columns that a field is folded from.
fn sources(entity: &Entity, field: &str) -> Vec<(Relation, String)> {
    let fold = entity.folds().position(|(place, ..)| entity.fields[place].name == field);
    let Some(fold) = fold else { return Vec::new() };
    let args = entity.inputs.iter().filter_map(|input| {
        let arg = input.args.get(fold)?.as_ref()?;
        Some((input.relation, arg.value.name.clone()))
    });
    args.collect()
}

fn family_values(family: &Family, column: &str, found: &mut BTreeSet<String>) {
    for version in &family.versions {
        for field in version.fields.iter().filter(|field| field.name == column) {
            found.extend(field.constraints.values.iter().flatten().cloned());
        }
        for added in version.enrich.iter().filter(|added| added.name == column) {
            if let EnrichValue::Expr(expr) = &added.value {
                classes(expr.canonical(), found);
            }
        }
    }
    if let Some(computed) = family.computed.iter().find(|computed| computed.name == column) {
        classes(computed.expr.canonical(), found);
    }
}

/// The texts that a `case` gives.
fn classes(canonical: &str, found: &mut BTreeSet<String>) {
    for word in ["then '", "else '"] {
        for (at, _) in canonical.match_indices(word) {
            let text = canonical.get(at + word.len()..).unwrap_or_default();
            if let Some((text, _)) = text.split_once('\'') {
                found.insert(text.to_owned());
            }
        }
    }
}

/// Does the metric leave out all rows with this value of a dimension?
pub(super) fn leaves_out(domain: &Domain, metric: &Metric, dimension: &str, value: &str) -> bool {
    let unequal = format!("{dimension} <> '{value}'");
    metric.inputs.iter().any(|input| {
        let Some(filter) = &input.filter else { return false };
        let computed = match input.relation {
            Relation::Family(family) => &domain.families[family].computed,
            Relation::Entity(entity) => &domain.entities[entity].computed,
            Relation::Ingest => &domain.ingest.computed,
        };
        let computed = computed.iter().find(|computed| computed.name == filter.name);
        computed.is_some_and(|c| c.expr.canonical().contains(&unequal))
    })
}

/// Can values be put in order and added up?
pub(super) fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Int64 | Type::Float64 | Type::Decimal { .. })
}
