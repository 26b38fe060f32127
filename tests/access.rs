//! Keys through the real binary: made on the command line, taken up by a running server, shown over HTTP
//! and HTTPS, and counted in Redis by two servers.

mod support;

use std::process::Command;

use reqwest::Method;
use support::server::Server;
use support::{Place, wait_for};

/// A server that wants keys.
fn start(place: &Place, more: &[&str], environment: &[(&str, &str)]) -> Server {
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    if !more.contains(&"--listen") {
        arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    }
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let mut command = place.command(&arguments);
    command.env_remove("AGENTFLOW_AUTH_DISABLED");
    for (name, value) in environment {
        command.env(name, value);
    }
    Server::spawn_command(command, &arguments)
}

fn keys(place: &Place, arguments: &[&str]) -> support::Finished {
    let data = place.data().display().to_string();
    let all = ["keys"].into_iter().chain(arguments.iter().copied()).chain(["--data", &data]);
    place.agentflow(all)
}

fn status(server: &Server, key: &str) -> u16 {
    let request = server.request(Method::GET, "/v1/metrics").header("x-api-key", key);
    request.send().expect("an answer").status().as_u16()
}

/// 429 is told to who has tried too often, and waiting for a key to open is trying.
#[track_caller]
fn is_refused(server: &Server, key: &str) {
    let status = status(server, key);
    assert!(matches!(status, 401 | 429), "{status}");
}

#[test]
fn keys_are_made_while_the_server_runs() {
    let place = Place::of("shop");
    let server = start(&place, &[], &[]);
    assert!(server.stderr().contains("agentflow keys create"), "{}", server.stderr());
    let (code, body) = server.get("/v1/metrics");
    assert_eq!((code, body["hint"].as_str().is_some()), (503, true), "{body}");

    let key = keys(&place, &["create", "--name", "board"]).succeeded().stdout.trim().to_owned();
    wait_for("the key to open", || (status(&server, &key) == 200).then_some(()));
    is_refused(&server, "af-default-board-wrong");
    keys(&place, &["create", "--name", "board"]).failed(1, &["default-board", "hint: "]);
    keys(&place, &["create", "--name", "no good"]).failed(1, &["`name`"]);
    keys(&place, &["rotate", "nobody"]).failed(1, &["nobody", "hint: "]);

    // One that may read one entity.
    let narrow = keys(&place, &["create", "--name", "bot", "--entity", "product"]);
    let narrow = narrow.succeeded().stdout.trim().to_owned();
    wait_for("the key to open", || (status(&server, &narrow) == 200).then_some(()));
    let path = |path: &str| server.request(Method::GET, path).header("x-api-key", &narrow);
    for (read, expected) in [
        ("/v1/entity/product/nothing", 404),
        ("/v1/entity/order/nothing", 403),
        ("/v1/metrics/revenue", 403),
        ("/v1/lineage/metric/revenue", 403),
        ("/v1/deadletter", 403),
    ] {
        let answer = path(read).send().expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{read}");
    }

    let rotated = keys(&place, &["rotate", "default-board", "--grace-hours", "0"]);
    let new = rotated.succeeded().stdout.trim();
    wait_for("the new key to open", || (status(&server, new) == 200).then_some(()));
    is_refused(&server, &key);
    let listed = keys(&place, &["list"]);
    let listed = &listed.succeeded().stdout;
    assert!(listed.contains("default-bot") && !listed.contains(new), "{listed}");

    // A file that cannot be read changes nothing, and is taken up once it can.
    let file = place.data().join("keys.yaml");
    let good = std::fs::read(&file).expect("the keys");
    std::fs::write(&file, "keys: [").expect("spoil the keys");
    wait_for("the log to say so", || {
        server.stderr().contains("the keys that were loaded before stay in use").then_some(())
    });
    assert_eq!(status(&server, new), 200);
    std::fs::write(&file, good).expect("mend the keys");
    keys(&place, &["revoke", "default-board"]).succeeded();
    wait_for("the key to open nothing", || (status(&server, new) != 200).then_some(()));
    is_refused(&server, new);

    // Commands on this machine need no key; a secret is in no log.
    place.read(&["revenue"]).succeeded();
    for secret in [key.as_str(), new, &narrow] {
        assert!(!server.stderr().contains(secret));
    }
    assert!(server.stop().success());
}

