//! Tests of the API: the whole router over a store in memory.
//!
//! Bodies are compared with the files under `golden/`, times and ids masked;
//! `UPDATE_GOLDEN=1 cargo test` writes them anew.

mod access;
mod backup;
mod bodies;
mod docs;
mod erasures;
mod errors;
mod events;
mod freshness;
mod health;
mod kinds;
mod lake;
mod lineage;
mod queries;
mod serve;
mod shop_questions;
mod stream;
mod support;
mod verify;

use std::net::SocketAddr;

use super::check_listen_addr;
use crate::access::gate::Gate;

#[track_caller]
fn check_listen(addr: &str, allowed: bool) {
    let addr: SocketAddr = addr.parse().unwrap();
    let result = check_listen_addr(addr, &Gate::open());
    assert_eq!(result.is_ok(), allowed, "{addr}");
    if let Err(error) = result {
        assert!(error.to_string().contains("loopback"), "{error}");
        assert!(error.hint().contains(&format!("127.0.0.1:{}", addr.port())), "{}", error.hint());
    }
}

#[test]
fn without_keys_only_loopback_is_listened_on() {
    check_listen("127.0.0.1:8080", true);
    check_listen("127.8.9.1:0", true);
    check_listen("[::1]:8080", true);
    check_listen("[::ffff:127.0.0.1]:8080", true);
    check_listen("0.0.0.0:8080", false);
    check_listen("[::]:8080", false);
    check_listen("10.0.0.7:8080", false);
    check_listen("192.168.1.1:80", false);
    check_listen("169.254.1.1:80", false);
    check_listen("[fe80::1]:80", false);
    check_listen("[::ffff:10.0.0.7]:8080", false);
}
