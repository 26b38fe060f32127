use super::*;

const EVENTS: &str = "\
kind: event
name: meter
names: [meter.read, meter.reset]
version: 1
key: meter
fields:
  meter: {type: string}
  amount: {type: 'decimal(12,2)'}
";

/// Findings that did not hold, for a metric `consumption` with these lines.
fn failures(from: &str, moved_by: &str, examples: &str) -> Vec<String> {
    let metric = format!(
        "kind: metric\nname: consumption\nversion: 1\nunit: kWh\nfrom: {{event: {from}}}\n\
         measure: sum(amount)\nwindows: [1h]\nmoved_by: {moved_by}\nexamples:\n{examples}"
    );
    let files =
        [(PathBuf::from("events.yaml"), EVENTS.to_owned()), (PathBuf::from("metric.yaml"), metric)];
    let domain = contracts::load(&files).unwrap_or_else(|found| panic!("{found:?}"));
    let findings = run(&Arc::new(domain)).unwrap();
    assert!(!findings.is_empty());
    findings.iter().filter(|finding| !finding.passed).map(ToString::to_string).collect()
}

const READ: &str = "{event: meter.read, meter: m1, amount: 1.50}";
const RESET: &str = "{event: meter.reset, meter: m1, amount: 2.25}";

#[test]
fn examples_that_hold_and_cover_every_edge_pass() {
    let example = format!("  - given: [{READ}]\n    expect: {{window: 1h, value: 1.50}}\n");
    assert_eq!(failures("meter.read", "[meter.read]", &example), Vec::<String>::new());
}

#[test]
fn a_wrong_value_is_shown_beside_the_right_one() {
    let example =
        format!("  - name: one\n    given: [{READ}]\n    expect: {{window: 1h, value: 2}}\n");
    let found = failures("meter.read", "[meter.read]", &example);
    assert_eq!(found, ["consumption v1: one, window 1h: expected 2, got 1.50 (metric.yaml:10)"]);
}

#[test]
fn an_edge_that_no_example_walks_is_named() {
    let example = format!("  - given: [{READ}]\n    expect: {{window: 1h, value: 1.50}}\n");
    let found = failures("[meter.read, meter.reset]", "[meter.read, meter.reset]", &example);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("moved by meter.reset"), "{found:?}");
}

#[test]
fn both_edges_are_walked_by_one_example() {
    let example =
        format!("  - given: [{READ}, {RESET}]\n    expect: {{window: 1h, value: 3.75}}\n");
    let found = failures("[meter.read, meter.reset]", "[meter.read, meter.reset]", &example);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_envelope_in_headers_is_filled_in_there() {
    let event = "\
kind: event
names: [meter.read, meter.reset]
envelope: {type: {header: ce_type}, id: {header: ce_id}, time: {header: ce_time, form: epoch_ms}}
fields: {amount: int64}
---
kind: metric
name: consumption
from: {event: [meter.read, meter.reset]}
measure: sum(amount)
windows: [1h]
moved_by: [meter.read, meter.reset]
examples:
  - given:
      - {event: meter.read, amount: 1, headers: {ce_id: a}}
      - {event: meter.read, amount: 1, headers: {CE_ID: a}, at: '2025-01-01T12:00:00Z'}
      - {event: meter.reset, amount: 2}
    expect: {window: 1h, value: 3}
";
    let domain = contracts::load(&[(PathBuf::from("headers.yaml"), event.to_owned())]);
    let findings = run(&Arc::new(domain.unwrap_or_else(|found| panic!("{found:?}")))).unwrap();
    assert!(findings.iter().all(|finding| finding.passed), "{findings:?}");
}

#[test]
fn the_examples_of_the_page_on_kinds_hold() {
    let page = include_str!("../../../docs/metrics.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let text = blocks.collect::<Vec<_>>().join("---\n");
    let domain = contracts::load(&[(PathBuf::from("metrics.yaml"), text)]);
    let domain = domain.unwrap_or_else(|found| panic!("{found:#?}"));
    let findings = run(&Arc::new(domain)).unwrap();
    assert!(findings.len() > 30, "{findings:#?}");
    let failed: Vec<String> =
        findings.iter().filter(|finding| !finding.passed).map(ToString::to_string).collect();
    assert_eq!(failed, Vec::<String>::new());
}
