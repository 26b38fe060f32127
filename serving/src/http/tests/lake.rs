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
}

impl LakeView for FakeLake {
    fn status(&self) -> LakeStatus {
        self.status.clone()
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.tables.clone()
    }

    fn place(&self) -> LakePlace {
        LakePlace::Local {
            catalog: "agentflow".to_owned(),
            catalog_file: PathBuf::from("/data/lake/catalog.sqlite"),
            warehouse: PathBuf::from("/data/lake/warehouse"),
        }
    }
}

#[tokio::test]
async fn the_tables_are_listed_with_how_to_open_them() {
    let (world, _source) = World::empty();
    let mut state = world.state.clone();
    let table = TableInfo {
        name: "order".to_owned(),
        namespace: "shop".to_owned(),
        metadata_location: "file:///data/lake/warehouse/shop/order/metadata/7.metadata.json"
            .to_owned(),
        rows: 12,
        snapshot: Some(i64::MAX),
        position: Some(40),
        location: "file:///data/lake/warehouse/shop/order".to_owned(),
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
    };
    state.lake = Some(Arc::new(FakeLake { tables: vec![table], ..FakeLake::default() }));
    let reply = world.send_to(router(state), Method::GET, "/v1/lake", &[], "").await;
    assert_eq!(reply.status, 200);
    let body = serde_json::to_string_pretty(&reply.json()).unwrap();
    check_golden("lake.json", &(body + "\n"));
}

#[tokio::test]
async fn a_server_without_a_lake_says_so() {
    let (world, _source) = World::empty();
    let reply = world.get("/v1/lake").await;
    assert_eq!(reply.json(), serde_json::json!({"catalog": null, "tables": []}));
    assert_eq!(world.get("/v1/lake?x=1").await.status, 422);
}
