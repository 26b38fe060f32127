//! A commit applies everything or nothing, and what the writer asks is answered exactly.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use contracts::model::column;
use pipeline::outcome::{Counts, Reason};
use pipeline::source::Limits;
use pipeline::store::{
    Effects, EntityKey, EntityRows, IdHash, Journal, PartitionEffects, PartitionState,
    ServingStore, StoreError,
};

use super::fixture::{self, Batch, PARCEL, VISIT, entities, journal, key, parcels};
use crate::store::{DeadLetterFilter, Page, Readers, Store};

fn all_rows(readers: &Readers, family: usize) -> RecordBatch {
    let all = Limits { records: 1_000_000, bytes: usize::MAX };
    let batches = readers.rows(family, 0, i64::MAX, all).unwrap().batches;
    let schema = readers.domain().families[family].schema();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// Effects with nothing in them but what the caller adds.
fn nothing(domain: &contracts::model::Domain, last_seq: i64) -> Effects<'static> {
    Effects {
        journal: Vec::new(),
        last_seq,
        entities: Vec::new(),
        dead_letters: Vec::new(),
        ingest: fixture::empty(&domain.ingest.schema()),
        partitions: vec![PartitionEffects {
            state: PartitionState { id: 1, name: "p".into(), ..PartitionState::default() },
            by_reason: Vec::new(),
        }],
    }
}

#[test]
fn a_commit_shows_all_of_its_effects_and_a_restart_changes_none() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let expected = journal(&domain, PARCEL, 1..=5_000);
    for restarted in [false, true] {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        if !restarted {
            let mut batch = Batch::after(&domain, &mut writer);
            for n in [1, 999, 4_000] {
                writer.commit(&batch.next(n)).unwrap();
            }
        }
        let readers = store.readers();
        assert_eq!(all_rows(&readers, PARCEL), expected);
        assert_eq!(Journal::last_seq(&readers).unwrap(), 5_000);
        assert_eq!(writer.last_seq().unwrap(), 5_000);
        assert_eq!(readers.journal_rows().unwrap(), [0, 5_000]);
        assert_eq!(readers.entity_rows().unwrap(), [5_000]);

        let partition = writer.partition("file:test").unwrap().unwrap();
        assert_eq!(partition.next_offset, 5_003);
        assert_eq!(partition.fingerprint.as_deref(), Some("after 5000"));
        assert_eq!(partition.watermark, Some(5_000_000_000));
        let counts = Counts { received: 5_003, accepted: 5_000, rejected: 3, ..Counts::default() };
        assert_eq!(partition.counts, counts);
        assert_eq!(readers.partitions().unwrap(), [partition]);
        assert_eq!(writer.partition("file:other").unwrap(), None);

        let by_reason = readers.counts_by_reason().unwrap();
        assert_eq!(by_reason["accepted"][""], 5_000);
        assert_eq!(by_reason["rejected"]["wrong_type"], 3);

        let letters = readers.dead_letters(&DeadLetterFilter::default(), &Page::default()).unwrap();
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        assert_eq!(ids, [3, 2, 1]);
        assert_eq!(letters[0].payload, b"\xff{not json");
        assert_eq!(letters[0].event_time, Some(-1));
        assert_eq!(letters[0].event_type, None);
        assert_eq!(letters[0].contract_version, Some(1));
    }
}

