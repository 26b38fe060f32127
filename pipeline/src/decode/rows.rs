//! The rows of one contract version under construction.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, NullBufferBuilder, RecordBatch, TimestampMicrosecondArray,
};
use contracts::model::EventContract;

use crate::batch::RawRecord;
use crate::outcome::Reason;

use super::column::{self, Column, Text};
use super::fault::Fault;
use super::json::{self, Kind, Member, Raw};
use super::plan::{Place, Plan, UNKNOWN, within};

/// Most characters of an event id or a tenant.
const MAX_ID: usize = 256;
/// Bytes of records' texts in one row set. Arrow counts text bytes with 31 bits; no value is longer
/// than its text in the record or its default.
const MAX_BYTES: usize = 1 << 30;

/// Columns of one contract version, in step with `ordinals`.
#[derive(Debug)]
pub(super) struct Rows {
    contract: Arc<EventContract>,
    ordinals: Vec<u32>,
    event_type: Text,
    id: Text,
    time: Vec<i64>,
    tenant: Text,
    fields: Vec<Column>,
    absent: Vec<i64>,
    extra: Text,
    extra_valid: NullBufferBuilder,
    bytes: usize,
}

/// Reused between records.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By slot: position of the member.
    at: Vec<u32>,
    /// Positions of members for `_extra`.
    extra: Vec<u32>,
}

impl Rows {
    pub(super) fn new(contract: &Arc<EventContract>, rows: usize) -> Self {
        let columns = contract.fields.iter();
        Self {
            contract: Arc::clone(contract),
            ordinals: Vec::with_capacity(rows),
            event_type: Text::with_capacity(rows),
            id: Text::with_capacity(rows),
            time: Vec::with_capacity(rows),
            tenant: Text::with_capacity(rows),
            fields: columns.map(|field| Column::new(&field.ty, field.time_form, rows)).collect(),
            absent: Vec::with_capacity(rows),
            extra: Text::with_capacity(0),
            extra_valid: NullBufferBuilder::new(rows),
            bytes: 0,
        }
    }

    /// Must another row set take the next record?
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Appends one record, whose text has `text_len` bytes. After an error the row set is as before.
    #[allow(clippy::too_many_arguments)] // What a record is, and what is reused from the one before.
    pub(super) fn push(
        &mut self,
        plan: &mut Plan,
        members: &[Member<'_>],
        scratch: &mut Scratch,
        event_type: &str,
        ordinal: u32,
        record: &RawRecord,
        text_len: usize,
    ) -> Result<(), Box<Fault>> {
        plan.sort(members, &mut scratch.at, &mut scratch.extra);
        let record_members = RecordMembers { members, at: &scratch.at };
        let result = self.try_push(plan, &record_members, record);
        if let Err(fault) = result {
            self.truncate(self.ordinals.len());
            return Err(fault);
        }
        self.event_type.push(event_type);
        self.push_extra(members, &scratch.extra);
        self.ordinals.push(ordinal);
        self.bytes += text_len + plan.defaults_len;
        Ok(())
    }

    fn try_push(
        &mut self,
        plan: &Plan,
        members: &RecordMembers<'_, '_>,
        record: &RawRecord,
    ) -> Result<(), Box<Fault>> {
        let envelope = &self.contract.envelope;
        let id = members.required(&plan.id)?;
        push_id(id, &mut self.id).map_err(|fault| fault.inside(&plan.id.at.join(".")))?;
        let time = members.required(&plan.time)?;
        let time = column::timestamp(time, envelope.time_form)
            .map_err(|fault| fault.inside(&plan.time.at.join(".")))?;
        self.time.push(time);
        self.push_tenant(plan, members, record)?;

        let mut absent = plan.never_there;
        for ((field, column), declared) in
            plan.fields.iter().zip(&mut self.fields).zip(&self.contract.fields)
        {
            let raw = match members.at_slot(field.slot) {
                Some(raw) => raw,
                None => match &field.default {
                    Some((text, kind)) => Raw { text, kind: *kind },
                    None if declared.required => return Err(Fault::missing(&declared.name, false)),
                    None => {
                        absent |= field.absent_bit;
                        column.push_null();
                        continue;
                    }
                },
            };
            if raw.kind == Kind::Null && declared.required {
                return Err(Fault::missing(&declared.name, true));
            }
            column.push(raw).map_err(|fault| fault.inside(&declared.name))?;
        }
        self.absent.push(absent);
        Ok(())
    }

    /// The source's tenant, unless the contract says where a record names its own.
    fn push_tenant(
        &mut self,
        plan: &Plan,
        members: &RecordMembers<'_, '_>,
        record: &RawRecord,
    ) -> Result<(), Box<Fault>> {
        let Some(place) = &plan.tenant else {
            self.tenant.push(&record.tenant);
            return Ok(());
        };
        let path = &place.at;
        let raw = members.at(place).map_err(|fault| fault.inside(&path[0]))?;
        let Some(raw) = raw.filter(|raw| raw.kind != Kind::Null) else {
            self.tenant.push(&record.tenant);
            return Ok(());
        };
        let wrong = |reason, expected: String| {
            Err(Fault::new(reason, expected, raw).inside(&path.join(".")))
        };
        let Some(tenant) = raw.string() else {
            return wrong(Reason::WrongType, "expected string".to_owned());
        };
        if !is_id(&tenant) {
            return wrong(Reason::OutOfRange, format!("expected 1 to {MAX_ID} characters"));
        }
        if record.tenant_fixed && *tenant != *record.tenant {
            let expected = format!("the credential stands for tenant `{}`", record.tenant);
            return wrong(Reason::WrongTenant, expected);
        }
        self.tenant.push(&tenant);
        Ok(())
    }

    /// Members that the contract does not know, as they were sent.
    fn push_extra(&mut self, members: &[Member<'_>], extra: &[u32]) {
        if extra.is_empty() {
            self.extra_valid.append_null();
            self.extra.close();
            return;
        }
        let text = self.extra.open();
        for (n, position) in extra.iter().enumerate() {
            let member = &members[*position as usize];
            text.push(if n == 0 { '{' } else { ',' });
            text.push_str(member.name_text);
            text.push(':');
            json::compact(member.value.text, text);
        }
        text.push('}');
        self.extra.close();
        self.extra_valid.append_non_null();
    }

    fn truncate(&mut self, len: usize) {
        self.id.truncate(len);
        self.time.truncate(len);
        self.tenant.truncate(len);
        for column in &mut self.fields {
            column.truncate(len);
        }
        self.absent.truncate(len);
    }

    /// Contract, ordinals and columns in [`EventContract::decoded_schema`].
    pub(super) fn finish(mut self) -> (Arc<EventContract>, Vec<u32>, RecordBatch) {
        let schema = self.contract.decoded_schema();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_type.finish(None)),
            Arc::new(self.id.finish(None)),
            Arc::new(TimestampMicrosecondArray::new(self.time.into(), None)),
            Arc::new(self.tenant.finish(None)),
        ];
        columns.extend(self.fields.into_iter().map(Column::finish));
        columns.push(Arc::new(Int64Array::new(self.absent.into(), None)));
        columns.push(Arc::new(self.extra.finish(self.extra_valid.finish())));
        let batch = RecordBatch::try_new(schema, columns)
            .expect("columns are built from the schema's own types");
        (self.contract, self.ordinals, batch)
    }
}

