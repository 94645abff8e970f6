//! Connections of clients: TLS versions and certificates, time limits, and the share that one client may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use previewgate::preview::{Clock, ControlId, SystemClock, Timestamp};
use previewgate::simulator::{Fault, Misbehaviour};
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::support::{API, Lab, Request, Setup, Wire, id, within};

/// Long enough that it does not expire by accident, and short enough to wait for.
const BRIEF: Duration = Duration::from_millis(150);

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let lab = Setup::encrypted().start().await;
    for version in [&TLS12, &TLS13] {
        let mut wire = Wire::encrypted(lab.address, lab.site.pki.client(&[version], false)).await.unwrap();
        assert_eq!(wire.send(&x()).await.passed().status, 200);
    }
    assert_eq!(lab.simulator.journal().len(), 2);
}

#[tokio::test]
async fn clients_that_ask_for_either_version_of_http_get_a_connection_and_others_none() {
    let lab = Setup::encrypted().start().await;
    let offering = |protocols: &[&str]| {
        let mut config = (*lab.site.pki.anonymous()).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    for protocols in [&["http/1.0"][..], &["h2", "http/1.1"], &[]] {
        let mut wire = Wire::encrypted(lab.address, offering(protocols)).await.unwrap();
        assert_eq!(wire.send(&x()).await.passed().status, 200, "{protocols:?}");
    }
    assert!(Wire::encrypted(lab.address, offering(&["h2"])).await.is_err());
}

#[tokio::test]
async fn with_a_client_ca_a_client_without_a_certificate_is_refused() {
    let lab = Setup::mutual().start().await;
    for version in [&TLS12, &TLS13] {
        let mut wire = Wire::encrypted(lab.address, lab.site.pki.client(&[version], true)).await.unwrap();
        assert_eq!(wire.send(&x()).await.passed().status, 200);
        // With TLS 1.3 a client learns only after its handshake that it was not accepted.
        if let Ok(mut wire) = Wire::encrypted(lab.address, lab.site.pki.client(&[version], false)).await {
            assert!(wire.try_send(&x()).await.is_err());
        }
    }
    assert_eq!(lab.simulator.journal().len(), 2);
}

#[tokio::test]
async fn a_plain_http_client_gets_no_http_response_from_a_tls_listener() {
    let lab = Setup::encrypted().start().await;
    let mut wire = Wire::plain(lab.address).await.unwrap();
    wire.write(&x().bytes()).await;
    // An alert, perhaps, but no HTTP.
    if let Ok(bytes) = tokio::time::timeout(Duration::from_secs(5), wire.some()).await {
        assert!(!bytes.starts_with(b"HTTP"));
    }
    assert_eq!(lab.send(&x()).await.passed().status, 200);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let setup = Setup::plain().config(|config| config.limits.first_byte_timeout = BRIEF);
    let lab = setup.start().await;
    let start = Instant::now();
    lab.connect().await.closed().await;
    assert!(start.elapsed() >= BRIEF);

    // Before TLS is established, another limit holds.
    let setup = Setup::encrypted().config(|config| config.limits.handshake_timeout = BRIEF);
    let lab = setup.start().await;
    let start = Instant::now();
    Wire::plain(lab.address).await.unwrap().closed().await;
    assert!(start.elapsed() >= BRIEF);
}

/// `tests/memory` has the exact time.
#[tokio::test]
async fn an_idle_connection_is_closed() {
    let lab = Setup::plain().config(|config| config.limits.idle_timeout = BRIEF).start().await;
    let mut wire = lab.connect().await;
    wire.send(&x()).await.passed();
    wire.closed().await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_refused() {
    for setup in [Setup::plain(), Setup::encrypted()] {
        let lab = setup.config(|config| config.limits.head_timeout = BRIEF).start().await;
        let mut wire = lab.connect().await;
        wire.write(b"GET /agentgateway/resource/x HT").await;
        let own = wire.answer().await.own();
        assert_eq!((own.status, own.close, own.retcode.as_str()), (408, true, "000-002"));
        wire.closed().await;
        assert_eq!(lab.log.access(&own.request_id).await["cause"], "head_timeout");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    let echo = |n: u32| Request::post(format!("{API}/chat/101/echo")).body(n.to_string()).bytes();
    let callout = agent.callout_request(&json!({"called": "1", "callcontrolid": 1})).bytes();
    let elsewhere = Request::get("/elsewhere").bytes();
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 50 }).on("echo"));
    let mut wire = lab.connect().await;
    wire.write(&[echo(1), callout, echo(2), elsewhere, echo(3), b"BROKEN\r\n\r\n".to_vec()].concat()).await;
    for expected in ["1", "unknown_preview", "2", "404", "3"] {
        let answer = wire.answer().await;
        let got = match answer.is_own() {
            false => answer.json()["result"]["body"].as_str().unwrap().to_owned(),
            true if answer.status == 404 => "404".to_owned(),
            true => answer.own().reason,
        };
        assert_eq!(got, expected);
    }
    assert_eq!(wire.answer().await.own().status, 400);
    wire.closed().await;
}

