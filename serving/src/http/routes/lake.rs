//! `GET /v1/lake`: the tables of the lake, and how other engines open them.

use axum::Json;
use axum::extract::State;
use pipeline::sink::iceberg::TableInfo;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorBody};
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller, LakePlace};

/// The lake.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct LakeBody {
    /// Where the catalog is; null when the server has no lake.
    catalog: Option<CatalogBody>,
    /// The tables, in order of name.
    tables: Vec<TableBody>,
}

/// The catalog.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogBody {
    /// Kind: `sql`, an SQLite file; `rest`, a REST catalog; `glue`, AWS Glue.
    kind: &'static str,
    /// Name that readers have to give.
    name: String,
    /// Connection string, or URL; for Glue `glue:` with the account, if it is not that of the credentials.
    uri: String,
    /// Folder below which all tables lie, or what a REST catalog is asked for; for Glue, where new
    /// tables go.
    warehouse: String,
}

/// A table.
#[derive(Debug, Serialize, ToSchema)]
struct TableBody {
    /// Name.
    name: String,
    /// Namespace: the domain.
    namespace: String,
    /// Folder of its files.
    location: String,
    /// Newest metadata file.
    metadata_location: String,
    /// Current snapshot; null while the table is empty.
    #[schema(value_type = Option<String>)]
    snapshot: Option<String>,
    /// The table holds all its events up to this journal position (dead letters: up to this id).
    position: Option<i64>,
    /// Rows in the current snapshot. Null for keys of a tenant, as `files` and `bytes`: a table holds all
    /// tenants.
    rows: Option<u64>,
    /// Live data files.
    files: Option<u64>,
    /// Bytes in them.
    bytes: Option<u64>,
    /// Snapshots that readers can go back to.
    snapshots: u64,
    /// How rows are spread over files.
    partition: Vec<String>,
    /// What orders the rows of a file; empty for the order of the journal.
    sort: Vec<String>,
    /// Columns, in order.
    columns: Vec<ColumnBody>,
    /// How to open it.
    open_with: OpenWith,
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
struct ColumnBody {
    /// Name.
    name: String,
    /// Type, as Iceberg writes it.
    #[serde(rename = "type")]
    ty: String,
    /// Never null?
    required: bool,
    /// What it is.
    description: Option<String>,
}

/// Text to paste into other engines.
#[derive(Debug, Serialize, ToSchema)]
struct OpenWith {
    /// Python, always at the newest snapshot.
    pyiceberg: String,
    /// DuckDB, at the snapshot of this answer.
    duckdb: String,
    /// Spark: `spark-sql` options and statement, always at the newest snapshot.
    spark: String,
    /// Trino: registers the table at the snapshot of this answer in a catalog that allows it.
    trino: String,
}

/// The tables of the lake.
#[utoipa::path(
    get,
    path = "/v1/lake",
    tag = "lake",
    responses(
        (status = 200, description = "The tables, and how to open them.", body = LakeBody),
        (status = 403, description = "The key is limited to entities or metrics.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<LakeBody>, ApiError> {
    parameters.only(&[])?;
    caller.events("the lake")?;
    let Some(lake) = &state.lake else {
        return Ok(Json(LakeBody { catalog: None, tables: Vec::new() }));
    };
    let place = lake.place();
    let tables = lake.tables().into_iter().map(|table| body(table, &place, &caller)).collect();
    Ok(Json(LakeBody { catalog: Some(catalog(&place)), tables }))
}

fn catalog(place: &LakePlace) -> CatalogBody {
    match place {
        LakePlace::Local { catalog, catalog_file, warehouse } => CatalogBody {
            kind: "sql",
            name: catalog.clone(),
            uri: format!("sqlite:///{}", catalog_file.display()),
            warehouse: format!("file://{}", warehouse.display()),
        },
        LakePlace::Glue { catalog, account, warehouse } => CatalogBody {
            kind: "glue",
            name: catalog.clone(),
            uri: format!("glue:{}", account.as_deref().unwrap_or_default()),
            warehouse: warehouse.clone(),
        },
        LakePlace::Rest { catalog, uri, warehouse } => CatalogBody {
            kind: "rest",
            name: catalog.clone(),
            uri: uri.clone(),
            warehouse: warehouse.clone().unwrap_or_default(),
        },
    }
}

fn body(table: TableInfo, place: &LakePlace, caller: &Caller) -> TableBody {
    TableBody {
        open_with: open_with(&table, place),
        name: table.name,
        namespace: table.namespace,
        location: table.location,
        metadata_location: table.metadata_location,
        // 64 bits are more than a number in JSON is sure to keep.
        snapshot: table.snapshot.map(|id| id.to_string()),
        position: table.position,
        rows: caller.is_operator.then_some(table.rows),
        files: caller.is_operator.then_some(table.files),
        bytes: caller.is_operator.then_some(table.bytes),
        snapshots: table.snapshots,
        partition: table.partition,
        sort: table.sort,
        columns: table
            .columns
            .into_iter()
            .map(|column| ColumnBody {
                name: column.name,
                ty: column.ty,
                required: column.required,
                description: column.doc,
            })
            .collect(),
    }
}

fn open_with(table: &TableInfo, place: &LakePlace) -> OpenWith {
    let CatalogBody { kind, name, uri, warehouse } = catalog(place);
    let full = format!("{}.{}", table.namespace, table.name);
    let metadata = &table.metadata_location;
    let file = metadata.rsplit('/').next().unwrap_or_default();
    let pyiceberg = format!(
        "from pyiceberg.catalog import load_catalog\n\
         catalog = load_catalog({name:?}, type={kind:?}, uri={uri:?}, warehouse={warehouse:?})\n\
         catalog.load_table({full:?}).scan().to_arrow()"
    );
    let spark = |settings: &str| {
        format!(
            "spark-sql --conf spark.sql.catalog.{name}=org.apache.iceberg.spark.SparkCatalog \
             {settings} --conf spark.sql.catalog.{name}.warehouse={warehouse}\n\
             select * from {name}.`{}`.`{}`;",
            table.namespace, table.name
        )
    };
    match place {
        LakePlace::Local { catalog_file, .. } => OpenWith {
            pyiceberg,
            duckdb: format!(
                "install iceberg; load iceberg;\nselect * from iceberg_scan('{}');",
                metadata.trim_start_matches("file://").replace('\'', "''")
            ),
            spark: spark(&format!(
                "--conf spark.sql.catalog.{name}.type=jdbc \
                 --conf spark.sql.catalog.{name}.uri=jdbc:sqlite:{}",
                catalog_file.display()
            )),
            trino: format!(
                "call iceberg.system.register_table(schema_name => '{}', table_name => '{}', \
                 table_location => '{}', metadata_file_name => '{file}');",
                table.namespace, table.name, table.location
            ),
        },
        // Region and credentials are those of each engine's environment.
        LakePlace::Glue { account, .. } => {
            let id = account.as_deref();
            OpenWith {
                pyiceberg: format!(
                    "from pyiceberg.catalog import load_catalog\n\
                     catalog = load_catalog({name:?}, **{{\"type\": \"glue\"{}}})\n\
                     catalog.load_table({full:?}).scan().to_arrow()",
                    id.map(|id| format!(", \"glue.id\": {id:?}")).unwrap_or_default()
                ),
                duckdb: format!(
                    "install iceberg; load iceberg; install aws; load aws;\n\
                     create secret (type s3, provider credential_chain);\n\
                     select * from iceberg_scan('{}');",
                    metadata.replace('\'', "''")
                ),
                spark: spark(&format!(
                    "--conf spark.sql.catalog.{name}.type=glue \
                     --conf spark.sql.catalog.{name}.io-impl=org.apache.iceberg.aws.s3.S3FileIO{}",
                    id.map(|id| format!(" --conf spark.sql.catalog.{name}.glue.id={id}"))
                        .unwrap_or_default()
                )),
                trino: format!(
                    "-- in the catalog's properties: connector.name=iceberg, iceberg.catalog.type=glue{}\n\
                     select * from {name}.\"{}\".\"{}\";",
                    id.map(|id| format!(", hive.metastore.glue.catalogid={id}"))
                        .unwrap_or_default(),
                    table.namespace,
                    table.name
                ),
            }
        }
        // With the properties of the object store that each engine takes.
        LakePlace::Rest { .. } => OpenWith {
            pyiceberg,
            duckdb: format!(
                "install iceberg; load iceberg;\n\
                 attach '{}' as {name} (type iceberg, endpoint '{}');\n\
                 select * from {name}.\"{}\".\"{}\";",
                warehouse.replace('\'', "''"),
                uri.replace('\'', "''"),
                table.namespace,
                table.name
            ),
            spark: spark(&format!(
                "--conf spark.sql.catalog.{name}.type=rest \
                 --conf spark.sql.catalog.{name}.uri={uri} \
                 --conf spark.sql.catalog.{name}.io-impl=org.apache.iceberg.aws.s3.S3FileIO"
            )),
            trino: format!(
                "-- in the catalog's properties: connector.name=iceberg, iceberg.catalog.type=rest, \
                 iceberg.rest-catalog.uri={uri}, iceberg.rest-catalog.warehouse={warehouse}\n\
                 select * from {name}.\"{}\".\"{}\";",
                table.namespace, table.name
            ),
        },
    }
}
