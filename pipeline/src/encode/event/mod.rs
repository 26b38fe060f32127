//! Journal rows as the JSON records that they came from.
//!
//! What always holds: decoding what is written here with the same contracts gives the same row
//! again. Parts of the envelope stand where the contract says (in headers too), fields have their exact digits and
//! the contract's form of time, a field that was absent is absent, an explicit null is null, and
//! members that the contract does not know are there as they were sent. Order of members and space
//! between tokens are ours.
//!
//! Start at [`EventWriter::new`]; [`EventRows::write`] writes one row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use contracts::model::{Envelope, EventContract, Family, Place, TimeForm, column};
use contracts::types::Type;

use crate::encode::json;
use crate::encode::members;
use crate::encode::text::time_text;

/// Journal rows that are not as the family's schema says.
#[derive(Debug, thiserror::Error)]
#[error("journal rows of `{family}` have no column `{column}` of the right type")]
pub struct WrongColumns {
    /// The family.
    pub family: String,
    /// The column.
    pub column: String,
}

/// Writes the rows of one family.
#[derive(Debug)]
pub struct EventWriter {
    family: String,
    /// Columns of the family's fields.
    fields: Vec<String>,
    /// By version, oldest first. Never empty.
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    number: i64,
    members: Vec<Member>,
    /// Names of headers with the parts of the envelope that stand in them.
    headers: Vec<(String, Leaf)>,
}

/// A member of the record, or of an object in it.
#[derive(Debug)]
struct Member {
    name: String,
    /// The name in quotes and a colon.
    label: Vec<u8>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Envelope(Leaf),
    /// An object that no field stands for, with parts of the envelope in it.
    Object(Vec<Member>),
    Field(Field),
}

/// A part of the envelope.
#[derive(Debug, Clone, Copy)]
enum Leaf {
    Type,
    Id,
    Time(TimeForm),
    Version,
    Tenant,
}

#[derive(Debug)]
struct Field {
    /// Index in [`EventWriter::fields`].
    at: usize,
    ty: Type,
    form: TimeForm,
    required: bool,
    absent_bit: i64,
    /// Parts of the envelope that stand in it without being declared.
    inside: Vec<Member>,
}

impl EventWriter {
    /// A writer for the rows of `family`.
    pub fn new(family: &Family) -> Self {
        let version = |contract: &Arc<EventContract>| Version {
            number: i64::from(contract.version),
            members: members(family, contract),
            headers: headers(&contract.envelope),
        };
        Self {
            family: family.name.clone(),
            fields: family.fields.iter().map(|field| field.name.clone()).collect(),
            versions: family.versions.iter().map(version).collect(),
        }
    }

    /// How rows of that version are written. The store keeps no rows of other versions than the
    /// contracts have; should it, the newest one says most.
    fn version(&self, number: i64) -> Option<&Version> {
        self.versions.iter().find(|known| known.number == number).or(self.versions.last())
    }
}

/// What a contract has in its envelope, and where.
fn places(envelope: &Envelope) -> impl Iterator<Item = (&Place, Leaf)> {
    [
        (Some(&envelope.event_type), Leaf::Type),
        (Some(&envelope.id), Leaf::Id),
        (Some(&envelope.time), Leaf::Time(envelope.time_form)),
        (envelope.version.as_ref(), Leaf::Version),
        (envelope.tenant.as_ref(), Leaf::Tenant),
    ]
    .into_iter()
    .filter_map(|(place, leaf)| Some((place?, leaf)))
}

/// The parts of the envelope that stand in headers of the record.
fn headers(envelope: &Envelope) -> Vec<(String, Leaf)> {
    let named = |(place, leaf): (&Place, Leaf)| Some((place.header()?.to_owned(), leaf));
    places(envelope).filter_map(named).collect()
}

