//! Faults of the upstream, one test for each: the answer that the client gets, the state for the next request, and that no
//! callout is sent twice.

use previewgate::config::{Config, OnUnknownPreview};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Simulator, SimulatorConfig, Stage};
use serde_json::json;
use std::time::Duration;

use crate::support::{API, Agent, Answer, Broken, Lab, Own, Port, Request, Scripted, Setup, id, within};

const BRIEF: Duration = Duration::from_millis(300);

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

fn impatient(config: &mut Config) {
    config.upstream.response_timeout = BRIEF;
    config.limits.body_idle_timeout = BRIEF;
}

fn broken(at: Stage, how: Ending) -> Fault {
    Fault::Break { at, how }
}

/// The answers of the gateway to a failure of the upstream.
#[track_caller]
fn failed(answer: &Answer, status: u16) -> Own {
    let own = answer.own();
    assert_eq!((own.status, own.retcode.as_str(), own.reason.as_str()), (status, "100-007", "upstream_failure"));
    own
}

#[tokio::test]
async fn a_refused_connection_means_not_sent() {
    let dead = Port::reserve();
    let lab = Setup::plain().upstreams(&[dead.address]).start().await;
    for request in [x(), Request::post(format!("{API}/x")).body("{}")] {
        let own = failed(&lab.send(&request).await, 502);
        assert!(own.message.contains("not sent"), "{}", own.message);
    }
}

#[tokio::test]
async fn any_request_goes_to_the_next_endpoint_if_the_first_cannot_be_reached() {
    let second = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let first = Port::reserve();
    let lab = Setup::plain().upstreams(&[first.address, second.address()]).start().await;
    let simulator = second.handle();
    let agent = lab.agent(101).await;
    simulator.preview(id(101), previewgate::preview::ControlId(1), "1");
    agent.poll().await.passed();
    let body = "b".repeat(100_000);
    let echo = lab.send(&Request::post(format!("{API}/x")).body(body)).await.passed();
    assert_eq!(echo.json()["result"]["bytes"], 100_000);
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
    assert_eq!(simulator.callouts().len(), 1);
    let ejected = format!("previewgate_upstream_healthy{{endpoint=\"http://{}\"}}", first.address);
    assert_eq!(lab.metric(&ejected), 0.0);
    let shown = lab.admin("/upstreams").await.json();
    assert_eq!(shown["upstreams"][0]["passed_over"], true);
    assert_eq!(shown["upstreams"][1]["passed_over"], false);
}

#[tokio::test]
async fn even_a_callout_goes_to_the_next_endpoint_if_nothing_of_it_was_sent() {
    let second = Simulator::start(SimulatorConfig { lenient_callouts: true, ..Default::default() }).await.unwrap();
    let unverified = |config: &mut Config| config.validation.on_unknown_preview = OnUnknownPreview::Forward;
    let first = Port::reserve();
    let lab = Setup::plain().upstreams(&[first.address, second.address()]).config(unverified).start().await;
    // This is the first request, so the gateway does not know yet that the first endpoint is missing.
    let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("g");
    let answer = lab.send(&callout.json(&json!({"called": "1", "callcontrolid": 1}))).await.passed();
    assert_eq!(answer.retcode(), "0");
    assert_eq!(second.handle().callouts().len(), 1);
    assert_eq!(second.handle().callouts()[0].json(), json!({"called": "1", "callcontrolid": 1}));
}

#[tokio::test]
async fn an_upstream_that_returns_is_used_again() {
    let mut lab = Lab::start().await;
    lab.send(&x()).await.passed();
    lab.site.stop_simulator().await;
    failed(&lab.send(&x()).await, 502);
    let back = SimulatorConfig { address: lab.site.upstream_address(), ..SimulatorConfig::default() };
    let _simulator = Simulator::start(back).await.unwrap();
    // The only endpoint is never ejected, even if it has just failed.
    lab.send(&x()).await.passed();
}

#[tokio::test]
async fn a_certificate_of_another_host_is_not_trusted() {
    let stranger = previewgate::simulator::self_signed(&["127.0.0.1"]).unwrap();
    let tls = stranger.server_config().unwrap();
    let lab = Setup::encrypted().simulator(|simulator| simulator.tls = Some(tls)).start().await;
    let own = failed(&lab.send(&x()).await, 502);
    assert!(own.message.contains("not sent"), "{}", own.message);
    assert_eq!(lab.simulator.requests(), 0);
}

/// The client's view of each fault: a whole answer of the gateway, or a broken connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Status(u16),
    Cut,
}

