//! Who called: the client behind proxies and load balancers, its certificate, and the names of a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::support::{API, Lab, MemorySetup, Request, Setup, Wire, eventually_async, seconds, within};

const TRUSTING_LOOPBACK: &str = "listener.trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.6\"]";
const WITH_HEADER: &str = "listener.proxy_protocol = \"required\"\nlistener.trusted_proxies = [\"127.0.0.1\"]";

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

/// The client of a request with these fields, as the log has it.
async fn logged_client(lab: &Lab, id: &str, fields: &[(&str, &str)]) -> String {
    let request = fields.iter().fold(x().id(id), |request, (name, value)| request.header(name, *value));
    lab.send(&request).await.passed();
    lab.log.access(id).await["client"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_client_is_what_trusted_proxies_say_and_its_own_claims_are_dropped() {
    let lab = Setup::plain().settings(TRUSTING_LOOPBACK).start().await;
    for (id, name, value, client, forwarded) in [
        (
            "a",
            "X-Forwarded-For",
            "6.6.6.6, 198.51.100.1, 10.0.0.6",
            "198.51.100.1",
            "198.51.100.1, 10.0.0.6, 127.0.0.1",
        ),
        ("b", "X-Forwarded-For", "[2001:db8::7]:4711", "[2001:db8::7]:4711", "[2001:db8::7]:4711, 127.0.0.1"),
        ("c", "Forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https", "[2001:db8::7]:4711", "127.0.0.1"),
    ] {
        assert_eq!(logged_client(&lab, id, &[(name, value)]).await, client, "{value}");
        let seen = lab.simulator.journal().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some(forwarded), "{value}");
        assert!(!seen.header("forwarded").unwrap_or_default().contains("6.6.6.6"), "{value}");
    }
    for (id, value) in [("d", "6.6.6.6, unknown"), ("e", "6.6.6.6, _hidden"), ("f", "6.6.6.6;, \"")] {
        assert!(logged_client(&lab, id, &[("X-Forwarded-For", value)]).await.starts_with("127.0.0.1:"), "{value}");
        assert_eq!(lab.simulator.journal().pop().unwrap().header("x-forwarded-for"), Some("127.0.0.1"), "{value}");
    }
    let both = [("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=6.6.6.6")];
    assert!(logged_client(&lab, "g", &both).await.starts_with("127.0.0.1:"));
    assert_eq!(lab.log.message("name different clients").await["proxy"], "127.0.0.1");
}

#[tokio::test]
async fn a_proxy_that_ends_tls_says_how_the_client_has_connected() {
    let lab = Setup::plain().settings(TRUSTING_LOOPBACK).start().await;
    for (said, expected) in [("https", "https"), ("http", "http"), ("gopher", "http")] {
        lab.send(&x().header("X-Forwarded-Proto", said)).await.passed();
        assert_eq!(lab.simulator.journal().pop().unwrap().header("x-forwarded-proto"), Some(expected));
    }
}

#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_cannot_name_another_client() {
    let lab = Setup::plain().settings("listener.trusted_proxies = [\"10.0.0.6\"]").start().await;
    let claims = [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"), ("X-Forwarded-Proto", "https")];
    assert!(logged_client(&lab, "a", &claims).await.starts_with("127.0.0.1:"));
    let seen = lab.simulator.journal().pop().unwrap();
    let forwarded = ["x-forwarded-for", "forwarded", "x-forwarded-proto"].map(|name| seen.header(name));
    assert_eq!(forwarded, [Some("127.0.0.1"), None, Some("http")]);
    lab.reload_with(TRUSTING_LOOPBACK);
    assert_eq!(logged_client(&lab, "b", &claims[..1]).await, "6.6.6.6");
}

#[tokio::test]
async fn requests_behind_a_proxy_count_for_their_own_clients() {
    let settings = format!("{TRUSTING_LOOPBACK}\nlimits.connections_per_client = 1");
    let lab = Setup::plain().settings(&settings).start().await;
    let from = |client: &str| x().header("X-Forwarded-For", client);
    let agent = lab.agent(101).await;
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().header("X-Forwarded-For", "198.51.100.1").bytes()).await;
    within("a held poll", lab.simulator.wait_for_held_polls(1)).await;
    let refused = lab.send(&from("198.51.100.1")).await.own();
    assert_eq!(refused.status, 503);
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"client_connection\"}"), 1.0);
    lab.send(&from("198.51.100.2")).await.passed();
    // Without the field the proxy itself is the client.
    lab.send(&x()).await.passed();
    drop(held);
    let admitted = async || !lab.send(&from("198.51.100.1")).await.is_own();
    eventually_async("the place of the poll to be free again", admitted).await;
}

/// A header of version 2 for 192.0.2.1:50000, with an additional field.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x12".to_vec();
    header.extend([192, 0, 2, 1, 10, 0, 0, 1, 0xc3, 0x50, 0x1f, 0x6b, 0xea, 0, 3, 1, 2, 3]);
    header
}

