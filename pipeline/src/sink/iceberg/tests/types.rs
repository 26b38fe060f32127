use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use contracts::model::Family;
use contracts::types::Type;

use super::support::{
    DAY, MemoryJournal, NOON, config, decimal, domain_of, family, journal_rows, rows_of, shown,
    spawn,
};

const MAX_DECIMAL: i128 = 10_i128.pow(38) - 1;

fn wide_family() -> Family {
    let nested = Type::Struct(vec![
        ("at".to_owned(), Type::Timestamp),
        ("amount".to_owned(), decimal(38, 10)),
        ("tags".to_owned(), Type::List(Box::new(Type::String))),
    ]);
    family(
        0,
        "wide",
        &[
            ("flag", Type::Bool),
            ("count", Type::Int64),
            ("ratio", Type::Float64),
            ("large", decimal(38, 0)),
            ("exact", decimal(38, 37)),
            ("small", decimal(4, 2)),
            ("at", Type::Timestamp),
            ("on", Type::Date),
            ("raw", Type::Json),
            ("parts", Type::List(Box::new(nested))),
        ],
    )
}

/// Four rows: extremes, other extremes, ordinary values, nothing but nulls.
fn wide_rows(family: &Family) -> RecordBatch {
    let times = [(1, NOON), (2, -1), (3, 0), (4, -400 * 365 * DAY)];
    let rows = journal_rows(family, &times);
    let wide = |precision, scale, values: [i128; 3]| -> ArrayRef {
        let values = Decimal128Array::from_iter(values.map(Some).into_iter().chain([None]));
        Arc::new(values.with_precision_and_scale(precision, scale).expect("a decimal type"))
    };
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "flag" => Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, None])),
            "count" => {
                Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), None]))
            }
            "ratio" => {
                Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), Some(f64::MAX), None]))
            }
            "large" => wide(38, 0, [MAX_DECIMAL, -MAX_DECIMAL, 0]),
            "exact" => wide(38, 37, [1, -MAX_DECIMAL, MAX_DECIMAL]),
            "small" => wide(4, 2, [-9_999, 9_999, 1]),
            "at" => Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-1),
                Some(NOON + 1),
                Some(0),
                None,
            ])),
            "on" => Arc::new(Date32Array::from(vec![Some(-1), Some(20_000), Some(0), None])),
            "raw" => Arc::new(StringArray::from(vec![
                Some("{\"ä\":[1]}"),
                Some(""),
                Some("\u{0}"),
                None,
            ])),
            "parts" => parts(field.data_type()),
            _ => Arc::clone(column),
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns fit")
}

/// Two parts, an empty list, one part that is null, and null.
fn parts(ty: &DataType) -> ArrayRef {
    let DataType::List(element) = ty else { panic!("a list") };
    let DataType::Struct(members) = element.data_type() else { panic!("of structs") };
    let amounts = Decimal128Array::from(vec![Some(MAX_DECIMAL), None, None])
        .with_precision_and_scale(38, 10)
        .expect("a decimal type");
    let DataType::List(tag) = members[2].data_type() else { panic!("of texts") };
    let tags = ListArray::new(
        Arc::clone(tag),
        OffsetBuffer::from_lengths([2, 0, 0]),
        Arc::new(StringArray::from(vec![Some("a"), None])),
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let values = StructArray::new(
        members.clone(),
        vec![
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-5), Some(NOON), None])),
            Arc::new(amounts),
            Arc::new(tags),
        ],
        Some(NullBuffer::from(vec![true, true, false])),
    );
    Arc::new(ListArray::new(
        Arc::clone(element),
        OffsetBuffer::from_lengths([2, 0, 1, 0]),
        Arc::new(values),
        Some(NullBuffer::from(vec![true, true, true, false])),
    ))
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain_of(vec![wide_family()]);
    let journal = Arc::new(MemoryJournal::default());
    let written = wide_rows(&domain.families[0]);
    journal.append_batch(0, written.clone());
    spawn(config(dir.path()), &journal, &domain).flush(4).expect("flushed");

    let stored = rows_of(dir.path(), "wide", "_seq");
    for name in ["flag", "count", "large", "exact", "small", "on", "raw"] {
        let column = |batch: &RecordBatch| batch.column_by_name(name).expect("a column").to_data();
        assert_eq!(column(&stored), column(&written), "{name}");
    }
    let ratios = stored.column_by_name("ratio").expect("a column");
    let ratios = ratios.as_primitive::<arrow::datatypes::Float64Type>();
    assert!(ratios.value(0).is_nan() && ratios.value(1).is_sign_negative() && ratios.is_null(3));

    // Instants keep their value and gain their zone, at the top and inside.
    let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into()));
    let instants = |batch: &RecordBatch, name: &str| {
        batch
            .column_by_name(name)
            .expect("a column")
            .as_primitive::<TimestampMicrosecondType>()
            .clone()
    };
    for (lake, journal) in [("at", "at"), ("_event_time", "_time"), ("_arrived_at", "_arrived_at")]
    {
        let (stored, written) = (instants(&stored, lake), instants(&written, journal));
        assert_eq!(stored.data_type(), &utc, "{lake}");
        assert_eq!(stored.iter().collect::<Vec<_>>(), written.iter().collect::<Vec<_>>(), "{lake}");
    }
    assert_eq!(shown(&stored, "parts"), shown(&written, "parts"));
}