#[tokio::test]
async fn a_head_with_more_than_one_reading_is_refused_and_the_next_connection_served() {
    let lab = Setup::encrypted().start().await;
    let host = "Host: a\r\n";
    let many = "X: y\r\n".repeat(101);
    let large = format!("X: {}\r\n", "y".repeat(40_000));
    let cases = [
        (400, "bad_host", String::new()),
        (400, "bad_host", format!("{host}{host}")),
        (400, "bad_header_name", format!("{host}X : y\r\n")),
        (400, "bad_header_name", format!("{host}X: a\r\n folded\r\n")),
        (400, "bad_line_end", format!("{host}X: a\nY: b\r\n")),
        (400, "bad_header_value", format!("{host}X: \0\r\n")),
        (400, "bad_content_length", format!("{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")),
        (400, "bad_content_length", format!("{host}Content-Length: 3\r\nContent-Length: 3\r\n")),
        (400, "bad_content_length", format!("{host}Content-Length: +3\r\n")),
        (400, "bad_transfer_encoding", format!("{host}Transfer-Encoding: gzip, chunked\r\n")),
        (400, "repeated_header", format!("{host}Guid: 1\r\nguid: 2\r\n")),
        (431, "too_many_header_fields", format!("{host}{many}")),
        (431, "head_too_large", format!("{host}{large}")),
    ];
    for (status, cause, fields) in &cases {
        let mut wire = lab.connect().await;
        // The bytes that follow belong to no request, and must not be read as one.
        let smuggled = String::from_utf8(x().bytes()).unwrap();
        wire.write(format!("GET {API}/x HTTP/1.1\r\n{fields}\r\n{smuggled}").as_bytes()).await;
        let own = wire.answer().await.own();
        assert_eq!((own.status, own.retcode.as_str(), own.close), (*status, "000-002", true), "{cause}");
        wire.closed().await;
        assert_eq!(lab.log.access(&own.request_id).await["cause"], *cause);
    }
    assert_eq!(lab.metric("previewgate_head_faults_total"), cases.len() as f64);
    assert_eq!(lab.send(&x()).await.passed().status, 200);
    assert_eq!(lab.simulator.journal().len(), 1);
}

