//! What a domain's contracts mean for the decoder, worked out once.
//!
//! [`TypeIndex`] finds the contract of a record from its event type and version; a [`Plan`] knows
//! the members of one contract version by name.

use std::borrow::Cow;
use std::sync::Arc;

use contracts::model::{Domain, EventContract, FieldPath, Status, TimeForm};
use hashbrown::HashMap;

use crate::outcome::Reason;

use super::fault::Fault;
use super::json::{Kind, Member, Members, Raw};
use super::outside;

/// Marks a member that the contract does not name.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// Finds contracts by event type.
#[derive(Debug)]
pub(super) struct TypeIndex {
    /// Where a type may stand, with the types that are looked for there.
    places: Vec<(FieldPath, HashMap<Box<str>, Versions>)>,
    /// Where ids and times may stand, for records whose contract is not known.
    pub(super) ids: Vec<FieldPath>,
    pub(super) times: Vec<(FieldPath, TimeForm)>,
    /// Headers that contracts name.
    pub(super) headers: Vec<String>,
}

/// The versions of one event type, as indices of plans.
#[derive(Debug)]
pub(super) struct Versions {
    /// The plan when the record names no version: the newest stable one, else the newest.
    pub(super) default: usize,
    by_version: Vec<(u32, usize)>,
    /// Where a record may name its version.
    paths: Vec<FieldPath>,
}

/// What the index says about a record.
pub(super) enum Found<'i, 'a> {
    Contract(&'i Versions, Cow<'a, str>),
    /// No contract names this type.
    Unknown(Cow<'a, str>),
}

impl TypeIndex {
    /// The index over `contracts`, whose positions are the indices of their plans.
    pub(super) fn new(domain: &Domain, contracts: &[Arc<EventContract>]) -> Self {
        let mut index =
            Self { places: Vec::new(), ids: Vec::new(), times: Vec::new(), headers: Vec::new() };
        // The domain's order decides which place is looked at first.
        for place in &domain.type_places {
            index.place(&outside::path(place));
        }
        for (at, contract) in contracts.iter().enumerate() {
            let envelope = &contract.envelope;
            add(&mut index.ids, outside::path(&envelope.id));
            add(&mut index.times, (outside::path(&envelope.time), envelope.time_form));
            for (_, place) in envelope.places() {
                if let Some(name) = place.header() {
                    add(&mut index.headers, name.to_owned());
                }
            }
            for name in &contract.names {
                let types = index.place(&outside::path(&envelope.event_type));
                let versions = types.entry(name.as_str().into()).or_insert_with(|| Versions {
                    default: at,
                    by_version: Vec::new(),
                    paths: Vec::new(),
                });
                let order = |at: usize| {
                    let contract: &EventContract = &contracts[at];
                    (contract.status == Status::Stable, contract.version)
                };
                if order(at) > order(versions.default) {
                    versions.default = at;
                }
                versions.by_version.push((contract.version, at));
                if let Some(place) = &envelope.version {
                    add(&mut versions.paths, outside::path(place));
                }
            }
        }
        index
    }

    fn place(&mut self, path: &FieldPath) -> &mut HashMap<Box<str>, Versions> {
        let at = match self.places.iter().position(|(known, _)| known == path) {
            Some(at) => at,
            None => {
                self.places.push((path.clone(), HashMap::new()));
                self.places.len() - 1
            }
        };
        &mut self.places[at].1
    }

    /// The contracts of a record. `record_name` stands for the type where no member does: the name of
    /// a record in Avro, with and without its namespace.
    pub(super) fn find<'a>(
        &self,
        members: &[Member<'a>],
        record_name: Option<[&'a str; 2]>,
    ) -> Result<Found<'_, 'a>, Box<Fault>> {
        let mut unknown = None;
        let mut fault = None;
        for (path, types) in &self.places {
            let Some(raw) = at_path(members, path)? else { continue };
            let Some(text) = raw.string() else {
                fault.get_or_insert_with(|| match raw.kind {
                    Kind::Null => Fault::missing(&path.join("."), true),
                    _ => Fault::new(Reason::WrongType, "expected string", raw)
                        .inside(&path.join(".")),
                });
                continue;
            };
            match types.get(&*text) {
                Some(versions) => return Ok(Found::Contract(versions, text)),
                None => unknown = unknown.or(Some(text)),
            }
        }
        match (unknown, fault) {
            (Some(text), _) => Ok(Found::Unknown(text)),
            (None, Some(fault)) => Err(fault),
            (None, None) => {
                if let Some(found) = record_name.and_then(|names| self.by_name(names)) {
                    return Ok(found);
                }
                let path = self.places.first().map(|(path, _)| path.join("."));
                Err(Fault::missing(&path.unwrap_or_default(), false))
            }
        }
    }

    /// The contracts of the first of these names that is an event type, wherever records of that
    /// type say it.
    fn by_name<'a>(&self, names: [&'a str; 2]) -> Option<Found<'_, 'a>> {
        names.into_iter().find_map(|name| {
            let versions = self.places.iter().find_map(|(_, types)| types.get(name))?;
            Some(Found::Contract(versions, Cow::Borrowed(name)))
        })
    }

