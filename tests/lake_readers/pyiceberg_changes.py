"""Changes a table of a REST catalog or of Glue as somebody else would, with PyIceberg.

    pyiceberg_changes.py rest|glue TABLE drop COLUMN       drops a column
    pyiceberg_changes.py rest|glue TABLE add COLUMN        adds a column of texts
    pyiceberg_changes.py rest|glue TABLE schema ID         makes that schema the current one again
    pyiceberg_changes.py rest|glue TABLE back COUNT        sets the table back by so many snapshots
    pyiceberg_changes.py rest|glue TABLE show              changes nothing

The catalog is that of the environment, as pyiceberg_reader.py finds it. Prints one JSON object:
the schema's id, the rows and the names of columns, as they are afterwards; for each live data file its
partition spec; the table's spec and sort order.
"""

import json
import sys

import pyiceberg_reader as reader
from pyiceberg.table.update import AssertTableUUID, SetCurrentSchemaUpdate
from pyiceberg.types import StringType


def change(catalog, table, verb, argument):
    if verb == "drop":
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.delete_column(argument)
    elif verb == "add":
        with table.update_schema() as update:
            update.add_column(argument, StringType())
    elif verb == "schema":
        requirements = (AssertTableUUID(uuid=table.metadata.table_uuid),)
        catalog.commit_table(table, requirements, (SetCurrentSchemaUpdate(schema_id=int(argument)),))
    elif verb == "back":
        snapshot = table.current_snapshot()
        for _ in range(int(argument)):
            snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id)
        table.manage_snapshots().rollback_to_snapshot(snapshot.snapshot_id).commit()
    elif verb != "show":
        sys.exit(f"what is {verb}?")


def main(kind, name, verb, argument=None):
    catalog = reader.open_catalog(kind)
    table = dict(reader.all_tables(catalog))[name]
    change(catalog, table, verb, argument)
    table.refresh()
    specs = {spec.spec_id: [f"{field.name}" for field in spec.fields] for spec in table.specs().values()}
    files = [(specs[task.file.spec_id], task.file.record_count) for task in table.scan().plan_files()]
    report = {
        "schema": table.schema().schema_id,
        "columns": [field.name for field in table.schema().fields],
        "rows": table.scan().count(),
        "files": sorted(files),
        "spec": [field.name for field in table.spec().fields],
        "sort": [table.schema().find_column_name(field.source_id) for field in table.sort_order().fields],
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