#[tokio::test]
async fn broken_chunks_end_the_connection_and_the_upstream_request() {
    let lab = Lab::start().await;
    let mut wire = lab.connect().await;
    let head = format!("POST {API}/x/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    wire.write(head.as_bytes()).await;
    within("the first chunk to arrive", lab.simulator.wait_for_body_bytes(5)).await;
    wire.write(b"5;ext\r\nother\r\n0\r\n\r\n").await;
    let outcome = wire.try_answer().await;
    assert!(!matches!(&outcome, Ok(answer) if answer.status < 400), "{outcome:?}");
    within("the upstream to notice", lab.simulator.wait_for_requests(1)).await;
    assert!(!lab.simulator.journal()[0].complete);
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_usable() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    let mut wire = lab.connect().await;
    let refused = [
        agent.callout_request(&json!({"called": "1", "callcontrolid": 1})),
        agent.callout_request(&json!({"called": "1", "callcontrolid": 1})).without("guid"),
        agent.callout_request(&json!({"callcontrolid": 1})),
        Request::post(format!("{API}/voicecall/101/previewCallout")).body("x".repeat(2000)),
        Request::put(format!("{API}/voicecall/101/previewCallou%74")).body("{}"),
        Request::get("/elsewhere"),
        Request::put("/elsewhere").body("GET /agentgateway/resource/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    for request in refused {
        assert!(wire.send(&request).await.is_own(), "{request:?}");
        assert_eq!(wire.send(&x()).await.passed().retcode(), "0", "after {request:?}");
    }
    assert_eq!(lab.simulator.callouts().len(), 0);
}

#[tokio::test]
async fn a_refused_client_gets_no_100_continue() {
    let lab = Lab::start().await;
    let mut wire = lab.connect().await;
    let path = format!("{API}/voicecall/101/previewCallou%74");
    wire.write(
        format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").as_bytes(),
    )
    .await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("x-previewgate-reason")), (200, "ambiguous_path"));
}

#[tokio::test]
async fn one_client_gets_no_more_than_its_share() {
    let lab = Setup::plain().config(|config| config.limits.connections_per_client = 1).start().await;
    let mut only = lab.connect().await;
    only.send(&x()).await.passed();
    lab.connect().await.closed().await;
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"client_connection\"}"), 1.0);
    only.send(&x()).await.passed();
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once() {
    let lab = Setup::plain().config(|config| config.limits.connections = 2).start().await;
    let (mut first, mut second) = (lab.connect().await, lab.connect().await);
    first.send(&x()).await.passed();
    second.send(&x()).await.passed();
    lab.connect().await.closed().await;
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"connection\"}"), 1.0);
    first.send(&x()).await.passed();
    drop(second);
    lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 1.0).await;
    lab.send(&x()).await.passed();
}

#[tokio::test]
async fn too_many_requests_are_shed_and_polls_go_on() {
    let lab = Setup::plain().config(|config| config.limits.requests = 1).start().await;
    let agent = lab.agent(101).await;
    lab.metric_becomes("previewgate_requests_total{operation=\"login\",status_class=\"2xx\"}", 1.0).await;
    // An upload that is not complete holds the only place.
    let bytes = lab.simulator.body_bytes();
    let mut busy = lab.connect().await;
    busy.write(format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").as_bytes()).await;
    within("the upload to begin", lab.simulator.wait_for_body_bytes(bytes + 1)).await;
    for request in [x(), agent.callout_request(&json!({"called": "1", "callcontrolid": 1}))] {
        let own = lab.send(&request).await.own();
        assert_eq!((own.status, own.reason.as_str(), own.retcode.as_str()), (503, "overloaded", "100-007"));
    }
    lab.simulator.preview(id(101), ControlId(1), "1");
    assert_eq!(agent.poll().await.passed().json()["event"]["content"]["dialeddigits"], "1");
    busy.write(b"b").await;
    assert_eq!(busy.answer().await.passed().status, 200);
    lab.metric_becomes("previewgate_requests_total{operation=\"other\",status_class=\"2xx\"}", 1.0).await;
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"request\"}"), 2.0);
}

#[tokio::test]
async fn uploads_that_never_end_leave_places_for_callouts() {
    let lab = Setup::plain().config(|config| config.limits.requests = 8).start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    lab.metric_becomes("previewgate_requests_total{operation=\"login\",status_class=\"2xx\"}", 1.0).await;
    let mut uploads = Vec::new();
    for begun in 1..=7 {
        let bytes = lab.simulator.body_bytes();
        let mut busy = lab.connect().await;
        busy.write(format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").as_bytes()).await;
        within(format!("upload {begun}"), lab.simulator.wait_for_body_bytes(bytes + 1)).await;
        uploads.push(busy);
    }
    assert_eq!(lab.send(&x()).await.own().reason, "overloaded");
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
}

#[tokio::test]
async fn too_many_polls_are_shed_and_callouts_go_on() {
    let lab = Setup::plain().config(|config| config.limits.held_polls = 1).start().await;
    let (agent, other) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(1, "1").await;
    lab.metric_becomes("previewgate_requests_total{operation=\"getAgentEvent\",status_class=\"2xx\"}", 1.0).await;
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    let own = other.poll().await.own();
    assert_eq!((own.status, own.reason.as_str()), (503, "overloaded"));
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"poll\"}"), 1.0);
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
    assert_eq!(held.answer().await.passed().json()["event"]["eventType"], "AgentOther_PhoneAlerting");
}