    /// The plan for records of a type that name no version, wherever they say their type.
    pub(super) fn plan_of(&self, event_type: &str) -> Option<usize> {
        self.places.iter().find_map(|(_, types)| Some(types.get(event_type)?.default))
    }

    /// The event type of a record as far as one can be read.
    pub(super) fn text<'a>(&self, members: &[Member<'a>]) -> Option<Cow<'a, str>> {
        self.places.iter().find_map(|(path, _)| at_path(members, path).ok()??.string())
    }
}

impl Versions {
    /// The plan for a record; `Err` holds the path and the version that no contract has.
    pub(super) fn choose(
        &self,
        members: &[Member<'_>],
    ) -> Result<Result<usize, (String, String)>, Box<Fault>> {
        for path in &self.paths {
            let Some(raw) = at_path(members, path)? else { continue };
            let digits = match raw.kind {
                Kind::Null => continue,
                Kind::Number => raw.text,
                Kind::String { escaped: false } => raw.inner(),
                _ => "",
            };
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let fault = Fault::new(
                    Reason::WrongType,
                    "expected a contract version (a whole number)",
                    raw,
                );
                return Err(fault.inside(&path.join(".")));
            }
            let version = digits.parse::<u32>().ok();
            let known = self.by_version.iter().find(|(known, _)| Some(*known) == version);
            return Ok(match known {
                Some((_, plan)) => Ok(*plan),
                None => Err((path.join("."), digits.to_owned())),
            });
        }
        Ok(Ok(self.default))
    }

    /// The versions there are, for messages.
    pub(super) fn list(&self) -> String {
        let mut versions: Vec<_> = self.by_version.iter().map(|(version, _)| *version).collect();
        versions.sort_unstable();
        let texts: Vec<_> = versions.iter().map(ToString::to_string).collect();
        texts.join(", ")
    }
}

/// The value at a path; `None` where a part of the path is absent or no object.
pub(super) fn at_path<'a>(
    members: &[Member<'a>],
    path: &[String],
) -> Result<Option<Raw<'a>>, Box<Fault>> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(None);
    };
    match members.iter().find(|member| *member.name == **first) {
        None => Ok(None),
        Some(member) => within(member.value, rest).map_err(|fault| fault.inside(first)),
    }
}

/// The value at a path below `raw`.
pub(super) fn within<'a>(raw: Raw<'a>, path: &[String]) -> Result<Option<Raw<'a>>, Box<Fault>> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(Some(raw));
    };
    if raw.kind != Kind::Object {
        return Ok(None);
    }
    let mut found = None;
    let mut members = Members::of(raw);
    while let Some(member) = members.next()? {
        if *member.name == **first && found.replace(member.value).is_some() {
            return Err(Fault::twice(first));
        }
    }
    match found {
        None => Ok(None),
        Some(raw) => within(raw, rest).map_err(|fault| fault.inside(first)),
    }
}

/// One contract version, ready to decode with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) contract: Arc<EventContract>,
    /// Slots of id, time and tenant, with the rest of their paths.
    pub(super) id: Place,
    pub(super) time: Place,
    pub(super) tenant: Option<Place>,
    pub(super) fields: Vec<FieldPlan>,
    /// Bits of `_absent` for family fields that this version does not have.
    pub(super) never_there: i64,
    /// Length of all defaults together: how much a record may grow.
    pub(super) defaults_len: usize,
    slots: HashMap<Box<str>, u32>,
    /// By slot: is the whole member read, so that it does not belong to `_extra`?
    pub(super) read_whole: Vec<bool>,
    /// Slots and names in the order in which records had them so far.
    layout: Vec<(u32, Box<str>)>,
}

/// A top-level member and what to look for inside it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: u32,
    pub(super) path: FieldPath,
    /// The whole path, for messages.
    pub(super) at: FieldPath,
}

/// A declared field.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) slot: u32,
    /// Its bit in `_absent`; 0 when it is required.
    pub(super) absent_bit: i64,
    /// JSON text of the default and its kind.
    pub(super) default: Option<(String, Kind)>,
}

