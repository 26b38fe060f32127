//! Over TLS: a certificate of our own is refused unless it is trusted by a setting.

use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use serde_json::json;

use super::config;
use super::server::{Server, Stream};
use crate::decode::WriterSchema;
use crate::registry::{Registry, RegistryError};

/// A certificate for 127.0.0.1 that vouches for itself.
fn certificate() -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", "registry of a test").expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("a version");
    let serial = BigNum::from_u32(1).and_then(|one| one.to_asn1_integer()).expect("a number");
    builder.set_serial_number(&serial).expect("a number");
    builder.set_subject_name(&name).expect("a name");
    builder.set_issuer_name(&name).expect("a name");
    builder.set_pubkey(&key).expect("a key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::days_from_now(1).expect("a time")).expect("a time");
    let authority = BasicConstraints::new().critical().ca().build().expect("an extension");
    builder.append_extension(authority).expect("an extension");
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))
        .expect("an extension");
    builder.append_extension(names).expect("an extension");
    builder.sign(&key, MessageDigest::sha256()).expect("a signature");
    (builder.build(), key)
}

#[test]
fn only_a_trusted_certificate_will_do() {
    let (certificate, key) = certificate();
    let mut acceptor =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("an acceptor");
    acceptor.set_private_key(&key).expect("a key");
    acceptor.set_certificate(&certificate).expect("a certificate");
    let acceptor = acceptor.build();
    let server = Server::wrapped(Arc::new(move |stream| {
        let stream = acceptor.accept(stream).ok()?;
        Some(Box::new(stream) as Box<dyn Stream>)
    }));
    let id = server.put("s", json!({"schema": "\"string\""}));
    let mut config = config(&[server.url().replace("http://", "https://")]);

    let error = Registry::new(config.clone()).expect("good").look_up(id).expect_err("not trusted");
    assert!(matches!(error, RegistryError::NotAvailable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");

    config.ca = Some(certificate.to_pem().expect("PEM"));
    let found = Registry::new(config.clone()).expect("good").look_up(id);
    assert!(matches!(found, Ok(WriterSchema::Avro { .. })), "{found:?}");

    config.ca = Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    let error = Registry::new(config).expect_err("no certificate");
    assert!(matches!(error, RegistryError::Client(_)), "{error:?}");
}
