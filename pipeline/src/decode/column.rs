//! Arrow columns that take a value's text and can take a row back.
//!
//! What always holds: all columns of a row set have the same length between rows. A value that does
//! not decode leaves its column uneven; [`Column::truncate`] to the number of whole rows makes it
//! even again, so a bad row costs no mask and no copy of the good ones.

use std::mem;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array,
    Int64Array, ListArray, NullBufferBuilder, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer};
use arrow::datatypes::DataType;
use contracts::model::TimeForm;
use contracts::types::Type;

use crate::outcome::Reason;

use super::fault::Fault;
use super::json::{self, Elements, Kind, Members, Raw};
use super::number::{self, Below, Misfit};
use super::time::{self, TimeError};

/// A column under construction.
#[derive(Debug)]
pub(super) struct Column {
    ty: Type,
    valid: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Text(Text),
    Json(Text),
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, scale: i32, limit: i128 },
    Timestamp { values: Vec<i64>, form: TimeForm },
    Date(Vec<i32>),
    List { ends: Vec<i32>, element: Box<Column> },
    Struct { members: Vec<(String, Column)>, seen: Vec<bool> },
}

/// Texts end to end.
#[derive(Debug)]
pub(super) struct Text {
    bytes: String,
    ends: Vec<i32>,
}

impl Text {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: String::with_capacity(rows * 16), ends }
    }

    #[inline]
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.close();
    }

    /// The text behind the last closed one, to be written to and closed.
    pub(super) fn open(&mut self) -> &mut String {
        &mut self.bytes
    }

    /// Ends the open text. Row sets are closed long before 2 GiB, see [`super::rows::Rows::is_full`].
    #[inline]
    pub(super) fn close(&mut self) {
        debug_assert!(i32::try_from(self.bytes.len()).is_ok());
        self.ends.push(self.bytes.len() as i32);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.bytes.truncate(self.ends[len] as usize);
    }

    pub(super) fn finish(self, valid: Option<arrow::buffer::NullBuffer>) -> StringArray {
        let ends = OffsetBuffer::new(self.ends.into());
        StringArray::new(ends, Buffer::from_vec(self.bytes.into_bytes()), valid)
    }
}

impl Column {
    /// A column for values of `ty`; `form` says how its timestamps are written.
    pub(super) fn new(ty: &Type, form: TimeForm, rows: usize) -> Self {
        let values = match ty {
            Type::String => Values::Text(Text::with_capacity(rows)),
            Type::Json => Values::Json(Text::with_capacity(rows)),
            Type::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            Type::Int64 => Values::Int64(Vec::with_capacity(rows)),
            Type::Float64 => Values::Float64(Vec::with_capacity(rows)),
            Type::Decimal { precision, scale } => Values::Decimal {
                values: Vec::with_capacity(rows),
                scale: i32::from(*scale),
                limit: 10_i128.pow(u32::from(*precision).min(38)),
            },
            Type::Timestamp => Values::Timestamp { values: Vec::with_capacity(rows), form },
            Type::Date => Values::Date(Vec::with_capacity(rows)),
            Type::List(element) => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Values::List { ends, element: Box::new(Self::new(element, form, rows)) }
            }
            Type::Struct(members) => Values::Struct {
                members: members
                    .iter()
                    .map(|(name, ty)| (name.clone(), Self::new(ty, form, rows)))
                    .collect(),
                seen: vec![false; members.len()],
            },
        };
        Self { ty: ty.clone(), valid: NullBufferBuilder::new(rows), values }
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        self.valid.append_null();
        match &mut self.values {
            Values::Text(text) | Values::Json(text) => text.close(),
            Values::Bool(values) => values.append(false),
            Values::Int64(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Date(values) => values.push(0),
            Values::List { ends, .. } => ends.push(*ends.last().unwrap_or(&0)),
            Values::Struct { members, .. } => {
                members.iter_mut().for_each(|(_, column)| column.push_null());
            }
        }
    }