/// Faults of exchanges, with the outcome for answers that are read whole and for streamed ones.
fn faults() -> Vec<(Fault, Expected, Expected)> {
    use Ending::{Close, Reset, Stall};
    use Expected::{Cut, Status};
    use Stage::{AfterHead, AfterRequest, BeforeRequest, InsideBody, InsideHead};
    vec![
        (broken(BeforeRequest, Reset), Status(502), Status(502)),
        (broken(BeforeRequest, Close), Status(502), Status(502)),
        (broken(BeforeRequest, Stall), Status(504), Status(504)),
        (broken(AfterRequest, Reset), Status(502), Status(502)),
        (broken(AfterRequest, Close), Status(502), Status(502)),
        (broken(AfterRequest, Stall), Status(504), Status(504)),
        (broken(InsideHead, Reset), Status(502), Status(502)),
        (broken(InsideHead, Close), Status(502), Status(502)),
        (broken(InsideHead, Stall), Status(504), Status(504)),
        (broken(AfterHead, Reset), Status(502), Cut),
        (broken(AfterHead, Close), Status(502), Cut),
        (broken(AfterHead, Stall), Status(504), Cut),
        (broken(InsideBody, Reset), Status(502), Cut),
        (broken(InsideBody, Close), Status(502), Cut),
        (broken(InsideBody, Stall), Status(504), Cut),
        (Fault::GarbageStatusLine, Status(502), Status(502)),
    ]
}

#[track_caller]
fn check(outcome: &Result<Answer, Broken>, expected: Expected, fault: &Fault) {
    match (outcome, expected) {
        (Ok(answer), Expected::Status(status)) => {
            let own = answer.own();
            let seen = (own.status, own.retcode.as_str(), own.reason.as_str());
            assert_eq!(seen, (status, "100-007", "upstream_failure"), "{fault:?}");
            assert!(own.message.contains("unknown"), "{fault:?}: {}", own.message);
        }
        (Err(_), Expected::Cut) => {}
        _ => panic!("{fault:?}: {outcome:?}, not {expected:?}"),
    }
}

#[tokio::test]
async fn a_callout_is_sent_at_most_once_whatever_happens() {
    for encrypted in [false, true] {
        let setup = if encrypted { Setup::encrypted() } else { Setup::plain() };
        // A second endpoint is available, and must not get the callout.
        let second = Simulator::start(SimulatorConfig { lenient_callouts: true, ..Default::default() }).await.unwrap();
        let address = second.address();
        let lab = setup
            .config(impatient)
            .config(move |config| {
                let spare = previewgate::config::EndpointUrl {
                    port: address.port(),
                    ..config.upstream.endpoints[0].url.clone()
                };
                config.upstream.endpoints.push(spare.into());
            })
            .start()
            .await;
        let agent = lab.agent(101).await;
        agent.shown(1, "1").await;
        for (fault, expected, _) in faults() {
            lab.simulator.clear_journal();
            lab.simulator.misbehave(Misbehaviour::new(fault.clone()).on("previewCallout"));
            let request = agent.callout_request(&json!({"called": "1", "callcontrolid": 1}));
            let answer = lab.connect().await.try_send(&request).await;
            check(&answer, expected, &fault);
            assert_eq!(lab.simulator.callouts().len(), 1, "{fault:?}");
            assert_eq!(second.handle().requests(), 0, "{fault:?}");
            let decision = lab.log.decision(&answer.unwrap().own().request_id).await;
            assert_eq!((&decision["decision"], &decision["reason"]), (&"forwarded".into(), &"upstream_failure".into()));
            // The upstream works again. Without an answer in between, a third timeout would eject it.
            assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
        }
    }
}

