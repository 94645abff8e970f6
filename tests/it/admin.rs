//! The operators' listener.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use previewgate::config::{self, Files};
use serde_json::json;

use crate::callouts::{judged, lenient};
use crate::support::{API, Lab, Request, Setup, Wire};

#[tokio::test]
async fn health_does_not_depend_on_the_upstream() {
    // A missing upstream must not make an orchestrator restart the gateway or take it out of service.
    let lab = Setup::plain().upstreams(&["127.0.0.1:1".parse().unwrap()]).start().await;
    assert_eq!(lab.send(&Request::get(format!("{API}/x"))).await.own().status, 502);
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = lab.admin(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

/// Each line is valid OpenMetrics, and the families that operators rely on are there.
#[tokio::test]
async fn metrics_can_be_parsed() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(judged(&agent, 7, "100").await, "ok");
    let request = Request::admin("GET", "/metrics").header("Accept", "application/openmetrics-text");
    let answer = lab.admin_send(&request).await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let page = answer.text();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(rest.split(' ').next().unwrap().to_owned()), "declared twice: {line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(series.insert(name.to_owned()), "twice: {line}");
            let family = name.split('{').next().unwrap();
            assert!(families.iter().any(|known| family.starts_with(known.as_str())), "undeclared: {line}");
        }
    }
    for family in [
        "previewgate_preview_callouts",
        "previewgate_preview_events",
        "previewgate_previews_cached",
        "previewgate_previews_evicted",
        "previewgate_requests",
        "previewgate_request_duration_seconds",
        "previewgate_upstream_duration_seconds",
        "previewgate_upstream_failures",
        "previewgate_upstream_healthy",
        "previewgate_connections_open",
        "previewgate_event_parse_failures",
        "previewgate_preview_age_seconds",
        "previewgate_validation_mode",
        "previewgate_log_lines_dropped",
        "previewgate_config_last_reload_successful",
        "previewgate_certificate_not_after_timestamp_seconds",
        "previewgate_panics",
        "previewgate_build",
    ] {
        assert!(families.contains(family), "{family} is missing: {families:?}");
    }
    assert!(series.contains("previewgate_validation_mode{mode=\"enforce\"}"), "{series:?}");
    assert_eq!(lab.metric("previewgate_validation_mode{mode=\"enforce\"}"), 1.0);
    lab.metric_becomes("previewgate_requests_total{operation=\"previewCallout\",status_class=\"2xx\"}", 1.0).await;
}

