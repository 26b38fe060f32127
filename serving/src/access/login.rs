//! Who guesses keys: failed attempts by address.
//!
//! An address that has failed too often is told to wait. A key that is right opens all the same: what
//! others do behind the same address locks nobody out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Failures of one address that are answered as such; the next ones are told to wait.
pub const MAX_FAILURES: u32 = 10;

/// How long the first of them counts.
pub const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// Most addresses that are remembered.
const MAX_ADDRESSES: u64 = 100_000;

/// Failed attempts.
#[derive(Debug)]
pub struct Logins(Cache<IpAddr, Arc<AtomicU32>>);

impl Default for Logins {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_ADDRESSES)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(FORGET_AFTER);
        Self(cache.build())
    }
}

impl Logins {
    /// Has that address failed too often?
    pub fn is_throttled(&self, address: IpAddr) -> bool {
        let count = self.0.get(&network(address));
        count.is_some_and(|count| count.load(Ordering::Relaxed) >= MAX_FAILURES)
    }

    /// Takes a failure back that was none.
    pub fn forgive(&self, address: IpAddr) {
        if let Some(count) = self.0.get(&network(address)) {
            let less = |count: u32| count.checked_sub(1);
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Counts a failure; `true` if it was one too many.
    pub fn failed(&self, address: IpAddr) -> bool {
        let count = self.0.get_with(network(address), Arc::default);
        count.fetch_add(1, Ordering::Relaxed) >= MAX_FAILURES
    }
}

/// The address, or for IPv6 the network of 64 bits that one person has at least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_are_enough() {
        let logins = Logins::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for nth in 0..12 {
            assert_eq!(logins.is_throttled(address("192.0.2.1")), nth >= 10);
            assert_eq!(logins.failed(address("192.0.2.1")), nth >= 10);
        }
        assert!(logins.is_throttled(address("::ffff:192.0.2.1")));
        assert!(!logins.is_throttled(address("192.0.2.2")));
        for nth in 0..10 {
            logins.failed(address(&format!("2001:db8::{nth}")));
        }
        assert!(logins.is_throttled(address("2001:db8::ffff")));
        assert!(!logins.is_throttled(address("2001:db8:0:1::1")));
    }
}
