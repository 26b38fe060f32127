//! One question and its answer: what is found, what is not, and what only seems not to be.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::server::Server;
use super::{NO_SUCH_ID, config, everywhere, registry, subject};
use crate::decode::WriterSchema;
use crate::registry::{Credentials, Reference, Registry, RegistryError};

const TEXT: &str =
    r#"{"type":"record","name":"Made","namespace":"t","fields":[{"name":"a","type":"long"}]}"#;

fn texts(schema: &WriterSchema) -> Vec<serde_json::Value> {
    let WriterSchema::Avro { schema, references } = schema else { panic!("{schema:?}") };
    let texts = references.iter().chain([schema]);
    texts.map(|text| serde_json::from_str(text).expect("JSON")).collect()
}

#[test]
fn what_is_registered_is_found() {
    everywhere(|registry| {
        let subject = subject("value");
        let id = registry.register(&subject, TEXT, &[]).expect("registered");
        assert_eq!(registry.register(&subject, TEXT, &[]), Ok(id));
        let found = registry.look_up(id).expect("answers");
        assert_eq!(texts(&found), [serde_json::from_str::<serde_json::Value>(TEXT).expect("JSON")]);
        assert_eq!(registry.probe().status().schemas, 1);
    });
}

#[test]
fn what_a_schema_refers_to_comes_with_it() {
    everywhere(|registry| {
        let make = |name: &str, schema: &str, refers: &[(&str, &str)]| {
            let references: Vec<_> = refers
                .iter()
                .map(|(name, subject)| Reference {
                    name: (*name).to_owned(),
                    subject: (*subject).to_owned(),
                    version: 1,
                })
                .collect();
            let subject = subject(name);
            let id = registry.register(&subject, schema, &references).expect("registered");
            (subject, id)
        };
        let part = r#"{"type":"record","name":"Part","namespace":"t","fields":[]}"#;
        let whole = r#"{"type":"record","name":"Whole","namespace":"t","fields":[{"name":"p","type":"t.Part"}]}"#;
        let either = r#"["t.Whole","t.Part"]"#;
        let (part_subject, _) = make("part/with slash", part, &[]);
        let (whole_subject, _) = make("whole", whole, &[("t.Part", &part_subject)]);
        let (_, id) =
            make("either", either, &[("t.Whole", &whole_subject), ("t.Part", &part_subject)]);
        let found = texts(&registry.look_up(id).expect("answers"));
        let want = [part, whole, either]
            .map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
        assert_eq!(found, want);
    });
}

#[test]
fn an_id_that_nobody_has_is_unknown() {
    everywhere(|registry| {
        let found = registry.look_up(NO_SUCH_ID).expect("answers");
        let missing = format!("the registry has no schema {NO_SUCH_ID}");
        assert_eq!(found, WriterSchema::Unknown { missing });
    });
}

#[test]
fn a_schema_is_asked_for_once_and_a_missing_one_not_at_once_again() {
    let server = Server::start();
    let registry = registry(&[server.url()]);
    let id = server.put("s", json!({"schema": TEXT}));
    for _ in 0..3 {
        assert!(matches!(registry.look_up(id), Ok(WriterSchema::Avro { .. })));
        assert!(matches!(registry.look_up(id + 1), Ok(WriterSchema::Unknown { .. })));
    }
    assert_eq!(server.with(|state| state.requests.len()), 2);
}

#[test]
fn other_kinds_of_schemas_are_told_from_avro() {
    let server = Server::start();
    let registry = registry(&[server.url()]);
    for kind in ["JSON", "PROTOBUF"] {
        let id = server.put("s", json!({"schema": "x", "schemaType": kind}));
        let why = format!("schema {id} is of type {kind}, not AVRO");
        assert_eq!(registry.look_up(id), Ok(WriterSchema::Unusable { why }));
    }
    let id = server.put("s", json!({"schema": TEXT, "schemaType": "AVRO"}));
    assert!(matches!(registry.look_up(id), Ok(WriterSchema::Avro { .. })));
}

#[test]
fn references_that_are_missing_or_go_in_circles() {
    let server = Server::start();
    let registry = registry(&[server.url()]);
    let reference = |subject: &str| json!([{"name": "t.X", "subject": subject, "version": 1}]);
    let id = server.put("a", json!({"schema": TEXT, "references": reference("none")}));
    let missing = format!(
        "schema {id} refers to `t.X`, which the registry has not: subject `none`, version 1"
    );
    assert_eq!(registry.look_up(id), Ok(WriterSchema::Unknown { missing }));
    let id = server.put("b", json!({"schema": TEXT, "references": reference("b")}));
    assert_eq!(texts(&registry.look_up(id).expect("answers")).len(), 2);
    let many: Vec<_> = (0..300)
        .map(|n| {
            let name = format!("many{n}");
            server.put(&name, json!({"schema": "\"int\"", "doc": n}));
            json!({"name": "t.X", "subject": name, "version": 1})
        })
        .collect();
    let id = server.put("c", json!({"schema": TEXT, "references": many}));
    let why = format!("schema {id} refers to more than 256 others");
    assert_eq!(registry.look_up(id), Ok(WriterSchema::Unusable { why }));
}

