//! How many events a tenant may post in a day (UTC).
//!
//! Counted in memory; the first post of a day after a start is told how many the store has of that day. Events
//! that come by other ways are not counted: there is nobody to refuse.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seconds in a day.
const DAY: i64 = 86_400;

/// What tenants have posted.
#[derive(Debug, Clone, Default)]
pub struct DailyEvents(Arc<Mutex<HashMap<Arc<str>, Used>>>);

#[derive(Debug)]
struct Used {
    /// Days since 1970.
    day: i64,
    events: u64,
}

/// Events of a tenant that are on their way. Dropped, they count: nobody knows what became of them.
#[derive(Debug)]
pub struct Posting {
    of: DailyEvents,
    tenant: Arc<str>,
    day: i64,
    events: u64,
}

/// There is no room for so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Events of today, those under way among them.
    pub used: u64,
    /// Seconds until the next day.
    pub retry_after: u64,
}

/// When the day of a time began; both in seconds since 1970.
pub fn day_begins(now: i64) -> i64 {
    now.div_euclid(DAY) * DAY
}

impl DailyEvents {
    /// Is it known what a tenant has posted today?
    pub fn knows(&self, tenant: &str, now: i64) -> bool {
        self.lock().get(tenant).is_some_and(|used| used.day == now.div_euclid(DAY))
    }

    /// Says how many it has posted today, unless that is known.
    pub fn begin(&self, tenant: &Arc<str>, now: i64, events: u64) {
        let day = now.div_euclid(DAY);
        let mut all = self.lock();
        let used = all.entry(Arc::clone(tenant)).or_insert(Used { day, events });
        if used.day != day {
            *used = Used { day, events };
        }
    }

    /// Takes room for events, of `most` a day.
    pub fn take(
        &self,
        tenant: &Arc<str>,
        most: u64,
        events: u64,
        now: i64,
    ) -> Result<Posting, Exceeded> {
        let day = now.div_euclid(DAY);
        let mut all = self.lock();
        let used = all.entry(Arc::clone(tenant)).or_insert(Used { day, events: 0 });
        if used.day != day {
            *used = Used { day, events: 0 };
        }
        if used.events.saturating_add(events) > most {
            let retry_after = (day_begins(now) + DAY - now).unsigned_abs();
            return Err(Exceeded { used: used.events, retry_after });
        }
        used.events += events;
        Ok(Posting { of: self.clone(), tenant: Arc::clone(tenant), day, events })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Used>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Posting {
    /// So many of them are new; the others do not count.
    pub fn accepted(self, events: u64) {
        if let Some(used) = self.of.lock().get_mut(&self.tenant)
            && used.day == self.day
        {
            used.events -= self.events.saturating_sub(events).min(used.events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_so_many_and_the_next_one_again() {
        let daily = DailyEvents::default();
        let tenant: Arc<str> = "acme".into();
        let noon = 20_000 * DAY + DAY / 2;
        assert!(!daily.knows(&tenant, noon));
        daily.begin(&tenant, noon, 3);
        daily.begin(&tenant, noon, 9);
        assert!(daily.knows(&tenant, noon) && !daily.knows("other", noon));
        let posting = daily.take(&tenant, 10, 6, noon).unwrap();
        let exceeded = Exceeded { used: 9, retry_after: DAY as u64 / 2 };
        assert_eq!(daily.take(&tenant, 10, 2, noon).unwrap_err(), exceeded);
        // Two of them were new, so six of ten are left but one.
        posting.accepted(2);
        drop(daily.take(&tenant, 10, 5, noon).unwrap());
        assert_eq!(daily.take(&tenant, 10, 1, noon).unwrap_err().used, 10);
        daily.take(&"other".into(), 10, 10, noon).unwrap();
        let late = daily.take(&tenant, 11, 1, noon).unwrap();
        let next = noon + DAY / 2;
        assert!(!daily.knows(&tenant, next));
        daily.take(&tenant, 10, 10, next).unwrap();
        // What was begun yesterday gives nothing back today.
        late.accepted(0);
        assert_eq!(daily.take(&tenant, 10, 1, next).unwrap_err().used, 10);
    }
}