#[test]
fn secrets_from_the_environment_open_and_bad_ones_stop_the_start() {
    let place = Place::of("shop");
    let server = start(
        &place,
        &["--listen", "0.0.0.0:0"],
        &[
            ("AGENTFLOW_API_KEYS", "first-secret:a,second-secret:b:acme"),
            ("AGENTFLOW_ADMIN_KEY", "a long enough admin key"),
        ],
    );
    assert!(server.stderr().contains("in the clear"), "{}", server.stderr());
    assert_eq!((status(&server, "first-secret"), status(&server, "second-secret")), (200, 200));
    let made = server
        .request(Method::POST, "/v1/admin/keys")
        .header("x-admin-key", "a long enough admin key")
        .body(r#"{"name": "made", "tenant": "acme"}"#)
        .send()
        .expect("an answer");
    assert_eq!(made.status().as_u16(), 201);
    let made: serde_json::Value = made.json().expect("JSON");
    assert_eq!(status(&server, made["key"].as_str().expect("a key")), 200);
    assert!(server.stop().success());

    let refused = |more: &[&str], environment: (&str, &str), said: &[&str]| {
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(place.common(&place.data()));
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut command = place.command(&arguments);
        command.env_remove("AGENTFLOW_AUTH_DISABLED").env(environment.0, environment.1);
        let output = command.output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in said {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("sesame"), "a secret in an error: {text}");
    };
    refused(&[], ("AGENTFLOW_API_KEYS", "sesame-open-you"), &["AGENTFLOW_API_KEYS", "entry 1"]);
    refused(&[], ("AGENTFLOW_API_KEYS", "sesame:a"), &["fewer than 8"]);
    refused(&[], ("AGENTFLOW_ADMIN_KEY", "sesame"), &["AGENTFLOW_ADMIN_KEY", "hint: "]);
    refused(&[], ("REDIS_URL", "http://sesame@x"), &["REDIS_URL"]);
    refused(&["--cors-origin", "*"], ("X", "y"), &["cors-origin"]);
    let open = ["--auth-disabled", "--listen", "0.0.0.0:0"];
    refused(&open, ("X", "y"), &["loopback only", "hint: "]);
}

#[test]
fn https_with_a_certificate_that_changes() {
    let place = Place::of("shop");
    let certificate = |name: &str| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "1", "-subj", &format!("/CN={name}"), "-addext"])
            .arg("subjectAltName=IP:127.0.0.1,DNS:localhost")
            .arg("-keyout")
            .arg(place.path("key.pem"))
            .arg("-out")
            .arg(place.path("cert.pem"))
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read(place.path("cert.pem")).expect("a certificate")
    };
    let first = certificate("first");
    let files = [place.path("cert.pem"), place.path("key.pem")].map(|f| f.display().to_string());
    let more = ["--tls-cert", &files[0], "--tls-key", &files[1]];
    let server = start(&place, &more, &[("AGENTFLOW_API_KEYS", "first-secret:a")]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let ask = |trusted: &[u8]| {
        let trusted = reqwest::Certificate::from_pem(trusted).expect("a certificate");
        let client = reqwest::blocking::Client::builder().add_root_certificate(trusted).no_proxy();
        let client = client.build().expect("a client");
        let request = client.get(format!("{}/v1/metrics", server.url));
        Some(request.header("x-api-key", "first-secret").send().ok()?.status().as_u16())
    };
    assert_eq!(ask(&first), Some(200));
    let second = certificate("second");
    wait_for("the new certificate", || (ask(&second) == Some(200)).then_some(()));
    assert_eq!(ask(&first), None);
    // Commands find the server by its own file.
    place.read(&["revenue"]).succeeded();
    assert!(server.stop().success());

    std::fs::write(place.path("key.pem"), "nothing").expect("spoil the key");
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(more.map(str::to_owned));
    place.agentflow(arguments).failed(1, &["key.pem", "private key"]);
}

