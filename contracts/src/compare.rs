//! What changes for readers between two versions of a contract, told in two ways that clients know.
//!
//! [`diff`] compares two versions that are there; [`validate`] judges one that may come. Both look at the
//! same changes and differ in their words and in what they pass over: a diff is about shape alone.
//! Start at [`diff`].

use std::collections::BTreeMap;

use crate::model::DocumentField;

/// One change to one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened: `field_removed`, `field_added`, ….
    pub kind: &'static str,
    /// The field.
    pub field: String,
    /// Does it break readers or writers of the version before?
    pub breaking: bool,
    /// Type or description before, where that is what changed.
    pub from: Option<String>,
    /// Type or description afterwards.
    pub to: Option<String>,
    /// Values that came or went.
    pub values: Vec<String>,
}

/// A field of a version that may come.
#[derive(Debug, Clone)]
pub struct CandidateField {
    /// The field.
    pub field: DocumentField,
    /// Does it say which value stands in when there is none?
    pub has_default: bool,
}

impl From<DocumentField> for CandidateField {
    fn from(field: DocumentField) -> Self {
        Self { field, has_default: false }
    }
}

/// What happened to a field, before it has a name.
enum Happened<'a> {
    Removed,
    Added { required: bool },
    Type { from: &'a str, to: &'a str },
    BecameRequired,
    ValuesRemoved(Vec<String>),
    ValuesAdded(Vec<String>),
    Description { from: &'a str, to: &'a str },
    DefaultAdded,
}

/// The changes of shape from one version to another; those that break first.
pub fn diff(from: &[DocumentField], to: &[DocumentField]) -> Vec<Change> {
    let to: Vec<CandidateField> = to.iter().cloned().map(CandidateField::from).collect();
    named(from, &to, |happened| {
        Some(match happened {
            Happened::Removed => ("field_removed", true),
            Happened::Added { required } => ("field_added", *required),
            Happened::Type { .. } => ("field_type_changed", true),
            Happened::BecameRequired => ("field_became_required", true),
            Happened::ValuesRemoved(_) => ("enum_values_removed", true),
            Happened::ValuesAdded(_) => ("enum_values_added", false),
            Happened::Description { .. } | Happened::DefaultAdded => return None,
        })
    })
}

/// The changes that a version would bring; those that break first.
pub fn validate(base: &[DocumentField], candidate: &[CandidateField]) -> Vec<Change> {
    named(base, candidate, |happened| {
        Some(match happened {
            Happened::Removed => ("field_removed", true),
            Happened::Added { required: true } | Happened::BecameRequired => {
                ("field_required_added", true)
            }
            Happened::Added { required: false } => ("field_added_optional", false),
            Happened::Type { .. } => ("field_type_changed", true),
            Happened::ValuesRemoved(_) => ("enum_value_removed", true),
            Happened::ValuesAdded(_) => ("enum_value_added", false),
            Happened::Description { .. } => ("description_changed", false),
            Happened::DefaultAdded => ("field_default_added", false),
        })
    })
}

/// Must the version grow for these changes?
pub fn requires_version_bump(changes: &[Change], base: u32, candidate: u32) -> bool {
    candidate <= base && changes.iter().any(|change| change.breaking)
}

/// All changes under the names that `name` gives them, those that break first, else in the order of the
/// fields.
fn named(
    from: &[DocumentField],
    to: &[CandidateField],
    name: impl Fn(&Happened<'_>) -> Option<(&'static str, bool)>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (field, happened) in happened(from, to) {
        let Some((kind, breaking)) = name(&happened) else { continue };
        let mut change = Change {
            kind,
            field: field.to_owned(),
            breaking,
            from: None,
            to: None,
            values: Vec::new(),
        };
        match happened {
            Happened::Type { from, to } | Happened::Description { from, to } => {
                change.from = Some(from.to_owned());
                change.to = Some(to.to_owned());
            }
            Happened::ValuesRemoved(values) | Happened::ValuesAdded(values) => {
                change.values = values;
            }
            _ => {}
        }
        changes.push(change);
    }
    changes.sort_by_key(|change| !change.breaking);
    changes
}

