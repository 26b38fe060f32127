//! Who wants which events.
//!
//! Connections that want the same are one group, which gets each chunk once. Groups that want one entity
//! are found by it, so an event costs no more when ten thousand connections wait for others.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;

use super::filter::EventFilter;
use super::outbox::{Chunk, End, Outbox};

/// Number of a group; never used again.
pub(crate) type GroupId = u64;

/// All connections that get events as they come.
#[derive(Debug)]
pub(crate) struct Index {
    next: GroupId,
    groups: HashMap<GroupId, Group>,
    tenants: HashMap<Arc<str>, Tenant>,
    /// How many groups want events of a family.
    interest: Vec<usize>,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Groups that want any entity.
    any: Vec<GroupId>,
    of_entity: HashMap<Arc<str>, Vec<GroupId>>,
}

#[derive(Debug)]
struct Group {
    tenant: Arc<str>,
    filter: EventFilter,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    connection: u64,
    /// It has got everything up to here by itself.
    start: i64,
    outbox: Arc<Outbox>,
}

/// What came of frames for a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Members that have them to send.
    pub(crate) given: usize,
    /// Members that were too slow.
    pub(crate) slow: usize,
}

/// The frames of a page, each with its position, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    /// Position of each frame, and where it ends.
    pub(crate) ends: Vec<(i64, usize)>,
}