/// The page can be written into a file and loaded again, and gives the same configuration.
#[tokio::test]
async fn the_configuration_loads_again() {
    for setup in [Setup::plain(), Setup::encrypted(), Setup::mutual()] {
        let lab = setup.start().await;
        let answer = lab.admin("/config").await;
        assert_eq!(answer.header("content-type"), "application/toml");
        let read =
            config::parse(&answer.text(), Path::new("/"), Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(read, lab.running().generation().config);
        assert!(!answer.text().contains("PRIVATE KEY"));
    }
}

#[tokio::test]
async fn previews_are_shown_masked() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039,100").await;
    let answer = lab.admin("/previews/101").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let shown = answer.json();
    assert_eq!(shown["agent_id"], 101);
    let preview = &shown["previews"][0];
    assert_eq!(preview["control_id"], 7);
    assert_eq!(preview["numbers"], json!(["******39", "***"]));
    assert_eq!(preview["expired"], false);
    assert!(preview["age_ms"].is_u64());
    assert_eq!(lab.admin("/previews/102").await.json(), json!({"agent_id": 102, "previews": [], "store": "ok"}));
    for wrong in ["100", "0101", "x", "", "101/"] {
        assert_eq!(lab.admin(&format!("/previews/{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn upstreams_are_shown() {
    let lab = Lab::start().await;
    lab.agent(101).await;
    let shown = lab.admin("/upstreams").await.json();
    let endpoints = shown["upstreams"].as_array().unwrap();
    assert_eq!(endpoints.len(), 1);
    assert!(endpoints[0]["endpoint"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{shown}");
    assert_eq!(endpoints[0]["passed_over"], false);
}

/// Only POST changes something, and only listed paths exist.
#[tokio::test]
async fn unlisted_paths_and_other_methods_are_refused() {
    let lab = Lab::start().await;
    let index = lab.admin("/").await;
    assert_eq!(index.status, 200);
    for path in ["/livez", "/readyz", "/metrics", "/config", "/upstreams", "/previews/"] {
        assert!(index.text().contains(path), "{path}: {}", index.text());
    }
    for path in ["/nothing", "/Metrics", "/metrics/", "//metrics", "/config.toml"] {
        assert_eq!(lab.admin(path).await.status, 404, "{path}");
    }
    let mut wire = Wire::plain(lab.admin_address).await.unwrap();
    for (method, path) in [("POST", "/metrics"), ("DELETE", "/previews/101"), ("PUT", "/config"), ("GET", "/reload")] {
        let request = Request::new(method, path).header("Host", "localhost");
        assert_eq!(wire.send(&request).await.status, 405, "{method} {path}");
    }
    assert_eq!(wire.send(&Request::new("HEAD", "/livez").header("Host", "localhost")).await.status, 200);
    // The admin listener does not serve the data path, and the data path does not serve the admin pages.
    assert_eq!(lab.admin(&format!("{API}/x")).await.status, 404);
    assert_eq!(lab.send(&Request::get("/metrics")).await.own().status, 404);
}

/// A site whose own name resolves to the listener's address cannot read from it.
#[tokio::test]
async fn a_host_that_is_not_the_listeners_is_misdirected() {
    let hosts = vec!["gateway.example".to_owned()];
    let lab = Setup::plain().config(|config| config.admin.hosts = Some(hosts)).start().await;
    let port = lab.admin_address.port();
    let mut wire = Wire::plain(lab.admin_address).await.unwrap();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        ("127.0.0.1".to_owned(), 200),
        (format!("LOCALHOST.:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        ("gateway.EXAMPLE".to_owned(), 200),
        (format!("evil.example:{port}"), 421),
        ("localhost.evil.example".to_owned(), 421),
        ("127.0.0.1.evil.example".to_owned(), 421),
        ("127.0.0.1@evil.example".to_owned(), 421),
        ("192.0.2.1".to_owned(), 421),
        ("0.0.0.0".to_owned(), 421),
        ("2130706433".to_owned(), 421),
    ] {
        for (method, path) in [("GET", "/config"), ("HEAD", "/livez"), ("GET", "/previews/101"), ("GET", "/nothing")] {
            let answer = wire.send(&Request::new(method, path).header("Host", &host)).await;
            let expected = if path == "/nothing" && status == 200 { 404 } else { status };
            assert_eq!(answer.status, expected, "{method} {path} of {host}");
            assert!(!answer.text().contains("evil"), "{host}");
        }
    }
    let twice = Request::get("/livez").header("Host", "localhost").header("Host", "localhost");
    assert_eq!(wire.send(&twice).await.status, 400);
    let absolute = Request::get("http://evil.example/config").header("Host", "localhost");
    assert_eq!(wire.send(&absolute).await.status, 421);
    wire.write(b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200, "a load balancer's probe has no Host");
}

/// A page of another site cannot have an operator's browser reload the configuration.
#[tokio::test]
async fn pages_of_other_sites_cannot_post() {
    let lab = Lab::start().await;
    let own = format!("http://localhost:{}", lab.admin_address.port());
    let mut wire = Wire::plain(lab.admin_address).await.unwrap();
    // 409: the gateway tries the reload, and the file is bad.
    lab.site.configure("log.level = 3");
    for (name, value, status) in [
        ("Accept", "*/*", 409),
        ("Origin", own.as_str(), 409),
        ("Sec-Fetch-Site", "same-origin", 409),
        ("Sec-Fetch-Site", "none", 409),
        ("Origin", "http://localhost:1", 403),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("origin", "http://127.0.0.1", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ] {
        let host = own.strip_prefix("http://").unwrap();
        let request = Request::new("POST", "/reload").header("Host", host).header(name, value);
        assert_eq!(wire.send(&request).await.status, status, "{name}: {value}");
    }
    let get = Request::get("/livez").header("Host", "localhost").header("Origin", "https://evil.example");
    assert_eq!(wire.send(&get).await.status, 200, "reading is stopped by the browser");
}

/// Silent connections are closed after ten seconds. A probe does not wait for that.
#[tokio::test]
async fn a_probe_is_answered_beside_200_silent_connections() {
    let lab = Lab::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Wire::plain(lab.admin_address).await.unwrap());
    }
    let answered = tokio::time::timeout(Duration::from_secs(8), lab.admin("/livez")).await;
    assert_eq!(answered.unwrap().status, 200);
    silent.remove(0).closed().await;
}