#[test]
fn a_failed_commit_leaves_nothing_and_the_next_one_works() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let store = fixture::open(dir.path(), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(10)).unwrap();

    let mut wrong = Batch::after(&domain, &mut writer);
    let mut effects = wrong.next(10);
    // A key that the table does not have: noticed after journal and dead letters were written.
    effects.entities[0].replaced.push(key(4_711));
    let error = writer.commit(&effects).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt(text) if text.contains("en_parcel_v1")),
        "{error}"
    );

    assert_eq!(store.readers().journal_rows().unwrap(), [0, 10]);
    assert_eq!(store.readers().entity_rows().unwrap(), [10]);
    assert_eq!(writer.last_seq().unwrap(), 10);
    assert_eq!(writer.partition("file:test").unwrap().unwrap(), batch.partition);
    assert_eq!(store.readers().counts_by_reason().unwrap()["rejected"]["wrong_type"], 1);

    writer.commit(&batch.next(10)).unwrap();
    assert_eq!(store.readers().journal_rows().unwrap(), [0, 20]);
    let letters = store.readers().dead_letters(&DeadLetterFilter::default(), &Page::default());
    assert_eq!(letters.unwrap().iter().map(|letter| letter.id).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn there_is_one_writer() {
    let store = Store::in_memory(parcels()).unwrap();
    let _writer = store.writer().unwrap();
    assert!(store.writer().is_err());
}

#[test]
fn known_ids_are_found_in_all_families_and_no_others() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut effects = nothing(&domain, 300);
    effects.journal.push((VISIT, journal(&domain, VISIT, 1..=100)));
    effects.journal.push((PARCEL, journal(&domain, PARCEL, 101..=300)));
    writer.commit(&effects).unwrap();

    // In the fixture both halves and the body follow from the sequence number.
    let id = |seq: i64| IdHash { hi: seq, lo: -seq };
    for count in [1, 2, 64, 65, 300] {
        let asked: Vec<IdHash> = (1..=count).map(id).collect();
        let mut seen = writer.find_seen(&asked).unwrap();
        seen.sort_by_key(|seen| seen.seq);
        let found: Vec<(IdHash, i64, i64)> =
            seen.iter().map(|seen| (seen.id, seen.body, seen.seq)).collect();
        let expected: Vec<_> = (1..=count).map(|seq| (id(seq), seq, seq)).collect();
        assert_eq!(found, expected);
    }
    assert!(writer.find_seen(&[]).unwrap().is_empty());
    assert!(writer.find_seen(&[id(301)]).unwrap().is_empty());
    let half = IdHash { hi: 7, lo: 7 };
    assert!(writer.find_seen(&[half]).unwrap().is_empty());
}

#[test]
fn ids_are_scanned_from_an_event_time_on() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut effects = nothing(&domain, 5_000);
    effects.journal.push((VISIT, journal(&domain, VISIT, 1..=1_000)));
    effects.journal.push((PARCEL, journal(&domain, PARCEL, 1_001..=5_000)));
    writer.commit(&effects).unwrap();
    for (since, expected) in [(i64::MIN, 5_000), (0, 5_000), (900_000_000, 4_101), (i64::MAX, 0)] {
        let mut found = 0;
        writer.scan_ids(since, &mut |ids| found += ids.len()).unwrap();
        assert_eq!(found, expected, "since {since}");
    }
}

#[test]
fn states_come_in_the_order_asked() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let seqs: Vec<i64> = (1..=3_000).collect();
    let mut effects = nothing(&domain, 1);
    effects.entities.push(EntityRows {
        entity: 0,
        rows: entities(&domain, 0, &seqs, 1),
        replaced: Vec::new(),
        before: None,
    });
    writer.commit(&effects).unwrap();
    let mut effects = nothing(&domain, 2);
    let every_other: Vec<i64> = seqs.iter().copied().filter(|seq| seq % 2 == 0).collect();
    effects.entities.push(EntityRows {
        entity: 0,
        rows: entities(&domain, 0, &every_other, 2),
        replaced: every_other.iter().map(|seq| key(*seq)).collect(),
        before: None,
    });
    writer.commit(&effects).unwrap();

    let state = |version: u8| Some(vec![version, 0, 255]);
    for keys in [vec![5], vec![4], vec![9_999], vec![4, 9_999, 5, 4], (1..=3_000).rev().collect()] {
        let asked: Vec<EntityKey> = keys.iter().map(|seq| key(*seq)).collect();
        let expected: Vec<_> = keys
            .iter()
            .map(|seq| if *seq > 3_000 { None } else { state(if seq % 2 == 0 { 2 } else { 1 }) })
            .collect();
        assert_eq!(writer.load_states(0, &asked).unwrap(), expected);
    }
    let other_tenant = EntityKey { tenant: "other".into(), key: "K5".into() };
    assert_eq!(writer.load_states(0, &[other_tenant]).unwrap(), [None]);
    assert_eq!(writer.load_states(0, &[]).unwrap(), Vec::<Option<Vec<u8>>>::new());
    assert_eq!(store.readers().entity_rows().unwrap(), [3_000]);
}

