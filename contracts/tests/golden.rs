//! Contracts and what the loader makes of them, one case per file under `tests/cases`.
//!
//! `good/*.yaml` must load, and what they compile to must read like the `.txt` beside them;
//! `bad/*.yaml` must give exactly the diagnostics in theirs. `UPDATE_EXPECT=1 cargo test -p
//! agentflow-contracts` rewrites the expectations; review them as a diff.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use contracts::model::{
    ColumnRef, Domain, EnrichValue, EntityFieldKind, LakeLayout, Relation, Step, Topic,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Runs `render` on every case of a folder and compares with the expectations.
fn check(folder: &str, render: impl Fn(&str, &str) -> String) {
    let mut cases: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).expect("a readable case");
        let name = case.file_name().expect("a file").to_string_lossy().into_owned();
        let got = render(&name, &text);
        let expectation = case.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expectation, &got).expect("a writable expectation");
        } else if fs::read_to_string(&expectation).unwrap_or_default() != got {
            wrong.push(format!("--- {name} gives:\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 rewrites the expectations\n{}", wrong.join("\n"));
}

#[test]
fn bad_contracts_give_the_expected_diagnostics() {
    check("bad", |name, text| match contracts::load(&[(PathBuf::from(name), text.to_owned())]) {
        Ok(_) => "loads\n".to_owned(),
        Err(found) => found.iter().map(|d| format!("{d}\n")).collect(),
    });
}

#[test]
fn good_contracts_compile_to_the_expected_model() {
    check("good", |name, text| match contracts::load(&[(PathBuf::from(name), text.to_owned())]) {
        Ok(domain) => describe(&domain),
        Err(found) => found.iter().map(|d| format!("{d}\n")).collect(),
    });
}

/// A layout with the journal's columns.
fn layout(lake: &LakeLayout) -> String {
    let partition: Vec<String> = lake.partition.iter().map(ToString::to_string).collect();
    format!(
        "partition {partition:?} sort {:?} commit every {:?} size {:?}",
        lake.sort, lake.commit_every, lake.commit_size
    )
}

/// The parts of a domain that a contract decides, in words.
fn describe(domain: &Domain) -> String {
    let mut out = String::new();
    let relation = |relation: Relation| match relation {
        Relation::Family(i) => domain.families[i].table(),
        Relation::Entity(i) => domain.entities[i].table(),
        Relation::Ingest => "ingest".to_owned(),
    };
    let column = |c: &ColumnRef| {
        let twin = if c.depends_on_closed { " (with twin)" } else { "" };
        format!("{}: {}{twin}", c.name, c.ty)
    };
    for family in &domain.families {
        let _ = writeln!(out, "family {} ({})", family.name, family.table());
        for contract in &family.versions {
            let _ = writeln!(
                out,
                "  version {} {:?} {:?} envelope type={} id={} time={} {:?}",
                contract.version,
                contract.status,
                contract.names,
                contract.envelope.event_type,
                contract.envelope.id,
                contract.envelope.time,
                contract.envelope.time_form,
            );
            for (what, place) in contract.envelope.places().skip(3) {
                let _ = writeln!(out, "    {what} at {place}");
            }
            for rule in &contract.rules {
                let check = rule.check.canonical();
                let _ = writeln!(
                    out,
                    "    rule {} {:?} {:?}: {check}",
                    rule.name, rule.severity, rule.field
                );
            }
            for enrich in &contract.enrich {
                let value = match &enrich.value {
                    EnrichValue::Expr(expr) => expr.canonical().to_owned(),
                    EnrichValue::Lookup { entity, key, field } => {
                        format!(
                            "{field} of {} by {}",
                            domain.entities[*entity].name,
                            key.canonical()
                        )
                    }
                };
                let _ = writeln!(out, "    enrich {}: {} = {value}", enrich.name, enrich.ty);
            }
            if let Some(lake) = &contract.lake {
                let _ = writeln!(out, "    lake {}", layout(lake));
            }
        }
        if let Some(lake) = family.lake() {
            let _ = writeln!(out, "  lake {}", layout(lake));
        }
        for field in &family.fields {
            let _ = writeln!(out, "  field {}: {}", field.name, field.ty);
        }
        for computed in &family.computed {
            let _ = writeln!(out, "  computed {} = {}", computed.name, computed.expr.canonical());
        }
    }
    for entity in &domain.entities {
        let _ = writeln!(
            out,
            "entity {} v{} by {} closes {:?}",
            entity.name, entity.version, entity.key, entity.closes_after
        );
        if let Some(stages) = &entity.stages {
            for stage in &stages.ladder {
                let _ = writeln!(
                    out,
                    "  stage {} of {}, sla {:?}, terminal {}",
                    stage.name, stages.field, stage.sla, stage.terminal
                );
            }
        }
        for other in &entity.relationships {
            let _ = writeln!(out, "  {} is {} by {}", other.name, other.entity, other.key);
        }
        for input in &entity.inputs {
            let _ = writeln!(
                out,
                "  from {} {:?} key {} where {:?}",
                relation(input.relation),
                input.event_types,
                column(&input.key),
                input.filter.as_ref().map(column),
            );
            for arg in &input.args {
                let text = arg.as_ref().map_or("nothing".to_owned(), |a| {
                    format!(
                        "{} by {:?} absent bit {:?}",
                        column(&a.value),
                        a.by.as_ref().map(column),
                        a.absent_bit
                    )
                });
                let _ = writeln!(out, "    argument {text}");
            }
        }
        for field in &entity.fields {
            let kind = match &field.kind {
                EntityFieldKind::Fold(op) => format!("{op:?}"),
                EntityFieldKind::Derived(expr) => expr.canonical().to_owned(),
            };
            let twin = if field.depends_on_closed { " (with twin)" } else { "" };
            let _ = writeln!(out, "  field {}: {}{twin} = {kind}", field.name, field.ty);
        }
        for computed in &entity.computed {
            let _ = writeln!(out, "  computed {} = {}", computed.name, computed.expr.canonical());
        }
    }
    for metric in &domain.metrics {
        let measure = match &metric.measure {
            contracts::model::Measure::Derived { parts, expr } => {
                format!("derived from {parts:?}: {}", expr.canonical())
            }
            other => format!("{other:?}"),
        };
        let _ = writeln!(
            out,
            "metric {} v{}: {} [{}] = {measure}, empty {:?}, moved by {:?}",
            metric.name,
            metric.version,
            metric.value_type,
            metric.unit,
            metric.on_empty,
            metric.moved_by
        );
        for input in &metric.inputs {
            let _ = writeln!(
                out,
                "  from {} {:?} time {} where {:?} argument {:?} dimensions {:?}",
                relation(input.relation),
                input.event_types,
                column(&input.time),
                input.filter.as_ref().map(column),
                input.arg.as_ref().map(column),
                input.dimensions.iter().map(column).collect::<Vec<_>>(),
            );
            if let Some(followed) = &input.followed {
                let steps = followed.steps.iter().flatten().map(|step| match step {
                    Step::EventType(name) => format!("type {name}"),
                    Step::Where(condition) => column(condition),
                });
                let steps: Vec<String> = steps.collect();
                let _ = writeln!(out, "    by {} steps {steps:?}", column(&followed.key));
            }
        }
        for window in metric.windows.iter().filter(|window| window.period.is_some()) {
            let _ = writeln!(out, "  window {}: {:?}", window.text, window.period);
        }
        for dimension in &metric.dimensions {
            let _ = writeln!(out, "  dimension {}: {}", dimension.name, dimension.ty);
        }
        for example in &metric.examples {
            for given in &example.given {
                let _ = writeln!(out, "  given {}", given.record);
                for (name, text) in &given.headers {
                    let _ = writeln!(out, "    header {name}: {text}");
                }
            }
            for e in &example.expect {
                let _ = writeln!(
                    out,
                    "  expect {} at {} {:?} = {}",
                    e.window, e.as_of, e.filters, e.value
                );
            }
        }
    }
    for computed in &domain.ingest.computed {
        let _ = writeln!(out, "ingest computed {} = {}", computed.name, computed.expr.canonical());
    }
    for (topic, format) in domain.topics() {
        let kind = if matches!(topic, Topic::Name(_)) { "topic" } else { "topic pattern" };
        let _ = writeln!(out, "{kind} {topic} {format:?}");
    }
    out += "graph\n";
    for line in contracts::graph::render_text(domain).lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}
