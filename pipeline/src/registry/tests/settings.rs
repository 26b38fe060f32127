//! Addresses, credentials and settings; and that none of them shows a secret.

use crate::registry::{BaseUrl, Credentials, RegistryConfig, RegistryError};

#[track_caller]
fn check_url(text: &str, want: Result<&str, &str>) {
    let is = text.parse::<BaseUrl>().map(|url| url.to_string()).map_err(|error| error.to_string());
    match (is, want) {
        (Ok(is), Ok(want)) => assert_eq!(is, want),
        (Err(is), Err(want)) => assert!(is.contains(want) && !is.contains("secret"), "{is}"),
        (is, want) => panic!("{text}: {is:?}, not {want:?}"),
    }
}

#[test]
fn addresses() {
    check_url("http://localhost:8081", Ok("http://localhost:8081"));
    check_url("http://localhost:8081/", Ok("http://localhost:8081"));
    check_url("https://r.example/apis/ccompat/v7", Ok("https://r.example/apis/ccompat/v7"));
    check_url("localhost:8081", Err("neither http:// nor https://"));
    check_url("r.example", Err("relative URL without a base"));
    check_url("", Err("relative URL without a base"));
    check_url("http://user:secret@r.example", Err("would be seen by everybody"));
    check_url("user:secret@r.example", Err("no address"));
    check_url("http://r.example?x=1", Err("has a `?` or `#`"));
}

#[test]
fn paths_go_behind_the_base() {
    let joined = |base: &str| {
        let url = base.parse::<BaseUrl>().expect("an address");
        url.join(&["subjects", "a/b c", "versions", "1"]).to_string()
    };
    assert_eq!(joined("http://r:1"), "http://r:1/subjects/a%2Fb%20c/versions/1");
    assert_eq!(joined("http://r:1/v7/"), "http://r:1/v7/subjects/a%2Fb%20c/versions/1");
}

#[test]
fn credentials_are_a_pair_or_a_token_and_are_not_shown() {
    let parse = |text| Credentials::parse("here", text);
    let (user, password) = ("key".to_owned(), "sec:ret".to_owned());
    assert_eq!(parse(" key:sec:ret\n"), Ok(Credentials::Basic { user, password }));
    assert_eq!(parse("eyJh.x-_y"), Ok(Credentials::Bearer("eyJh.x-_y".to_owned())));
    for text in ["", "  ", "two words", "a\u{7}:b"] {
        let error = parse(text).expect_err(text).to_string();
        assert_eq!(
            error,
            "the schema registry setting `here`: it is neither user:password nor a token"
        );
    }
    let shown = format!("{:?}", parse("key:secret"));
    assert!(!shown.contains("key") && !shown.contains("secret"), "{shown}");
}

#[test]
fn settings_are_those_of_confluents_clients() {
    let url = "http://r.example".parse().expect("an address");
    let mut config = RegistryConfig::new(vec![url]);
    config.set("schema.registry.basic.auth.user.info", "k:s").expect("known");
    assert!(matches!(config.credentials, Some(Credentials::Basic { .. })));
    config.set("basic.auth.credentials.source", "USER_INFO").expect("known");
    config.set("bearer.auth.token", "t").expect("known");
    assert_eq!(config.credentials, Some(Credentials::Bearer("t".to_owned())));
    let fail = |key: &str, value: &str| {
        let mut config = config.clone();
        config.set(key, value).expect_err(key).to_string()
    };
    assert!(fail("basic.auth.user.info", "secret").ends_with("it is not user:password"));
    assert!(fail("ssl.ca.location", "/no/such").contains("cannot read `/no/such`"));
    let unknown = fail("basic.auth.user", "secret");
    assert!(unknown.contains("`basic.auth.user`") && !unknown.contains("secret"), "{unknown}");
    let hint = RegistryError::Setting { key: String::new(), reason: String::new() }.hint();
    assert!(hint.contains("basic.auth.user.info"));
}
