//! How many streams are open, or reads wait, at once: by tenant, and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts open streams, or whatever else there may be only so many of. Clones share the count.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    per_tenant: usize,
    in_all: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    tenants: HashMap<Arc<str>, usize>,
    in_all: usize,
}

/// A place that is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    tenant: Arc<str>,
}

/// All places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of this tenant.
    #[error("{0} streams of this tenant are open, which is the most there may be")]
    OfTenant(usize),
    /// Of all tenants.
    #[error("{0} streams are open, which is the most there may be")]
    InAll(usize),
}

impl Slots {
    pub(crate) fn new(per_tenant: usize, in_all: usize) -> Self {
        Self(Arc::new(Inner { per_tenant, in_all, open: Mutex::default() }))
    }

    pub(crate) fn take(&self, tenant: &Arc<str>) -> Result<Slot, TooMany> {
        let Inner { per_tenant, in_all, .. } = *self.0;
        let mut open = self.lock();
        if open.tenants.get(tenant).is_some_and(|count| *count >= per_tenant) || per_tenant == 0 {
            return Err(TooMany::OfTenant(per_tenant));
        }
        if open.in_all >= in_all {
            return Err(TooMany::InAll(in_all));
        }
        open.in_all += 1;
        *open.tenants.entry(Arc::clone(tenant)).or_insert(0) += 1;
        Ok(Slot { slots: self.clone(), tenant: Arc::clone(tenant) })
    }

    /// How many places are taken.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.lock().in_all
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.lock();
        open.in_all -= 1;
        if let Some(count) = open.tenants.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_places_and_gets_them_back() {
        let slots = Slots::new(2, 3);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = slots.take(&a).unwrap();
        let _second = slots.take(&a).unwrap();
        assert_eq!(slots.take(&a).unwrap_err(), TooMany::OfTenant(2));
        let _third = slots.take(&b).unwrap();
        assert_eq!(slots.take(&b).unwrap_err(), TooMany::InAll(3));
        drop(first);
        let _again = slots.take(&a).unwrap();
        assert_eq!(Slots::new(0, 3).take(&a).unwrap_err(), TooMany::OfTenant(0));
    }
}