    /// Appends the value of a scanned text. After an error the column is uneven.
    pub(super) fn push(&mut self, raw: Raw<'_>) -> Result<(), Box<Fault>> {
        if raw.kind == Kind::Null {
            self.push_null();
            return Ok(());
        }
        let ty = &self.ty;
        let wrong = || Fault::new(Reason::WrongType, format!("expected {}", name(ty)), raw);
        match (&mut self.values, raw.kind) {
            (Values::Text(text), Kind::String { escaped: false }) => text.push(raw.inner()),
            (Values::Text(text), Kind::String { escaped: true }) => {
                json::unescape(raw.inner(), text.open());
                text.close();
            }
            (Values::Json(text), _) => {
                json::compact(raw.text, text.open());
                text.close();
            }
            (Values::Bool(values), Kind::Bool(is)) => values.append(is),
            (Values::Int64(values), Kind::Number) => values.push(int64(raw)?),
            (Values::Float64(values), Kind::Number) => values.push(float64(raw)?),
            (Values::Decimal { values, scale, limit }, Kind::Number) => {
                values.push(decimal(raw, *scale, *limit, ty)?);
            }
            // Producers whose numbers are doubles write amounts as texts.
            (Values::Decimal { values, scale, limit }, Kind::String { escaped: false })
                if number::is_number(raw.inner()) =>
            {
                let digits = Raw { text: raw.inner(), kind: Kind::Number };
                values.push(decimal(digits, *scale, *limit, ty)?);
            }
            (Values::Timestamp { values, form }, _) => values.push(timestamp(raw, *form)?),
            (Values::Date(values), Kind::String { .. }) => values.push(date(raw)?),
            (Values::List { ends, element }, Kind::Array) => {
                let mut elements = Elements::of(raw);
                let mut index = 0_usize;
                while let Some(value) = elements.next()? {
                    element.push(value).map_err(|fault| fault.inside(&format!("[{index}]")))?;
                    index += 1;
                }
                ends.push(element.len() as i32);
            }
            (Values::Struct { members, seen }, Kind::Object) => push_struct(members, seen, raw)?,
            _ => return Err(wrong()),
        }
        self.valid.append_non_null();
        Ok(())
    }

    /// Forgets all rows past the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        match &mut self.values {
            Values::Text(text) | Values::Json(text) => text.truncate(len),
            Values::Bool(values) => values.truncate(len),
            Values::Int64(values) | Values::Timestamp { values, .. } => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::List { ends, element } => {
                ends.truncate(len + 1);
                element.truncate(ends[len] as usize);
            }
            Values::Struct { members, .. } => {
                members.iter_mut().for_each(|(_, column)| column.truncate(len));
            }
        }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.valid.len()
    }

    /// The Arrow array, of type [`Type::arrow`].
    pub(super) fn finish(mut self) -> ArrayRef {
        let valid = self.valid.finish();
        match (self.values, self.ty.arrow()) {
            (Values::Text(text) | Values::Json(text), _) => Arc::new(text.finish(valid)),
            (Values::Bool(mut values), _) => {
                let values: BooleanBuffer = values.finish();
                Arc::new(BooleanArray::new(values, valid))
            }
            (Values::Int64(values), _) => Arc::new(Int64Array::new(values.into(), valid)),
            (Values::Float64(values), _) => Arc::new(Float64Array::new(values.into(), valid)),
            (Values::Decimal { values, .. }, ty) => {
                Arc::new(Decimal128Array::new(values.into(), valid).with_data_type(ty))
            }
            (Values::Timestamp { values, .. }, _) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), valid))
            }
            (Values::Date(values), _) => Arc::new(Date32Array::new(values.into(), valid)),
            (Values::List { ends, element }, DataType::List(field)) => {
                let ends = OffsetBuffer::new(ends.into());
                Arc::new(ListArray::new(field, ends, element.finish(), valid))
            }
            (Values::Struct { members, .. }, DataType::Struct(fields)) => {
                let columns = members.into_iter().map(|(_, column)| column.finish()).collect();
                Arc::new(StructArray::new(fields, columns, valid))
            }
            (Values::List { .. } | Values::Struct { .. }, _) => {
                unreachable!("lists and structs are lists and structs in Arrow")
            }
        }
    }
}

