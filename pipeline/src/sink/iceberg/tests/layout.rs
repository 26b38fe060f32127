//! Tables that are laid out as their contract says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use contracts::model::{Domain, Family};
use iceberg::spec::ManifestStatus;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::partition;
use super::super::{LakeConfig, Maintenance, TableInfo, maintain, tables};
use super::support::{
    DAY, MemoryJournal, NOON, block_on, config, files, int64, journal_rows, load, rows_of, shown,
    spawn,
};

/// A domain with the event `visit`, and `click` beside it; `lake` is what both say about the lake.
fn domain(lake: &str) -> Arc<Domain> {
    let event = |name: &str| {
        format!(
            "kind: event\nnames: [{name}]\nfields:\n  user_id: {{type: string, required: false}}\n  \
             page: string\n  pages: {{type: int64, required: false}}\n  bot: bool\n  born: date\n  \
             seen_at: {{type: timestamp, required: false}}\n"
        )
    };
    let text = format!("{}{lake}\n---\n{}", event("visit"), event("click"));
    let loaded = contracts::load(&[(PathBuf::from("test_domain/events.yaml"), text)]);
    Arc::new(loaded.unwrap_or_else(|found| panic!("{found:?}")))
}

fn visit(domain: &Domain) -> &Family {
    domain.families.iter().find(|family| family.name == "visit").expect("the family")
}

/// A visit; what is not said is the same in all of them.
#[derive(Clone)]
struct Visit {
    seq: i64,
    time: i64,
    tenant: &'static str,
    user: Option<&'static str>,
    pages: Option<i64>,
    bot: bool,
    born: i32,
    seen_at: Option<i64>,
}

impl Visit {
    fn new(seq: i64, tenant: &'static str, user: Option<&'static str>) -> Self {
        let (time, seen_at) = (NOON + seq, Some(NOON));
        Self { seq, time, tenant, user, pages: Some(seq), bot: false, born: 0, seen_at }
    }
}

fn batch(family: &Family, visits: &[Visit]) -> RecordBatch {
    let times: Vec<_> = visits.iter().map(|visit| (visit.seq, visit.time)).collect();
    let rows = journal_rows(family, &times);
    let columns: Vec<ArrayRef> = rows
        .schema()
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| -> ArrayRef {
            let visits = visits.iter();
            match field.name().as_str() {
                "_tenant" => {
                    Arc::new(StringArray::from_iter_values(visits.map(|visit| visit.tenant)))
                }
                "user_id" => Arc::new(StringArray::from_iter(visits.map(|visit| visit.user))),
                "pages" => Arc::new(Int64Array::from_iter(visits.map(|visit| visit.pages))),
                "bot" => Arc::new(BooleanArray::from_iter(visits.map(|visit| Some(visit.bot)))),
                "born" => Arc::new(Date32Array::from_iter_values(visits.map(|visit| visit.born))),
                "seen_at" => Arc::new(TimestampMicrosecondArray::from_iter(
                    visits.map(|visit| visit.seen_at),
                )),
                _ => Arc::clone(column),
            }
        })
        .collect();
    RecordBatch::try_new(rows.schema(), columns).expect("the same types")
}

/// A live data file of the table `visit`.
struct LiveFile {
    spec: i32,
    partition: String,
    path: PathBuf,
}

/// In order of spec and partition.
fn live(data_dir: &Path) -> Vec<LiveFile> {
    block_on(async {
        let table = load(data_dir, "visit").await;
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Vec::new() };
        let list = table.manifest_list_reader(snapshot).load().await.expect("a list");
        let mut found = Vec::new();
        for manifest in list.entries() {
            let spec = manifest.partition_spec_id;
            let known = metadata.partition_spec_by_id(spec).expect("the spec of a manifest");
            let loaded = manifest.load_manifest(table.file_io()).await.expect("a manifest");
            for entry in loaded.entries() {
                if entry.status() == ManifestStatus::Deleted {
                    continue;
                }
                let file = entry.data_file();
                let path = file.file_path().trim_start_matches("file://");
                let partition = partition::text(known, metadata.current_schema(), file.partition());
                let partition = partition.expect("the columns of the spec");
                found.push(LiveFile { spec, partition, path: PathBuf::from(path) });
            }
        }
        found.sort_by(|a, b| (a.spec, &a.partition, &a.path).cmp(&(b.spec, &b.partition, &b.path)));
        found
    })
}