/// The members of a record of one contract version.
fn members(family: &Family, contract: &EventContract) -> Vec<Member> {
    let mut members = Vec::new();
    for (place, leaf) in places(&contract.envelope) {
        insert(&mut members, place.path(), leaf);
    }
    for field in &contract.fields {
        // What stands in a member that is a field is the field's value; a part of the envelope
        // deeper in it may be there without being declared.
        let inside = match members.iter().position(|member| member.name == field.name) {
            Some(at) => match members.remove(at).source {
                Source::Object(parts) => parts,
                Source::Envelope(_) | Source::Field(_) => Vec::new(),
            },
            None => Vec::new(),
        };
        let Some(at) = family.fields.iter().position(|column| column.name == field.name) else {
            continue;
        };
        let source = Source::Field(Field {
            at,
            ty: field.ty.clone(),
            form: field.time_form,
            required: field.required,
            // As the decoder sets it: `_absent` has 64 bits.
            absent_bit: if at < 64 { 1_i64 << at } else { 0 },
            inside,
        });
        members.push(Member::new(&field.name, source));
    }
    members
}

/// Puts a part of the envelope at its path; of two parts at one place the first stays.
fn insert(members: &mut Vec<Member>, path: &[String], leaf: Leaf) {
    let Some((first, rest)) = path.split_first() else { return };
    let at = members.iter().position(|member| member.name == *first);
    match (at, rest.is_empty()) {
        (None, true) => members.push(Member::new(first, Source::Envelope(leaf))),
        (None, false) => {
            let mut parts = Vec::new();
            insert(&mut parts, rest, leaf);
            members.push(Member::new(first, Source::Object(parts)));
        }
        (Some(at), false) => {
            if let Source::Object(parts) = &mut members[at].source {
                insert(parts, rest, leaf);
            }
        }
        (Some(_), true) => {}
    }
}

impl Member {
    fn new(name: &str, source: Source) -> Self {
        let mut label = Vec::new();
        json::write_text(&mut label, name);
        label.push(b':');
        Self { name: name.to_owned(), label, source }
    }
}

/// The rows of a batch, ready to be written.
#[derive(Debug)]
pub struct EventRows<'a> {
    writer: &'a EventWriter,
    types: &'a StringArray,
    ids: &'a StringArray,
    tenants: &'a StringArray,
    times: &'a [i64],
    versions: &'a [i64],
    absent: &'a [i64],
    extra: &'a StringArray,
    fields: Vec<&'a ArrayRef>,
}

impl<'a> EventRows<'a> {
    /// Looks at rows in [`Family::schema`].
    pub fn new(writer: &'a EventWriter, rows: &'a RecordBatch) -> Result<Self, WrongColumns> {
        let wrong = |column: &str| WrongColumns {
            family: writer.family.clone(),
            column: column.to_owned(),
        };
        let find = |name: &str| rows.column_by_name(name).ok_or_else(|| wrong(name));
        let text = |name: &str| find(name)?.as_string_opt::<i32>().ok_or_else(|| wrong(name));
        let int64 = |name: &str| {
            let column = find(name)?.as_primitive_opt::<Int64Type>();
            column.map(|column| &**column.values()).ok_or_else(|| wrong(name))
        };
        let times = find(column::TIME)?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(Self {
            writer,
            types: text(column::TYPE)?,
            ids: text(column::ID)?,
            tenants: text(column::TENANT)?,
            times: times.map(|times| &**times.values()).ok_or_else(|| wrong(column::TIME))?,
            versions: int64(column::VERSION)?,
            absent: int64(column::ABSENT)?,
            extra: text(column::EXTRA)?,
            fields: writer.fields.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
        })
    }

