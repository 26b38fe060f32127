//! Hand-built domains and batches.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use contracts::model::{
    ColumnDef, Constraints, Dedup, Domain, Envelope, EventContract, Family, Field, Ingest,
    OnConflict, Place, Status, TimeForm, TimePolicy, UnknownEvent,
};
use contracts::types::Type;

use crate::batch::{Attached, DecodedBatch, RawBatch, RawRecord};
use crate::decode::Decoder;
use crate::outcome::Rejection;

/// A place in the body.
pub(crate) fn place(path: &str) -> Place {
    Place::Path(path.split('.').map(str::to_owned).collect())
}

pub(crate) fn decimal(precision: u8, scale: i8) -> Type {
    Type::Decimal { precision, scale }
}

/// An optional field.
pub(crate) fn field(name: &str, ty: Type) -> Field {
    Field {
        name: name.to_owned(),
        ty,
        required: false,
        default: None,
        time_form: TimeForm::Rfc3339,
        constraints: Constraints::default(),
        description: None,
        pii: false,
    }
}

pub(crate) fn required(name: &str, ty: Type) -> Field {
    Field { required: true, ..field(name, ty) }
}

/// Version 1 of a contract with the default envelope; tests change what they are about.
pub(crate) fn contract(names: &[&str], fields: Vec<Field>) -> EventContract {
    EventContract {
        family: 0,
        name: names[0].to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        version: 1,
        status: Status::Stable,
        deprecation: None,
        owner: None,
        description: None,
        synonyms: Vec::new(),
        topics: Vec::new(),
        format: Default::default(),
        envelope: Envelope {
            event_type: place("event_type"),
            id: place("event_id"),
            time: place("timestamp"),
            time_form: TimeForm::Rfc3339,
            version: None,
            tenant: None,
        },
        key: None,
        dedup: Dedup { horizon: i64::MAX, on_conflict: OnConflict::DeadLetter },
        time_policy: TimePolicy {
            max_future: 300_000_000,
            allowed_lateness: 0,
            late: Default::default(),
        },
        fields,
        rules: Vec::new(),
        enrich: Vec::new(),
        lake: None,
        hash: 0,
        file: "test.yaml".into(),
    }
}

/// A domain with one family per inner list of versions.
pub(crate) fn domain(families: Vec<Vec<EventContract>>) -> Domain {
    let mut type_places: Vec<Place> = Vec::new();
    let mut made = Vec::new();
    for (index, versions) in families.into_iter().enumerate() {
        let mut fields: Vec<ColumnDef> = Vec::new();
        let mut contracts = Vec::new();
        for mut version in versions {
            version.family = index;
            for field in &version.fields {
                if !fields.iter().any(|known| known.name == field.name) {
                    fields.push(ColumnDef { name: field.name.clone(), ty: field.ty.clone() });
                }
            }
            if !type_places.contains(&version.envelope.event_type) {
                type_places.push(version.envelope.event_type.clone());
            }
            contracts.push(Arc::new(version));
        }
        made.push(Family {
            index,
            name: contracts[0].name.clone(),
            versions: contracts,
            fields,
            enriched: Vec::new(),
            computed: Vec::new(),
        });
    }
    Domain {
        name: "test".to_owned(),
        families: made,
        entities: Vec::new(),
        metrics: Vec::new(),
        ingest: Ingest::default(),
        unknown_event: UnknownEvent::DeadLetter,
        graph: Default::default(),
        documents: Vec::new(),
        type_places,
    }
}

/// A batch of records from tenant `default`.
pub(crate) fn batch(lines: &[&[u8]]) -> RawBatch {
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    for (offset, line) in lines.iter().enumerate() {
        records.push(RawRecord {
            start: bytes.len(),
            len: line.len(),
            offset: offset as u64,
            arrived_at: 1_769_853_600_000_000,
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        });
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    RawBatch {
        partition: "test".into(),
        source: "test",
        bytes,
        next_offset: records.len() as u64,
        records,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}

pub(crate) fn decode(domain: Domain, lines: &[&[u8]]) -> DecodedBatch {
    Decoder::new(&Arc::new(domain)).decode(batch(lines))
}

/// A record as `name=value` pairs, or as its rejection.
pub(crate) fn show(batch: &DecodedBatch, ordinal: u32) -> String {
    if let Some(ignored) = batch.ignored.iter().find(|ignored| ignored.ordinal == ordinal) {
        return format!("ignored {}", ignored.event_type);
    }
    if let Some(rejection) = batch.rejected.iter().find(|found| found.ordinal == ordinal) {
        return show_rejection(rejection);
    }
    for rows in &batch.rows {
        let Some(row) = rows.ordinals.iter().position(|found| *found == ordinal) else { continue };
        let options = FormatOptions::default().with_null("null");
        let mut text = format!("{} v{}", rows.contract.name, rows.contract.version);
        for (column, field) in rows.columns.columns().iter().zip(rows.columns.schema().fields()) {
            let formatter = ArrayFormatter::try_new(column, &options).expect("can be shown");
            text.push_str(&format!(" {}={}", field.name(), formatter.value(row)));
        }
        if let Some(Some(warnings)) = rows.warnings.get(row) {
            text.push_str(&format!(" warnings={warnings}"));
        }
        return text;
    }
    panic!("ordinal {ordinal} is lost");
}

fn show_rejection(rejection: &Rejection) -> String {
    let mut text = format!("rejected {}", rejection.reason);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    add("field", rejection.field.clone());
    add("rule", rejection.rule.clone());
    add("id", rejection.event_id.clone());
    add("type", rejection.event_type.clone());
    add("time", rejection.event_time.map(|time| time.to_string()));
    add(
        "contract",
        rejection.contract.as_ref().map(|(name, version)| format!("{name} v{version}")),
    );
    format!("{text}: {}", rejection.detail)
}
