//! The newest events for many readers at once.
//!
//! Who asks for one entity among a million events has them all looked at, and ten thousand who do so at once would
//! look at all of them ten thousand times: here each stretch of the journal is looked at once for all.

use std::sync::Arc;

use duckdb::Connection;
use hashbrown::{HashMap, HashSet};
use pipeline::store::StoreError;

use super::{EventPage, EventReader, Heads, Only, SPAN, applied, between, rows};

/// About as many events are read whole by the same statements.
const TOGETHER: usize = 512;

/// The newest events that one reader wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest<'a> {
    pub(crate) only: Only<'a>,
    /// Families that have such events.
    pub(crate) families: &'a [usize],
    /// Highest position.
    pub(crate) until: i64,
    /// How many.
    pub(crate) count: usize,
}

/// What one reader gets.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its events, among those of others.
    pub(crate) page: Arc<EventPage>,
    /// Positions of its events, ascending.
    pub(crate) seqs: Vec<i64>,
    /// All of them up to here are in `page`.
    pub(crate) reached: i64,
}

/// Positions with their families.
type Picked = Vec<(i64, usize)>;

impl EventReader {
    /// The newest events of each of `wants`, in their order. Of an event that lies further back than `look_back`
    /// positions, or is no longer in the journal, nothing is said.
    pub(crate) fn newest(
        &self,
        wants: &[Newest<'_>],
        look_back: i64,
    ) -> Result<Vec<Found>, StoreError> {
        self.readers.snapshot("read the newest events", |conn| {
            let mut picked = self.pick_together(conn, wants, look_back)?;
            for (want, picked) in wants.iter().zip(&mut picked) {
                if want.only.entity.is_none() {
                    *picked = self.pick(conn, want, look_back)?;
                }
                picked.sort_unstable();
                picked.drain(..picked.len().saturating_sub(want.count));
            }
            self.read_together(conn, wants, &picked)
        })
    }

    /// Of one reader that wants any entity: a few events are soon found.
    fn pick(&self, conn: &Connection, want: &Newest<'_>, look_back: i64) -> duckdb::Result<Picked> {
        let mut picked = Picked::new();
        for (after, until) in stretches(want.until, look_back) {
            for &family in want.families {
                let table = &self.tables[family];
                let (sql, values) = table.newest(&between(after, until), &want.only, want.count);
                let heads =
                    rows::query_once(conn, &sql, duckdb::params_from_iter(values), &table.heads.1)?;
                picked.extend(super::seqs(&heads).iter().map(|seq| (*seq, family)));
            }
            if picked.len() >= want.count {
                break;
            }
        }
        Ok(picked)
    }

    /// Of all readers that want one entity each; nothing for the others.
    fn pick_together(
        &self,
        conn: &Connection,
        wants: &[Newest<'_>],
        look_back: i64,
    ) -> duckdb::Result<Vec<Picked>> {
        let mut picked = vec![Picked::new(); wants.len()];
        let mut of_entity = HashMap::<(&str, &str), Vec<usize>>::new();
        for (place, want) in wants.iter().enumerate() {
            if let Some(entity) = want.only.entity {
                of_entity.entry((want.only.tenant, entity)).or_default().push(place);
            }
        }
        let Some(newest) = of_entity.values().flatten().map(|place| wants[*place].until).max()
        else {
            return Ok(picked);
        };
        for (after, until) in stretches(newest, look_back) {
            // Who has enough is not looked for any more.
            of_entity.retain(|_, places| {
                places.retain(|place| picked[*place].len() < wants[*place].count);
                !places.is_empty()
            });
            let lacking = || of_entity.values().flatten().map(|place| &wants[*place]);
            let families: HashSet<usize> =
                lacking().flat_map(|want| want.families.iter().copied()).collect();
            let tenants: HashSet<&str> = of_entity.keys().map(|(tenant, _)| *tenant).collect();
            let entities: HashSet<&str> = of_entity.keys().map(|(_, entity)| *entity).collect();
            for family in families {
                let table = &self.tables[family];
                let sql = table.about(&between(after, until), &tenants, &entities);
                let heads = rows::query_once(conn, &sql, [], &table.heads.1)?;
                let heads = Heads::of(&heads);
                for (row, seq) in heads.seqs.iter().enumerate() {
                    let (tenant, event_type, Some(entity)) = heads.row(row) else { continue };
                    let places = of_entity.get(&(tenant, entity));
                    for place in places.into_iter().flatten() {
                        let Newest { only, families, until, .. } = &wants[*place];
                        let is_wanted = only
                            .types
                            .is_none_or(|types| types.iter().any(|wanted| wanted == event_type));
                        if is_wanted && families.contains(&family) && seq <= until {
                            picked[*place].push((*seq, family));
                        }
                    }
                }
            }
        }
        Ok(picked)
    }

    /// Whole rows of what was picked, some readers' at a time.
    fn read_together(
        &self,
        conn: &Connection,
        wants: &[Newest<'_>],
        picked: &[Picked],
    ) -> duckdb::Result<Vec<Found>> {
        let nothing = Arc::new(EventPage::default());
        let mut found = Vec::with_capacity(wants.len());
        while found.len() < wants.len() {
            let first = found.len();
            let mut all = Picked::new();
            let mut end = first;
            while end < wants.len() && (end == first || all.len() + picked[end].len() <= TOGETHER) {
                all.extend(&picked[end]);
                end += 1;
            }
            all.sort_unstable();
            all.dedup();
            let page = self.whole(conn, &all)?;
            for (want, picked) in wants[first..end].iter().zip(&picked[first..end]) {
                let seqs: Vec<i64> = picked.iter().map(|(seq, _)| *seq).collect();
                let page = match (seqs.last(), &page) {
                    (None, _) => Arc::clone(&nothing),
                    (Some(last), page) if *last <= page.reached => Arc::clone(page),
                    // Too much for one page: it gets one of its own.
                    (Some(_), _) => self.whole(conn, picked)?,
                };
                let reached = match seqs.last() {
                    Some(last) if *last > page.reached => page.reached,
                    _ => want.until,
                };
                found.push(Found { page, seqs, reached });
            }
        }
        Ok(found)
    }

    /// A page of what was picked; `reached` says up to where it was read.
    fn whole(&self, conn: &Connection, picked: &Picked) -> duckdb::Result<Arc<EventPage>> {
        let (Some((first, _)), Some((last, _))) = (picked.first(), picked.last()) else {
            return Ok(Arc::default());
        };
        let mut page = EventPage::empty(*last);
        self.read(conn, picked, &mut page)?;
        page.applied = applied(conn, first - 1, page.reached)?;
        Ok(Arc::new(page))
    }
}

/// Stretches that lie further and further back, each as its bounds: after the first, up to the second.
fn stretches(until: i64, look_back: i64) -> impl Iterator<Item = (i64, i64)> {
    let last = until.saturating_sub(look_back).max(0);
    let mut step = SPAN;
    let mut end = until;
    std::iter::from_fn(move || {
        let until = end;
        end = (until - step).max(last);
        step *= 4;
        (until > end).then_some((end, until))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_as_far_back_as_is_looked() {
        let all = |until, look_back| stretches(until, look_back).collect::<Vec<_>>();
        assert_eq!(all(0, 100), []);
        assert_eq!(all(70, 100), [(0, 70)]);
        assert_eq!(all(170, 100), [(70, 170)]);
        let far = all(10 * SPAN, 7 * SPAN);
        assert_eq!(far, [(9 * SPAN, 10 * SPAN), (5 * SPAN, 9 * SPAN), (3 * SPAN, 5 * SPAN)]);
    }
}