#[test]
fn failures_are_no_answers() {
    let server = Server::start();
    let registry = registry(&[server.url()]);
    let id = server.put("s", json!({"schema": TEXT}));
    let failures = [
        (500, r#"{"error_code":50001,"message":"backend"}"#, "status 500: backend"),
        (503, "", "status 503"),
        (404, "<html>", "status 404"),
        (200, "<html>", "not a schema registry's"),
        (200, r#"{"id":7}"#, "not a schema registry's: missing field `schema`"),
        (0, "", "connection closed"),
    ];
    for (status, body, want) in failures {
        server.with(|state| state.instead.push((status, body)));
        let error = registry.look_up(id).expect_err(want);
        assert!(matches!(error, RegistryError::NotAvailable { .. }), "{error:?}");
        assert!(error.to_string().contains(want) && error.retry(), "{error}");
    }
    assert!(matches!(registry.look_up(id), Ok(WriterSchema::Avro { .. })));
}

#[test]
fn nobody_there_and_nobody_answering() {
    let mut server = Server::start();
    server.down();
    let error = registry(&[server.url()]).look_up(1).expect_err("down");
    let text = error.to_string();
    assert!(text.starts_with("no schema registry answers at `http://127.0.0.1:"), "{text}");
    assert!(text.contains("Connection refused"), "{text}");

    // Takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut config = config(&[format!("http://{}", silent.local_addr().expect("bound"))]);
    config.timeout = Duration::from_millis(100);
    let error = Registry::new(config).expect("good").look_up(1).expect_err("silent");
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[test]
fn the_next_address_answers_for_one_that_does_not() {
    let (mut first, second) = (Server::start(), Server::start());
    first.down();
    let registry = registry(&[first.url(), second.url()]);
    let ids =
        [second.put("s", json!({"schema": TEXT})), second.put("s", json!({"schema": "\"int\""}))];
    for id in ids {
        assert!(matches!(registry.look_up(id), Ok(WriterSchema::Avro { .. })));
    }
    // The one that answered is asked first from then on, and the other one for what it has not.
    first.up();
    let only_first: Vec<u32> =
        (0..3).map(|n| first.put("t", json!({"schema": "\"int\"", "doc": n}))).collect();
    assert!(matches!(registry.look_up(only_first[2]), Ok(WriterSchema::Avro { .. })));
    assert_eq!(first.with(|state| state.requests.len()), 1);
    let unknown = registry.look_up(NO_SUCH_ID).expect("both answer");
    assert!(matches!(unknown, WriterSchema::Unknown { .. }));
}

#[test]
fn credentials_are_sent_and_refusals_told() {
    let server = Server::start();
    let id = server.put("s", json!({"schema": TEXT}));
    let with = |credentials: Option<&str>| {
        let mut config = config(&[server.url()]);
        config.credentials =
            credentials.map(|text| Credentials::parse("test", text).expect("good"));
        Registry::new(config).expect("good").look_up(id)
    };
    // `user:secret`.
    server.with(|state| state.authorization = Some("Basic dXNlcjpzZWNyZXQ=".to_owned()));
    assert!(with(Some("user:secret")).is_ok());
    for credentials in [None, Some("user:other-secret"), Some("secret-token")] {
        let error = with(credentials).expect_err("refused");
        let text = error.to_string();
        assert!(matches!(error, RegistryError::Refused { .. }) && error.retry(), "{error:?}");
        assert!(text.ends_with("refuses us: it answers with status 401: Unauthorized"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    server.with(|state| state.authorization = Some("Bearer secret-token".to_owned()));
    assert!(with(Some("secret-token")).is_ok());
}

#[test]
fn a_schema_that_is_not_taken() {
    everywhere(|registry| {
        let error = registry.register(&subject("bad"), "{not json", &[]).expect_err("bad");
        assert!(matches!(error, RegistryError::NotTaken { .. }) && !error.retry(), "{error:?}");
    });
}

#[test]
fn handles_share_what_they_know() {
    let server = Server::start();
    let registry = registry(&[server.url()]);
    let id = server.put("s", json!({"schema": TEXT}));
    let handles: Vec<_> = (0..4).map(|_| registry.clone()).collect();
    let threads = handles.into_iter().map(|handle| {
        std::thread::spawn(move || matches!(handle.look_up(id), Ok(WriterSchema::Avro { .. })))
    });
    assert!(threads.collect::<Vec<_>>().into_iter().all(|thread| thread.join().expect("no panic")));
    assert!(server.with(|state| state.requests.len()) <= 4);
    let known = registry.look_up(id).expect("known");
    let again = registry.look_up(id).expect("known");
    let (WriterSchema::Avro { schema: a, .. }, WriterSchema::Avro { schema: b, .. }) =
        (&known, &again)
    else {
        panic!("{known:?}")
    };
    assert!(Arc::ptr_eq(a, b));
}
