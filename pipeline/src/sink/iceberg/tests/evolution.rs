use std::sync::Arc;

use arrow::array::{Array, AsArray};
use contracts::model::Domain;
use contracts::types::Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::schema::{DEAD_LETTERS, sanitise, tables};
use super::super::table::TableFollower;
use super::support::{
    MemoryJournal, NOON, block_on, config, decimal, domain_of, family, files, follower, int64,
    list_of, load, namespace, open_catalog, purchase_fields, rows_of, spawn,
};
use crate::store::Journal;

fn with_fields(fields: &[(&str, Type)]) -> Arc<Domain> {
    domain_of(vec![
        family(0, "purchase.made", fields),
        family(1, "visit", &[("page", Type::String)]),
    ])
}

#[test]
fn a_new_version_adds_columns_and_members() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = with_fields(&purchase_fields());
    let journal = Arc::new(MemoryJournal::default());
    journal.append(&first.families[0], &[(1, NOON), (2, NOON)]);
    spawn(config(dir.path()), &journal, &first).flush(2).expect("flushed");
    let ids = |dir| {
        block_on(async {
            let table = load(dir, "purchase_made").await;
            let schema = table.metadata().current_schema().clone();
            let names = ["_seq", "total", "items", "items.element.price"];
            names.map(|name| schema.field_id_by_name(name))
        })
    };
    let before = ids(dir.path());

    // `customer` is gone, `coupon` is new, and so is a member of the items.
    let second = with_fields(&[
        ("total", decimal(38, 2)),
        (
            "items",
            list_of(&[("name", Type::String), ("price", decimal(12, 2)), ("gift", Type::Bool)]),
        ),
        ("coupon", Type::String),
    ]);
    let journal = Arc::new(MemoryJournal::default());
    journal.append(&second.families[0], &[(3, NOON), (4, NOON)]);
    spawn(config(dir.path()), &journal, &second).flush(4).expect("flushed");
    assert_eq!(ids(dir.path()), before, "field ids never change");
    assert!(before.iter().all(Option::is_some));

    let rows = rows_of(dir.path(), "purchase_made", "_seq");
    assert_eq!(int64(&rows, "_seq"), [1, 2, 3, 4]);
    let nulls = |name| {
        let column = rows.column_by_name(name).expect("the column");
        (0..4).map(|row| column.is_null(row)).collect::<Vec<_>>()
    };
    assert_eq!(nulls("customer"), [false, false, true, true]);
    assert_eq!(nulls("coupon"), [true, true, false, false]);
    let gifts: Vec<_> =
        files(dir.path(), "parquet").iter().flat_map(|file| gifts_in(file)).collect();
    assert_eq!(gifts, [false], "one file has the new member, and a value in it");

    // The older program's tables still fit: it writes nulls into what it does not know.
    let journal = Arc::new(MemoryJournal::default());
    journal.append(&first.families[0], &[(5, NOON)]);
    spawn(config(dir.path()), &journal, &first).flush(5).expect("flushed");
    assert_eq!(rows_of(dir.path(), "purchase_made", "_seq").num_rows(), 5);
}

#[test]
fn dead_letters_from_before_keys_and_headers_stay_readable() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = with_fields(&purchase_fields());
    let journal = Arc::new(MemoryJournal::default());
    journal.append_dead_letters(1..4);
    // As a release that knew neither made the table.
    let mut before = tables(&domain).into_iter().find(|table| table.name == DEAD_LETTERS);
    let columns = &mut before.as_mut().expect("the table").columns;
    columns.retain(|column| !["key", "headers"].contains(&column.name.as_str()));
    assert_eq!(columns.len(), 16);
    block_on(async {
        let catalog = open_catalog(dir.path()).await;
        let (shared, _) = follower(config(dir.path()), &journal, &domain, DEAD_LETTERS);
        let mut table = TableFollower::new(&namespace(), before.expect("the table"));
        table
            .advance(&shared, &catalog, &journal.ledger(None).expect("read"))
            .await
            .expect("followed");
    });
    assert!(rows_of(dir.path(), DEAD_LETTERS, "id").column_by_name("key").is_none());

    journal.append_dead_letters(4..6);
    spawn(config(dir.path()), &journal, &domain).flush(0).expect("flushed");
    let rows = rows_of(dir.path(), DEAD_LETTERS, "id");
    assert_eq!(int64(&rows, "id"), [1, 2, 3, 4, 5]);
    assert!(rows.column_by_name("headers").expect("the new column").is_null(0));
    // Every reader of Iceberg takes a column that a file lacks as null.
    let mut keys: Vec<_> = files(dir.path(), "parquet").iter().map(|file| keys_in(file)).collect();
    keys.sort();
    assert_eq!(keys, [None, Some(2)], "one file is from before");
}

