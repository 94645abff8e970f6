//! Time limits and bounds of client connections, and their orderly end.

use std::time::Duration;

use previewgate::preview::ControlId;
use previewgate::server::Phase;
use previewgate::simulator::{Fault, Misbehaviour};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{API, MemorySetup, Request, id, seconds, within};

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let lab = MemorySetup::new().settings("limits.first_byte_timeout = \"20s\"").start();
    let mut wire = lab.connect().await;
    assert_eq!(seconds(wire.closed()).await, 20);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_but_not_before_its_time() {
    let lab = MemorySetup::new().settings("limits.idle_timeout = \"20s\"\nlimits.first_byte_timeout = \"1s\"").start();
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 25_000 }).on("slow"));
    for (request, wait) in [(x(), 0), (Request::get(format!("{API}/slow")), 25)] {
        let mut wire = lab.connect().await;
        let start = Instant::now();
        wire.send(&request).await.passed();
        assert_eq!(start.elapsed().as_secs(), wait, "the wait for the upstream is not the client's");
        let idle = seconds(wire.closed()).await;
        assert!((19..=40).contains(&idle), "{idle}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_takes_too_long_is_refused() {
    let lab = MemorySetup::new().settings("limits.head_timeout = \"7s\"").start();
    let mut wire = lab.connect().await;
    let start = Instant::now();
    wire.write(b"GET /agentgateway/resource/x HT").await;
    let own = wire.answer().await.own();
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!((own.status, own.close, own.retcode.as_str()), (408, true, "000-002"));
    wire.closed().await;
    assert_eq!(lab.logged().access(&own.request_id).await["cause"], "head_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_callout_body_that_does_not_come_is_refused() {
    let lab = MemorySetup::new().settings("limits.callout_body_timeout = \"9s\"").start();
    let mut wire = lab.connect().await;
    let head = format!("PUT {API}/voicecall/101/previewCallout HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{");
    let start = Instant::now();
    wire.write(head.as_bytes()).await;
    let own = wire.answer().await.own();
    assert_eq!(start.elapsed().as_secs(), 9);
    assert_eq!((own.status, own.reason.as_str(), own.close), (408, "malformed_body", true));
    wire.closed().await;
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let lab = MemorySetup::new().start();
    let agent = lab.agent(101).await;
    let echo = |n: u32| Request::post(format!("{API}/chat/101/echo")).body(n.to_string()).bytes();
    let callout = agent.callout_request(&json!({"called": "1", "callcontrolid": 1})).bytes();
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 5000 }).on("echo"));
    let mut wire = lab.connect().await;
    wire.write(&[echo(1), callout, echo(2), b"BROKEN\r\n\r\n".to_vec()].concat()).await;
    assert_eq!(wire.answer().await.passed().json()["result"]["body"], "1");
    assert_eq!(wire.answer().await.own().reason, "unknown_preview");
    assert_eq!(wire.answer().await.passed().json()["result"]["body"], "2");
    assert_eq!(wire.answer().await.own().status, 400);
    wire.closed().await;
}

#[tokio::test(start_paused = true)]
async fn one_client_gets_no_more_than_its_share() {
    let lab = MemorySetup::new().config(|config| config.limits.connections_per_client = 1).start();
    let mut only = lab.connect().await;
    only.send(&x()).await.passed();
    lab.connect().await.closed().await;
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"client_connection\"}"), 1.0);
    let mut other = lab.pipes.as_ref().unwrap().connect_from([198, 51, 100, 2].into()).await.unwrap();
    other.send(&x()).await.passed();
    only.send(&x()).await.passed();
}

#[tokio::test(start_paused = true)]
async fn too_many_connections_are_closed_at_once() {
    let lab = MemorySetup::new().config(|config| config.limits.connections = 2).start();
    let (mut first, mut second) = (lab.connect().await, lab.connect().await);
    first.send(&x()).await.passed();
    second.send(&x()).await.passed();
    assert_eq!(seconds(lab.connect().await.closed()).await, 0);
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"connection\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn requests_from_before_the_drain_are_finished() {
    let mut lab = MemorySetup::new().start();
    let agent = lab.agent(101).await;
    let mut idle = lab.connect().await;
    idle.send(&x()).await.passed();
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    lab.announce(Phase::Draining);
    idle.closed().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    lab.simulator.preview(id(101), ControlId(1), "1");
    let answer = held.answer().await.passed();
    assert_eq!(answer.json()["event"]["content"]["controlid"], 1);
    assert_eq!(answer.header("connection"), "close");
    held.closed().await;
    lab.ended().await;
    assert!(lab.try_connect().await.is_err());
}

/// The framer's limit of fields is hyper's too: neither refuses what the other lets through.
#[tokio::test(start_paused = true)]
async fn a_request_may_have_a_hundred_fields_and_no_more() {
    let lab = MemorySetup::new().start();
    for (fields, expected) in [(100, 200), (101, 431)] {
        let others: String = (1..fields).map(|number| format!("X-Field-{number}: {number}\r\n")).collect();
        let mut client = lab.connect().await;
        client.write(format!("GET {API}/x HTTP/1.1\r\nHost: gateway\r\n{others}\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.status, expected, "{fields}");
    }
}
