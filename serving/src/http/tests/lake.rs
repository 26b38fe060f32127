//! `GET /v1/lake`: what it says of the tables, and how to open them.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::Method;
use pipeline::sink::iceberg::{ColumnInfo, LakeStatus, TableInfo};

use super::support::{World, check_golden};
use crate::http::{LakePlace, LakeView, router};

/// A lake that says what a test wants.
#[derive(Debug, Default)]
pub(super) struct FakeLake {
    pub(super) status: LakeStatus,
    pub(super) tables: Vec<TableInfo>,
    /// Where it is, if not in a data directory.
    pub(super) place: Option<LakePlace>,
}

impl LakeView for FakeLake {
    fn status(&self) -> LakeStatus {
        self.status.clone()
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.tables.clone()
    }

    fn place(&self) -> LakePlace {
        self.place.clone().unwrap_or_else(|| LakePlace::Local {
            catalog: "agentflow".to_owned(),
            catalog_file: PathBuf::from("/data/lake/catalog.sqlite"),
            warehouse: PathBuf::from("/data/lake/warehouse"),
        })
    }
}

/// A table below that folder.
fn table(warehouse: &str) -> TableInfo {
    TableInfo {
        name: "order".to_owned(),
        namespace: "shop".to_owned(),
        metadata_location: format!("{warehouse}/shop/order/metadata/7.metadata.json"),
        rows: 12,
        snapshot: Some(i64::MAX),
        position: Some(40),
        location: format!("{warehouse}/shop/order"),
        files: 3,
        bytes: 4_000,
        snapshots: 2,
        partition: vec!["_event_time_day=day(_event_time)".to_owned()],
        sort: vec!["_event_id".to_owned()],
        columns: vec![ColumnInfo {
            name: "_event_time".to_owned(),
            ty: "timestamptz".to_owned(),
            required: true,
            doc: Some("When the event happened, in UTC".to_owned()),
        }],
    }
}

async fn listed(lake: FakeLake) -> serde_json::Value {
    let (world, _source) = World::empty();
    let mut state = world.state.clone();
    state.lake = Some(Arc::new(lake));
    let reply = world.send_to(router(state), Method::GET, "/v1/lake", &[], "").await;
    assert_eq!(reply.status, 200);
    reply.json()
}

#[tokio::test]
async fn the_tables_are_listed_with_how_to_open_them() {
    let tables = vec![table("file:///data/lake/warehouse")];
    let body = listed(FakeLake { tables, ..FakeLake::default() }).await;
    check_golden("lake.json", &(serde_json::to_string_pretty(&body).unwrap() + "\n"));
}

#[tokio::test]
async fn tables_in_glue_are_opened_by_their_catalog() {
    let place = |account: Option<&str>| LakePlace::Glue {
        catalog: "agentflow".to_owned(),
        account: account.map(str::to_owned),
        warehouse: "s3://lake/warehouse".to_owned(),
    };
    let lake = |place| FakeLake {
        tables: vec![table("s3://lake/warehouse")],
        place: Some(place),
        ..FakeLake::default()
    };
    let body = listed(lake(place(Some("123456789012")))).await;
    check_golden("lake_glue.json", &(serde_json::to_string_pretty(&body).unwrap() + "\n"));
    let body = listed(lake(place(None))).await;
    assert_eq!(body["catalog"]["uri"], "glue:");
    let open_with = body["tables"][0]["open_with"].to_string();
    assert!(!open_with.contains("glue.id") && !open_with.contains("catalogid"), "{open_with}");
}

#[tokio::test]
async fn a_server_without_a_lake_says_so() {
    let (world, _source) = World::empty();
    let reply = world.get("/v1/lake").await;
    assert_eq!(reply.json(), serde_json::json!({"catalog": null, "tables": []}));
    assert_eq!(world.get("/v1/lake?x=1").await.status, 422);
}
