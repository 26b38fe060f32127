//! The door: from a credential to a [`Caller`], or to the reason why not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Semaphore;

use super::digest::{Digest, Pepper};
use super::login::Logins;
use super::quota::DailyEvents;
use super::rate::{Limiter, SharedCounts};
use super::ring::{Key, KeyRing, Shown};
use super::{Caller, Pass};

/// Most Argon2 hashes that are computed at once: each takes a core and 19 MiB.
const PROOFS: usize = 2;

/// Longest wait for one of them.
const PROOF_WITHIN: Duration = Duration::from_secs(5);

/// What a server knows of keys.
#[derive(Debug)]
pub struct Gate {
    /// `None`: everybody is let in.
    ring: Option<Arc<KeyRing>>,
    secrets: Secrets,
    logins: Logins,
    limiter: Arc<Limiter>,
    daily_events: DailyEvents,
    proofs: Arc<Semaphore>,
    proxies: TrustedProxies,
}

/// Secrets of whoever runs the server; known by their digests only.
#[derive(Debug)]
struct Secrets {
    pepper: Pepper,
    admin: Option<Digest>,
    operator: Option<Digest>,
}

/// Proxies whose word about the caller's address is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpAddr>);

impl TrustedProxies {
    /// These addresses.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self(addresses.iter().map(IpAddr::to_canonical).collect())
    }

    /// Whose request it is that came from `peer`: read from the right, the first address of
    /// `X-Forwarded-For` that is none of ours. What stands left of it anybody may have written.
    pub fn caller(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        let mut address = peer.to_canonical();
        for text in forwarded_for.unwrap_or_default().rsplit(',') {
            if !self.0.contains(&address) {
                break;
            }
            match text.trim().parse::<IpAddr>() {
                Ok(next) => address = next.to_canonical(),
                Err(_) => break,
            }
        }
        address
    }
}

/// Somebody who may come in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who it is.
    pub caller: Caller,
    /// The key, if one was shown; it has a limit.
    pub key: Option<Arc<Key>>,
    /// Was it the key before a rotation?
    pub is_old: bool,
    /// For answers that take long.
    pub pass: Pass,
}

impl Admitted {
    /// Whoever runs the server.
    fn operator() -> Self {
        Self { caller: Caller::operator(), key: None, is_old: false, pass: Pass::default() }
    }
}

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No credential was shown.
    Missing,
    /// It is wrong.
    Wrong,
    /// It is wrong, and so were too many before it.
    Throttled,
    /// Too many keys are being checked for the first time.
    Busy,
    /// There is no key that could be right.
    NoKeys,
    /// There is no admin key that could be right.
    NoAdminKey,
}

impl Gate {
    /// A door that is open to everybody.
    pub fn open() -> Self {
        Self::new(None)
    }

    /// A door for those who have a key of `ring`.
    pub fn locked(ring: Arc<KeyRing>) -> Self {
        Self::new(Some(ring))
    }

    fn new(ring: Option<Arc<KeyRing>>) -> Self {
        Self {
            ring,
            secrets: Secrets { pepper: Pepper::random(), admin: None, operator: None },
            logins: Logins::default(),
            limiter: Arc::default(),
            daily_events: DailyEvents::default(),
            proofs: Arc::new(Semaphore::new(PROOFS)),
            proxies: TrustedProxies::default(),
        }
    }

    /// Sets the admin key.
    pub fn with_admin_key(mut self, key: Option<&str>) -> Self {
        self.secrets.admin = key.map(|key| self.secrets.pepper.digest(key));
        self
    }

    /// Sets the token by which commands on this machine are known.
    pub fn with_operator_token(mut self, token: &str) -> Self {
        self.secrets.operator = Some(self.secrets.pepper.digest(token));
        self
    }

    /// Sets the proxies.
    pub fn with_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Shares counts with other replicas.
    pub fn with_shared_counts(mut self, counts: SharedCounts) -> Self {
        self.limiter = Arc::new(Limiter::shared(counts));
        self
    }

    /// Is everybody let in?
    pub fn is_open(&self) -> bool {
        self.ring.is_none()
    }

    /// The keys, where there are some.
    pub fn ring(&self) -> Option<&Arc<KeyRing>> {
        self.ring.as_ref()
    }