/// Values of some columns of each row of a file, in its order.
fn read(file: &Path, columns: &[&str]) -> Vec<String> {
    let file = std::fs::File::open(file).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let mut rows = Vec::new();
    for batch in reader.build().expect("a reader") {
        let batch = batch.expect("rows");
        let columns: Vec<_> = columns.iter().map(|column| shown(&batch, column)).collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(" ")
        }));
    }
    rows
}

fn listed(data_dir: &Path) -> TableInfo {
    let all = tables(&config(data_dir)).expect("listed");
    all.into_iter().find(|table| table.name == "visit").expect("the table")
}

fn thorough() -> Maintenance {
    Maintenance {
        min_files: 2,
        settled_after: Duration::ZERO,
        keep_for: Duration::ZERO,
        keep_snapshots: 1,
        grace: Duration::ZERO,
        ..Maintenance::default()
    }
}

fn merge(data_dir: &Path) {
    let reports = maintain(&config(data_dir), &thorough(), None, &|| false, &mut |_| ());
    for report in reports.expect("maintained") {
        assert_eq!(report.skipped, [] as [String; 0], "{report:?}");
    }
}

/// Four visits under the partition `by`: the partitions of their files.
#[track_caller]
fn check_partitions(by: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain(&format!("lake: {{partition: [{by}]}}"));
    let visits = [
        Visit { time: -1, born: -1, ..Visit::new(1, "a", Some("ann")) },
        Visit { bot: true, seen_at: None, pages: None, ..Visit::new(2, "b", None) },
        Visit { pages: Some(-7), seen_at: Some(-1), ..Visit::new(3, "a", Some("äöü")) },
        Visit { born: 31, time: NOON + DAY, ..Visit::new(4, "a/b", Some("null")) },
    ];
    let journal = Arc::new(MemoryJournal::default());
    let index = visit(&domain).index;
    journal.append_batch(index, batch(visit(&domain), &visits));
    spawn(config(dir.path()), &journal, &domain).flush(4).expect("flushed");
    let found = live(dir.path());
    let partitions: Vec<_> = found.iter().map(|file| file.partition.as_str()).collect();
    assert_eq!(partitions, expected, "{by}");
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), [1, 2, 3, 4], "{by}");
    for file in found.iter().filter(|file| file.partition.is_ascii()) {
        let plain = file.partition.replace("a/b", "a_b");
        assert!(plain.ends_with(&folder(&file.path)), "{by}: {}", file.path.display());
    }
}

fn folder(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).expect("a folder");
    folder.to_string_lossy().into_owned()
}

#[test]
fn rows_are_in_the_partition_of_their_values() {
    check_partitions("tenant", &["_tenant=a", "_tenant=a/b", "_tenant=b"]);
    check_partitions("bot", &["bot=false", "bot=true"]);
    check_partitions("pages", &["pages=-7", "pages=1", "pages=4", "pages=null"]);
    check_partitions("born", &["born=1969-12-31", "born=1970-01-01", "born=1970-02-01"]);
    check_partitions(
        "month(timestamp)",
        &["_event_time_month=1969-12", "_event_time_month=2026-01", "_event_time_month=2026-02"],
    );
    check_partitions(
        "hour(seen_at)",
        &["_seen_at_hour=1969-12-31-23", "_seen_at_hour=2026-01-31-10", "_seen_at_hour=null"],
    );
    check_partitions(
        "month(born)",
        &["_born_month=1969-12", "_born_month=1970-01", "_born_month=1970-02"],
    );
    check_partitions(
        "day(born), bot",
        &[
            "_born_day=1969-12-31/bot=false",
            "_born_day=1970-01-01/bot=false",
            "_born_day=1970-01-01/bot=true",
            "_born_day=1970-02-01/bot=false",
        ],
    );
    // The null and the text stay apart.
    check_partitions("user_id", &["user_id=ann", "user_id=null", "user_id=null", "user_id=äöü"]);
    check_partitions(
        "'truncate(2, user_id)'",
        &[
            "_user_id_trunc_2=an",
            "_user_id_trunc_2=nu",
            "_user_id_trunc_2=null",
            "_user_id_trunc_2=äö",
        ],
    );
    check_partitions(
        "'truncate(10, pages)'",
        &["_pages_trunc_10=-10", "_pages_trunc_10=0", "_pages_trunc_10=null"],
    );
    check_partitions("'bucket(1, tenant)'", &["_tenant_bucket_1=0"]);
}