/// The members of one record by slot.
struct RecordMembers<'m, 'a> {
    members: &'m [Member<'a>],
    at: &'m [u32],
}

impl<'a> RecordMembers<'_, 'a> {
    #[inline]
    fn at_slot(&self, slot: u32) -> Option<Raw<'a>> {
        match self.at.get(slot as usize) {
            None | Some(&UNKNOWN) => None,
            Some(position) => Some(self.members[*position as usize].value),
        }
    }

    fn at(&self, place: &Place) -> Result<Option<Raw<'a>>, Box<Fault>> {
        match self.at_slot(place.slot) {
            None => Ok(None),
            Some(raw) => within(raw, &place.path),
        }
    }

    /// A value of the envelope that every record must have.
    fn required(&self, place: &Place) -> Result<Raw<'a>, Box<Fault>> {
        let path = &place.at;
        let first = path.first().map_or("", String::as_str);
        match self.at(place).map_err(|fault| fault.inside(first))? {
            None => Err(Fault::missing(&path.join("."), false)),
            Some(raw) if raw.kind == Kind::Null => Err(Fault::missing(&path.join("."), true)),
            Some(raw) => Ok(raw),
        }
    }
}

/// An id is a text or a whole number; the number counts by its digits.
fn push_id(raw: Raw<'_>, into: &mut Text) -> Result<(), Box<Fault>> {
    match raw.kind {
        Kind::String { escaped: false } => into.push(checked_id(raw.inner(), raw)?),
        Kind::String { escaped: true } => {
            into.push(checked_id(&raw.string().unwrap_or_default(), raw)?);
        }
        Kind::Number if is_whole(raw.text) => into.push(checked_id(raw.text, raw)?),
        _ => {
            let expected = "expected a text or a whole number";
            return Err(Fault::new(Reason::WrongType, expected, raw));
        }
    }
    Ok(())
}

fn checked_id<'t>(id: &'t str, raw: Raw<'_>) -> Result<&'t str, Box<Fault>> {
    if !is_id(id) {
        return Err(Fault::new(
            Reason::OutOfRange,
            format!("expected 1 to {MAX_ID} characters"),
            raw,
        ));
    }
    Ok(id)
}

/// Is the text neither empty nor too long for an id?
pub(super) fn is_id(id: &str) -> bool {
    // A text of at most that many bytes has no more characters either.
    !id.is_empty() && (id.len() <= MAX_ID || id.chars().count() <= MAX_ID)
}

/// Is the number written as a whole one?
pub(super) fn is_whole(number: &str) -> bool {
    number.strip_prefix('-').unwrap_or(number).bytes().all(|byte| byte.is_ascii_digit())
}