    /// What tenants have posted today.
    pub fn daily_events(&self) -> &DailyEvents {
        &self.daily_events
    }

    /// Counts requests.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// The proxies.
    pub fn proxies(&self) -> &TrustedProxies {
        &self.proxies
    }

    /// Lets in who shows a key, or the operator's token.
    pub async fn admit(&self, shown: Option<&str>, from: IpAddr) -> Result<Admitted, Refused> {
        let operator = Admitted::operator;
        if let (Some(shown), Some(token)) = (shown, &self.secrets.operator)
            && self.secrets.pepper.digest(shown).is(token)
        {
            return Ok(operator());
        }
        let Some(ring) = &self.ring else { return Ok(operator()) };
        let Some(shown) = shown else {
            return Err(if ring.is_empty() { Refused::NoKeys } else { Refused::Missing });
        };
        let found = match ring.show(shown, Utc::now()) {
            // Without a digest every entry must be tried, which is dear: not for those who guess.
            Shown::Unproven(unproven) if !unproven.is_found && self.logins.is_throttled(from) => {
                Shown::Wrong
            }
            Shown::Unproven(unproven) => {
                let is_found = unproven.is_found;
                // Counted before: who goes away meanwhile has tried all the same.
                if !is_found && self.logins.failed(from) {
                    return Err(Refused::Throttled);
                }
                let slot = Arc::clone(&self.proofs).acquire_owned();
                let Ok(Ok(slot)) = tokio::time::timeout(PROOF_WITHIN, slot).await else {
                    return Err(Refused::Busy);
                };
                let (ring, shown) = (Arc::clone(ring), shown.to_owned());
                let proof = move || {
                    // Held until the hash is computed, whether somebody still waits for it or not.
                    let _slot = slot;
                    ring.prove(&unproven, &shown)
                };
                let proven = tokio::task::spawn_blocking(proof).await.unwrap_or(Shown::Wrong);
                match (is_found, &proven) {
                    (false, Shown::Opens(..)) => self.logins.forgive(from),
                    (false, _) => return Err(Refused::Wrong),
                    (true, _) => {}
                }
                proven
            }
            found => found,
        };
        match found {
            Shown::Opens(key, is_old) => {
                key.usage.count(is_old, Utc::now().timestamp());
                let pass = Pass::of(Arc::clone(ring), ring.digest(shown), &key.caller);
                Ok(Admitted { caller: key.caller.clone(), key: Some(key), is_old, pass })
            }
            _ if ring.is_empty() => Err(Refused::NoKeys),
            _ => Err(self.failed(from)),
        }
    }

    /// Lets in who shows the admin key, or the operator's token.
    pub fn admit_admin(
        &self,
        admin: Option<&str>,
        token: Option<&str>,
        from: IpAddr,
    ) -> Result<Admitted, Refused> {
        let is = |shown: Option<&str>, secret: &Option<Digest>| match (shown, secret) {
            (Some(shown), Some(secret)) => self.secrets.pepper.digest(shown).is(secret),
            _ => false,
        };
        if is(token, &self.secrets.operator) || is(admin, &self.secrets.admin) {
            return Ok(Admitted::operator());
        }
        match (admin, &self.secrets.admin) {
            (_, None) => Err(Refused::NoAdminKey),
            (None, Some(_)) => Err(Refused::Missing),
            (Some(_), Some(_)) => Err(self.failed(from)),
        }
    }

    fn failed(&self, from: IpAddr) -> Refused {
        match self.logins.failed(from) {
            true => Refused::Throttled,
            false => Refused::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies = TrustedProxies::new(vec![address("10.0.0.1"), address("10.0.0.2")]);
        for (peer, header, caller) in [
            ("192.0.2.1", None, "192.0.2.1"),
            ("192.0.2.1", Some("198.51.100.7"), "192.0.2.1"),
            ("10.0.0.1", Some("198.51.100.7"), "198.51.100.7"),
            ("::ffff:10.0.0.1", Some("198.51.100.7"), "198.51.100.7"),
            ("10.0.0.1", Some("203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7"),
            ("10.0.0.1", Some("nonsense"), "10.0.0.1"),
            ("10.0.0.1", None, "10.0.0.1"),
        ] {
            assert_eq!(proxies.caller(address(peer), header), address(caller), "{peer} {header:?}");
        }
    }
}
