//! What a contract reads where: the form that values of a record must have as JSON.
//!
//! An instant in Avro is a number, and a contract may want it as RFC 3339 or as a count of its own
//! unit; a number that the contract has as `int64` stays a number, whatever Avro says that it
//! means. Everything else does not depend on the contract.

use contracts::model::{EventContract, Place, TimeForm};
use contracts::types::Type;

/// What is read at a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Want {
    /// Nothing in particular: kept as it is.
    Any,
    /// Any value, of which a text may be the JSON text.
    Json,
    /// An instant in that form.
    Instant(TimeForm),
    /// A day.
    Day,
    /// A whole number.
    Whole,
    /// Some other value.
    Value,
    /// A list.
    List(Box<Self>),
    /// An object, or a record; of members that are not listed nothing in particular.
    Members(Vec<(String, Self)>),
}

static ANYTHING: Want = Want::Any;

impl Want {
    /// What a contract reads.
    pub(super) fn of_contract(contract: &EventContract) -> Self {
        let fields = contract.fields.iter();
        let mut want = Self::Members(
            fields
                .map(|field| (field.name.clone(), Self::of_type(&field.ty, field.time_form)))
                .collect(),
        );
        want.envelope(contract);
        want
    }

    /// What is read of a record before its contract is known: where any contract has its envelope.
    pub(super) fn of_envelopes<'c>(contracts: impl Iterator<Item = &'c EventContract>) -> Self {
        let mut want = Self::Members(Vec::new());
        contracts.for_each(|contract| want.envelope(contract));
        want
    }

    /// The parts of the envelope that lie in the body.
    fn envelope(&mut self, contract: &EventContract) {
        let envelope = &contract.envelope;
        let mut put = |place: &Place, wanted| {
            if let Place::Path(path) = place {
                self.put(path, wanted);
            }
        };
        put(&envelope.event_type, Self::Any);
        put(&envelope.id, Self::Any);
        put(&envelope.time, Self::Instant(envelope.time_form));
        envelope.version.iter().chain(&envelope.tenant).for_each(|place| put(place, Self::Any));
    }

    fn of_type(ty: &Type, form: TimeForm) -> Self {
        match ty {
            Type::Json => Self::Json,
            Type::Timestamp => Self::Instant(form),
            Type::Date => Self::Day,
            Type::Int64 => Self::Whole,
            Type::String | Type::Bool | Type::Float64 | Type::Decimal { .. } => Self::Value,
            Type::List(element) => Self::List(Box::new(Self::of_type(element, form))),
            Type::Struct(members) => Self::Members(
                members.iter().map(|(name, ty)| (name.clone(), Self::of_type(ty, form))).collect(),
            ),
        }
    }

    /// Adds what the envelope has at a path. Its form of an instant goes before a field of the same
    /// place: as an `int64` the number would be taken for one of the form's units, whatever its own.
    fn put(&mut self, path: &[String], wanted: Self) {
        let Some((first, rest)) = path.split_first() else {
            let is_one_value = !matches!(self, Self::List(_) | Self::Members(_));
            if *self == Self::Any || is_one_value && matches!(wanted, Self::Instant(_)) {
                *self = wanted;
            }
            return;
        };
        if *self == Self::Any {
            *self = Self::Members(Vec::new());
        }
        let Self::Members(members) = self else { return };
        let at = match members.iter().position(|(name, _)| name == first) {
            Some(at) => at,
            None => {
                members.push((first.clone(), Self::Any));
                members.len() - 1
            }
        };
        members[at].1.put(rest, wanted);
    }

    /// What is read of a member.
    pub(super) fn member(&self, name: &str) -> &Self {
        self.members().find(|(known, _)| known == name).map_or(&ANYTHING, |(_, want)| want)
    }

    /// The members that are read.
    pub(super) fn members(&self) -> impl Iterator<Item = &(String, Self)> {
        let members: &[_] = match self {
            Self::Members(members) => members,
            _ => &[],
        };
        members.iter()
    }

    /// What is read of an item.
    pub(super) fn item(&self) -> &Self {
        match self {
            Self::List(item) => item,
            _ => &ANYTHING,
        }
    }

    /// Does the contract give the value a type?
    pub(super) fn is_declared(&self) -> bool {
        matches!(self, Self::Instant(_) | Self::Day | Self::Whole | Self::Value)
    }
}
