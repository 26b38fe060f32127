//! Dead letters as records: the original key, bytes and headers, and why they were rejected as
//! headers of ours (see [`header`]).

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use base64::Engine as _;
use serde_json::Value;

use super::record::{Headers, Mark, Record, header};
use crate::encode::event::WrongColumns;
use crate::encode::text::time_text;
use crate::outcome::Reason;
use crate::source::kafka::partition_of_name;

/// Dead letters of a batch in [`crate::store::dead_letter_schema`], column by column.
pub(super) struct DeadLetters<'a> {
    rows: &'a RecordBatch,
    ids: &'a [i64],
    offsets: &'a [i64],
    tenants: &'a StringArray,
    sources: &'a StringArray,
    reasons: &'a StringArray,
    payloads: &'a BinaryArray,
    keys: &'a BinaryArray,
    headers: &'a StringArray,
}

impl<'a> DeadLetters<'a> {
    pub(super) fn new(rows: &'a RecordBatch) -> Result<Self, WrongColumns> {
        let wrong = |column: &str| WrongColumns {
            family: "dead letters".to_owned(),
            column: column.to_owned(),
        };
        let int64 = |name: &str| {
            let column =
                rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.map(|column| &**column.values()).ok_or_else(|| wrong(name))
        };
        let text = |name: &str| texts(rows, name).ok_or_else(|| wrong(name));
        let binary = |name: &str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_binary_opt::<i32>());
            column.ok_or_else(|| wrong(name))
        };
        Ok(Self {
            rows,
            ids: int64("id")?,
            offsets: int64("offset")?,
            tenants: text("tenant")?,
            sources: text("partition")?,
            reasons: text("reason")?,
            payloads: binary("payload")?,
            keys: binary("key")?,
            headers: text("headers")?,
        })
    }

    /// The id of the last one of a batch.
    pub(super) fn last(rows: &RecordBatch) -> Result<i64, WrongColumns> {
        Ok(DeadLetters::new(rows)?.ids.last().copied().unwrap_or(0))
    }

    fn mark(&self, row: usize) -> Mark<'a> {
        Mark::DeadLetter { source: self.sources.value(row), offset: self.offsets[row] }
    }

    /// The record of `row`. A payload with which it would be longer than `longest` bytes is left
    /// out: one record must not hold up all that come behind it.
    pub(super) fn record(&self, row: usize, longest: usize) -> Record<'a> {
        let source = self.sources.value(row);
        let reason = self.reasons.value(row);
        let mut headers = self.original_headers(row);
        headers = headers
            .text(header::ID, &self.ids[row].to_string())
            .text(header::TENANT, self.tenants.value(row))
            .text(header::SOURCE, source);
        if let Some((topic, number)) = partition_of_name(source) {
            headers =
                headers.text(header::TOPIC, topic).text(header::PARTITION, &number.to_string());
        }
        headers = headers
            .text(header::OFFSET, &self.offsets[row].to_string())
            .maybe(header::ARRIVED_AT, self.time("arrived_at", row).as_deref())
            .maybe(header::STAGE, self.text("stage", row))
            .text(header::REASON, reason)
            .maybe(header::FIELD, self.text("field", row))
            .maybe(header::RULE, self.text("rule", row))
            .maybe(header::DETAIL, self.text("detail", row))
            .maybe(header::EVENT_ID, self.text("event_id", row))
            .maybe(header::EVENT_TYPE, self.text("event_type", row))
            .maybe(header::EVENT_TIME, self.time("event_time", row).as_deref())
            .maybe(header::CONTRACT, self.text("contract", row));
        let versions = self.rows.column_by_name("contract_version");
        let version = versions.and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let Some(version) = version.filter(|column| column.is_valid(row)) {
            headers = headers.text(header::CONTRACT_VERSION, &version.value(row).to_string());
        }
        // A tombstone has no payload at all, which is more than an empty one.
        let payload = self.payloads.value(row);
        let value = (reason != Reason::Tombstone.code()).then_some(payload);
        let mut record = Record {
            position: self.ids[row],
            mark: self.mark(row),
            key: self.keys.is_valid(row).then(|| self.keys.value(row)),
            value,
            headers,
        };
        if record.bytes() > longest {
            record.value = None;
            record.headers = record.headers.text(header::LEFT_OUT, &payload.len().to_string());
        }
        record
    }

    fn original_headers(&self, row: usize) -> Headers {
        let json = self.headers.is_valid(row).then(|| self.headers.value(row));
        let original: Vec<Value> =
            json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let mut headers = Headers::with_capacity(original.len() + 20);
        for one in &original {
            let Some(name) = one["name"].as_str() else { continue };
            headers = match (one["value"].as_str(), one["value_base64"].as_str()) {
                (Some(text), _) => headers.text(name, text),
                (None, Some(text)) => {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                    headers.add(name, bytes.ok().as_deref())
                }
                (None, None) => headers.add(name, None),
            };
        }
        headers
    }

    fn text(&self, name: &str, row: usize) -> Option<&'a str> {
        let column = texts(self.rows, name)?;
        column.is_valid(row).then(|| column.value(row))
    }

    fn time(&self, name: &str, row: usize) -> Option<String> {
        let column = self.rows.column_by_name(name)?;
        let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(row).then(|| time_text(times.value(row)))
    }
}

fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a StringArray> {
    rows.column_by_name(name)?.as_string_opt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
    };
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::store::dead_letter_schema;

    /// A letter with these columns; the others are null or as in every letter.
    fn letter(columns: &[(&str, ArrayRef)]) -> RecordBatch {
        let schema = dead_letter_schema();
        let text = |text: &str| Arc::new(StringArray::from(vec![text.to_owned()])) as ArrayRef;
        let number = |number: i64| Arc::new(Int64Array::from(vec![number])) as ArrayRef;
        let values = schema
            .fields()
            .iter()
            .map(|field| {
                let given = columns.iter().find(|(name, _)| name == field.name());
                match (given, field.name().as_str()) {
                    (Some((_, column)), _) => Arc::clone(column),
                    (None, "id") => number(7),
                    (None, "offset") => number(17),
                    (None, "tenant") => text("acme"),
                    (None, "partition") => text("kafka:orders/3"),
                    (None, "stage") => text("decode"),
                    (None, "reason") => text("not_json"),
                    (None, "detail") => text("ends too early"),
                    (None, "arrived_at") => {
                        Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]))
                    }
                    (None, "payload") => Arc::new(BinaryArray::from(vec![b"{".as_slice()])),
                    (None, _) => new_null_array(field.data_type(), 1),
                }
            })
            .collect();
        RecordBatch::try_new(schema, values).expect("one row")
    }

    fn headers(record: Record<'_>) -> Vec<(String, Option<String>)> {
        let list = record.headers.into_list();
        list.as_borrowed()
            .iter()
            .map(|header| {
                let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
                (header.key.to_owned(), value)
            })
            .collect()
    }

    #[track_caller]
    fn check(rows: &RecordBatch, expected: &[(&str, Option<&str>)]) {
        let letters = DeadLetters::new(rows).expect("the schema");
        let expected: Vec<(String, Option<String>)> = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect();
        assert_eq!(headers(letters.record(0, 1_000)), expected);
    }

    #[test]
    fn a_letter_tells_its_place_and_reason_in_headers() {
        let rows = letter(&[]);
        check(
            &rows,
            &[
                ("agentflow.id", Some("7")),
                ("agentflow.tenant", Some("acme")),
                ("agentflow.source", Some("kafka:orders/3")),
                ("agentflow.topic", Some("orders")),
                ("agentflow.partition", Some("3")),
                ("agentflow.offset", Some("17")),
                ("agentflow.arrived_at", Some("1970-01-01T00:00:01.5Z")),
                ("agentflow.stage", Some("decode")),
                ("agentflow.reason", Some("not_json")),
                ("agentflow.detail", Some("ends too early")),
            ],
        );
        let letters = DeadLetters::new(&rows).expect("the schema");
        let record = letters.record(0, 1_000);
        assert_eq!((record.position, record.key, record.value), (7, None, Some(&b"{"[..])));
        assert_eq!(record.mark.to_string(), "kafka:orders/3@17");
    }

    #[test]
    fn key_and_headers_are_the_original_ones() {
        let json = r#"[{"name":"a","value":"1"},{"name":"b","value":null},{"name":"a","value_base64":"eHk="}]"#;
        let rows = letter(&[
            ("partition", Arc::new(StringArray::from(vec!["http"]))),
            ("key", Arc::new(BinaryArray::from(vec![&[0, 255][..]]))),
            ("headers", Arc::new(StringArray::from(vec![json]))),
            ("contract_version", Arc::new(Int64Array::from(vec![2]))),
        ]);
        check(
            &rows,
            &[
                ("a", Some("1")),
                ("b", None),
                ("a", Some("xy")),
                ("agentflow.id", Some("7")),
                ("agentflow.tenant", Some("acme")),
                ("agentflow.source", Some("http")),
                ("agentflow.offset", Some("17")),
                ("agentflow.arrived_at", Some("1970-01-01T00:00:01.5Z")),
                ("agentflow.stage", Some("decode")),
                ("agentflow.reason", Some("not_json")),
                ("agentflow.detail", Some("ends too early")),
                ("agentflow.contract_version", Some("2")),
            ],
        );
        let letters = DeadLetters::new(&rows).expect("the schema");
        assert_eq!(letters.record(0, 1_000).key, Some(&[0, 255][..]));
    }

    #[test]
    fn a_payload_that_the_topic_does_not_take_is_left_out() {
        let payload = vec![b'x'; 2_000];
        let rows = letter(&[("payload", Arc::new(BinaryArray::from(vec![&payload[..]])))]);
        let letters = DeadLetters::new(&rows).expect("the schema");
        assert_eq!(letters.record(0, 4_000).value, Some(&payload[..]));
        let record = letters.record(0, 2_000);
        assert_eq!(record.value, None);
        let left_out = ("agentflow.payload_left_out".to_owned(), Some("2000".to_owned()));
        assert!(headers(record).contains(&left_out));
    }

    #[test]
    fn a_tombstone_stays_one() {
        let rows = letter(&[
            ("reason", Arc::new(StringArray::from(vec!["tombstone"]))),
            ("payload", Arc::new(BinaryArray::from(vec![&b""[..]]))),
        ]);
        let letters = DeadLetters::new(&rows).expect("the schema");
        assert_eq!(letters.record(0, 1_000).value, None);
        let empty = letter(&[("payload", Arc::new(BinaryArray::from(vec![&b""[..]])))]);
        let letters = DeadLetters::new(&empty).expect("the schema");
        assert_eq!(letters.record(0, 1_000).value, Some(&b""[..]));
    }
}