/// How many rows of the file have a key; nothing for a file without that column.
fn keys_in(file: &std::path::Path) -> Option<usize> {
    let file = std::fs::File::open(file).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let rows = reader.build().expect("a reader").next()?.expect("rows");
    let keys = rows.column_by_name("key")?;
    Some(keys.len() - keys.null_count())
}

/// Is the member `gift` of the first item of the last row null? Nothing for a file without it.
fn gifts_in(file: &std::path::Path) -> Option<bool> {
    let file = std::fs::File::open(file).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let rows = reader.build().expect("a reader").next()?.expect("rows");
    let items = rows.column_by_name("items")?.as_list::<i32>().clone();
    let last =
        (0..items.len()).rev().find(|row| items.is_valid(*row) && items.value_length(*row) > 0)?;
    Some(items.value(last).as_struct().column_by_name("gift")?.is_null(0))
}

#[test]
fn a_changed_type_is_refused_and_the_other_tables_go_on() {
    #[track_caller]
    fn check(field: &str, ty: Type, message: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Arc::new(MemoryJournal::default());
        let first = with_fields(&purchase_fields());
        spawn(config(dir.path()), &journal, &first).flush(0).expect("the tables are made");
        let mut fields = purchase_fields();
        for entry in &mut fields {
            if entry.0 == field {
                entry.1 = ty.clone();
            }
        }
        let second = with_fields(&fields);
        journal.append(&second.families[0], &[(1, NOON)]);
        journal.append(&second.families[1], &[(2, NOON)]);
        let lake = spawn(config(dir.path()), &journal, &second);
        let error = lake.flush(2).expect_err("refused").to_string();
        assert!(error.contains(message), "{error}");
        drop(lake);
        assert_eq!(rows_of(dir.path(), "visit", "_seq").num_rows(), 1);
        assert_eq!(rows_of(dir.path(), "purchase_made", "_seq").num_rows(), 0);
    }
    check(
        "customer",
        Type::Int64,
        "column `customer` of lake table `purchase_made` holds string, the contracts say long: \
         give the field a new name, or move the lake folder away to start a new lake",
    );
    check("total", decimal(38, 3), "holds decimal(38, 2), the contracts say decimal(38, 3)");
    check(
        "items",
        list_of(&[("name", Type::String), ("price", Type::Float64)]),
        "column `items.element.price` of lake table",
    );
    check("items", Type::String, "column `items` of lake table");
}

#[test]
fn names_are_clean_and_do_not_meet() {
    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(sanitise(name), expected);
    }
    check("order.created", "order_created");
    check("Flüge-2026", "fl_ge_2026");
    check("3d", "_3d");
    check("", "_");

    let domain = domain_of(vec![family(0, "dead.letters", &[])]);
    let names: Vec<_> = tables(&domain).into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["dead_letters_events", "dead_letters", "ingest", "source_partitions"]);
}

#[test]
fn hashes_and_helper_columns_stay_in_the_journal() {
    let domain = with_fields(&[("amount", decimal(12, 2))]);
    let names: Vec<_> = tables(&domain)[0].columns.iter().map(|c| c.name.clone()).collect();
    assert_eq!(
        names,
        [
            "_event_time",
            "_event_type",
            "_event_id",
            "_tenant",
            "_contract_version",
            "_arrived_at",
            "_late",
            "_warnings",
            "_extra",
            "_nulls",
            "_seq",
            "_source_partition",
            "_source_offset",
            "amount",
            "size",
        ]
    );
}