#[tokio::test]
async fn a_request_whose_client_leaves_is_cancelled_upstream() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 600_000 }).on("slow"));
    for request in [Request::get(format!("{API}/slow")), agent.poll_request().id("gone")] {
        let arrived = lab.simulator.requests() + 1;
        let mut wire = lab.connect().await;
        wire.write(&request.bytes()).await;
        within("the request to arrive", lab.simulator.wait_for_requests(arrived)).await;
        drop(wire);
        within("the upstream request to be cancelled", lab.simulator.wait_for_connections_open(1)).await;
    }
    within("the poll to be let go", lab.simulator.wait_for_no_held_poll()).await;
    assert_eq!(lab.log.access("gone").await["cause"], "client_gone");
    // The abandoned poll did not consume the event.
    agent.shown(1, "1").await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_disconnected() {
    for setup in [Setup::plain(), Setup::encrypted()] {
        let lab = setup.config(|config| config.limits.body_idle_timeout = BRIEF).start().await;
        let mut wire = lab.connect().await;
        wire.write(&Request::get(format!("{API}/x/download?bytes={}", u64::MAX >> 4)).bytes()).await;
        wire.head().await;
        within("the upstream connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
        lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 0.0).await;
        // The unread rest must not fill the memory of the system.
        wire.thrown_away().await;
    }
}

#[tokio::test]
async fn a_callout_whose_body_does_not_arrive_is_refused() {
    let lab = Setup::plain().config(|config| config.limits.callout_body_timeout = BRIEF).start().await;
    let mut wire = lab.connect().await;
    let head = format!("PUT {API}/voicecall/101/previewCallout HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{");
    wire.write(head.as_bytes()).await;
    let own = wire.answer().await.own();
    assert_eq!((own.status, own.reason.as_str(), own.close), (408, "malformed_body", true));
    wire.closed().await;
}

#[tokio::test]
async fn a_held_poll_is_answered_as_soon_as_there_is_an_event() {
    let wait = Duration::from_millis(800);
    let lab = Setup::encrypted()
        .simulator(move |simulator| simulator.poll_wait = wait)
        // These limits are far below the poll's wait and do not concern it. `tests/memory` has the others too.
        .config(|config| {
            config.limits.body_idle_timeout = BRIEF;
            config.upstream.idle_timeout = BRIEF;
        })
        .start()
        .await;
    let agent = lab.agent(101).await;
    // Without an event the poll lasts as long as the upstream holds it.
    let start = Instant::now();
    assert_eq!(agent.poll().await.passed().json()["event"], json!(null));
    assert!(start.elapsed() >= wait);
    // With an event it ends long before that.
    let mut wire = lab.connect().await;
    wire.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    lab.simulator.preview(id(101), ControlId(7), "1");
    assert_eq!(wire.answer().await.passed().json()["event"]["content"]["controlid"], 7);
    assert_eq!(agent.call(7, "1").await.passed().retcode(), "0");
}

#[tokio::test]
async fn a_poll_for_longer_than_the_response_timeout_fails() {
    let lab = Setup::plain().config(|config| config.upstream.response_timeout = BRIEF).start().await;
    let agent = lab.agent(101).await;
    let own = agent.poll().await.own();
    assert_eq!((own.status, own.reason.as_str(), own.retcode.as_str()), (504, "upstream_failure", "100-007"));
    within("the upstream poll to be cancelled", lab.simulator.wait_for_no_held_poll()).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_head_affects_no_other_client() {
    let lab = Lab::start().await;
    let mut wire = lab.connect().await;
    wire.write(b"GET /agentgateway/res").await;
    drop(wire);
    assert_eq!(lab.send(&x()).await.passed().status, 200);
    lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 0.0).await;
    assert_eq!(lab.metric("previewgate_head_faults_total"), 0.0);
}