#[test]
fn days_are_the_default_and_lie_where_they_lay() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(""), Arc::new(MemoryJournal::default()));
    journal.append(visit(&domain), &[(1, NOON), (2, NOON - DAY), (3, -1)]);
    spawn(config(dir.path()), &journal, &domain).flush(3).expect("flushed");
    let days = ["1969-12-31", "2026-01-30", "2026-01-31"];
    for (file, day) in live(dir.path()).iter().zip(days) {
        assert_eq!(file.partition, format!("_event_time_day={day}"));
        assert_eq!(folder(&file.path), file.partition);
        let name = file.path.file_name().expect("a name").to_string_lossy();
        let number = days.iter().position(|known| *known == day).expect("a day");
        assert!(name.ends_with(&format!("-{number:05}.parquet")), "{name}: in order of their days");
    }
    let table = listed(dir.path());
    assert_eq!(table.partition, ["_event_time_day=day(_event_time)"]);
    assert_eq!(table.sort, [] as [String; 0]);
}

/// Visits of two tenants, out of order in every way, `commits` times.
fn fill(data_dir: &Path, domain: &Arc<Domain>, journal: &Arc<MemoryJournal>, commits: i64) {
    let lake = spawn(config(data_dir), journal, domain);
    for _ in 0..commits {
        let end = crate::store::Journal::last_seq(journal.as_ref()).expect("a journal in memory");
        let users = [Some("zoe"), None, Some("ann"), Some("bob"), Some("ann")];
        let visits: Vec<Visit> = (0..20usize)
            .map(|n| Visit {
                time: NOON + (7 * n as i64 % 5) * 1_000_000,
                ..Visit::new(
                    end + 1 + n as i64,
                    ["../../up", "b c"][n % 2],
                    users[n * 3 % users.len()],
                )
            })
            .collect();
        let family = visit(domain);
        journal.append_batch(family.index, batch(family, &visits));
        lake.flush(end + 20).expect("flushed");
    }
    lake.stop();
}

#[track_caller]
fn assert_sorted(file: &Path) {
    // Null users come first: they are shown as `null`, so they are looked at apart.
    let rows = read(file, &["user_id", "_event_time", "_seq"]);
    let key = |row: &String| {
        let mut words = row.split(' ');
        let user = words.next().filter(|user| *user != "null").map(str::to_owned);
        let time = words.next().map(str::to_owned);
        (user, time, words.next().and_then(|seq| seq.parse::<i64>().ok()))
    };
    assert!(rows.is_sorted_by_key(key), "{rows:#?}");
    assert!(rows.len() > 1);
}

#[test]
fn rows_are_sorted_within_a_partition_and_stay_so_when_files_are_merged() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain("lake: {partition: [tenant, day(timestamp)], sort: [user_id, timestamp]}");
    let journal = Arc::new(MemoryJournal::default());
    fill(dir.path(), &domain, &journal, 4);
    let table = listed(dir.path());
    assert_eq!(table.partition, ["_tenant=identity(_tenant)", "_event_time_day=day(_event_time)"]);
    assert_eq!(table.sort, ["user_id", "_event_time"]);

    let check = |expected: usize| {
        let found = live(dir.path());
        assert_eq!(found.len(), expected);
        for file in found {
            assert_sorted(&file.path);
            let tenants = read(&file.path, &["_tenant"]);
            let partition = format!("_tenant={}/_event_time_day=2026-01-31", tenants[0]);
            assert_eq!(file.partition, partition);
            assert!(tenants.iter().all(|tenant| *tenant == tenants[0]), "{tenants:?}");
            // A value makes no path of its own.
            let data = dir.path().join("lake/warehouse/test_domain/visit/data");
            assert!(file.path.starts_with(&data), "{}", file.path.display());
            assert_eq!(file.path.components().count(), data.components().count() + 3);
        }
        let seqs = int64(&rows_of(dir.path(), "visit", "_seq"), "_seq");
        assert_eq!(seqs, (1..=80).collect::<Vec<_>>());
    };
    check(8);
    merge(dir.path());
    check(2);
}

