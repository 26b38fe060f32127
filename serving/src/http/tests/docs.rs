//! The description and its page.

use std::path::Path;

use super::support::{World, check_file};

#[tokio::test]
async fn the_committed_description_is_the_one_that_is_answered() {
    let (world, _source) = World::empty();
    let reply = world.get("/openapi.json").await;
    reply.json();
    assert_eq!(reply.text, crate::http::openapi());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    check_file(&committed, &reply.text);
}

#[tokio::test]
async fn the_page_is_part_of_the_program_and_may_load_its_own_files() {
    let (world, _source) = World::empty();
    let reply = world.get("/docs").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/docs/"));
    let page = world.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("script-src 'self';"));
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.text.contains(file), "{file}");
        assert_eq!(world.get(&format!("/docs/{file}")).await.status, 200, "{file}");
    }
    let start = world.get("/docs/swagger-initializer.js").await;
    assert!(start.text.contains("/openapi.json"), "{}", start.text);
}