    /// Appends the record of `row`.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let version = self.writer.version(self.versions[row]);
        let members = version.map_or(&[][..], |version| &version.members);
        let extra = match self.extra.is_valid(row) {
            // The decoder wrote it, and it reads deeper texts than it writes.
            true => members::of(self.extra.value(row)).unwrap_or_default(),
            false => Vec::new(),
        };
        let mut object = Object::open(out);
        for member in members {
            match &member.source {
                Source::Envelope(leaf) => self.write_leaf(*leaf, row, object.member(&member.label)),
                // The whole member is among those that were kept as they were sent.
                Source::Object(_) if extra.iter().any(|(name, _)| *name == member.name) => {}
                Source::Object(parts) => self.write_parts(parts, row, object.member(&member.label)),
                Source::Field(field) => {
                    let column = self.fields[field.at];
                    let is_absent = self.absent[row] & field.absent_bit != 0
                        // A field that an older row does not have: it was required later.
                        || (field.required && column.is_null(row));
                    if !is_absent {
                        let out = object.member(&member.label);
                        self.write_value(&field.ty, field, &field.inside, column, row, out);
                    }
                }
            }
        }
        for (name, value) in &extra {
            let is_written = members
                .iter()
                .any(|member| member.name == *name && !matches!(member.source, Source::Object(_)));
            if !is_written {
                let out = object.named(name);
                out.extend_from_slice(value.get().as_bytes());
            }
        }
        object.close();
    }

    /// The headers of the record of `row`: name and value, as text.
    pub fn headers(&self, row: usize) -> impl Iterator<Item = (&'a str, String)> {
        let version = self.writer.version(self.versions[row]);
        let headers = version.map_or(&[][..], |version| &version.headers);
        headers.iter().map(move |(name, leaf)| (name.as_str(), self.leaf_text(*leaf, row)))
    }

    fn leaf_text(&self, leaf: Leaf, row: usize) -> String {
        match leaf {
            Leaf::Type => self.types.value(row).to_owned(),
            Leaf::Id => self.ids.value(row).to_owned(),
            Leaf::Tenant => self.tenants.value(row).to_owned(),
            Leaf::Version => self.versions[row].to_string(),
            Leaf::Time(TimeForm::Rfc3339) => time_text(self.times[row]),
            Leaf::Time(form) => {
                let mut out = Vec::new();
                json::write_time(&mut out, self.times[row], form);
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }

    fn write_leaf(&self, leaf: Leaf, row: usize, out: &mut Vec<u8>) {
        match leaf {
            Leaf::Type => json::write_text(out, self.types.value(row)),
            Leaf::Id => json::write_text(out, self.ids.value(row)),
            Leaf::Time(form) => json::write_time(out, self.times[row], form),
            Leaf::Version => out.extend_from_slice(self.versions[row].to_string().as_bytes()),
            Leaf::Tenant => json::write_text(out, self.tenants.value(row)),
        }
    }

    fn write_parts(&self, parts: &[Member], row: usize, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        self.add_parts(parts, row, &mut object);
        object.close();
    }

    fn add_parts(&self, parts: &[Member], row: usize, object: &mut Object<'_>) {
        for part in parts {
            let out = object.member(&part.label);
            match &part.source {
                Source::Envelope(leaf) => self.write_leaf(*leaf, row, out),
                Source::Object(parts) => self.write_parts(parts, row, out),
                // Fields are members of the record itself.
                Source::Field(_) => out.extend_from_slice(b"null"),
            }
        }
    }

    /// A field's value, with the parts of the envelope that stand in it.
    fn write_value(
        &self,
        ty: &Type,
        field: &Field,
        parts: &[Member],
        column: &ArrayRef,
        row: usize,
        out: &mut Vec<u8>,
    ) {
        let (Type::Struct(declared), Some(values), false, true) =
            (ty, column.as_struct_opt(), parts.is_empty(), column.is_valid(row))
        else {
            // A text of JSON has everything in it, and nothing else but an object has members.
            return json::write(out, ty, field.form, column, row);
        };
        let mut object = Object::open(out);
        for ((name, ty), column) in declared.iter().zip(values.columns()) {
            let inside = match parts.iter().find(|part| part.name == *name) {
                Some(Member { source: Source::Object(parts), .. }) => parts.as_slice(),
                _ => &[],
            };
            self.write_value(ty, field, inside, column, row, object.named(name));
        }
        for part in parts {
            if !declared.iter().any(|(name, _)| *name == part.name) {
                self.add_parts(std::slice::from_ref(part), row, &mut object);
            }
        }
        object.close();
    }
}

/// A JSON object under construction.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Where the value of the next member goes.
    fn member(&mut self, label: &[u8]) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(label);
        self.out
    }

    fn named(&mut self, name: &str) -> &mut Vec<u8> {
        let out = self.member(b"");
        json::write_text(out, name);
        out.push(b':');
        out
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
