//! A record as contract and envelope together describe it.
//!
//! Members of the envelope need no entry in a contract's fields, may lie in nested members, and may
//! be declared all the same: here both become one tree. What a declared field says (type, bounds,
//! description) holds; the envelope adds that the member must be there.

use crate::model::{Constraints, Domain, EventContract, Field, Place, TimeForm};
use crate::types::Type;

/// A member of a record.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Is null no value? Without a default it must then be there.
    pub(super) required: bool,
    /// Value when it is absent.
    pub(super) default: Option<serde_json::Value>,
    pub(super) bounds: Constraints,
    pub(super) description: Option<String>,
    /// The contract version, for the member that says it.
    pub(super) version: Option<u32>,
}

/// What a value looks like.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Text,
    /// An event id that the contract does not declare: a text or a whole number.
    Id,
    Bool,
    Int64,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Time(TimeForm),
    Date,
    Json,
    List(Box<Shape>),
    Record(Vec<Member>),
}

/// A part of the envelope on its way into the tree.
struct Part<'a> {
    place: &'a Place,
    /// The member when the contract does not declare it; its name is of no account.
    member: Member,
}

/// The members of a record: the envelope's own, then the declared fields in their order. Parts of
/// the envelope that stand in headers are not among them.
pub(super) fn members(domain: &Domain, contract: &EventContract) -> Vec<Member> {
    let mut declared: Vec<Member> = contract.fields.iter().map(Member::of).collect();
    let mut own = Vec::new();
    for part in parts(domain, contract) {
        let path = part.place.path();
        let Some(first) = path.first() else { continue };
        let home = match declared.iter().any(|member| member.name == *first) {
            true => &mut declared,
            false => &mut own,
        };
        put(home, path, part.member);
    }
    own.extend(declared);
    own
}

/// What a schema says about the contract as a whole.
pub(super) fn about(contract: &EventContract) -> String {
    let mut text = match contract.description.as_deref().map(str::trim) {
        None | Some("") => String::new(),
        Some(said) if said.ends_with('.') => format!("{said} "),
        Some(said) => format!("{said}. "),
    };
    text += &format!("Contract {}, version {}.", contract.name, contract.version);
    let headers: Vec<String> = contract
        .envelope
        .places()
        .filter_map(|(what, place)| Some(format!("{what} in `{}`", place.header()?)))
        .collect();
    if !headers.is_empty() {
        text += &format!(" In headers of the record: {}.", headers.join(", "));
    }
    text
}

fn parts<'a>(domain: &Domain, contract: &'a EventContract) -> Vec<Part<'a>> {
    let member = |what: &str, shape: Shape, required: bool| Member {
        name: String::new(),
        shape,
        required,
        default: None,
        bounds: Constraints::default(),
        description: Some(what.to_owned()),
        version: None,
    };
    // Without a version in the record the newest stable one is assumed, so that one may leave it out.
    let assumed = contract.names.iter().any(|name| {
        domain.event(name, None).is_some_and(|newest| newest.version == contract.version)
    });
    let envelope = &contract.envelope;
    let mut event_type = member("Event type", Shape::Text, true);
    event_type.bounds.values = Some(contract.names.clone());
    let time = Shape::Time(envelope.time_form);
    let mut parts = vec![
        Part { place: &envelope.event_type, member: event_type },
        Part { place: &envelope.id, member: member("Event id", Shape::Id, true) },
        Part { place: &envelope.time, member: member("Event time", time, true) },
    ];
    if let Some(place) = &envelope.version {
        let mut version = member("Contract version", Shape::Int64, !assumed);
        version.version = Some(contract.version);
        parts.push(Part { place, member: version });
    }
    if let Some(place) = &envelope.tenant {
        parts.push(Part { place, member: member("Tenant", Shape::Text, false) });
    }
    parts
}

/// Puts a part of the envelope at its path; the way there leads through records.
fn put(members: &mut Vec<Member>, path: &[String], part: Member) {
    let Some((name, rest)) = path.split_first() else { return };
    let at = members.iter().position(|member| member.name == *name);
    if rest.is_empty() {
        match at {
            Some(at) => members[at].become_part(part),
            None => members.push(Member { name: name.clone(), ..part }),
        }
        return;
    }
    let at = at.unwrap_or_else(|| {
        members.push(Member::record(name));
        members.len() - 1
    });
    let outer = &mut members[at];
    if part.required {
        outer.required = true;
        outer.default = None;
    }
    if !matches!(outer.shape, Shape::Record(_)) {
        // Declared as `json`: whatever else stands in it, the envelope makes it a record.
        outer.shape = Shape::Record(Vec::new());
        outer.bounds = Constraints::default();
        outer.default = None;
    }
    if let Shape::Record(inner) = &mut outer.shape {
        put(inner, rest, part);
    }
}

impl Member {
    fn of(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            shape: Shape::of(&field.ty, field.time_form),
            required: field.required,
            default: field.default.clone(),
            bounds: field.constraints.clone(),
            description: field.description.clone(),
            version: None,
        }
    }

    fn record(name: &str) -> Self {
        Self::optional(name, Shape::Record(Vec::new()))
    }

    fn optional(name: &str, shape: Shape) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            required: false,
            default: None,
            bounds: Constraints::default(),
            description: None,
            version: None,
        }
    }

    /// A declared member that is a part of the envelope too.
    fn become_part(&mut self, part: Self) {
        if part.required {
            self.required = true;
            // The envelope is read from the record alone.
            self.default = None;
        }
        if let (Some(names), Shape::Text) = (part.bounds.values, &self.shape) {
            let declared = self.bounds.values.take();
            let both = |name: &String| declared.as_ref().is_none_or(|d| d.contains(name));
            self.bounds.values = Some(names.into_iter().filter(both).collect());
        }
        self.description = self.description.take().or(part.description);
        self.version = part.version;
    }
}

impl Shape {
    fn of(ty: &Type, form: TimeForm) -> Self {
        match ty {
            Type::String => Self::Text,
            Type::Bool => Self::Bool,
            Type::Int64 => Self::Int64,
            Type::Float64 => Self::Float64,
            Type::Decimal { precision, scale } => {
                Self::Decimal { precision: *precision, scale: *scale }
            }
            Type::Timestamp => Self::Time(form),
            Type::Date => Self::Date,
            Type::Json => Self::Json,
            Type::List(inner) => Self::List(Box::new(Self::of(inner, form))),
            Type::Struct(members) => Self::Record(
                members
                    .iter()
                    .map(|(name, ty)| Member::optional(name, Self::of(ty, form)))
                    .collect(),
            ),
        }
    }
}

/// The unit of a time, for people; texts need none.
pub(super) fn unit(form: TimeForm) -> Option<&'static str> {
    match form {
        TimeForm::Rfc3339 => None,
        TimeForm::EpochS => Some("seconds since 1970"),
        TimeForm::EpochMs => Some("milliseconds since 1970"),
        TimeForm::EpochUs => Some("microseconds since 1970"),
        TimeForm::EpochNs => Some("nanoseconds since 1970"),
    }
}