#[tokio::test]
async fn a_proxy_header_before_tls_names_the_client() {
    let lab = Setup::encrypted().settings(WITH_HEADER).start().await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    for (id, header, client) in [
        ("a", b"PROXY TCP4 192.0.2.1 10.0.0.1 50000 8043\r\n".to_vec(), "192.0.2.1:50000"),
        ("b", b"PROXY TCP6 2001:db8::1 ::1 50000 8043\r\n".to_vec(), "[2001:db8::1]:50000"),
        ("c", version_2(), "192.0.2.1:50000"),
        ("d", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
        ("e", local, "127.0.0.1:"),
    ] {
        let tls = Arc::clone(lab.tls.as_ref().unwrap());
        let mut wire = Wire::encrypted_behind(&header, lab.address, tls).await.unwrap();
        wire.send(&x().id(id)).await.passed();
        let logged = lab.log.access(id).await;
        assert!(logged["client"].as_str().unwrap().starts_with(client), "{client}: {logged}");
        let sent = lab.simulator.journal().pop().unwrap().header("x-forwarded-for").unwrap().to_owned();
        assert!(client.trim_start_matches('[').starts_with(&sent), "{client}: {sent}");
    }
}

#[tokio::test]
async fn without_a_usable_proxy_header_the_connection_is_closed() {
    let lab = Setup::plain().settings(WITH_HEADER).start().await;
    for (bytes, reason, count) in [
        (x().bytes(), "missing", 1.0),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 x 8043\r\n".to_vec(), "malformed", 1.0),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).into_bytes(), "too_long", 1.0),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(), "too_long", 2.0),
    ] {
        let mut wire = Wire::plain(lab.address).await.unwrap();
        wire.write(&bytes).await;
        wire.closed().await;
        let series = format!("previewgate_proxy_header_faults_total{{reason=\"{reason}\"}}");
        lab.metric_becomes(&series, count).await;
    }
    assert_eq!(lab.log.message("without a usable PROXY header").await["level"], "WARN");
    assert!(lab.simulator.journal().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_listed_peers_may_send_a_proxy_header_and_only_in_time() {
    let settings = "listener.proxy_protocol = \"required\"\nlistener.trusted_proxies = [\"10.0.0.5\"]";
    let lab = MemorySetup::new().settings(settings).start();
    let pipes = lab.pipes.clone().unwrap();
    let header = version_2();

    let mut stranger = pipes.connect_from([198, 51, 100, 9].into()).await.unwrap();
    let _ = stranger.try_write(&header).await;
    stranger.closed().await;

    let mut slow = pipes.connect_from([10, 0, 0, 5].into()).await.unwrap();
    slow.write(&header[..9]).await;
    assert_eq!(seconds(slow.closed()).await, 10);

    // Byte by byte, and the request in the same segment as the last one.
    let mut proxy = pipes.connect_from([10, 0, 0, 5].into()).await.unwrap();
    let (last, first) = header.split_last().unwrap();
    for byte in first {
        proxy.write(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    proxy.write(&[&[*last][..], &x().id("mine").bytes()].concat()).await;
    proxy.answer().await.passed();
    assert_eq!(lab.logged().access("mine").await["client"], "192.0.2.1:50000");
    for (reason, count) in [("untrusted_peer", 1.0), ("timeout", 1.0)] {
        assert_eq!(
            lab.metric(&format!("previewgate_proxy_header_faults_total{{reason=\"{reason}\"}}")),
            count,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn callouts_that_share_a_request_id_are_told_apart() {
    let lab = Setup::plain().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    for number in ["100", "666", "667"] {
        lab.send(&agent.callout(7, number).id("same")).await;
    }
    let decisions = async || {
        let lines = lab.log.lines();
        lines.into_iter().filter(|line| line["method"] == "previewCallout").collect::<Vec<Value>>()
    };
    eventually_async("three decisions", async || decisions().await.len() == 3).await;
    let ids: BTreeSet<_> = decisions().await.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 3);
    let access = lab.log.access("same").await;
    assert!(ids.contains(access["id"].as_str().unwrap()), "the access line has the id of its decision");
}

#[tokio::test]
async fn lines_of_a_request_name_its_trace_if_it_is_valid() {
    let lab = Setup::plain().start().await;
    let agent = lab.agent(101).await;
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (id, field, trace) in [
        ("a", valid, Some("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("b", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("c", "{\"decision\":\"forwarded\"}", None),
    ] {
        lab.send(&agent.callout(7, "100").id(id).header("traceparent", field)).await;
        assert_eq!(lab.log.decision(id).await["trace_id"].as_str(), trace);
        assert_eq!(lab.log.access(id).await["trace_id"].as_str(), trace);
    }
}

#[tokio::test]
async fn lines_of_a_request_name_the_certificate_of_the_client() {
    let lab = Setup::mutual().start().await;
    let agent = lab.agent(101).await;
    lab.send(&agent.callout(7, "100").id("mine")).await;
    for line in [lab.log.decision("mine").await, lab.log.access("mine").await] {
        assert!(line["client_subject"].as_str().unwrap().starts_with("CN="), "{line}");
        let digits = line["client_sha256"].as_str().unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
    }
    let plain = Setup::encrypted().start().await;
    plain.send(&x().id("mine")).await.passed();
    assert_eq!(plain.log.access("mine").await["client_subject"], Value::Null);
}

#[tokio::test]
async fn lines_and_metrics_name_the_tenant() {
    let tenants =
        "tenants = [{ name = \"north\", agents = [\"101-199\"] }, { name = \"south\", nodes = [\"AgentGateway1\"] }]";
    let lab = Setup::plain().settings(tenants).start().await;
    for (number, tenant) in [(101, "north"), (201, "south")] {
        let agent = lab.agent(number).await;
        lab.send(&agent.callout(7, "100").id(tenant)).await;
        assert_eq!(lab.log.decision(tenant).await["tenant"], tenant);
        assert_eq!(lab.log.access(tenant).await["tenant"], tenant);
        let series = format!("previewgate_tenant_callouts_total{{tenant=\"{tenant}\",decision=\"rejected\"}}");
        assert_eq!(lab.metric(&series), 1.0, "{tenant}");
    }
    lab.reload_with("");
    lab.send(&lab.agent_from_elsewhere(101).callout(7, "100").id("none")).await;
    assert_eq!(lab.log.decision("none").await["tenant"], Value::Null);
}