#[test]
fn a_null_and_its_text_are_not_merged() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain("lake: {partition: user_id}");
    let journal = Arc::new(MemoryJournal::default());
    let family = visit(&domain);
    let lake = spawn(config(dir.path()), &journal, &domain);
    for seq in [1, 3, 5] {
        let visits = [Visit::new(seq, "a", None), Visit::new(seq + 1, "a", Some("null"))];
        journal.append_batch(family.index, batch(family, &visits));
        lake.flush(seq + 1).expect("flushed");
    }
    lake.stop();
    merge(dir.path());
    let mut seqs: Vec<_> =
        live(dir.path()).iter().map(|file| read(&file.path, &["_seq"])).collect();
    seqs.sort();
    assert_eq!(seqs, [["1", "3", "5"], ["2", "4", "6"]]);
}

#[test]
fn a_table_changes_its_layout_and_keeps_its_rows_and_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let (days, tenants) = (
        domain(""),
        domain("lake: {partition: [tenant, day(timestamp), month(seen_at)], sort: user_id}"),
    );
    let journal = Arc::new(MemoryJournal::default());
    let specs = |dir: &Path| live(dir).iter().map(|file| file.spec).collect::<Vec<_>>();
    fill(dir.path(), &days, &journal, 2);
    fill(dir.path(), &tenants, &journal, 2);
    // A start without a change changes nothing.
    let location = listed(dir.path()).metadata_location;
    fill(dir.path(), &tenants, &journal, 0);
    assert_eq!(listed(dir.path()).metadata_location, location);
    assert_eq!(specs(dir.path()), [0, 0, 1, 1, 1, 1]);
    let partition = "_tenant=b c/_event_time_day=2026-01-31/_seen_at_month=2026-01";
    assert_eq!(live(dir.path()).last().expect("a file").partition, partition);
    assert_eq!(listed(dir.path()).sort, ["user_id"]);

    // Files of each spec are merged among themselves.
    merge(dir.path());
    assert_eq!(specs(dir.path()), [0, 1, 1]);
    let seqs = int64(&rows_of(dir.path(), "visit", "_seq"), "_seq");
    assert_eq!(seqs, (1..=80).collect::<Vec<_>>());

    // And back: the first spec is taken up again.
    fill(dir.path(), &days, &journal, 1);
    assert_eq!(specs(dir.path()), [0, 0, 1, 1]);
    assert_eq!(listed(dir.path()).partition, ["_event_time_day=day(_event_time)"]);
    assert_eq!(listed(dir.path()).sort, [] as [String; 0]);
    merge(dir.path());
    assert_eq!(specs(dir.path()), [0, 1, 1]);
    let seqs = int64(&rows_of(dir.path(), "visit", "_seq"), "_seq");
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());

    // A part keeps its id over all specs, and no two share one.
    let mut ids: Vec<(i32, String)> = block_on(load(dir.path(), "visit"))
        .metadata()
        .partition_specs_iter()
        .flat_map(|spec| {
            spec.fields().iter().map(|f| (f.field_id, f.name.clone())).collect::<Vec<_>>()
        })
        .collect();
    ids.sort();
    ids.dedup();
    let expected = ["_event_time_day", "_tenant", "_seen_at_month"];
    assert_eq!(ids, (1_000..).zip(expected.map(str::to_owned)).collect::<Vec<_>>());
}

#[test]
fn a_layout_can_be_taken_back_and_taken_up_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Arc::new(MemoryJournal::default());
    let sixteen = domain("lake: {partition: 'bucket(16, user_id)', sort: [page, user_id]}");
    let eight = domain("lake: {partition: 'bucket(8, user_id)', sort: page}");
    let check = |domain: &Arc<Domain>, partition: &str, sort: &[&str]| {
        fill(dir.path(), domain, &journal, 1);
        let table = listed(dir.path());
        assert_eq!(table.partition, [partition]);
        assert_eq!(table.sort, sort);
    };
    let by_sixteen = "_user_id_bucket_16=bucket[16](user_id)";
    check(&sixteen, by_sixteen, &["page", "user_id"]);
    check(&domain(""), "_event_time_day=day(_event_time)", &[]);
    check(&sixteen, by_sixteen, &["page", "user_id"]);
    check(&eight, "_user_id_bucket_8=bucket[8](user_id)", &["page"]);
    check(&domain(""), "_event_time_day=day(_event_time)", &[]);
    merge(dir.path());
    let seqs = int64(&rows_of(dir.path(), "visit", "_seq"), "_seq");
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
    let table = block_on(load(dir.path(), "visit"));
    assert_eq!(table.metadata().partition_specs_iter().len(), 3);
}

