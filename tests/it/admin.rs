//! The operators' listener.

use std::collections::BTreeSet;
use std::path::Path;

use previewgate::config::{self, Files};
use serde_json::json;

use crate::callouts::{judged, lenient};
use crate::support::{API, Lab, Request, Setup, Wire};

#[tokio::test]
async fn health() {
    // An upstream that is not there is nothing to be restarted or taken out of service for.
    let lab = Setup::plain().upstreams(&["127.0.0.1:1".parse().unwrap()]).start().await;
    assert_eq!(lab.send(&Request::get(format!("{API}/x"))).await.own().status, 502);
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = lab.admin(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

/// OpenMetrics, each line of a known form, each family that operators rely on among them.
#[tokio::test]
async fn metrics_can_be_parsed() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(judged(&agent, 7, "100").await, "ok");
    let answer = lab.admin("/metrics").await;
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

/// What is shown can be written into a file and loaded again: it is the same configuration.
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

/// Nothing is changed but by POST, and there is nothing that is not listed.
#[tokio::test]
async fn other_paths_and_methods() {
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
        assert_eq!(wire.send(&Request::new(method, path)).await.status, 405, "{method} {path}");
    }
    assert_eq!(wire.send(&Request::new("HEAD", "/livez")).await.status, 200);
    // The data path is not served here, nor this there.
    assert_eq!(lab.admin(&format!("{API}/x")).await.status, 404);
    assert_eq!(lab.send(&Request::get("/metrics")).await.own().status, 404);
}