/// One object into the columns of its members. Unknown members are left out, absent ones are null.
fn push_struct(
    members: &mut [(String, Column)],
    seen: &mut [bool],
    raw: Raw<'_>,
) -> Result<(), Box<Fault>> {
    seen.fill(false);
    let mut object = Members::of(raw);
    // Producers keep the order of the contract more often than not.
    let mut expected = 0;
    while let Some(member) = object.next()? {
        let is_at = |at: usize| members.get(at).is_some_and(|(name, _)| *name == *member.name);
        let at = if is_at(expected) {
            expected
        } else {
            match members.iter().position(|(name, _)| *name == *member.name) {
                Some(at) => at,
                None => continue,
            }
        };
        if mem::replace(&mut seen[at], true) {
            return Err(Fault::twice(&member.name));
        }
        let (name, column) = &mut members[at];
        column.push(member.value).map_err(|fault| fault.inside(name))?;
        expected = at + 1;
    }
    for ((_, column), seen) in members.iter_mut().zip(seen) {
        if !*seen {
            column.push_null();
        }
    }
    Ok(())
}

fn int64(raw: Raw<'_>) -> Result<i64, Box<Fault>> {
    match number::unscaled(raw.text, 0, Below::Refuse) {
        Ok(value) => i64::try_from(value).map_err(|_| ()),
        Err(Misfit::Overflow) => Err(()),
        Err(Misfit::Fraction) => {
            return Err(Fault::new(Reason::WrongType, "expected a whole number", raw));
        }
    }
    .map_err(|()| Fault::new(Reason::OutOfRange, "does not fit int64", raw))
}

fn float64(raw: Raw<'_>) -> Result<f64, Box<Fault>> {
    match raw.text.parse::<f64>() {
        // Negative zero would be a second spelling of zero: it groups and hashes apart.
        Ok(value) if value.is_finite() => Ok(value + 0.0),
        _ => Err(Fault::new(Reason::OutOfRange, "does not fit float64", raw)),
    }
}

fn decimal(raw: Raw<'_>, scale: i32, limit: i128, ty: &Type) -> Result<i128, Box<Fault>> {
    match number::unscaled(raw.text, scale, Below::Refuse) {
        Ok(value) if value > -limit && value < limit => Ok(value),
        Ok(_) | Err(Misfit::Overflow) => {
            Err(Fault::new(Reason::OutOfRange, format!("does not fit {ty}"), raw))
        }
        Err(Misfit::Fraction) => Err(Fault::new(
            Reason::WrongType,
            format!("expected at most {scale} digits after the point ({ty})"),
            raw,
        )),
    }
}

/// An instant in the given form.
pub(super) fn timestamp(raw: Raw<'_>, form: TimeForm) -> Result<i64, Box<Fault>> {
    let result = match (time::epoch_scale(form), raw.kind) {
        (None, Kind::String { .. }) => time::rfc3339(&raw.string().unwrap_or_default()),
        (Some(scale), Kind::Number) => time::epoch(raw.text, scale),
        (Some(scale), Kind::String { escaped: false }) if number::is_number(raw.inner()) => {
            time::epoch(raw.inner(), scale)
        }
        _ => Err(TimeError::Form),
    };
    result.map_err(|error| time_fault(error, time::describe(form), raw))
}

fn date(raw: Raw<'_>) -> Result<i32, Box<Fault>> {
    time::date(&raw.string().unwrap_or_default())
        .map_err(|error| time_fault(error, "a day such as 2026-01-31", raw))
}

fn time_fault(error: TimeError, form: &str, raw: Raw<'_>) -> Box<Fault> {
    match error {
        TimeError::Form => Fault::new(Reason::WrongType, format!("expected {form}"), raw),
        TimeError::Range => Fault::new(Reason::OutOfRange, "outside the years 1 to 9999", raw),
    }
}

/// A type as people say it; long ones by their kind.
fn name(ty: &Type) -> String {
    match ty {
        Type::List(_) => "a list".to_owned(),
        Type::Struct(_) => "an object".to_owned(),
        Type::Date => "a day such as 2026-01-31".to_owned(),
        other => other.to_string(),
    }
}
