//! The windows of a metric and the zone that its days begin in.

use crate::check::values::{is_calendar_window, window, zone};
use crate::diagnostic::Report;
use crate::model::Window;
use crate::raw::metric as raw;

/// The windows as written, each once.
pub(super) fn windows(raw: &raw::Metric, report: &mut Report) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let calendar = raw.windows.0.iter().find(|text| is_calendar_window(&text.value));
    let found = raw.zone.as_ref().and_then(|text| zone(text, report));
    match (calendar, &raw.zone) {
        (Some(text), None) => report.error(
            text.at,
            format!("the window `{}` needs the key `zone`: where does it begin?", text.value),
            "write a zone such as `zone: Europe/Moscow`, or `zone: UTC`",
        ),
        (None, Some(zone)) => report.error(
            zone.at,
            "no window of this metric begins where a calendar says",
            "remove `zone`, or add `day`, `week` or `month` to `windows`",
        ),
        _ => {}
    }
    for text in &raw.windows.0 {
        let Some(window) = window(text, found, report) else { continue };
        if windows.iter().any(|w| (w.length, w.period) == (window.length, window.period)) {
            report.error(
                text.at,
                format!("the window `{}` stands here twice", window.text),
                "remove one of them",
            );
        }
        windows.push(window);
    }
    if raw.windows.0.is_empty() {
        report.error(raw.at, "`windows` is empty", "name at least one, such as `1h` or `now`");
    }
    windows
}