#[test]
fn keys_with_the_same_hash_do_not_replace_each_other() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let rows = entities(&domain, 0, &[1, 2, 3], 1);
    // Pretend that key 2 has the hash of key 1.
    let hashes = vec![key(1).hash64(), key(1).hash64(), key(3).hash64()];
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(Int64Array::from(hashes));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let mut effects = nothing(&domain, 1);
    effects.entities.push(EntityRows { entity: 0, rows, replaced: Vec::new(), before: None });
    writer.commit(&effects).unwrap();

    for replaced in [vec![1], vec![1, 3]] {
        let mut effects = nothing(&domain, 2);
        effects.entities.push(EntityRows {
            entity: 0,
            rows: entities(&domain, 0, &replaced, 2),
            replaced: replaced.iter().map(|seq| key(*seq)).collect(),
            before: None,
        });
        writer.commit(&effects).unwrap();
        let keys = store.readers().with("read keys", |conn| {
            let mut statement = conn.prepare("select _key from en_parcel_v1 order by 1")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        });
        assert_eq!(keys.unwrap(), ["K1", "K2", "K3"]);
    }
    assert_eq!(writer.load_states(0, &[key(1)]).unwrap(), [Some(vec![2, 0, 255])]);
}

#[test]
fn rows_are_found_by_value_within_a_tenant() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let seqs: Vec<i64> = (1..=2_000).collect();
    let mut effects = nothing(&domain, 1);
    let rows = entities(&domain, 0, &seqs, 1);
    effects.entities.push(EntityRows { entity: 0, rows, replaced: Vec::new(), before: None });
    writer.commit(&effects).unwrap();

    let mut check = |column: &str, values: &[(&str, &str)], expected: usize| {
        let values: Vec<EntityKey> = values
            .iter()
            .map(|(tenant, key)| EntityKey { tenant: (*tenant).into(), key: (*key).into() })
            .collect();
        let found = writer.rows_where(0, column, &values).unwrap();
        let schema = domain.entities[0].schema();
        assert!(found.iter().all(|rows| rows.schema() == schema));
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), expected, "{column}");
    };
    check("sender", &[("default", "sender ä\x007")], 1);
    check("sender", &[("other", "sender ä\x007")], 0);
    check("pieces", &[("default", "7"), ("default", "8"), ("other", "9")], 2);
    let many: Vec<String> = seqs.iter().map(ToString::to_string).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|text| ("default", text.as_str())).collect();
    // Every fifth value is null in the fixture, and null equals nothing.
    check("pieces", &many, 1_600);
    assert!(writer.rows_where(0, "no_such", &[key(1)]).is_err());
}

#[test]
fn entity_rows_come_back_as_they_were() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let rows = entities(&domain, 0, &[1, 2, 3], 9);
    {
        let store = fixture::open(dir.path(), &domain);
        let mut effects = nothing(&domain, 1);
        effects.entities.push(EntityRows {
            entity: 0,
            rows: rows.clone(),
            replaced: Vec::new(),
            before: None,
        });
        store.writer().unwrap().commit(&effects).unwrap();
    }
    let store = fixture::open(dir.path(), &domain);
    let asked: Vec<EntityKey> = (1..=3)
        .map(|n| EntityKey { tenant: "default".into(), key: n.to_string().into() })
        .collect();
    let found = store.writer().unwrap().rows_where(0, "pieces", &asked).unwrap();
    let found = arrow::compute::concat_batches(&rows.schema(), &found).unwrap();
    assert_eq!(found, rows);
    assert_eq!(
        found.column_by_name(column::STATE).unwrap().as_binary::<i32>().value(0),
        [9, 0, 255]
    );
}

