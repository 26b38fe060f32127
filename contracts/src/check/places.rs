//! Parts of the envelope against the fields that stand at the same place.
//!
//! A part of the envelope may be declared as a field too. Then one value is both, and what the
//! envelope and the field ask of it must have something in common; otherwise every record would be
//! rejected, and the contract would say so only by its dead letters.

use crate::diagnostic::{Position, Report};
use crate::model::{Envelope, EventContract, Place, TimeForm};
use crate::raw::event as raw;
use crate::types::Type;

/// What a value in JSON can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
    List,
    Object,
}

/// Reports what no record can be.
pub(crate) fn check(contract: &EventContract, raw: &raw::Event, report: &mut Report) {
    let at_envelope = raw.envelope.as_ref().map_or(raw.at, |envelope| envelope.at);
    nested(&contract.envelope, at_envelope, report);
    let places = contract.envelope.places().zip(wanted(&contract.envelope));
    for ((what, place), wanted) in places {
        let Some((first, rest)) = place.path().split_first() else { continue };
        let Some(field) = contract.fields.iter().find(|field| field.name == *first) else {
            continue;
        };
        let Some((ty, left)) = at(&field.ty, rest) else { continue };
        let is_way = left > 0;
        let possible = kinds(ty, field.time_form);
        let wanted: &[Kind] = if is_way { &[Kind::Object] } else { wanted };
        if possible.iter().any(|kind| wanted.contains(kind)) {
            continue;
        }
        let key = raw.fields.0.iter().find(|(key, _)| key.value == field.name);
        let is = match is_way {
            true => format!("an object with the {what} in it"),
            false => format!("the {what}"),
        };
        report.error(
            key.map_or(raw.at, |(key, _)| key.at),
            format!(
                "no value at `{}` can be both {is} and {ty}",
                place.path()[..place.path().len() - left].join(".")
            ),
            "give the field a type that fits, leave it out (the envelope is kept anyway), or name \
             another place in `envelope`",
        );
    }
}

/// A part of the envelope inside of another one.
fn nested(envelope: &Envelope, at: Position, report: &mut Report) {
    let places: Vec<(&str, &Place)> = envelope.places().collect();
    for (what, place) in &places {
        let path = place.path();
        let inner = places.iter().find(|(_, other)| {
            let other = other.path();
            !path.is_empty() && other.len() > path.len() && other.starts_with(path)
        });
        if let Some((inner, _)) = inner {
            report.error(
                at,
                format!("the {inner} cannot stand inside of the {what} at `{place}`"),
                "a part of the envelope is one value: give each a place of its own",
            );
        }
    }
}

/// What each part of the envelope can be, in the order of [`Envelope::places`].
fn wanted(envelope: &Envelope) -> impl Iterator<Item = &'static [Kind]> {
    let time: &[Kind] = match envelope.time_form {
        TimeForm::Rfc3339 => &[Kind::Text],
        _ => &[Kind::Number, Kind::Text],
    };
    let number: &[Kind] = &[Kind::Number, Kind::Text];
    let mut all: Vec<&'static [Kind]> = vec![&[Kind::Text], number, time];
    all.extend(envelope.version.as_ref().map(|_| number));
    all.extend(envelope.tenant.as_ref().map(|_| &[Kind::Text][..]));
    all.into_iter()
}

/// The declared type at a path inside of `ty`, or as far as types are declared on the way, and how
/// much of the path is left there; `None` where a struct declares no such member.
fn at<'t>(ty: &'t Type, path: &[String]) -> Option<(&'t Type, usize)> {
    let Some((first, rest)) = path.split_first() else { return Some((ty, 0)) };
    match ty {
        Type::Struct(members) => {
            let (_, member) = members.iter().find(|(name, _)| name == first)?;
            at(member, rest)
        }
        other => Some((other, path.len())),
    }
}

fn kinds(ty: &Type, form: TimeForm) -> &'static [Kind] {
    match ty {
        Type::String | Type::Date => &[Kind::Text],
        Type::Bool => &[Kind::Bool],
        Type::Int64 | Type::Float64 => &[Kind::Number],
        Type::Decimal { .. } => &[Kind::Number, Kind::Text],
        Type::Timestamp => match form {
            TimeForm::Rfc3339 => &[Kind::Text],
            _ => &[Kind::Number, Kind::Text],
        },
        Type::List(_) => &[Kind::List],
        Type::Struct(_) => &[Kind::Object],
        Type::Json => &[Kind::Text, Kind::Number, Kind::Bool, Kind::List, Kind::Object],
    }
}
