//! What a request allocates. The counts are exact and do not depend on the load of the machine.
//!
//! A bound is today's count and a little more. A change that exceeds it makes requests more expensive. A change that gets
//! far below it lowers the bound.

// A test may fail loudly; clippy takes only the functions marked as tests for one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod gateway;

use std::path::Path;
use std::sync::Arc;

use allocation_counter::measure;
use gateway::{API, GUID, Gateway, SHOWN, request};
use previewgate::config::{self, Files};
use previewgate::preview::{AgentId, SystemClock};
use previewgate::protocol::{Delivery, parse_events};
use previewgate::store::{Ledger, Source};
use previewgate::telemetry::Metrics;

const JSON: &str = "Content-Type: application/json; charset=UTF-8\r\n";
/// Requests that are measured, after as many that warm up caches and connections.
const TIMES: usize = 200;

/// One agent polls as fast as it gets answers; a limit would make the test wait.
const UNLIMITED: &str = "limits.polls_per_agent = 1000";

const PREVIEW: &str = r#"{"message":"","retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"controlid":"7","dialeddigits":"5550101","callData":""}}}"#;

fn callout(control_id: u32) -> Arc<[u8]> {
    let body = format!(r#"{{"called":"5550101","callcontrolid":"{control_id}"}}"#);
    request("PUT", &format!("{API}/voicecall/101/previewCallout"), JSON, body.as_bytes())
}

fn poll(agent: u32) -> Arc<[u8]> {
    request("GET", &format!("{API}/agentevent/{agent}"), "", b"")
}

/// What one request allocates on the thread of the gateway, on average.
fn each(gateway: &Gateway, request: &Arc<[u8]>, expected: &str, times: usize) -> (f64, f64) {
    let mut client = None;
    let answer = gateway.exchange(&mut client, request, times);
    assert!(answer.contains(expected), "{answer}");
    let info = measure(|| {
        gateway.exchange(&mut client, request, times);
    });
    let times = times as f64;
    (info.count_total as f64 / times, info.bytes_total as f64 / times)
}

fn assert_bounded(what: &str, (count, bytes): (f64, f64), max_count: f64, max_bytes: f64) {
    println!("{what}: {count:.1} allocations, {bytes:.0} bytes");
    assert!(count <= max_count, "{what}: {count:.1} allocations");
    assert!(bytes <= max_bytes, "{what}: {bytes:.0} bytes");
}

#[test]
fn a_forwarded_callout() {
    let gateway = Gateway::start("", PREVIEW);
    each(&gateway, &poll(101), "5550101", 1);
    assert_bounded("forwarded callout", each(&gateway, &callout(7), "1455885056-1095", TIMES), 29.0, 26_500.0);
}

#[test]
fn a_refused_callout() {
    let gateway = Gateway::start("", PREVIEW);
    each(&gateway, &poll(101), "5550101", 1);
    assert_bounded("refused callout", each(&gateway, &callout(99), "control_id_mismatch", TIMES), 24.0, 17_500.0);
}

#[test]
fn a_poll_without_event() {
    let gateway = Gateway::start(UNLIMITED, "");
    assert_bounded("poll without event", each(&gateway, &poll(103), r#""retcode":"0""#, TIMES), 25.0, 23_000.0);
}

#[test]
fn a_poll_with_a_preview() {
    let gateway = Gateway::start("", PREVIEW);
    assert!(poll(101).windows(SHOWN.len()).any(|part| part == SHOWN.as_bytes()));
    assert_bounded("poll with a preview", each(&gateway, &poll(101), "5550101", TIMES), 31.0, 24_000.0);
}

/// The state of the agents, with the default configuration.
fn ledger() -> Ledger {
    let config = config::parse("upstream.endpoints = [\"http://platform:8043\"]", Path::new("/"), Files::Skip).unwrap();
    Ledger::new(&config.previews, Arc::new(SystemClock::new()), Arc::new(Metrics::new()))
}

/// An agent is answered.
fn record(ledger: &Ledger, agent: u32, guid: &str, answer: &str) {
    let (began, at) = (ledger.moment(), ledger.clock().now());
    let (meant_for, delivery, session) = (AgentId::try_from(agent).ok(), Delivery::Poll, Some(guid.as_bytes()));
    let found = parse_events(answer.as_bytes()).unwrap();
    drop(ledger.record(found, &Source { meant_for, delivery, session, began, at }));
}

#[test]
fn an_answer_without_an_event_allocates_nothing_in_the_ledger() {
    let ledger = ledger();
    let each = |answer: &str| {
        record(&ledger, 101, GUID, answer);
        let info = measure(|| (0..TIMES).for_each(|_| record(&ledger, 101, GUID, answer)));
        info.count_total as f64 / TIMES as f64
    };
    let (shown, nothing) = (each(PREVIEW), each(r#"{"message":"","retcode":"0"}"#));
    println!("recording a preview: {shown:.2} allocations, an answer without an event: {nothing:.2}");
    assert!(shown > 5.0, "{shown}");
    assert!(nothing < 0.01, "{nothing}");
}

/// Agents with a session and one preview each: as many bytes an agent for a hundred as for tens of thousands.
#[test]
fn what_is_kept_of_an_agent() {
    for agents in [100, 10_000, 50_000] {
        let ledger = ledger();
        let info = measure(|| {
            for agent in 101..101 + agents {
                let (workno, guid) = (format!("\"workNo\":\"{agent}\""), format!("guid-of-{agent}"));
                record(&ledger, agent, &guid, &PREVIEW.replace("\"workNo\":\"101\"", &workno));
            }
        });
        let bytes = info.bytes_current / i64::from(agents);
        println!("{agents} agents: {bytes} bytes an agent");
        assert!(bytes <= 900, "{bytes} bytes");
        drop(ledger);
    }
}

/// What each of many connections keeps, in bytes on the thread of the gateway. Buffers of the system and of TLS come on top.
fn kept_by_each(connections: i64, mut open: impl FnMut() -> tokio::io::DuplexStream) -> i64 {
    // The first ones enlarge tables that all share.
    let first: Vec<_> = (0..connections).map(|_| open()).collect();
    let mut others = Vec::new();
    let info = measure(|| others.extend((0..connections).map(|_| open())));
    drop((first, others));
    info.bytes_current / connections
}

#[test]
fn a_connection_before_its_first_request() {
    let gateway = Gateway::start(UNLIMITED, "");
    let mut other = None;
    let bytes = kept_by_each(50, || {
        let client = gateway.connect();
        // Meanwhile the gateway accepts the new connection.
        gateway.exchange(&mut other, &poll(103), 1);
        client
    });
    println!("connection before its first request: {bytes} bytes");
    assert!(bytes <= 3550, "{bytes}");
}

#[test]
fn an_idle_connection() {
    let gateway = Gateway::start(UNLIMITED, "");
    let bytes = kept_by_each(50, || {
        let mut client = None;
        gateway.exchange(&mut client, &poll(103), 1);
        client.unwrap()
    });
    println!("idle connection: {bytes} bytes");
    assert!(bytes <= 21_500, "{bytes}");
}

#[test]
fn a_held_poll() {
    let gateway = Gateway::start(UNLIMITED, "");
    let bytes = kept_by_each(50, || gateway.hold(&poll(102)));
    println!("held poll: {bytes} bytes");
    assert!(bytes <= 54_500, "{bytes}");
}
