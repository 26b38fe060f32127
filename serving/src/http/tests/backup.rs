//! The lease of a backup over HTTP.

use axum::http::Method;

use super::support::World;
use crate::store::backup::Backups;

#[tokio::test]
async fn a_backup_is_begun_renewed_and_ended_by_one_client_at_a_time() {
    let (world, _source) = World::with_backups(Backups::new(1 << 20));
    let begun = world.send(Method::POST, "/v1/backup", &[], "").await;
    assert_eq!(begun.status, 200, "{}", begun.text);
    let lease = begun.json();
    let names: Vec<&String> = lease.as_object().unwrap().keys().collect();
    assert_eq!(names, ["id", "generation", "log_bytes", "position", "expires_at"]);

    let (detail, hint) =
        world.send(Method::POST, "/v1/backup", &[], "").await.error(409, "conflict");
    assert!(detail.contains("another backup") && hint.contains("wait"), "{detail}; {hint}");

    let path = format!("/v1/backup/{}", lease["id"].as_str().unwrap());
    let renewed = world.send(Method::POST, &path, &[], "").await;
    assert_eq!((renewed.status.as_u16(), &renewed.json()["id"]), (200, &lease["id"]));
    assert_eq!(world.send(Method::DELETE, &path, &[], "").await.status, 204);
    world.send(Method::DELETE, &path, &[], "").await.error(404, "not_found");
    world.send(Method::POST, &path, &[], "").await.error(404, "not_found");
    world.send(Method::POST, "/v1/backup/x", &[], "").await.error(404, "not_found");
    world.send(Method::POST, "/v1/backup?to=/tmp", &[], "").await.error(422, "unknown_parameter");
    assert_eq!(world.send(Method::POST, "/v1/backup", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_lease_that_is_lost_says_why() {
    let backups = Backups::new(10);
    let (world, _source) = World::with_backups(backups.clone());
    let lease = world.send(Method::POST, "/v1/backup", &[], "").await.json();
    assert!(backups.may_checkpoint(40, 0, || None));
    let busy = world.send(Method::POST, "/v1/backup", &[], "").await;
    busy.error(503, "busy");
    assert_eq!(busy.header("retry-after"), "1");
    backups.checkpointed(0);
    let path = format!("/v1/backup/{}", lease["id"].as_str().unwrap());
    let (detail, _) = world.send(Method::POST, &path, &[], "").await.error(409, "conflict");
    assert!(detail.contains("too long"), "{detail}");
}

#[tokio::test]
async fn a_store_in_memory_has_no_files_to_copy() {
    let (world, _source) = World::empty();
    let reply = world.send(Method::POST, "/v1/backup", &[], "").await;
    assert!(reply.error(404, "not_found").0.contains("in memory"));
}
