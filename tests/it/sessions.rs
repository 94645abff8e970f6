//! Sessions: whose GUID it is, what ends with a session, and sign-ins by account.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::observing::{answered, preview, success};
use crate::support::{API, Lab, MovableClock, Request, Scripted, Setup, Upstream, eventually, id, within};

/// A gateway with these settings in front of an upstream that answers as scripted.
async fn scripted(settings: &str, answers: &[Vec<u8>]) -> (Lab, Scripted) {
    let upstream = Scripted::start(&answers.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let lab = Setup::plain().settings(settings).lenient().upstreams(&[upstream.address]).start().await;
    (lab, upstream)
}

fn envelope(event: Option<&Value>) -> Vec<u8> {
    let mut envelope = json!({"message": "", "retcode": "0"});
    if let Some(event) = event {
        envelope["event"] = event.clone();
    }
    answered(envelope.to_string().as_bytes(), &[("Content-Type", "application/json")])
}

fn poll(agent: u32, guid: &str) -> Request {
    Request::get(format!("{API}/agentevent/{agent}")).guid(guid)
}

fn callout(agent: u32, guid: &str, control_id: i64, number: &str) -> Request {
    Request::put(format!("{API}/voicecall/{agent}/previewCallout"))
        .guid(guid)
        .json(&json!({"called": number, "callcontrolid": control_id}))
}

const UNVERIFIED: &str = "previewgate_preview_callouts_total{decision=\"unverified\",reason=\"foreign_session\"}";

#[tokio::test]
async fn a_callout_of_a_foreign_session_is_logged_and_forwarded_by_default() {
    let lab = Setup::plain().lenient().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    stranger.shown(8, "200").await;
    let request = callout(101, &stranger.guid, 7, "100").id("foreign");
    assert_eq!(lab.send(&request).await.verdict(), "ok");
    let decision = lab.log.decision("foreign").await;
    assert_eq!((&decision["decision"], &decision["reason"]), (&json!("unverified"), &json!("foreign_session")));
    assert_eq!(lab.metric(UNVERIFIED), 1.0);
    // A callout that follows from no preview keeps its own reason.
    assert_eq!(lab.send(&callout(101, &stranger.guid, 7, "999")).await.verdict(), "number_not_in_preview");
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn callouts_of_foreign_sessions_get_one_answer_whatever_they_ask_for() {
    let lab = Setup::plain().settings("validation.session = \"enforce\"").lenient().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    stranger.shown(8, "200").await;
    let mut bodies = Vec::new();
    for (control_id, number) in [(7, "100"), (7, "999"), (9, "100"), (8, "200")] {
        let answer = lab.send(&callout(101, &stranger.guid, control_id, number)).await;
        assert_eq!((answer.status, answer.verdict().as_str()), (200, "foreign_session"));
        bodies.push(answer.text());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(lab.simulator.callouts().len(), 0);
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn session_off_compares_no_guid() {
    let lab = Setup::plain().settings("validation.session = \"off\"").lenient().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    stranger.shown(8, "200").await;
    assert_eq!(lab.send(&callout(101, &stranger.guid, 7, "100").id("off")).await.verdict(), "ok");
    assert_eq!(lab.log.decision("off").await["reason"], "ok");
}

/// AUTHMODE 2: polls and heartbeats carry a new GUID now and then.
#[tokio::test]
async fn rotating_guids_stay_the_agents_own() {
    let rotated = |guid: &str| {
        let body = json!({"message": "", "retcode": "0"}).to_string();
        answered(body.as_bytes(), &[("Set-GUID", &format!("JSESSIONID={guid}")), ("Content-Type", "application/json")])
    };
    let (lab, _upstream) = scripted(
        "validation.session = \"enforce\"",
        &[
            envelope(Some(&preview("101", 7, "100"))),
            rotated("second.node"),
            success(),
            rotated("third.node"),
            success(),
        ],
    )
    .await;
    lab.send(&poll(101, "first.node")).await.passed();
    lab.send(&poll(101, "first.node")).await.passed();
    assert_eq!(lab.send(&callout(101, "second.node", 7, "100")).await.verdict(), "ok");
    let heartbeat = Request::put(format!("{API}/onlineagent/101/heartbeat")).guid("second.node");
    lab.send(&heartbeat).await.passed();
    assert_eq!(lab.send(&callout(101, "third.node", 7, "100")).await.verdict(), "ok");
    assert_eq!(lab.send(&callout(101, "nobody.node", 7, "100")).await.verdict(), "foreign_session");
}

#[tokio::test]
async fn after_a_sign_out_callouts_are_answered_100_006_until_the_next_sign_in() {
    let lab = Setup::plain().lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    let sign_out = Request::new("DELETE", format!("{API}/onlineagent/101/logout")).guid(&agent.guid);
    assert_eq!(lab.send(&sign_out).await.passed().retcode(), "0");
    let own = agent.call(7, "100").await.own();
    assert_eq!((own.status, own.retcode.as_str(), own.reason.as_str()), (200, "100-006", "signed_out"));
    let agent = lab.agent(101).await;
    assert_eq!(agent.call(7, "100").await.verdict(), "unknown_preview");
    agent.shown(8, "100").await;
    assert_eq!(agent.call(8, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn a_sign_in_by_account_ends_the_previews_of_the_agent_that_its_answer_names() {
    for (answer, ends) in [
        (r#"{"message":"","retcode":"0","result":{"workno":"101","name":"a"}}"#, true),
        (r#"{"message":"","retcode":"0","result":{"workno":101}}"#, true),
        (r#"{"message":"","retcode":"0","result":{"workno":"102"}}"#, false),
        (r#"{"message":"","retcode":"100-001","result":{"workno":"101"}}"#, false),
    ] {
        let signed_in = answered(answer.as_bytes(), &[("Set-GUID", "JSESSIONID=new.node")]);
        let (lab, upstream) = scripted("", &[envelope(Some(&preview("101", 7, "100"))), signed_in, success()]).await;
        lab.send(&poll(101, "old.node")).await.passed();
        let body = json!({"account": "a", "password": "p"});
        let sign_in = Request::put(format!("{API}/onlineagent/loginbyaccount")).json(&body);
        lab.send(&sign_in).await.passed();
        assert_eq!(upstream.seen()[1].json(), body);
        let verdict = lab.send(&callout(101, "old.node", 7, "100")).await.verdict();
        assert_eq!(verdict != "ok", ends, "{answer}: {verdict}");
    }
}

/// No valid answer comes: what the request may have ended has ended.
#[tokio::test]
async fn a_session_operation_with_an_unknown_outcome_ends_the_agents_previews() {
    let broken = b"no answer at all\r\n\r\n".to_vec();
    for (method, path) in [
        ("DELETE", "onlineagent/101/logout"),
        ("DELETE", "onlineagent/101/forcelogout"),
        ("PUT", "onlineagent/101"),
        ("PUT", "voicecall/101/cancelPreviewCallout"),
    ] {
        for (guid, ends) in [("own.node", true), ("stranger.node", false)] {
            let (lab, _upstream) =
                scripted("", &[envelope(Some(&preview("101", 7, "100"))), broken.clone(), success()]).await;
            lab.send(&poll(101, "own.node")).await.passed();
            let request = Request::new(method, format!("{API}/{path}")).guid(guid).json(&json!({"callcontrolid": 7}));
            assert_eq!(lab.send(&request).await.own().status, 502, "{method} {path}");
            let verdict = lab.send(&callout(101, "own.node", 7, "100")).await.verdict();
            assert_eq!(verdict != "ok", ends, "{method} {path} by {guid}: {verdict}");
        }
    }
}

/// The upstream acts on a sign-out although its client has left.
#[tokio::test]
async fn a_sign_out_whose_client_has_left_ends_the_previews() {
    use previewgate::simulator::{Fault, Misbehaviour};
    let lab = Setup::plain().lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 200 }).on("logout"));
    let arrived = lab.simulator.requests() + 1;
    let mut wire = lab.connect().await;
    let sign_out = Request::new("DELETE", format!("{API}/onlineagent/101/logout")).guid(&agent.guid);
    wire.write(&sign_out.bytes()).await;
    within("the sign-out to arrive", lab.simulator.wait_for_requests(arrived)).await;
    drop(wire);
    eventually("the previews to end", || lab.running().services.ledger.local().previews(id(101)).is_none()).await;
    assert_eq!(agent.call(7, "100").await.verdict(), "signed_out");
}

/// `Connection` names fields of one connection only, and a client cannot use it to remove what was evaluated.
#[tokio::test]
async fn the_connection_field_removes_neither_guid_nor_content_type() {
    let (lab, upstream) = scripted("", &[envelope(Some(&preview("101", 7, "100"))), success()]).await;
    lab.send(&poll(101, "own.node")).await.passed();
    let request =
        callout(101, "own.node", 7, "100").header("Connection", "Guid, content-type, X-Other, Content-Length");
    assert_eq!(lab.send(&request.header("X-Other", "1")).await.verdict(), "ok");
    let seen = &upstream.seen()[1];
    assert_eq!((seen.header("guid"), seen.has("content-type")), ("own.node", true));
    assert!(!seen.has("x-other"));
}

/// An answer larger than `limits.event_body` passes in pieces, and its previews count before it is complete.
#[tokio::test]
async fn previews_of_answers_of_any_size_are_recorded() {
    let events: Vec<_> = (0..400).map(|n| preview(&(101 + n).to_string(), 7, "100")).collect();
    let body = json!({"message": "", "retcode": "0", "event": events}).to_string();
    let all = answered(body.as_bytes(), &[("Content-Type", "application/json")]);
    let (lab, _upstream) = scripted("limits.event_body = 1024", &[all, success(), success()]).await;
    let answer = lab.send(&Request::get(format!("{API}/agentevent/allagentevent")).guid("g")).await.passed();
    assert_eq!(answer.text(), body);
    for agent in [101, 500] {
        assert_eq!(lab.send(&callout(agent, "g", 7, "100")).await.verdict(), "ok", "{agent}");
    }
}

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

fn coded(retcode: &str) -> Vec<u8> {
    answered(json!({"message": "no", "retcode": retcode}).to_string().as_bytes(), &JSON)
}

/// A poll of all agents shows agent 101 preview 7 with the number 100, so no session of the agent is known.
fn poll_all() -> (Request, Vec<u8>) {
    let body = json!({"message": "", "retcode": "0", "event": [preview("101", 7, "100")]}).to_string();
    (Request::get(format!("{API}/agentevent/allagentevent")).guid("supervisor.node"), answered(body.as_bytes(), &JSON))
}

/// Every kind of request about agent 101 that the gateway forwards.
fn kinds_of_request() -> Vec<Request> {
    let about = |method: &str, path: &str| Request::new(method, format!("{API}/{path}"));
    vec![
        about("GET", "agentevent/101"),
        about("PUT", "voicecall/101/cancelPreviewCallout").json(&json!({"callcontrolid": 7})),
        about("DELETE", "onlineagent/101/logout"),
        about("DELETE", "onlineagent/101/forcelogout"),
        about("PUT", "onlineagent/101/forcelogin").json(&json!({"phonenum": "1"})),
        about("PUT", "onlineagent/101/heartbeat"),
        about("POST", "onlineagent/101/handshake"),
        about("GET", "voicecall/101/whatever"),
        about("PUT", "voicecall/101/previewCallout").json(&json!({"called": "100", "callcontrolid": 7})),
    ]
}

/// Whether the preview that `first` shows to agent 101 is still there after `request` got `answer`.
async fn survives(first: &(Request, Vec<u8>), request: &Request, answer: &[u8]) -> bool {
    let (lab, _upstream) = scripted("", &[first.1.clone(), answer.to_vec(), success()]).await;
    lab.send(&first.0).await.passed();
    assert!(lab.running().services.ledger.local().previews(id(101)).is_some());
    let _ = lab.send(request).await;
    lab.running().services.ledger.local().previews(id(101)).is_some()
}

#[tokio::test]
async fn an_answer_without_session_ends_previews_by_the_agents_own_guid_only() {
    let polled = (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))));
    for request in kinds_of_request() {
        for retcode in ["100-006", "100-008"] {
            let answer = coded(retcode);
            assert!(!survives(&polled, &request.clone().guid("own.node"), &answer).await, "{request:?} {retcode}");
            assert!(survives(&polled, &request.clone().guid("invented.node"), &answer).await, "{request:?} {retcode}");
            assert!(
                survives(&poll_all(), &request.clone().guid("invented.node"), &answer).await,
                "{request:?} {retcode}"
            );
        }
        assert!(survives(&polled, &request, &coded("100-006")).await, "no GUID at all: {request:?}");
        assert!(survives(&polled, &request.clone().guid("own.node"), &coded("000-003")).await, "{request:?}");
    }
}

/// The answer can be large, in pieces, compressed, padded or declared as text.
#[tokio::test]
async fn an_answer_without_session_is_understood_in_any_form() {
    let polled = (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))));
    let heartbeat = Request::put(format!("{API}/onlineagent/101/heartbeat")).guid("own.node");
    let large = json!({"message": "x".repeat(50_000), "retcode": "100-006"}).to_string();
    let short = r#"{"message":"","retcode":"100-006"}"#;
    let chunked = |pieces: &[&str]| {
        let mut answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        pieces.iter().for_each(|piece| answer.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len())));
        format!("{answer}0\r\n\r\n").into_bytes()
    };
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, short.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    for (what, answer) in [
        ("large", answered(large.as_bytes(), &JSON)),
        ("chunked", chunked(&[short])),
        ("in pieces", chunked(&["{\"message\":\"\",\"ret", "code\":\"100-", "006\"}"])),
        ("large and in pieces", chunked(&[&large[..100], &large[100..30_000], &large[30_000..]])),
        ("text", answered(short.as_bytes(), &[("Content-Type", "text/html")])),
        ("undeclared", answered(short.as_bytes(), &[])),
        ("compressed", answered(&gzip, &[JSON[0], ("Content-Encoding", "gzip")])),
        ("padded", answered(b"{\"retcode\":\"100-008\\u0000\",\"message\":\"\"}\0", &JSON)),
        ("repeated", answered(br#"{"retcode":"100-006","RetCode":"100-006"}"#, &JSON)),
    ] {
        assert!(!survives(&polled, &heartbeat, &answer).await, "{what}");
        let (lab, _upstream) = scripted("", &[polled.1.clone(), answer.clone()]).await;
        lab.send(&polled.0).await.passed();
        let seen = lab.send(&heartbeat).await.passed();
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        if !what.contains("pieces") && what != "chunked" {
            assert_eq!(seen.body, &answer[body..], "{what}: passes unchanged");
        }
    }
}

/// An answer that the platform did not give, or that cannot be read, to a request that ends previews if it succeeds.
#[tokio::test]
async fn an_unknown_outcome_ends_previews_unless_the_guid_is_a_strangers() {
    let polled = (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))));
    let cut_off = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n{\"message\":".to_vec();
    let unreadable = [
        b"no answer at all\r\n\r\n".to_vec(),
        cut_off,
        answered(b"<html>", &[("Content-Type", "text/html")]),
        answered(b"", &JSON),
        answered(br#"{"retcode":"0","RetCode":"100-007"}"#, &JSON),
        answered(br#"{"message":"","retcode":"0""#, &JSON),
        answered(br#"{"retcode":"0"}"#, &[("Content-Encoding", "br")]),
    ];
    for request in kinds_of_request().into_iter().skip(1).take(4) {
        for answer in &unreadable {
            let text = String::from_utf8_lossy(answer).into_owned();
            assert!(!survives(&polled, &request.clone().guid("own.node"), answer).await, "{request:?} {text}");
            assert!(survives(&polled, &request.clone().guid("invented.node"), answer).await, "{request:?} {text}");
            assert!(survives(&polled, &request, answer).await, "without a GUID: {request:?} {text}");
            assert!(!survives(&poll_all(), &request.clone().guid("any.node"), answer).await, "{request:?} {text}");
        }
    }
    // Who signs another agent out is not that agent.
    let by_another = Request::post(format!("{API}/qualitycontrol/102/forcelogout/101"));
    assert!(survives(&polled, &by_another.clone().guid("invented.node"), &unreadable[0]).await);
    // A confirmation of the platform counts, whatever GUID the request had.
    for request in kinds_of_request().into_iter().skip(1).take(4).chain([by_another]) {
        assert!(!survives(&polled, &request.clone().guid("invented.node"), &coded("0")).await, "{request:?}");
    }
}

/// A stranger who closes the connection in the middle of a body brings about that the outcome is unknown.
#[tokio::test]
async fn a_stranger_who_breaks_off_a_sign_out_ends_nothing() {
    let lab = Setup::plain().lenient().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    for (path, operation) in [("logout", "logout"), ("forcelogout", "forceLogout")] {
        for (ended, guid) in [(1.0, stranger.guid.as_str()), (2.0, "invented.node")] {
            let mut wire = lab.connect().await;
            let head = format!(
                "DELETE {API}/onlineagent/101/{path} HTTP/1.1\r\nHost: a\r\nGuid: {guid}\r\nContent-Length: 100\r\n\r\nhalf"
            );
            wire.write(head.as_bytes()).await;
            drop(wire);
            let total = |class: &str| {
                lab.metric(&format!("previewgate_requests_total{{operation=\"{operation}\",status_class=\"{class}\"}}"))
            };
            eventually("the request to end", || total("none") + total("5xx") == ended).await;
        }
    }
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn a_guid_that_is_known_to_be_anothers_is_foreign_although_no_session_of_the_agent_is_known() {
    let (poll_all, shown) = poll_all();
    let (lab, _upstream) =
        scripted("validation.session = \"enforce\"", &[shown, envelope(Some(&preview("102", 8, "200"))), success()])
            .await;
    lab.send(&poll_all).await.passed();
    lab.send(&poll(102, "stranger.node")).await.passed();
    let foreign = lab.send(&callout(101, "stranger.node", 7, "100")).await.own();
    let same = lab.send(&callout(101, "stranger.node", 9, "999")).await.own();
    assert_eq!((foreign.reason.as_str(), &foreign.message), ("foreign_session", &same.message));
    // Of this one nothing is known.
    assert_eq!(lab.send(&callout(101, "any.node", 7, "100")).await.verdict(), "ok");
}

#[tokio::test]
async fn a_request_that_was_on_its_way_when_the_guid_changed_is_the_agents_own() {
    let clock = Arc::new(MovableClock::default());
    let renewed = answered(br#"{"message":"","retcode":"0"}"#, &[("Set-GUID", "JSESSIONID=second.node"), JSON[0]]);
    let upstream = Scripted::start(&[&envelope(Some(&preview("101", 7, "100"))), &renewed, &success()]).await;
    let setup = Setup::plain().settings("validation.session = \"enforce\"").lenient().clock(clock.clone());
    let lab = setup.upstreams(&[upstream.address]).start().await;
    lab.send(&poll(101, "first.node")).await.passed();
    lab.send(&Request::post(format!("{API}/onlineagent/101/handshake")).guid("first.node")).await.passed();
    for guid in ["first.node", "second.node"] {
        assert_eq!(lab.send(&callout(101, guid, 7, "100")).await.verdict(), "ok", "{guid}");
    }
    clock.advance(Duration::from_secs(120));
    assert_eq!(lab.send(&callout(101, "first.node", 7, "100")).await.verdict(), "foreign_session");
    assert_eq!(lab.send(&callout(101, "second.node", 7, "100")).await.verdict(), "ok");
    // An application that ignores the new one, as long as the platform accepts that (docs/protocol.md 9).
    lab.send(&poll(101, "first.node")).await.passed();
    assert_eq!(lab.send(&callout(101, "first.node", 7, "100")).await.verdict(), "ok");
}

/// A new GUID in the answer to a stranger's request is the stranger's.
#[tokio::test]
async fn a_stranger_cannot_have_a_guid_taken_for_the_agents_own() {
    let renewed = answered(br#"{"message":"","retcode":"0"}"#, &[("Set-GUID", "JSESSIONID=new.node"), JSON[0]]);
    for (guid, first) in [
        ("invented.node", (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))))),
        ("invented.node", poll_all()),
    ] {
        let answers = [first.1, renewed.clone(), coded("100-006"), success()];
        let (lab, _upstream) = scripted("validation.session = \"monitor\"", &answers).await;
        lab.send(&first.0).await.passed();
        let heartbeat = Request::put(format!("{API}/onlineagent/101/heartbeat"));
        lab.send(&heartbeat.clone().guid(guid)).await.passed();
        lab.send(&heartbeat.guid("new.node")).await.passed();
        assert!(lab.running().services.ledger.local().previews(id(101)).is_some());
    }
}

/// The platform ends a held poll of the earlier session when a new one begins.
#[tokio::test]
async fn a_poll_of_the_earlier_session_does_not_make_its_guid_valid_again() {
    let lab = Setup::plain().settings("validation.session = \"enforce\"").lenient().start().await;
    let earlier = lab.agent(101).await;
    let held = lab.simulator.requests() + 1;
    let mut wire = lab.connect().await;
    wire.write(&earlier.poll_request().bytes()).await;
    within("the poll", lab.simulator.wait_for_requests(held)).await;
    let sign_in = Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&json!({"phonenum": "1"}));
    let answer = lab.send(&sign_in).await.passed();
    let guid = answer.header("set-guid").trim_start_matches("JSESSIONID=").to_owned();
    wire.answer().await.passed();
    lab.simulator.preview(id(101), previewgate::preview::ControlId(7), "100");
    lab.send(&poll(101, &guid)).await.passed();
    assert_eq!(lab.send(&callout(101, &guid, 7, "100")).await.verdict(), "ok");
    assert_eq!(lab.send(&callout(101, &earlier.guid, 7, "100")).await.verdict(), "foreign_session");
}

/// What the platform confirms counts in whatever form it says so, and what it denies does not.
#[tokio::test]
async fn confirmed_and_failed_ends_are_understood_in_any_form() {
    let polled = (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))));
    let forms = |retcode: &str| {
        let large = "x".repeat(70_000);
        let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
        [
            format!("{{\"retcode\":\"{retcode}\\u0000\\u0000\",\"message\":\"\"}}\0\0"),
            format!("\u{feff}\r\n {{ \"RETCODE\" : \" {retcode} \" , \"message\" : \"a\tb\nc\u{1}\" }}"),
            format!("{{\"retcode\":\"{retcode}\",\"RetCode\":\"{retcode}\"}}"),
            format!(
                "{{\"message\":\"{large}\",\"result\":{{\"retcode\":\"7\",\"x\":{deep}}},\"retcode\":\"{retcode}\"}}"
            ),
        ]
    };
    let end_by = |number: usize| kinds_of_request().into_iter().skip(1).take(4).nth(number).unwrap();
    for number in 0..4 {
        for body in forms("0") {
            let answer = answered(body.as_bytes(), &JSON);
            assert!(!survives(&polled, &end_by(number).guid("invented.node"), &answer).await, "{number} {body:.60}");
        }
        for body in forms("000-003") {
            let answer = answered(body.as_bytes(), &JSON);
            assert!(survives(&polled, &end_by(number).guid("own.node"), &answer).await, "{number} {body:.60}");
        }
    }
}

