//! Events as server-sent events.
//!
//! A frame is `id: <position>`, `data: <one JSON object>` and an empty line. The object has the members
//! that published clients read, then ours; what is personal in the event is hidden.

use contracts::model::{Domain, column};
use pipeline::encode::event::{EventRows, EventWriter, WrongColumns};
use pipeline::encode::json;
use pipeline::encode::text::decimal_text;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use contracts::model::TimeForm;

use super::outbox::End;
use crate::origin::Origin;
use crate::personal::{HIDDEN, Personal};
use crate::store::events::{EventPage, EventReader, Heads};

/// Sent when nothing else was for a while.
pub(crate) const BEAT: &[u8] = b": keepalive\n\n";

/// Writes the events of every family.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    families: Vec<Family>,
    personal: Personal,
}

#[derive(Debug)]
struct Family {
    /// The contract's name.
    name: String,
    writer: EventWriter,
}

/// The rows of one family of a page, ready to be written.
pub(crate) struct Frames<'a> {
    family: &'a Family,
    personal: &'a Personal,
    events: EventRows<'a>,
    heads: Heads<'a>,
    rows: &'a RecordBatch,
}

impl FrameWriter {
    pub(crate) fn new(domain: &Domain) -> Self {
        let family = |family: &contracts::model::Family| Family {
            name: family.name.clone(),
            writer: EventWriter::new(family),
        };
        Self {
            families: domain.families.iter().map(family).collect(),
            personal: Personal::of(domain),
        }
    }

    /// Looks at rows of a page.
    pub(crate) fn frames<'a>(
        &'a self,
        (family, rows): &'a (usize, RecordBatch),
    ) -> Result<Frames<'a>, WrongColumns> {
        let family = &self.families[*family];
        Ok(Frames {
            family,
            personal: &self.personal,
            events: EventRows::new(&family.writer, rows)?,
            heads: Heads::of(rows),
            rows,
        })
    }
}

impl<'a> Frames<'a> {
    /// By what is decided who wants an event.
    pub(crate) fn heads(&self) -> &Heads<'a> {
        &self.heads
    }

    /// Appends the frame of `row`.
    pub(crate) fn write(
        &self,
        row: usize,
        page: &EventPage,
        reader: &EventReader,
        out: &mut Vec<u8>,
    ) {
        let number = |name: &str| {
            let column = self.rows.column_by_name(name);
            column.map_or(0, |column| column.as_primitive::<Int64Type>().value(row))
        };
        let time = |name: &str| {
            let column = self.rows.column_by_name(name);
            column.map_or(0, |column| column.as_primitive::<TimestampMicrosecondType>().value(row))
        };
        let text = |name: &str| {
            let column = self.rows.column_by_name(name);
            column.map_or("", |column| column.as_string::<i32>().value(row))
        };
        let (tenant, event_type, entity) = self.heads.row(row);
        let seq = self.heads.seqs[row];
        let arrived_at = time(column::ARRIVED_AT);
        // Where the commit's time is gone, nothing is known to have come later than the record.
        let applied_at = page.applied_at(seq).unwrap_or(arrived_at);
        let partition = reader.partition(number(column::PARTITION));
        let entity = match entity {
            Some(_) if self.personal.is_in_key(&self.family.name) => Some(HIDDEN),
            shown => shown,
        };

        out.extend_from_slice(format!("id: {seq}\ndata: {{\"event_id\":").as_bytes());
        json::write_text(out, text(column::ID));
        member(out, "topic", |out| json::write_text(out, Origin::of(&partition).place()));
        member(out, "tenant_id", |out| json::write_text(out, tenant));
        member(out, "entity_id", |out| match entity {
            Some(entity) => json::write_text(out, entity),
            None => out.extend_from_slice(b"null"),
        });
        member(out, "event_type", |out| json::write_text(out, event_type));
        let latency = decimal_text(i128::from((applied_at - arrived_at).max(0)), 3);
        member(out, "latency_ms", |out| out.extend_from_slice(latency.as_bytes()));
        let rfc3339 =
            |micros| move |out: &mut Vec<u8>| json::write_time(out, micros, TimeForm::Rfc3339);
        member(out, "processed_at", rfc3339(applied_at));
        member(out, "position", |out| out.extend_from_slice(seq.to_string().as_bytes()));
        member(out, "timestamp", rfc3339(time(column::TIME)));
        member(out, "contract", |out| json::write_text(out, &self.family.name));
        let version = number(column::VERSION).to_string();
        member(out, "version", |out| out.extend_from_slice(version.as_bytes()));
        member(out, "data", |out| self.write_data(row, out));
        out.extend_from_slice(b"}\n\n");
    }

    /// The event as its record was, on one line.
    fn write_data(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.events.write(row, out);
        if self.personal.is_in(&self.family.name) {
            let shown = self.personal.show_event(&self.family.name, &out[start..]);
            out.truncate(start);
            out.extend_from_slice(&shown);
        }
        // Between tokens that were kept as they were sent; within a text JSON has none.
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

fn member(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write(out);
}

/// The frame of a metric's answer.
pub(crate) fn answer(position: i64, body: &[u8]) -> Vec<u8> {
    [format!("id: {position}\ndata: ").as_bytes(), body, b"\n\n"].concat()
}

/// The last frame of a connection that the server ends.
pub(crate) fn last(end: End) -> String {
    let (event, code, detail) = match end {
        End::Slow => (
            "error",
            "slow_reader",
            "events came faster than they were read; connect again with the id of the last one that \
             was read as `Last-Event-ID`",
        ),
        End::Gone => (
            "error",
            "gone",
            "the events that come next are no longer in the journal, the lake has them; connect again \
             without `Last-Event-ID`",
        ),
        End::Unavailable => (
            "error",
            "unavailable",
            "the store could not answer; connect again with the id of the last event that was read as \
             `Last-Event-ID`",
        ),
        End::Revoked => ("error", "unauthorized", "the key of this stream opens it no more"),
        End::Shutdown => (
            "end",
            "shutdown",
            "the server ends; connect again with the id of the last event that was read as \
             `Last-Event-ID`",
        ),
    };
    format!("event: {event}\ndata: {{\"detail\":\"{detail}\",\"code\":\"{code}\"}}\n\n")
}