#[test]
fn partitions_of_one_commit_are_kept_like_those_of_many() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    // Five partitions, then three and two more of which one is new, some values unknown.
    for (round, ids) in [1..6, 2..5, 5..7].into_iter().enumerate() {
        let n = round as u64 + 1;
        let effects = |id: i64| PartitionEffects {
            state: PartitionState {
                id,
                name: format!("kafka:it's {id}/0"),
                next_offset: n * 1_000 + id as u64,
                fingerprint: (id % 2 == 0).then(|| format!("'{n}'")),
                watermark: (id % 3 == 0).then_some(-5 * id),
                updated_at: i64::MAX,
                last_arrived_at: (id % 2 == 1).then_some(id),
                last_event_at: (id % 3 == 1).then_some(i64::MIN),
                counts: Counts { received: n, accepted: n, ..Counts::default() },
            },
            by_reason: vec![("accepted", "", n), ("rejected", Reason::Late.code(), id as u64)],
        };
        let partitions: Vec<_> = ids.map(effects).collect();
        let expected: Vec<_> = partitions.iter().map(|effects| effects.state.clone()).collect();
        writer.commit(&Effects { partitions, ..nothing(&domain, n as i64) }).unwrap();
        for state in expected {
            assert_eq!(writer.partition(&state.name).unwrap(), Some(state));
        }
        assert_eq!(writer.last_seq().unwrap(), n as i64);
    }
    assert_eq!(writer.partitions().unwrap().len(), 6);
    let counts = store.readers().counts_by_reason().unwrap();
    assert_eq!(counts["accepted"][""], 5 + 3 * 2 + 2 * 3);
    assert_eq!(counts["rejected"]["late"], (1..6).sum::<u64>() + (2..5).sum::<u64>() + 5 + 6);
}

#[test]
fn counts_by_reason_add_up_over_partitions() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    for (id, name) in [(1, "a"), (2, "b"), (1, "a")] {
        let mut effects = nothing(&domain, 0);
        effects.partitions[0].state =
            PartitionState { id, name: name.into(), ..PartitionState::default() };
        effects.partitions[0].by_reason =
            vec![("rejected", Reason::Late.code(), 2), ("discarded", Reason::Late.code(), 1)];
        writer.commit(&effects).unwrap();
    }
    let counts = store.readers().counts_by_reason().unwrap();
    assert_eq!(counts["rejected"]["late"], 6);
    assert_eq!(counts["discarded"]["late"], 3);
    assert_eq!(store.readers().partitions().unwrap().len(), 2);
}

/// DuckDB 1.5 would run a plan by the statistics of an emptier table: see `close_off`.
#[test]
fn a_statement_that_was_prepared_before_sees_what_came_since() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let readers = store.readers();
    // One connection, so that each statement is prepared once.
    let far = || {
        readers.with("count", |conn| {
            conn.prepare_cached("select count(*), max(n) from outcome_counts where n > 1000")?
                .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<u64>>(1)?)))
        })
    };
    let reasons = [Reason::Late, Reason::ConflictingDuplicate, Reason::UnknownEventType];
    for (i, reason) in reasons.iter().enumerate() {
        assert_eq!(far().unwrap(), (0, None));
        let mut effects = nothing(&domain, 0);
        effects.partitions[0].by_reason =
            vec![("accepted", "", 10), ("rejected", reason.code(), 3)];
        writer.commit(&effects).unwrap();
        let counts = readers.counts_by_reason().unwrap();
        assert_eq!(counts["accepted"], BTreeMap::from([(String::new(), 10 * (i as u64 + 1))]));
        let rejected: BTreeMap<String, u64> =
            reasons[..=i].iter().map(|reason| (reason.code().to_owned(), 3)).collect();
        assert_eq!(counts["rejected"], rejected);
    }
    let mut effects = nothing(&domain, 0);
    effects.partitions[0].by_reason = vec![("accepted", "", 5_000)];
    writer.commit(&effects).unwrap();
    assert_eq!(far().unwrap(), (1, Some(5_030)));
}