#[tokio::test]
async fn workers_share_the_previews() {
    let lab = Setup::plain().config(|config| config.runtime.workers = 4).start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    // The system spreads new connections over the workers. All 32 at the same one is practically impossible.
    for _ in 0..32 {
        assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
    }
}

#[tokio::test]
async fn a_callout_whose_client_leaves_before_it_is_complete_is_client_gone() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    for (id, rest, reason) in [
        ("left", "Content-Length: 90\r\n\r\n{\"called\"", "client_gone"),
        ("left-chunked", "Transfer-Encoding: chunked\r\n\r\n2\r\n{\"", "client_gone"),
        ("broken-chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "malformed_body"),
    ] {
        let mut wire = lab.connect().await;
        let path = format!("{API}/voicecall/101/previewCallout");
        let fields = "Host: a\r\nGuid: g\r\nContent-Type: application/json\r\n";
        let head = format!("PUT {path} HTTP/1.1\r\n{fields}X-Request-Id: {id}\r\n{rest}");
        wire.write(head.as_bytes()).await;
        drop(wire);
        let decision = lab.log.decision(id).await;
        assert_eq!((&decision["decision"], &decision["reason"]), (&"rejected".into(), &reason.into()), "{id}");
        assert_eq!(decision.get("upstream"), None, "{id}");
    }
    let metric = "previewgate_preview_callouts_total{decision=\"rejected\",reason=\"client_gone\"}";
    lab.metric_becomes(metric, 2.0).await;
    assert_eq!(lab.simulator.callouts().len(), 0);
}

/// A clock that panics as long as the switch is on.
struct BrokenClock(SystemClock, Arc<AtomicBool>);

impl Clock for BrokenClock {
    fn now(&self) -> Timestamp {
        assert!(!self.1.load(Ordering::Relaxed), "a defect");
        self.0.now()
    }
}

#[tokio::test]
async fn a_panic_is_answered_and_recorded_as_an_internal_error() {
    let broken = Arc::new(AtomicBool::new(false));
    let clock = Arc::new(BrokenClock(SystemClock::new(), Arc::clone(&broken)));
    let lab = Setup::plain().clock(clock).start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    broken.store(true, Ordering::Relaxed);
    let mut wire = lab.connect().await;
    let callout = json!({"called": "1", "callcontrolid": 1});
    wire.write(&agent.callout_request(&callout).id("panic").bytes()).await;
    let own = wire.answer().await.own();
    assert_eq!((own.status, own.retcode.as_str(), own.reason.as_str()), (500, "100-007", "internal_error"));
    let decision = lab.log.decision("panic").await;
    assert_eq!((&decision["decision"], &decision["reason"]), (&"rejected".into(), &"internal_error".into()));
    lab.metric_becomes("previewgate_panics_total", 1.0).await;
    broken.store(false, Ordering::Relaxed);
    // The connection stays usable.
    wire.write(&agent.callout_request(&callout).bytes()).await;
    assert_eq!(wire.answer().await.passed().retcode(), "0");
    assert_eq!(lab.simulator.callouts().len(), 1);
}

#[tokio::test]
async fn a_callout_is_completed_although_its_client_has_left() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 200 }).on("previewCallout"));
    let arrived = lab.simulator.requests() + 1;
    let mut wire = lab.connect().await;
    wire.write(&agent.callout_request(&json!({"called": "1", "callcontrolid": 1})).id("gone").bytes()).await;
    within("the callout to arrive", lab.simulator.wait_for_requests(arrived)).await;
    drop(wire);
    // The telephone rings now, and the record has the outcome.
    let decision = lab.log.decision("gone").await;
    assert_eq!((&decision["decision"], &decision["retcode"]), (&"forwarded".into(), &"0".into()));
    assert_eq!(lab.simulator.callouts().len(), 1);
}