#[tokio::test]
async fn a_failed_poll_is_not_repeated_and_its_answer_is_never_cut_short() {
    let lab = Setup::plain().config(impatient).start().await;
    let agent = lab.agent(101).await;
    for (fault, expected, _) in faults() {
        lab.simulator.clear_journal();
        lab.simulator.preview(id(101), previewgate::preview::ControlId(1), "1");
        lab.simulator.misbehave(Misbehaviour::new(fault.clone()).on("agentevent"));
        let outcome = lab.connect().await.try_send(&agent.poll_request()).await;
        check(&outcome, expected, &fault);
        assert_eq!(lab.simulator.journal().len(), 1, "{fault:?}");
        if lab.simulator.events_waiting(id(101)) > 0 {
            agent.poll().await.passed();
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_that_breaks_off_is_never_silently_complete() {
    let lab = Setup::plain().config(impatient).start().await;
    for request in ["download?bytes=100000", "download?bytes=100000&chunked=1", "echo"] {
        for (fault, _, expected) in faults() {
            lab.simulator.clear_journal();
            lab.simulator.misbehave(Misbehaviour::new(fault.clone()));
            let outcome = lab.connect().await.try_send(&Request::get(format!("{API}/x/101/{request}"))).await;
            check(&outcome, expected, &fault);
            assert_eq!(lab.simulator.journal().len(), 1, "{fault:?}");
            within("the upstream connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
        }
    }
}

#[tokio::test]
async fn the_client_of_a_kept_connection_can_go_on_after_a_fault() {
    let lab = Setup::plain().config(impatient).start().await;
    let mut wire = lab.connect().await;
    for (fault, _, expected) in faults() {
        if expected != Expected::Cut {
            lab.simulator.misbehave(Misbehaviour::new(fault.clone()));
            check(&wire.try_send(&x()).await, expected, &fault);
            wire.send(&x()).await.passed();
        }
    }
}

#[tokio::test]
async fn a_broken_handshake_is_not_sent() {
    for ending in [Ending::Reset, Ending::Close] {
        let lab = Setup::encrypted().start().await;
        lab.simulator.misbehave(Misbehaviour::new(broken(Stage::OnAccept, ending)));
        let own = failed(&lab.send(&x()).await, 502);
        assert!(own.message.contains("not sent"), "{ending:?}: {}", own.message);
        lab.send(&x()).await.passed();
    }
    let lab = Setup::encrypted().config(|config| config.upstream.connect_timeout = BRIEF).start().await;
    lab.simulator.misbehave(Misbehaviour::new(broken(Stage::OnAccept, Ending::Stall)));
    let own = failed(&lab.send(&x()).await, 504);
    assert!(own.message.contains("not sent"), "{}", own.message);
}

#[tokio::test]
async fn a_poll_answered_with_garbage_passes_and_is_counted() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::GarbageBody).on("agentevent"));
    lab.simulator.preview(id(101), previewgate::preview::ControlId(1), "1");
    let answer = agent.poll().await.passed();
    assert_eq!(answer.text(), "{\"message\":\"\",\"retcode\":\"0\",\"event\":{\"eventType\":<<<\u{fffd}");
    assert_eq!(lab.metric("previewgate_event_parse_failures_total"), 1.0);
    assert_eq!(agent.call(1, "1").await.own().reason, "unknown_preview");
}

#[tokio::test]
async fn error_pages_pass_unchanged() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    for (status, phrase) in [(500, "Internal Server Error"), (503, "Service Unavailable")] {
        let callout = agent.callout_request(&json!({"called": "1", "callcontrolid": 1}));
        for request in [x(), agent.poll_request(), callout] {
            lab.simulator.misbehave(Misbehaviour::new(Fault::ServerError { status }));
            let answer = lab.send(&request).await.passed();
            assert_eq!((answer.status, answer.phrase.as_str()), (status, phrase));
            assert_eq!(answer.header("content-type"), "text/html;charset=utf-8");
            assert!(answer.text().starts_with("<html>") && answer.text().ends_with("</html>"), "{answer:?}");
        }
    }
    // An error page does not change the preview.
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
}

#[tokio::test]
async fn an_answer_with_both_framings_is_never_passed_on_with_both() {
    let lab = Lab::start().await;
    let mut wire = lab.connect().await;
    for _ in 0..3 {
        lab.simulator.misbehave(Misbehaviour::new(Fault::LengthAndChunked));
        // The strict client fails on two framings and on surplus bytes.
        let answer = wire.send(&Request::post(format!("{API}/x/101/echo")).body("b")).await;
        assert!(answer.status == 502 || answer.json()["result"]["body"] == "b", "{answer:?}");
    }
    assert_eq!(wire.send(&x()).await.passed().retcode(), "0");
}

#[tokio::test]
async fn an_unsolicited_answer_reaches_no_client() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    for number in 0..20 {
        lab.simulator.misbehave(Misbehaviour::new(Fault::ExtraResponse));
        let echo = Request::post(format!("{API}/x/101/echo")).body(number.to_string());
        let answer = lab.send(&echo).await;
        assert_eq!(answer.passed().json()["result"]["body"], number.to_string());
        let next = Request::post(format!("{API}/x/101/echo")).body("next");
        let answer = lab.connect().await.try_send(&next).await.expect("an answer");
        assert_eq!(answer.passed().json()["result"]["body"], "next");
    }
    agent.shown(1, "1").await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::ExtraResponse));
    assert_ne!(agent.call(1, "1").await.passed().json()["result"], "smuggled");
    assert_eq!(lab.simulator.callouts().len(), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_costs_no_request() {
    let lab = Lab::start().await;
    let agent: Agent = lab.agent(101).await;
    agent.shown(1, "1").await;
    let mut wire = lab.connect().await;
    for _ in 0..10 {
        lab.simulator.misbehave(Misbehaviour::new(Fault::CloseAfterAnswer));
        wire.send(&x()).await.passed();
        within("the connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
        assert_eq!(agent.call(1, "1").await.passed().retcode(), "0");
    }
    assert_eq!(lab.simulator.callouts().len(), 10);
}

#[tokio::test]
async fn a_pooled_connection_is_not_kept_for_longer_than_its_time() {
    let lab = Setup::plain().config(|config| config.upstream.idle_timeout = Duration::from_millis(100)).start().await;
    lab.send(&x()).await.passed();
    within("the idle connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_is_passed_on() {
    let upstream =
        Scripted::start(&[b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]).await;
    let lab = Setup::plain().upstreams(&[upstream.address]).start().await;
    let answer = lab.send(&Request::post(format!("{API}/x")).body("b".repeat(1000))).await.passed();
    assert_eq!((answer.status, answer.phrase.as_str()), (413, "Payload Too Large"));
}

#[tokio::test]
async fn too_large_a_head_is_a_failure_of_the_upstream() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(1_000_000));
    let upstream = Scripted::start(&[head.as_bytes()]).await;
    let lab = Setup::plain().upstreams(&[upstream.address]).start().await;
    failed(&lab.send(&x()).await, 502);
}
