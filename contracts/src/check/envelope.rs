//! Where a record keeps its envelope: members of its body, or headers.

use crate::check::fields::time_form;
use crate::diagnostic::Report;
use crate::model::{Envelope, FieldPath, Place};
use crate::raw::decode::{Text, shorten};
use crate::raw::event as raw;

/// Deepest path of a member.
const MAX_PATH: usize = 8;
/// Longest name of a header, in bytes.
const MAX_HEADER: usize = 200;

/// The envelope with its defaults filled in. What is wrong is reported.
pub(crate) fn envelope(raw: Option<&raw::Envelope>, report: &mut Report) -> Envelope {
    let default = Envelope::default();
    let mut place = |raw: Option<&raw::EnvelopePlace>| raw.map(|raw| place(raw, report));
    let event_type = place(raw.and_then(|e| e.type_.as_ref()));
    let id = place(raw.and_then(|e| e.id.as_ref()));
    let version = place(raw.and_then(|e| e.version.as_ref()));
    let tenant = place(raw.and_then(|e| e.tenant.as_ref()));
    let time = raw.and_then(|e| e.time.as_ref());
    let envelope = Envelope {
        event_type: event_type.unwrap_or(default.event_type),
        id: id.unwrap_or(default.id),
        time: time.and_then(|raw| time_place(raw, report)).unwrap_or(default.time),
        time_form: match time {
            Some(raw::EnvelopeTime::Form(details)) => details.form.map(time_form),
            Some(raw::EnvelopeTime::Path(_)) | None => None,
        }
        .unwrap_or_default(),
        version,
        tenant,
    };
    if let Some(raw) = raw {
        let places: Vec<&Place> = envelope.places().map(|(_, place)| place).collect();
        for (i, place) in places.iter().enumerate() {
            if places[..i].iter().any(|other| other.is_same(place)) {
                report.error(
                    raw.at,
                    format!("two parts of the envelope are both at `{place}`"),
                    "give type, id, time, version and tenant a place each",
                );
            }
        }
    }
    envelope
}

fn place(raw: &raw::EnvelopePlace, report: &mut Report) -> Place {
    match raw {
        raw::EnvelopePlace::Path(text) => Place::Path(path(text, report)),
        raw::EnvelopePlace::Header(details) => header(&details.header, report),
    }
}

fn time_place(raw: &raw::EnvelopeTime, report: &mut Report) -> Option<Place> {
    let details = match raw {
        raw::EnvelopeTime::Path(text) => return Some(Place::Path(path(text, report))),
        raw::EnvelopeTime::Form(details) => details,
    };
    match (&details.field, &details.header) {
        (Some(field), None) => Some(Place::Path(path(field, report))),
        (None, Some(name)) => Some(header(name, report)),
        _ => {
            report.error(
                details.at,
                "an event time stands either in a `field` or in a `header`",
                "write `{field: path, form: …}` or `{header: name, form: …}`",
            );
            None
        }
    }
}

fn path(text: &Text, report: &mut Report) -> FieldPath {
    let path: FieldPath = text.value.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) || path.len() > MAX_PATH {
        report.error(
            text.at,
            format!("`{}` is not a path of members", shorten(&text.value)),
            "write names with dots between them, such as `meta.type`",
        );
    }
    path
}

fn header(text: &Text, report: &mut Report) -> Place {
    let name = text.value.as_str();
    if name.is_empty() || name.len() > MAX_HEADER || name.chars().any(char::is_control) {
        report.error(
            text.at,
            format!("`{}` cannot be the name of a header", shorten(name)),
            format!("headers have names of 1 to {MAX_HEADER} bytes without control characters"),
        );
    }
    Place::Header(text.value.clone())
}
