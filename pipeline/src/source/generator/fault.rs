//! Events that must be rejected.

use rand::Rng;
use rand::rngs::SmallRng;

/// What is wrong with a faulty event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Ends in the middle.
    CutOff,
    /// Has a byte that no UTF-8 text has.
    NotUtf8,
    /// Random bytes.
    Binary,
    /// Nothing at all.
    Empty,
    /// 300 lists in each other.
    Deep,
    /// Something after the end.
    TrailingText,
    /// A member twice.
    DuplicateKey,
    /// Without its order id.
    MissingField,
    /// A text where a number should be.
    WrongType,
    /// A type that no contract names.
    UnknownType,
    /// A version that the contract does not have.
    UnknownVersion,
    /// An order id of another form.
    BadPattern,
    /// A status that does not exist.
    NotAllowed,
    /// A negative total.
    OutOfRange,
    /// A total that is not the sum of the items.
    RuleFailed,
    /// A century ahead.
    FarFuture,
    /// A known id with another body.
    Conflict,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::CutOff,
        Self::NotUtf8,
        Self::Binary,
        Self::Empty,
        Self::Deep,
        Self::TrailingText,
        Self::DuplicateKey,
        Self::MissingField,
        Self::WrongType,
        Self::UnknownType,
        Self::UnknownVersion,
        Self::BadPattern,
        Self::NotAllowed,
        Self::OutOfRange,
        Self::RuleFailed,
        Self::FarFuture,
        Self::Conflict,
    ];

    /// The reason that such an event is rejected with.
    pub fn reason(self) -> crate::outcome::Reason {
        use crate::outcome::Reason;
        match self {
            Self::CutOff
            | Self::NotUtf8
            | Self::Binary
            | Self::Empty
            | Self::Deep
            | Self::TrailingText => Reason::NotJson,
            Self::DuplicateKey => Reason::DuplicateKey,
            Self::MissingField => Reason::MissingField,
            Self::WrongType => Reason::WrongType,
            Self::UnknownType => Reason::UnknownEventType,
            Self::UnknownVersion => Reason::UnknownVersion,
            Self::BadPattern => Reason::PatternMismatch,
            Self::NotAllowed => Reason::NotAllowed,
            Self::OutOfRange => Reason::OutOfRange,
            Self::RuleFailed => Reason::RuleFailed,
            Self::FarFuture => Reason::TooFarInFuture,
            Self::Conflict => Reason::ConflictingDuplicate,
        }
    }

    /// Can no schema for orders hold such an event? Written as it is in a topic of Avro, it is no Avro.
    pub fn is_of_form(self) -> bool {
        use crate::outcome::Reason;
        let reasons = [
            Reason::NotJson,
            Reason::DuplicateKey,
            Reason::MissingField,
            Reason::WrongType,
            Reason::UnknownEventType,
        ];
        reasons.contains(&self.reason())
    }

    /// Appends `order`, a good order event, with this fault. [`Self::FarFuture`] and
    /// [`Self::Conflict`] are not faults of a line's text: the line is appended as it is.
    pub(super) fn spoil(self, rng: &mut SmallRng, order: &[u8], into: &mut Vec<u8>) {
        match self {
            Self::CutOff => into.extend_from_slice(&order[..order.len() / 2]),
            Self::NotUtf8 => replace(order, "USR-", b"US\xff\xfe", into),
            Self::Binary => into.extend((0..64).map(|_| match rng.random::<u8>() {
                // A line feed would make it two records.
                b'\n' => 0,
                byte => byte,
            })),
            Self::Empty => {}
            Self::Deep => {
                into.extend_from_slice(b"{\"nested\":");
                into.extend(std::iter::repeat_n(b'[', 300));
                into.extend(std::iter::repeat_n(b']', 300));
                into.push(b'}');
            }
            Self::TrailingText => {
                into.extend_from_slice(order);
                into.extend_from_slice(b" {}");
            }
            Self::DuplicateKey => {
                replace(order, "\"status\":", b"\"status\":\"shipped\",\"status\":", into);
            }
            Self::MissingField => replace(order, "\"order_id\":", b"\"order\":", into),
            Self::WrongType => {
                replace(order, "\"total_amount\":", b"\"total_amount\":\"?\",\"was\":", into)
            }
            Self::UnknownType => replace(order, "order.created", b"order.teleported", into),
            Self::BadPattern => replace(order, "\"ORD-", b"\"ORDER/", into),
            Self::NotAllowed => replace(order, "\"pending\"", b"\"lost\"", into),
            Self::OutOfRange => replace(order, "\"total_amount\":", b"\"total_amount\":-", into),
            Self::UnknownVersion => {
                replace(order, "\"schema_version\":", b"\"schema_version\":9", into)
            }
            Self::RuleFailed => replace(order, "\"total_amount\":", b"\"total_amount\":9", into),
            Self::FarFuture | Self::Conflict => into.extend_from_slice(order),
        }
    }
}

/// Appends `line` with the first occurrence of `old` replaced.
fn replace(line: &[u8], old: &str, new: &[u8], into: &mut Vec<u8>) {
    match memchr::memmem::find(line, old.as_bytes()) {
        None => into.extend_from_slice(line),
        Some(at) => {
            into.extend_from_slice(&line[..at]);
            into.extend_from_slice(new);
            into.extend_from_slice(&line[at + old.len()..]);
        }
    }
}