fn happened<'a>(
    from: &'a [DocumentField],
    to: &'a [CandidateField],
) -> Vec<(&'a str, Happened<'a>)> {
    let after: BTreeMap<&str, &CandidateField> =
        to.iter().map(|candidate| (candidate.field.name.as_str(), candidate)).collect();
    let mut all = Vec::new();
    for old in from {
        let name = old.name.as_str();
        let Some(CandidateField { field: new, has_default }) = after.get(name) else {
            all.push((name, Happened::Removed));
            continue;
        };
        if old.ty != new.ty {
            all.push((name, Happened::Type { from: &old.ty, to: &new.ty }));
        }
        if new.required && !old.required {
            all.push((name, Happened::BecameRequired));
        }
        if let (Some(old), Some(new)) = (&old.values, &new.values) {
            let missing = |from: &[String], other: &[String]| -> Vec<String> {
                from.iter().filter(|value| !other.contains(value)).cloned().collect()
            };
            let (gone, come) = (missing(old, new), missing(new, old));
            if !gone.is_empty() {
                all.push((name, Happened::ValuesRemoved(gone)));
            }
            if !come.is_empty() {
                all.push((name, Happened::ValuesAdded(come)));
            }
        }
        let text = |field: &'a DocumentField| field.description.as_deref().unwrap_or_default();
        if text(old) != text(new) {
            all.push((name, Happened::Description { from: text(old), to: text(new) }));
        }
        if *has_default {
            all.push((name, Happened::DefaultAdded));
        }
    }
    for CandidateField { field: new, has_default } in to {
        if from.iter().all(|old| old.name != new.name) {
            // Who does not send it gets the default, so nobody has to.
            let required = new.required && !has_default;
            all.push((&new.name, Happened::Added { required }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name type[?][=a|b][ "description"]`.
    fn field(text: &str) -> DocumentField {
        let (text, description) = match text.split_once(" \"") {
            Some((text, description)) => (text, Some(description.trim_end_matches('"').to_owned())),
            None => (text, None),
        };
        let (text, values) = match text.split_once('=') {
            Some((text, values)) => (text, Some(values.split('|').map(str::to_owned).collect())),
            None => (text, None),
        };
        let (name, ty) = text.split_once(' ').unwrap();
        DocumentField {
            name: name.to_owned(),
            ty: ty.trim_end_matches('?').to_owned(),
            required: !ty.ends_with('?'),
            description,
            values,
            unit: None,
        }
    }

    fn fields(texts: &[&str]) -> Vec<DocumentField> {
        texts.iter().map(|text| field(text)).collect()
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let told = changes.iter().map(|change| {
            let mark = if change.breaking { "!" } else { "" };
            let mut text = format!("{mark}{} {}", change.kind, change.field);
            if let (Some(from), Some(to)) = (&change.from, &change.to) {
                text += &format!(" {from}→{to}");
            }
            if !change.values.is_empty() {
                text += &format!(" {}", change.values.join("|"));
            }
            text
        });
        told.collect()
    }

    #[track_caller]
    fn check(from: &[&str], to: &[&str], in_diff: &[&str], in_validation: &[&str]) {
        let (from, to) = (fields(from), fields(to));
        assert_eq!(told(&diff(&from, &to)), in_diff);
        let to: Vec<CandidateField> = to.into_iter().map(CandidateField::from).collect();
        assert_eq!(told(&validate(&from, &to)), in_validation);
    }

    #[test]
    fn every_change_has_its_name_in_both_tables() {
        check(&["a string"], &["a string"], &[], &[]);
        check(
            &["a string", "b string"],
            &["a string"],
            &["!field_removed b"],
            &["!field_removed b"],
        );
        check(&[], &["a string"], &["!field_added a"], &["!field_required_added a"]);
        check(&[], &["a string?"], &["field_added a"], &["field_added_optional a"]);
        check(
            &["a string"],
            &["a float"],
            &["!field_type_changed a string→float"],
            &["!field_type_changed a string→float"],
        );
        check(
            &["a string?"],
            &["a string"],
            &["!field_became_required a"],
            &["!field_required_added a"],
        );
        // What becomes optional breaks nobody who writes it, and readers have to expect nulls anyway.
        check(&["a string"], &["a string?"], &[], &[]);
        check(
            &["a enum=x|y|z"],
            &["a enum=y|v|w"],
            &["!enum_values_removed a x|z", "enum_values_added a v|w"],
            &["!enum_value_removed a x|z", "enum_value_added a v|w"],
        );
        check(
            &["a string \"old\""],
            &["a string \"new\""],
            &[],
            &["description_changed a old→new"],
        );
    }

    #[test]
    fn what_breaks_comes_first() {
        check(
            &["a string", "b string"],
            &["c string?", "a string"],
            &["!field_removed b", "field_added c"],
            &["!field_removed b", "field_added_optional c"],
        );
    }

    #[test]
    fn a_default_makes_a_required_field_harmless() {
        let candidate = |text: &str| vec![CandidateField { field: field(text), has_default: true }];
        let new = validate(&[], &candidate("a string"));
        assert_eq!(told(&new), ["field_added_optional a"]);
        let known = validate(&fields(&["a string"]), &candidate("a string"));
        assert_eq!(told(&known), ["field_default_added a"]);
    }

    #[test]
    fn only_what_breaks_asks_for_a_higher_version() {
        let breaking = validate(&fields(&["a string"]), &[]);
        let safe = validate(&[], &[field("a string?").into()]);
        for (changes, base, candidate, expected) in [
            (&breaking, 1, 1, true),
            (&breaking, 2, 1, true),
            (&breaking, 1, 2, false),
            (&safe, 1, 1, false),
        ] {
            assert_eq!(requires_version_bump(changes, base, candidate), expected);
        }
    }
}
