//! Changes of the keys in the file: made, given a new secret, taken away.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{KeyRing, PEPPER_CHECK, Refusal};
use crate::access::digest;
use crate::access::file::KeyFileError;
use crate::access::record::{KeyFileContents, KeyRecord, is_name};

impl KeyRing {
    /// Makes a key of the entry, which has none yet, and gives its secret: the only time that it is
    /// shown.
    pub fn create(&self, mut record: KeyRecord) -> Result<(KeyRecord, String), KeyFileError> {
        for (field, value) in [("name", &record.name), ("tenant", &record.tenant)] {
            if !is_name(value) {
                return Err(Refusal::Name { field, value: value.clone() }.into());
            }
        }
        if record.rate_limit_rpm == Some(0) {
            return Err(Refusal::NoRequests.into());
        }
        if !is_name(&record.id()) {
            return Err(
                Refusal::Name { field: "tenant and name together", value: record.id() }.into()
            );
        }
        let secret = format!("af-{}-{}-{}", record.tenant, record.name, digest::new_secret());
        self.put_secret(&mut record, &secret)?;
        record.created_at = Some(Utc::now());
        record.key_id = Some(record.id());
        let id = record.id();
        let new = record.clone();
        self.change(move |contents| {
            let taken = contents.keys.iter().chain(&self.given).any(|key| key.id() == id);
            if taken {
                return Err(Refusal::Exists(id));
            }
            let tenant = &new.tenant;
            let max = contents.tenant(tenant).and_then(|tenant| tenant.max_api_keys);
            let count = contents.keys.iter().filter(|key| key.tenant == *tenant).count();
            if let Some(max) = max.filter(|max| count >= *max) {
                return Err(Refusal::TooMany { tenant: tenant.clone(), max });
            }
            contents.keys.push(new);
            Ok(())
        })?;
        Ok((record, secret))
    }

    /// Gives a key a new secret; the old one is good for `grace` more.
    pub fn rotate(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(String, DateTime<Utc>), KeyFileError> {
        let now = Utc::now();
        let until = now + TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
        self.edit(id, |ring, key| {
            if key.previous_key_active_until.is_some_and(|until| until > now) {
                return Err(Refusal::Rotating(id.to_owned()));
            }
            // One that was written in plain text is kept as all others are.
            if let Some(secret) = key.key.take() {
                ring.put_secret(key, &secret)?;
            }
            let secret = format!("af-{}-{}-{}", key.tenant, key.name, digest::new_secret());
            key.previous_key_hash = key.key_hash.take();
            key.previous_key_lookup = key.key_lookup.take();
            key.previous_key_active_until = Some(until);
            ring.put_secret(key, &secret)?;
            Ok((secret, until))
        })
    }

    /// Ends the time of the key before the last rotation.
    pub fn revoke_old(&self, id: &str) -> Result<(), KeyFileError> {
        let now = Utc::now();
        self.edit(id, |_, key| {
            let is_good = key.previous_key_active_until.is_some_and(|until| until > now);
            key.previous_key_hash = None;
            key.previous_key_lookup = None;
            key.previous_key_active_until = None;
            if is_good { Ok(()) } else { Err(Refusal::NotRotating(id.to_owned())) }
        })
    }

    /// Removes a key.
    pub fn revoke(&self, id: &str) -> Result<(), KeyFileError> {
        self.known(id)?;
        self.change(|contents| {
            let before = contents.keys.len();
            contents.keys.retain(|key| key.id() != id);
            match contents.keys.len() < before {
                true => Ok(()),
                false => Err(Refusal::Unknown(id.to_owned())),
            }
        })
    }

    fn edit<T>(
        &self,
        id: &str,
        edit: impl FnOnce(&Self, &mut KeyRecord) -> Result<T, Refusal>,
    ) -> Result<T, KeyFileError> {
        self.known(id)?;
        self.change(|contents| {
            let key = contents.keys.iter_mut().find(|key| key.id() == id);
            edit(self, key.ok_or_else(|| Refusal::Unknown(id.to_owned()))?)
        })
    }

    /// Refuses keys that stand in no file.
    fn known(&self, id: &str) -> Result<(), Refusal> {
        match self.given.iter().any(|key| key.id() == id) {
            true => Err(Refusal::NoFile),
            false => Ok(()),
        }
    }

    /// Changes the file, and takes up what it holds then.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut KeyFileContents) -> Result<T, Refusal>,
    ) -> Result<T, KeyFileError> {
        let check = self.pepper.digest(PEPPER_CHECK).to_hex();
        let value = self.file.as_ref().ok_or(Refusal::NoFile)?.change(|contents| {
            match &contents.lookup_check {
                Some(known) if *known != check => return Err(Refusal::OtherPepper),
                _ => contents.lookup_check = Some(check),
            }
            change(contents)
        })?;
        self.load()?;
        Ok(value)
    }

    fn put_secret(&self, record: &mut KeyRecord, secret: &str) -> Result<(), Refusal> {
        record.key_hash = Some(digest::hash(secret).map_err(Refusal::Hash)?);
        record.key_lookup = Some(self.pepper.digest(secret).to_hex());
        Ok(())
    }
}
