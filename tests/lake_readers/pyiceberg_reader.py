"""Reads a lake with PyIceberg and prints what it finds as one JSON object.

    pyiceberg_reader.py DATA_DIR/lake|rest|glue [TABLE COLUMN… | --events COLUMN…]

Opens the catalog as any other program would: by its SQLite file and the catalog's name, or with
`rest` and `glue` by the addresses and keys that the environment holds (AGENTFLOW_ICEBERG_REST, AGENTFLOW_S3_*;
for Glue AWS_*, which boto3 reads by itself). Prints
totals over all event tables, and for each table its rows, rows per day, position, columns with
their types, and the sum of every numeric column (decimals and integers exactly, as text). With
TABLE and COLUMN it prints the values of that column instead, one JSON value a line (of several, one array a
line); with --events one
JSON object: under `events` the given columns of every event as texts, under `dead_letters` how many
rejected records there are.
"""

import collections
import datetime
import decimal
import json
import os
import pathlib
import sys

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog

CATALOG = "agentflow"
DEAD_LETTERS = "dead_letters"
# Tables that say what became of records, and where their sources were.
BOOKS = ("ingest", "source_partitions")


def open_catalog(lake: str):
    if lake in ("rest", "glue"):
        s3 = {name: os.environ[f"AGENTFLOW_S3_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "REGION")}
        own = {"type": "glue"}
        if lake == "rest":
            uri, warehouse = os.environ["AGENTFLOW_ICEBERG_REST"], os.environ["AGENTFLOW_ICEBERG_WAREHOUSE"]
            own = {"type": "rest", "uri": uri, "warehouse": warehouse}
        return load_catalog(
            CATALOG,
            **own,
            **{
                "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
                "s3.endpoint": s3["ENDPOINT"],
                "s3.access-key-id": s3["ACCESS_KEY"],
                "s3.secret-access-key": s3["SECRET_KEY"],
                "s3.region": s3["REGION"],
            },
        )
    lake = pathlib.Path(lake).resolve()
    return load_catalog(
        CATALOG,
        type="sql",
        uri=f"sqlite:///{lake / 'catalog.sqlite'}",
        warehouse=f"file://{lake / 'warehouse'}",
    )


def all_tables(catalog):
    for namespace in catalog.list_namespaces():
        for identifier in catalog.list_tables(namespace):
            yield identifier[-1], catalog.load_table(identifier)


def days(column):
    """Rows per day in UTC. `date` arithmetic on integers: no time zone database is needed."""
    epoch = datetime.date(1970, 1, 1)
    micros = column.combine_chunks().cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    counts = collections.Counter(value // 86_400_000_000 for value in micros.to_pylist())
    return {str(epoch + datetime.timedelta(days=day)): rows for day, rows in sorted(counts.items())}


def total(column):
    """Sum of a numeric column as text, exact unless it holds doubles; None for other types."""
    if pa.types.is_decimal(column.type) or pa.types.is_integer(column.type):
        values = (value for value in column.to_pylist() if value is not None)
        with decimal.localcontext() as context:
            context.prec = 100
            return str(sum(values, start=decimal.Decimal(0)))
    if pa.types.is_floating(column.type):
        return repr(pc.sum(column).as_py())
    return None


def describe(name, table):
    rows = table.scan().to_arrow()
    times = {DEAD_LETTERS: "arrived_at", "ingest": "arrived_at", "source_partitions": "recorded_at"}
    time = times.get(name, "_event_time")
    snapshot = table.current_snapshot()
    summary = {} if snapshot is None else snapshot.summary.additional_properties
    sums = {field.name: total(rows[field.name]) for field in rows.schema}
    return rows, {
        "rows": rows.num_rows,
        "days": days(rows[time]) if rows.num_rows else {},
        "position": int(summary["agentflow.position"]) if "agentflow.position" in summary else None,
        "snapshots": len(table.metadata.snapshots),
        "data_files": len(table.inspect.files()),
        "columns": {field.name: str(field.field_type) for field in table.schema().fields},
        "sums": {column: value for column, value in sums.items() if value is not None},
    }


def events(catalog, columns):
    report = {"events": [], "dead_letters": 0}
    for name, table in all_tables(catalog):
        if name == DEAD_LETTERS:
            report["dead_letters"] += table.scan().count()
        elif name not in BOOKS:
            rows = table.scan(selected_fields=columns).to_arrow().select(list(columns))
            values = (column.to_pylist() for column in rows.columns)
            report["events"] += [[None if v is None else str(v) for v in row] for row in zip(*values)]
    json.dump(report, sys.stdout)


def main(lake, table=None, *columns):
    catalog = open_catalog(lake)
    if table == "--events":
        events(catalog, columns)
        return
    if table is not None:
        rows = dict(all_tables(catalog))[table].scan(selected_fields=columns).to_arrow()
        values = [rows[column].to_pylist() for column in columns]
        for row in values[0] if len(values) == 1 else zip(*values):
            print(json.dumps(row, default=str))
        return
    report = {"events": 0, "distinct_ids": 0, "dead_letters": 0, "tables": {}}
    ids = set()
    for name, table in all_tables(catalog):
        rows, description = describe(name, table)
        report["tables"][name] = description
        if name == DEAD_LETTERS:
            report["dead_letters"] = rows.num_rows
        elif name not in BOOKS:
            report["events"] += rows.num_rows
            ids.update(zip(rows["_tenant"].to_pylist(), rows["_event_id"].to_pylist()))
    report["distinct_ids"] = len(ids)
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
