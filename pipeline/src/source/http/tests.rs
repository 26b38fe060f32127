//! Requests in, batches out, outcomes back.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::store::PartitionState;

const LONG: Duration = Duration::from_secs(10);

fn submit(ingress: &Ingress, tenant: &str, payloads: &[&str]) -> Result<Outcomes, SubmitError> {
    let payloads = payloads.iter().map(|payload| payload.as_bytes().to_vec()).collect();
    ingress.submit(Arc::from(tenant), payloads, 42)
}

fn next(source: &mut HttpSource, limits: Limits) -> Delivery {
    match source.next(limits, LONG) {
        Ok(Next::Batch(delivery)) => delivery,
        other => panic!("a batch, not {other:?}"),
    }
}

fn accepted(seqs: impl IntoIterator<Item = i64>) -> Vec<Outcome> {
    seqs.into_iter().map(|seq| Outcome::Accepted { seq }).collect()
}

#[test]
fn waiting_requests_become_one_batch_and_each_gets_its_outcomes() {
    let (ingress, mut source) = queue(QueueLimits::default());
    let mut first = submit(&ingress, "a", &["1", "22"]).expect("room");
    let mut second = submit(&ingress, "b", &["333"]).expect("room");
    let delivery = next(&mut source, Limits::default());
    let batch = &delivery.batch;
    let payloads: Vec<&[u8]> = (0..3).map(|ordinal| batch.payload(ordinal)).collect();
    assert_eq!(payloads, [b"1".as_slice(), b"22", b"333"]);
    let tenants: Vec<&str> = batch.records.iter().map(|record| &*record.tenant).collect();
    assert_eq!(tenants, ["a", "a", "b"]);
    assert!(batch.records.iter().all(|record| record.tenant_fixed && record.arrived_at == 42));
    assert_eq!((batch.records[2].offset, batch.next_offset), (2, 3));

    assert!(first.try_recv().is_err(), "nothing is said before the commit");
    delivery.reply.expect("somebody waits").complete(accepted([7, 8, 9]));
    assert_eq!(first.try_recv().expect("committed"), accepted([7, 8]));
    assert_eq!(second.try_recv().expect("committed"), accepted([9]));
}

#[test]
fn a_request_is_never_split() {
    let (ingress, mut source) = queue(QueueLimits::default());
    let _waiting: Vec<_> = [&["1", "2", "3"][..], &["4"], &["5", "6"]]
        .iter()
        .map(|payloads| submit(&ingress, "a", payloads).expect("room"))
        .collect();
    let limits = Limits { records: 2, bytes: 1 << 20 };
    let sizes: Vec<usize> = (0..3).map(|_| next(&mut source, limits).batch.records.len()).collect();
    assert_eq!(sizes, [3, 1, 2]);
}

#[test]
fn numbers_go_on_behind_what_is_committed() {
    let (ingress, mut source) = queue(QueueLimits::default());
    let state = PartitionState { name: PARTITION.into(), next_offset: 100, ..Default::default() };
    source.resume(&Positions::new([state])).expect("any number will do");
    let _waiting = submit(&ingress, "a", &["1"]).expect("room");
    let batch = next(&mut source, Limits::default()).batch;
    assert_eq!((batch.records[0].offset, batch.next_offset), (100, 101));
}

#[test]
fn a_full_queue_refuses_at_once() {
    let (ingress, mut source) = queue(QueueLimits { requests: 2, bytes: 10 });
    // Larger than the whole limit, but alone.
    let _large = submit(&ingress, "a", &["0123456789ab"]).expect("room");
    assert_eq!(submit(&ingress, "a", &["x"]).expect_err("bytes"), SubmitError::Full);
    next(&mut source, Limits::default());
    let _one = submit(&ingress, "a", &["x"]).expect("room");
    let _two = submit(&ingress, "a", &["x"]).expect("room");
    assert_eq!(submit(&ingress, "a", &["x"]).expect_err("requests"), SubmitError::Full);
    next(&mut source, Limits::default());
    submit(&ingress, "a", &["0123456789"]).expect("what was refused does not count");
}

#[test]
fn an_empty_request_needs_no_commit() {
    let (ingress, _source) = queue(QueueLimits::default());
    assert_eq!(submit(&ingress, "a", &[]).expect("room").try_recv().expect("at once"), []);
}

#[test]
fn the_end_is_seen_on_both_sides() {
    let (ingress, mut source) = queue(QueueLimits::default());
    assert!(matches!(source.next(Limits::default(), Duration::ZERO), Ok(Next::Idle)));
    let mut waiting = submit(&ingress, "a", &["1"]).expect("room");
    drop(next(&mut source, Limits::default()));
    waiting.try_recv().expect_err("nothing was committed, so nothing is said");
    let other = ingress.clone();
    drop(ingress);
    assert!(matches!(source.next(Limits::default(), Duration::ZERO), Ok(Next::Idle)));
    drop(other);
    assert!(matches!(source.next(Limits::default(), LONG), Ok(Next::End)));

    let (ingress, source) = queue(QueueLimits::default());
    drop(source);
    assert_eq!(submit(&ingress, "a", &["1"]).expect_err("stopped"), SubmitError::Stopped);
}