impl Index {
    /// Nobody, over so many families.
    pub(crate) fn new(families: usize) -> Self {
        Self {
            next: 0,
            groups: HashMap::new(),
            tenants: HashMap::new(),
            interest: vec![0; families],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Does anybody want events of this family?
    pub(crate) fn wants(&self, family: usize) -> bool {
        self.interest[family] > 0
    }

    pub(crate) fn join(
        &mut self,
        tenant: &Arc<str>,
        filter: &EventFilter,
        (connection, start): (u64, i64),
        outbox: Arc<Outbox>,
    ) -> GroupId {
        let of_tenant = self.tenants.entry(Arc::clone(tenant)).or_default();
        let peers = match filter.entity() {
            None => &mut of_tenant.any,
            Some(entity) => of_tenant.of_entity.entry(Arc::clone(entity)).or_default(),
        };
        let member = Member { connection, start, outbox };
        for id in &*peers {
            if let Some(group) = self.groups.get_mut(id).filter(|group| group.filter == *filter) {
                group.members.push(member);
                return *id;
            }
        }
        let id = self.next;
        self.next += 1;
        peers.push(id);
        filter.families().iter().for_each(|family| self.interest[*family] += 1);
        let (tenant, filter) = (Arc::clone(tenant), filter.clone());
        self.groups.insert(id, Group { tenant, filter, members: vec![member] });
        id
    }

    pub(crate) fn leave(&mut self, id: GroupId, connection: u64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.members.retain(|member| member.connection != connection);
        if group.members.is_empty() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        group.filter.families().iter().for_each(|family| self.interest[*family] -= 1);
        let Some(tenant) = self.tenants.get_mut(&group.tenant) else { return };
        match group.filter.entity() {
            None => tenant.any.retain(|other| *other != id),
            Some(entity) => {
                if let Some(peers) = tenant.of_entity.get_mut(entity) {
                    peers.retain(|other| *other != id);
                    if peers.is_empty() {
                        tenant.of_entity.remove(entity);
                    }
                }
            }
        }
        if tenant.any.is_empty() && tenant.of_entity.is_empty() {
            self.tenants.remove(&group.tenant);
        }
    }

    /// Adds the groups that want an event to `found`.
    pub(crate) fn find(
        &self,
        (tenant, event_type, entity): (&str, &str, Option<&str>),
        found: &mut Vec<GroupId>,
    ) {
        let Some(tenant) = self.tenants.get(tenant) else { return };
        let of_entity = entity.and_then(|entity| tenant.of_entity.get(entity));
        let peers = tenant.any.iter().chain(of_entity.into_iter().flatten());
        found.extend(peers.filter(|id| {
            self.groups.get(id).is_some_and(|group| group.filter.has_type(event_type))
        }));
    }

    /// Gives the frames number `picked` to a group. Those of its members that are too slow for them are
    /// members no more.
    pub(crate) fn push(&mut self, id: GroupId, picked: &[usize], written: &Written) -> Pushed {
        let Some(group) = self.groups.get_mut(&id) else { return Pushed::default() };
        let whole = written.chunk(picked);
        let before = group.members.len();
        group.members.retain(|member| {
            let first = picked.partition_point(|at| written.ends[*at].0 <= member.start);
            match first {
                0 => member.outbox.push(whole.clone()),
                first if first == picked.len() => true,
                first => member.outbox.push(written.chunk(&picked[first..])),
            }
        });
        let pushed = Pushed { given: group.members.len(), slow: before - group.members.len() };
        if group.members.is_empty() {
            self.remove(id);
        }
        pushed
    }

    /// Ends everybody. Returns how many they were.
    pub(crate) fn end_all(&mut self, end: End) -> usize {
        let members = self.groups.values().flat_map(|group| &group.members);
        let count = members.inspect(|member| member.outbox.end(end)).count();
        *self = Self { next: self.next, ..Self::new(self.interest.len()) };
        count
    }
}

impl Written {
    /// The frames number `picked`, in order. A small part of the buffer is copied out of it, so that a
    /// slow reader of few events does not keep the rest alive.
    fn chunk(&self, picked: &[usize]) -> Chunk {
        let range = |at: usize| {
            let start = if at == 0 { 0 } else { self.ends[at - 1].1 };
            start..self.ends[at].1
        };
        let frames = u32::try_from(picked.len()).unwrap_or(u32::MAX);
        let (Some(&first), Some(&last)) = (picked.first(), picked.last()) else {
            return Chunk::default();
        };
        let span = range(first).start..range(last).end;
        let bytes = if last - first + 1 == picked.len() && span.len() * 2 > self.bytes.len() {
            self.bytes.slice(span)
        } else {
            let parts: Vec<&[u8]> = picked.iter().map(|at| &self.bytes[range(*at)]).collect();
            Bytes::from(parts.concat())
        };
        Chunk { bytes, frames }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::stream::outbox::Item;
    use crate::stream::stats::Account;

    const CONTRACTS: &str = "
kind: event
name: sale
names: [sale.made, sale.undone]
key: a
fields:
  a: string
";

    fn filter(types: &[&str], entity: Option<&str>) -> EventFilter {
        let file = ("d/c.yaml".into(), CONTRACTS.to_owned());
        let domain = contracts::load(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let types: Vec<String> = types.iter().map(|&text| text.to_owned()).collect();
        EventFilter::new(&domain, &types, entity).unwrap()
    }

    fn written(frames: &[(i64, &str)]) -> Written {
        let mut written = Written::default();
        let mut bytes = String::new();
        for (seq, text) in frames {
            bytes.push_str(text);
            written.ends.push((*seq, bytes.len()));
        }
        written.bytes = Bytes::from(bytes);
        written
    }

    fn got(outbox: &Outbox) -> String {
        let mut text = String::new();
        while let Poll::Ready(Item::Chunk(chunk)) =
            outbox.poll(&Context::from_waker(Waker::noop()), true)
        {
            text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
        }
        text
    }

    #[test]
    fn each_gets_what_it_wants_from_where_it_started() {
        let mut index = Index::new(1);
        let tenants: [Arc<str>; 2] = ["t".into(), "u".into()];
        let mut join = |connection, tenant: usize, start, filter: &EventFilter| {
            let outbox = Arc::new(Outbox::new(Arc::default(), Account::default()));
            let id = index.join(&tenants[tenant], filter, (connection, start), Arc::clone(&outbox));
            (id, outbox)
        };
        let all = filter(&[], None);
        let (first, a) = join(1, 0, 0, &all);
        let (same, b) = join(2, 0, 11, &all);
        let (late, c) = join(3, 0, 12, &all);
        assert_eq!((first, first), (same, late));
        let (of_other, d) = join(4, 1, 0, &all);
        let (of_type, e) = join(5, 0, 0, &filter(&["sale.undone"], None));
        let (of_entity, f) = join(6, 0, 0, &filter(&["sale"], Some("x")));

        let find = |index: &Index, event: (&str, &str, Option<&str>)| {
            let mut found = Vec::new();
            index.find(event, &mut found);
            found.sort_unstable();
            found
        };
        assert_eq!(find(&index, ("t", "sale.made", Some("x"))), [first, of_entity]);
        assert_eq!(find(&index, ("t", "sale.undone", None)), [first, of_type]);
        assert_eq!(find(&index, ("u", "sale.made", Some("x"))), [of_other]);
        assert_eq!(find(&index, ("v", "sale.made", None)), [0; 0]);

        let page = written(&[(10, "one "), (11, "two "), (12, "three ")]);
        assert_eq!(index.push(first, &[0, 1, 2], &page), Pushed { given: 3, slow: 0 });
        assert_eq!(index.push(of_entity, &[0, 2], &page), Pushed { given: 1, slow: 0 });
        let texts = [a, b, c, d, e, f].map(|outbox| got(&outbox));
        assert_eq!(texts, ["one two three ", "three ", "", "", "", "one three "]);

        assert!(index.wants(0));
        for (id, connection) in
            [(first, 1), (first, 2), (first, 3), (of_other, 4), (of_type, 5), (of_entity, 6)]
        {
            index.leave(id, connection);
        }
        assert!(index.is_empty() && index.tenants.is_empty() && !index.wants(0));
    }

    #[test]
    fn who_is_too_slow_is_a_member_no_more() {
        let mut index = Index::new(1);
        let outbox = Arc::new(Outbox::new(Arc::default(), Account::default()));
        let id = index.join(&"t".into(), &filter(&[], None), (1, 0), Arc::clone(&outbox));
        let long = "x".repeat(3 << 20);
        assert_eq!(index.push(id, &[0], &written(&[(1, &long)])), Pushed { given: 1, slow: 0 });
        assert_eq!(index.push(id, &[0], &written(&[(2, &long)])), Pushed { given: 0, slow: 1 });
        assert!(index.is_empty());
    }
}
