"""Reads the events of a local lake with ClickHouse, a reader that shares no code with the others.

    clickhouse_reader.py DATA_DIR/lake COLUMN…

Prints one JSON object: under `events` the given columns of every row of every event table as a list,
under `dead_letters` how many rejected records there are. ClickHouse is given nothing but the folder of
a table: it finds the newest metadata, manifests and data files by itself.
"""

import json
import os
import pathlib
import sys

import chdb

DEAD_LETTERS = "dead_letters"
# Tables that say what became of records, and where their sources were.
BOOKS = ("ingest", "source_partitions")


def main(lake, *columns):
    warehouse = pathlib.Path(lake).resolve() / "warehouse"
    # ClickHouse reads files below its own folder only.
    os.chdir(warehouse)
    connection = chdb.connect(":memory:")
    report = {"events": [], "dead_letters": 0}
    for metadata in sorted(warehouse.glob("*/*/metadata")):
        table = metadata.parent.relative_to(warehouse)
        source = f"icebergLocal('{table}')"
        if table.name == DEAD_LETTERS:
            counted = connection.query(f"select count() as rows from {source}", "JSONCompactEachRow")
            report["dead_letters"] += int(json.loads(str(counted))[0])
            continue
        if table.name in BOOKS:
            continue
        wanted = ", ".join(f"toString({column})" for column in columns)
        rows = str(connection.query(f"select {wanted} from {source}", "JSONCompactEachRow"))
        report["events"] += [json.loads(line) for line in rows.splitlines()]
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