/// A poll that began before a session ended shows what belongs to that session, also if its answer comes afterwards.
#[tokio::test]
async fn what_a_held_poll_shows_after_its_session_has_ended_is_dead() {
    let end = |path: &str, method: &str| Request::new(method, format!("{API}/{path}")).json(&json!({"phonenum": "1"}));
    for (request, by_own) in [
        (end("onlineagent/101/forcelogin", "PUT"), false),
        (end("onlineagent/101/logout", "DELETE"), true),
        (Request::post(format!("{API}/qualitycontrol/102/forcelogout/101")), false),
    ] {
        let (held, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (arrived, released) = (held.clone(), release.clone());
        let upstream = Upstream::start(move |mut peer| {
            let (arrived, released) = (arrived.clone(), released.clone());
            async move {
                while let Some(request) = peer.request().await {
                    let answer = if request.request_line().contains("agentevent") {
                        arrived.notify_one();
                        released.notified().await;
                        envelope(Some(&preview("101", 7, "100")))
                    } else {
                        answered(br#"{"message":"","retcode":"0"}"#, &[("Set-GUID", "JSESSIONID=new.node"), JSON[0]])
                    };
                    if peer.write(answer).await.is_none() {
                        return;
                    }
                }
            }
        });
        let lab = Setup::plain().lenient().upstreams(&[upstream.address]).start().await;
        let mut wire = lab.connect().await;
        wire.write(&poll(101, "own.node").bytes()).await;
        within("the poll", held.notified()).await;
        let guid = if by_own { "own.node" } else { "another.node" };
        lab.send(&request.clone().guid(guid)).await.passed();
        release.notify_one();
        let shown = wire.answer().await.passed();
        assert_eq!(shown.json()["event"]["content"]["controlid"], 7, "the poll passes unchanged");
        for guid in ["own.node", "new.node"] {
            assert_ne!(lab.send(&callout(101, guid, 7, "100")).await.verdict(), "ok", "{request:?} {guid}");
        }
    }
}

/// The answer to a sign-in by account does not name the agent, or cannot be read: the first poll with its GUID does.
#[tokio::test]
async fn a_sign_in_by_account_without_an_agent_ends_previews_once_its_guid_is_used() {
    for answer in
        [r#"{"message":"","retcode":"0","result":{}}"#, r#"{"message":"","retcode":"0","result":{"workno":"10"#]
    {
        let signed_in = answered(answer.as_bytes(), &[("Set-GUID", "JSESSIONID=new.node"), JSON[0]]);
        let shown = envelope(Some(&preview("101", 8, "200")));
        let answers = [envelope(Some(&preview("101", 7, "100"))), signed_in, shown, success()];
        let (lab, _upstream) = scripted("validation.session = \"enforce\"", &answers).await;
        lab.send(&poll(101, "old.node")).await.passed();
        let body = json!({"account": "a", "password": "p"});
        lab.send(&Request::put(format!("{API}/onlineagent/loginbyaccount")).json(&body)).await.passed();
        lab.send(&poll(101, "new.node")).await.passed();
        assert_eq!(lab.send(&callout(101, "new.node", 7, "100")).await.verdict(), "control_id_mismatch", "{answer}");
        assert_eq!(lab.send(&callout(101, "new.node", 8, "200")).await.verdict(), "ok", "{answer}");
        assert_eq!(lab.send(&callout(101, "old.node", 8, "200")).await.verdict(), "foreign_session", "{answer}");
    }
}

/// Whatever the status of an answer, it can say that the agent has no session.
#[tokio::test]
async fn an_answer_without_session_counts_with_any_status() {
    let polled = (poll(101, "own.node"), envelope(Some(&preview("101", 7, "100"))));
    for status in ["500 Error", "401 Unauthorized"] {
        for request in kinds_of_request() {
            let answer = String::from_utf8(coded("100-006")).unwrap().replacen("200 OK", status, 1);
            assert!(
                !survives(&polled, &request.clone().guid("own.node"), answer.as_bytes()).await,
                "{status} {request:?}"
            );
            let foreign = request.clone().guid("invented.node");
            assert!(survives(&polled, &foreign, answer.as_bytes()).await, "{status} {request:?}");
        }
    }
}