#[test]
fn two_servers_share_the_counts_in_redis_and_count_alone_without_it() {
    let Some(redis) = support::redis::Redis::start() else {
        assert!(std::env::var_os("CI").is_none(), "no redis-server");
        eprintln!("no redis-server: not run");
        return;
    };
    let places = [Place::of("shop"), Place::of("shop")];
    let url = redis.url();
    let keys = "first-secret:a,other-secret:b";
    let environment = [("AGENTFLOW_API_KEYS", keys), ("REDIS_URL", url.as_str())];
    let servers = places.each_ref().map(|p| start(p, &["--rate-limit-rpm", "10"], &environment));
    let ask_with = |server: &Server, key: &str| {
        let request = server.request(Method::GET, "/v1/metrics").header("x-api-key", key);
        let answer = request.send().expect("an answer");
        let left = answer.headers()["x-ratelimit-remaining"].to_str().expect("text").to_owned();
        (answer.status().as_u16(), left)
    };
    let ask = |server: &Server| ask_with(server, "first-secret");
    // Redis is left alone for a second when a busy machine keeps its answer for too long.
    let is_shared = || {
        let [first, second] = servers.each_ref().map(|server| ask_with(server, "other-secret").1);
        first.parse::<u32>().ok() == second.parse::<u32>().ok().map(|left| left + 1)
    };
    assert!((0..4).any(|_| {
        let shared = is_shared();
        std::thread::sleep(std::time::Duration::from_millis(if shared { 0 } else { 1_100 }));
        shared
    }));
    for left in (0..10).rev() {
        assert_eq!(ask(&servers[left % 2]), (200, left.to_string()));
    }
    assert_eq!(ask(&servers[0]), (429, "0".to_owned()));
    assert_eq!(ask(&servers[1]), (429, "0".to_owned()));
    redis.stop();
    // Each begins anew by itself.
    for server in &servers {
        assert_eq!(ask(server), (200, "9".to_owned()));
        wait_for("the log to say so", || {
            server.stderr().contains("each replica counts for itself").then_some(())
        });
    }
    for server in servers {
        assert!(server.stop().success());
    }
}

/// A tenant's events of a day are counted over a restart; what is refused is not taken, and repeated ones are free.
#[test]
fn a_tenant_posts_so_many_events_a_day() {
    let place = Place::with_contracts(&[(
        "rides.yaml",
        "kind: event\nname: ride\nnames: [ride.ended]\nkey: ride_id\nfields: {ride_id: string}\n---\n\
         kind: metric\nname: rides\nfrom: {event: ride.ended}\nmeasure: count\nwindows: [now]\n\
         moved_by: [ride.ended]\n",
    )]);
    let file = place.path("keys.yaml");
    std::fs::write(
        &file,
        "tenants:\n- {id: acme, max_events_per_day: 5}\nkeys:\n- {name: a, tenant: acme, key: the-secret-of-acme}\n\
         - {name: b, tenant: other, key: the-secret-of-another}\n",
    )
    .expect("write the keys");
    let keys = file.display().to_string();
    let post = |server: &Server, key: &str, numbers: std::ops::Range<usize>| {
        let line = |n| {
            format!(
                r#"{{"event_type":"ride.ended","event_id":"e{n}","timestamp":"2026-01-01T00:00:00Z","ride_id":"r{n}"}}"#
            )
        };
        let lines: Vec<String> = numbers.map(line).collect();
        let request = server.request(Method::POST, "/v1/events").header("x-api-key", key);
        let request = request.header("content-type", "application/x-ndjson").body(lines.join("\n"));
        let answer = request.send().expect("an answer");
        let wait = answer.headers().get("retry-after").cloned();
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
        (answer.status().as_u16(), answer.json::<serde_json::Value>().expect("JSON"), wait)
    };
    let key = "the-secret-of-acme";
    let server = start(&place, &["--keys-file", &keys], &[]);
    let (status, body, _) = post(&server, key, 0..3);
    assert_eq!((status, &body["accepted"]), (200, &3.into()), "{body}");
    let (status, body, wait) = post(&server, key, 3..6);
    assert_eq!((status, &body["code"]), (429, &"rate_limited".into()), "{body}");
    assert!(wait.is_some_and(|wait| (1..=86_400).contains(&wait)), "{wait:?}");
    let detail = body["detail"].as_str().expect("a detail");
    assert!(detail.contains("`acme`") && detail.contains("5 events a day"), "{detail}");
    // Those that are known already do not count.
    let (status, body, _) = post(&server, key, 1..3);
    assert_eq!((status, &body["duplicate"]), (200, &2.into()), "{body}");
    assert_eq!(post(&server, key, 3..4).0, 200);
    assert_eq!(post(&server, "the-secret-of-another", 0..20).0, 200);
    assert!(server.stop().success());

    let server = start(&place, &["--keys-file", &keys], &[]);
    let read = server.request(Method::GET, "/v1/metrics/rides").header("x-api-key", key);
    let body: serde_json::Value = read.send().expect("an answer").json().expect("JSON");
    assert_eq!(body["value"], 4, "what was refused was not taken");
    assert_eq!(post(&server, key, 4..6).0, 429);
    assert_eq!(post(&server, key, 4..5).0, 200);
    assert_eq!(post(&server, key, 5..6).0, 429);
    assert!(server.stop().success());
}