#[test]
fn each_table_commits_at_its_own_pace_and_a_flush_commits_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain("lake: {commit: {every: 1s}}");
    let journal = Arc::new(MemoryJournal::default());
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(0).expect("the tables are open");
    for family in &domain.families {
        journal.append(family, &[(1 + family.index as i64, NOON)]);
    }
    let rows = |name: &str| {
        let status = lake.status();
        status.tables.iter().find(|table| table.name == name).map_or(0, |table| table.rows)
    };
    let started = Instant::now();
    while rows("visit") == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no commit: {:?}", lake.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rows("click"), 0, "its time has not come");
    assert!(lake.status().lag_events > 0);
    lake.flush(2).expect("flushed");
    assert_eq!((rows("visit"), rows("click")), (1, 1));
    assert_eq!(lake.status().lag_events, 0);
}

#[test]
fn dead_letters_go_along_when_enough_events_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(""), Arc::new(MemoryJournal::default()));
    let lake = spawn(LakeConfig { commit_rows: 100, ..config(dir.path()) }, &journal, &domain);
    lake.flush(0).expect("the tables are open");
    journal.append_dead_letters(1..4);
    let rows: Vec<_> = (1..=100).map(|seq| (seq, NOON)).collect();
    journal.append(visit(&domain), &rows);
    let started = Instant::now();
    while lake.status().commits < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "no commit: {:?}", lake.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    lake.stop();
    assert_eq!(rows_of(dir.path(), "dead_letters", "id").num_rows(), 3);
}

#[test]
fn a_commit_ends_at_the_size_that_the_contract_says() {
    #[track_caller]
    fn check(lake: &str, commits: std::ops::RangeInclusive<u64>) {
        let dir = tempfile::tempdir().expect("a directory");
        let domain = domain(lake);
        let journal = Arc::new(MemoryJournal::default());
        let family = visit(&domain);
        let rows: Vec<_> = (1..=20_000).map(|seq| (seq, NOON)).collect();
        let rows = journal_rows(family, &rows);
        // Text that does not become smaller.
        let index = rows.schema().index_of("page").expect("the column");
        let mut columns = rows.columns().to_vec();
        columns[index] = Arc::new(StringArray::from_iter_values((0..20_000).map(|_| {
            (0..8).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect::<String>()
        })));
        let rows = RecordBatch::try_new(rows.schema(), columns).expect("the same types");
        journal.append_batch(family.index, rows);
        let config = LakeConfig { chunk_rows: 2_000, ..config(dir.path()) };
        let lake = spawn(config, &journal, &domain);
        lake.flush(20_000).expect("flushed");
        let done = lake.status().commits;
        assert!(commits.contains(&done), "{done} commits");
        lake.stop();
        assert_eq!(rows_of(dir.path(), "visit", "_seq").num_rows(), 20_000);
    }
    check("", 1..=1);
    check("lake: {commit: {size: 1MiB}}", 2..=8);
}

#[test]
fn files_of_a_sorted_table_need_no_more_than_its_folders() {
    // Twelve partitions, more than files may be open at a time.
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain("lake: {partition: pages, sort: [user_id, timestamp]}");
    let journal = Arc::new(MemoryJournal::default());
    let family = visit(&domain);
    for start in (1..6_000).step_by(500) {
        let visits: Vec<_> = (start..start + 500)
            .map(|seq| Visit { pages: Some(seq % 12), ..Visit::new(seq, "a", Some("ann")) })
            .collect();
        journal.append_batch(family.index, batch(family, &visits));
    }
    spawn(config(dir.path()), &journal, &domain).flush(6_000).expect("flushed");
    assert_eq!(live(dir.path()).len(), 12);
    assert_eq!(files(&dir.path().join("lake/warehouse"), "parquet").len(), 12);
    live(dir.path()).iter().for_each(|file| assert_sorted(&file.path));
    assert_eq!(rows_of(dir.path(), "visit", "_seq").num_rows(), 6_000);
}
