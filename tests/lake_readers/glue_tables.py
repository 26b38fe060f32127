"""Prints what Glue says of the tables of a database, as one JSON object, with AWS's own client.

    glue_tables.py DATABASE

Under each table: its columns by name (type, and the comment if there is one), its parameters, its type and the
number of its version. Where Glue is and as whom it is asked is in the environment (AWS_*).
"""

import json
import sys

import boto3

pages = boto3.client("glue").get_paginator("get_tables").paginate(DatabaseName=sys.argv[1])
tables = {}
for table in (table for page in pages for table in page["TableList"]):
    columns = table["StorageDescriptor"]["Columns"]
    tables[table["Name"]] = {
        "columns": {column["Name"]: [column["Type"], column.get("Comment")] for column in columns},
        "parameters": table["Parameters"],
        "type": table["TableType"],
        "version": int(table["VersionId"]),
    }
json.dump(tables, sys.stdout)