impl Plan {
    pub(super) fn new(domain: &Domain, contract: &Arc<EventContract>) -> Self {
        let family_fields = &domain.families[contract.family].fields;
        // `_absent` has 64 bits; the loader refuses families with more fields than that.
        let bit = |at: usize| if at < 64 { 1_i64 << at } else { 0 };
        let mut plan = Self {
            contract: Arc::clone(contract),
            id: Place { slot: UNKNOWN, path: Vec::new(), at: Vec::new() },
            time: Place { slot: UNKNOWN, path: Vec::new(), at: Vec::new() },
            tenant: None,
            fields: Vec::with_capacity(contract.fields.len()),
            never_there: 0,
            defaults_len: 0,
            slots: HashMap::new(),
            read_whole: Vec::new(),
            layout: Vec::new(),
        };
        for field in &contract.fields {
            let at = family_fields.iter().position(|column| column.name == field.name);
            let default = field.default.as_ref().map(|value| {
                let text = value.to_string();
                let kind = kind_of(&text);
                (text, kind)
            });
            plan.defaults_len += default.as_ref().map_or(0, |(text, _)| text.len());
            let slot = plan.slot(&field.name, true);
            let absent_bit = if field.required { 0 } else { at.map_or(0, bit) };
            plan.fields.push(FieldPlan { slot, absent_bit, default });
        }
        for (at, column) in family_fields.iter().enumerate() {
            if !contract.fields.iter().any(|field| field.name == column.name) {
                plan.never_there |= bit(at);
            }
        }
        let envelope = &contract.envelope;
        plan.place(outside::path(&envelope.event_type));
        plan.id = plan.place(outside::path(&envelope.id));
        plan.time = plan.place(outside::path(&envelope.time));
        if let Some(place) = &envelope.version {
            plan.place(outside::path(place));
        }
        plan.tenant = envelope.tenant.as_ref().map(|place| plan.place(outside::path(place)));
        plan
    }

    fn place(&mut self, at: FieldPath) -> Place {
        match at.split_first() {
            None => Place { slot: UNKNOWN, path: Vec::new(), at },
            Some((first, rest)) => {
                Place { slot: self.slot(first, rest.is_empty()), path: rest.to_vec(), at }
            }
        }
    }

    /// The slot of a top-level member.
    fn slot(&mut self, name: &str, whole: bool) -> u32 {
        let next = self.read_whole.len() as u32;
        let slot = *self.slots.entry(name.into()).or_insert(next);
        if slot == next {
            self.read_whole.push(false);
        }
        self.read_whole[slot as usize] |= whole;
        slot
    }

    /// Sorts the members of a record: `at[slot]` becomes the member's position, and positions of
    /// members that are not read whole go to `extra`.
    pub(super) fn sort(&mut self, members: &[Member<'_>], at: &mut Vec<u32>, extra: &mut Vec<u32>) {
        at.clear();
        at.resize(self.read_whole.len(), UNKNOWN);
        extra.clear();
        let mut next = 0;
        for (position, member) in members.iter().enumerate() {
            let slot = self.slot_near(&mut next, &member.name);
            match at.get_mut(slot as usize) {
                Some(at) => {
                    *at = position as u32;
                    if !self.read_whole[slot as usize] {
                        extra.push(position as u32);
                    }
                }
                None => extra.push(position as u32),
            }
        }
    }

    /// The slot of a member, looked for first where the layout goes on: most producers write their
    /// members in one order and leave some out.
    #[inline]
    fn slot_near(&mut self, next: &mut usize, name: &str) -> u32 {
        const AHEAD: usize = 4;
        let ahead = self.layout.iter().enumerate().skip(*next).take(AHEAD);
        for (at, (slot, known)) in ahead {
            if **known == *name {
                *next = at + 1;
                return *slot;
            }
        }
        self.slot_by_name(name)
    }

    fn slot_by_name(&mut self, name: &str) -> u32 {
        /// Members worth remembering; foreign names must not fill the memory.
        const REMEMBERED: usize = 64;
        let slot = self.slots.get(name).copied().unwrap_or(UNKNOWN);
        if self.layout.len() < REMEMBERED
            && name.len() <= 128
            && !self.layout.iter().any(|(_, known)| **known == *name)
        {
            self.layout.push((slot, name.into()));
        }
        slot
    }
}

/// The kind of a JSON text that `serde_json` wrote.
fn kind_of(text: &str) -> Kind {
    match text.as_bytes().first() {
        Some(b'"') => Kind::String { escaped: text.contains('\\') },
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'n') | None => Kind::Null,
        Some(_) => Kind::Number,
    }
}

fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}
