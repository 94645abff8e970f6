//! Callouts that are valid and callouts that are refused. A real request produces each reason of the closed list, and the
//! tests check all its traces: answer, log and metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use previewgate::config::{Config, Mode, OnUnknownPreview};
use previewgate::preview::{ControlId, Reason};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::{Value, json};

use crate::support::{API, Agent, Answer, Lab, MovableClock, Request, Setup, id};

/// All numbers of these tests. No message to a client may name one.
const NUMBERS: [&str; 4] = ["05712345", "05712346", "05719999", "05710000"];

/// A platform that accepts every callout, so that each refusal is the gateway's.
pub(crate) fn lenient() -> Setup {
    Setup::plain().lenient()
}

/// `ok` for an answer of the upstream, otherwise the gateway's reason.
pub(crate) fn verdict(answer: &Answer) -> String {
    answer.verdict()
}

/// Sends a callout over a new connection and returns the verdict.
pub(crate) async fn judged(agent: &Agent, control_id: i64, number: &str) -> String {
    verdict(&agent.call(control_id, number).await)
}

fn callouts_total(decision: &str, reason: &str) -> String {
    format!("previewgate_preview_callouts_total{{decision=\"{decision}\",reason=\"{reason}\"}}")
}

/// The reasons that one complete request of a signed-in agent can lead to while the store and the gateway work.
fn one_request_provokes(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::SignedOut
            | Reason::ForeignSession
            | Reason::StoreUnavailable
            | Reason::AuditUnavailable
            | Reason::ClientGone
            | Reason::InternalError
    )
}

fn provokable() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| one_request_provokes(*reason))
}

/// The request that leads to each reason.
struct Provoked {
    request: Request,
    answer: Answer,
}

fn configured_for(reason: Reason, config: &mut Config) {
    match reason {
        Reason::TooLarge => config.limits.callout_body = 256,
        Reason::Overloaded => config.limits.requests = 1,
        Reason::NumberUsed => config.previews.calls_per_number = 1,
        Reason::Ok
        | Reason::UnknownPreview
        | Reason::ControlIdMismatch
        | Reason::PreviewExpired
        | Reason::NumberNotInPreview
        | Reason::MalformedBody
        | Reason::MissingField
        | Reason::InvalidAgentId
        | Reason::InvalidContentType
        | Reason::MissingGuid
        | Reason::MethodNotAllowed
        | Reason::AmbiguousPath
        | Reason::UpstreamFailure
        | Reason::SignedOut
        | Reason::ForeignSession
        | Reason::StoreUnavailable
        | Reason::AuditUnavailable
        | Reason::ClientGone
        | Reason::InternalError => {}
    }
}

/// Sends the request that leads to `reason`. Agent 101 was shown 05712345 under 7 and 05719999 under 8.
async fn provoke(lab: &Lab, clock: &MovableClock, agent: &Agent, reason: Reason) -> Provoked {
    if reason != Reason::UnknownPreview {
        agent.shown(8, "05719999").await;
        agent.shown(7, "05712345,05712346").await;
    }
    let body = |control_id: i64, number: &str| json!({"called": number, "callcontrolid": control_id});
    let good = agent.callout_request(&body(7, "05712345"));
    let bare = |method: &str, path: &str| {
        let request = Request::new(method, format!("{API}/voicecall/{path}")).guid(&agent.guid);
        request.json(&body(7, "05712345"))
    };
    let request = match reason {
        Reason::Ok | Reason::UnknownPreview | Reason::PreviewExpired | Reason::NumberUsed | Reason::Overloaded => good,
        Reason::ControlIdMismatch => agent.callout_request(&body(9, "05712345")),
        Reason::NumberNotInPreview => agent.callout_request(&body(7, "05710000")),
        Reason::MalformedBody => good.body(r#"{"called":"05712345","callcontrolid":7,"Called":"05710000"}"#),
        Reason::MissingField => good.body(r#"{"called":"05712345"}"#),
        Reason::InvalidAgentId => bare("PUT", "0101/previewCallout"),
        Reason::InvalidContentType => good.without("content-type").header("Content-Type", "text/plain"),
        Reason::MissingGuid => good.without("guid"),
        Reason::MethodNotAllowed => bare("POST", "101/previewCallout"),
        Reason::AmbiguousPath => bare("PUT", "101/previewCallout;x=y"),
        Reason::TooLarge => {
            good.body(json!({"called": "05712345", "callcontrolid": 7, "x": "x".repeat(300)}).to_string())
        }
        Reason::UpstreamFailure => {
            let broken = Fault::Break { at: Stage::AfterRequest, how: Ending::Reset };
            lab.simulator.misbehave(Misbehaviour::new(broken).on("previewCallout"));
            good
        }
        Reason::SignedOut
        | Reason::ForeignSession
        | Reason::StoreUnavailable
        | Reason::AuditUnavailable
        | Reason::ClientGone
        | Reason::InternalError => unreachable!("{reason}"),
    };
    let request = request.id(&format!("test-{reason}"));
    let answer = match reason {
        Reason::NumberUsed => {
            assert_eq!(judged(agent, 7, "05712345").await, "ok");
            lab.send(&request).await
        }
        Reason::PreviewExpired => {
            clock.advance(lab.running().generation().config.previews.ttl + Duration::from_millis(1));
            lab.send(&request).await
        }
        Reason::Overloaded => beside_another(lab, agent, &request).await,
        _ => lab.send(&request).await,
    };
    Provoked { request, answer }
}

/// Sends a callout while another request of the agent is in flight.
async fn beside_another(lab: &Lab, agent: &Agent, request: &Request) -> Answer {
    lab.simulator
        .misbehave(Misbehaviour::new(Fault::Break { at: Stage::AfterRequest, how: Ending::Stall }).on("handshake"));
    let mut first = lab.connect().await;
    let before = lab.simulator.requests();
    first.write(&Request::post(format!("{API}/onlineagent/101/handshake")).guid(&agent.guid).bytes()).await;
    lab.simulator.wait_for_requests(before + 1).await;
    lab.send(request).await
}

/// The expected status, retcode and decision of a reason in enforce mode.
fn expected(reason: Reason, reject_status: u16) -> (u16, &'static str, &'static str) {
    match reason {
        Reason::Ok => (200, "0", "forwarded"),
        Reason::UpstreamFailure => (502, "100-007", "forwarded"),
        Reason::Overloaded => (503, "100-007", "rejected"),
        Reason::NumberNotInPreview => (reject_status, "200-001", "rejected"),
        Reason::UnknownPreview
        | Reason::ControlIdMismatch
        | Reason::PreviewExpired
        | Reason::NumberUsed
        | Reason::MalformedBody
        | Reason::MissingField
        | Reason::InvalidAgentId
        | Reason::InvalidContentType
        | Reason::MissingGuid
        | Reason::MethodNotAllowed
        | Reason::AmbiguousPath
        | Reason::TooLarge => (reject_status, "000-002", "rejected"),
        Reason::SignedOut
        | Reason::ForeignSession
        | Reason::StoreUnavailable
        | Reason::AuditUnavailable
        | Reason::ClientGone
        | Reason::InternalError => unreachable!("{reason}"),
    }
}

async fn enforced(reason: Reason, reject_status: u16) -> Value {
    let setup = lenient().config(move |config| {
        config.validation.reject_status = reject_status;
        configured_for(reason, config);
    });
    let clock = Arc::new(MovableClock::default());
    let lab = setup.clock(clock.clone()).start().await;
    let agent = lab.agent(101).await;
    let (status, retcode, decision) = expected(reason, reject_status);
    let counted = lab.metric(&callouts_total(decision, reason.as_str()));
    let Provoked { request, answer } = provoke(&lab, &clock, &agent, reason).await;

    assert_eq!((answer.status, answer.retcode().as_str()), (status, retcode), "{reason}");
    match reason {
        Reason::Ok => assert_eq!(lab.simulator.callouts().last().unwrap().json(), json_of(&request), "{reason}"),
        Reason::UpstreamFailure => assert_eq!(lab.simulator.callouts().len(), 1, "{reason}: sent once"),
        Reason::NumberUsed => assert_eq!(lab.simulator.callouts().len(), 1, "{reason}: the one before"),
        _ => assert!(lab.simulator.callouts().is_empty(), "{reason}: {:?}", lab.simulator.callouts()),
    }
    if reason != Reason::Ok {
        let own = answer.own();
        assert_eq!(own.reason, reason.as_str());
        assert_eq!(own.request_id, format!("test-{reason}"));
        assert!(!NUMBERS.iter().any(|number| own.message.contains(number)), "{reason}: {}", own.message);
    }
    let line = lab.log.decision(&format!("test-{reason}")).await;
    assert_eq!(
        (&line["decision"], &line["reason"], &line["mode"], &line["status"], &line["retcode"], &line["level"]),
        (&json!(decision), &json!(reason.as_str()), &json!("enforce"), &json!(status), &json!(retcode), &json!("INFO")),
        "{line}"
    );
    let more = lab.metric(&callouts_total(decision, reason.as_str())) - counted;
    assert!(more == 1.0, "{reason}: {more}");
    line
}

fn json_of(request: &Request) -> Value {
    let bytes = request.bytes();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    serde_json::from_slice(&bytes[head + 4..]).unwrap()
}

/// The fields of the decision line that depend on how much of the request could be read.
fn fields_of(reason: Reason) -> BTreeSet<&'static str> {
    let always = [
        "ts",
        "level",
        "kind",
        "schema",
        "message",
        "method",
        "decision",
        "reason",
        "mode",
        "retcode",
        "status",
        "duration_ms",
        "id",
        "request_id",
        "client",
    ];
    let agent: &[_] = match reason {
        Reason::InvalidAgentId | Reason::MethodNotAllowed | Reason::AmbiguousPath => &[],
        _ => &["agent_id"],
    };
    let parsed = ["called", "called_hash", "control_id"];
    let rest: &[_] = match reason {
        Reason::UnknownPreview | Reason::ControlIdMismatch => &[],
        Reason::NumberNotInPreview | Reason::PreviewExpired | Reason::NumberUsed => &["preview_age_ms"],
        // The endpoint that may have received it.
        Reason::UpstreamFailure => &["preview_age_ms", "upstream"],
        Reason::Ok => &["preview_age_ms", "call_id", "upstream", "upstream_ms"],
        _ => return always.iter().chain(agent).copied().collect(),
    };
    always.iter().chain(agent).chain(&parsed).chain(rest).copied().collect()
}

#[tokio::test]
async fn every_reason_has_its_answer_and_its_traces() {
    for reason in provokable() {
        let line = enforced(reason, 200).await;
        let fields: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, fields_of(reason), "{reason}: {line}");
        if fields.contains("agent_id") {
            assert_eq!(line["agent_id"], 101);
        }
        if fields.contains("called") {
            assert!(line["called"].as_str().unwrap().starts_with("******"), "{line}");
            assert_eq!(line["control_id"], if reason == Reason::ControlIdMismatch { 9 } else { 7 });
        }
        if reason == Reason::PreviewExpired {
            assert!(line["preview_age_ms"].as_f64().unwrap() > 1000.0, "{line}");
        }
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
}

#[tokio::test]
async fn the_status_of_a_refusal_is_configurable() {
    for reason in provokable() {
        enforced(reason, 403).await;
    }
}

/// Monitor mode forwards everything unchanged, and records the reason for which enforce mode would refuse it.
#[tokio::test]
async fn monitor_mode_forwards_everything_and_logs_the_reason() {
    let judged = |reason: &Reason| !matches!(reason, Reason::Ok | Reason::Overloaded | Reason::UpstreamFailure);
    for reason in provokable().filter(judged) {
        let setup = lenient().config(move |config| {
            config.validation.mode = Mode::Monitor;
            configured_for(reason, config);
        });
        let clock = Arc::new(MovableClock::default());
        let lab = setup.clock(clock.clone()).start().await;
        let agent = lab.agent(101).await;
        let Provoked { request, answer } = provoke(&lab, &clock, &agent, reason).await;
        let answer = answer.passed();
        let id = format!("test-{reason}");
        let arrived = lab.simulator.callouts();
        let arrived = arrived.iter().find(|entry| entry.header("x-request-id") == Some(&id)).unwrap();
        let line = format!("{} {} HTTP/1.1\r\n", arrived.method, arrived.target);
        assert!(request.bytes().starts_with(line.as_bytes()) && request.bytes().ends_with(&arrived.body), "{reason}");
        let line = lab.log.decision(&id).await;
        assert_eq!(
            (&line["decision"], &line["reason"], &line["mode"], &line["status"], &line["retcode"]),
            (&json!("unverified"), &json!(reason.as_str()), &json!("monitor"), &json!(200), &json!(answer.retcode())),
            "{line}"
        );
        let mut fields = fields_of(reason);
        fields.extend(["upstream", "upstream_ms"]);
        if answer.retcode() == "0" {
            fields.insert("call_id");
        }
        let logged: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(logged, fields, "{reason}: {line}");
        assert!(lab.metric(&callouts_total("unverified", reason.as_str())) >= 1.0, "{reason}");
    }
}

/// Enforce mode refuses a method override whatever the callout is. Monitor mode must not record such a callout as `ok`.
#[tokio::test]
async fn monitor_mode_keeps_the_first_objection() {
    let lab = lenient().config(|config| config.validation.mode = Mode::Monitor).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    let callout = agent.callout_request(&json!({"called": "05712345", "callcontrolid": 7}));
    lab.send(&callout.header("X-HTTP-Method-Override", "DELETE").id("overridden")).await.passed();
    let line = lab.log.decision("overridden").await;
    assert_eq!((&line["decision"], &line["reason"]), (&json!("unverified"), &json!("method_not_allowed")));
}

/// A header field or the query may turn another request into a callout. Monitor mode forwards such a request, and records
/// it as a callout.
#[tokio::test]
async fn monitor_mode_records_what_may_become_a_callout() {
    let lab = lenient().config(|config| config.validation.mode = Mode::Monitor).start().await;
    let path = "/agentgateway/resource/voicecall/101/previewCallout";
    let rewritten = Request::put("/agentgateway/resource/voicecall/101/answer").header("X-Original-URL", path);
    let rewritten = rewritten.json(&json!({"called": "05712345", "callcontrolid": 7}));
    let preflight = Request::new("OPTIONS", format!("{path}?_method=PUT&called=05712345&callcontrolid=7"));
    let preflight = preflight.header("Origin", "https://desk.example").header("Access-Control-Request-Method", "PUT");
    for (request, id, reason) in
        [(rewritten, "rewritten", "ambiguous_path"), (preflight, "overridden", "method_not_allowed")]
    {
        lab.send(&request.guid("x.AgentGateway1").id(id)).await.passed();
        let line = lab.log.decision(id).await;
        assert_eq!((&line["decision"], &line["reason"]), (&json!("unverified"), &json!(reason)), "{line}");
    }
}

#[tokio::test]
async fn on_unknown_preview_forward_is_for_unknown_previews_only() {
    let setup = lenient().config(|config| config.validation.on_unknown_preview = OnUnknownPreview::Forward);
    let lab = setup.start().await;
    let agent = lab.agent(101).await;
    assert_eq!(judged(&agent, 7, "05712345").await, "ok");
    assert_eq!(lab.metric(&callouts_total("unverified", "unknown_preview")), 1.0);
    agent.shown(7, "05712345").await;
    assert_eq!(judged(&agent, 7, "05712345").await, "ok");
    assert_eq!(lab.metric(&callouts_total("forwarded", "ok")), 1.0);
    assert_eq!(judged(&agent, 8, "05712345").await, "control_id_mismatch");
    assert_eq!(judged(&agent, 7, "05712346").await, "number_not_in_preview");
    assert_eq!(lab.simulator.callouts().len(), 2);
}

/// The upstream gets the bytes that were judged, in the client's own spelling.
#[tokio::test]
async fn valid_callouts_are_forwarded_as_they_are() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(11776, "05712345").await;
    let bodies = [
        r#"{"called": "05712345", "callcontrolid": "11776"}"#,
        r#"{"called":"05712345","callcontrolid":11776}"#,
        "\r\n\t {\n \"called\"\t:\r\"05712345\" ,\n\n \"callcontrolid\" : 11776 }\n \t",
        r#"{"callcontrolid":"11776","x":{"called":"05710000"},"caller":"1000","\u0063alled":"0571\u0032345","y":[1,{}]}"#,
    ];
    for body in bodies {
        for (path, content_type) in [
            ("previewCallout", "application/json; charset=UTF-8"),
            ("previewcallout", "application/json;charset=UTF-8"),
            ("PreviewCallOut", "application/json"),
        ] {
            lab.simulator.clear_journal();
            let request = Request::put(format!("{API}/voicecall/101/{path}?t=1")).header("guid", &agent.guid);
            let answer = lab.send(&request.header("content-type", content_type).body(body)).await.passed();
            assert!(!answer.json()["result"].as_str().unwrap().is_empty());
            let arrived = lab.simulator.callouts();
            assert_eq!(arrived.len(), 1);
            assert_eq!(arrived[0].target, format!("{API}/voicecall/101/{path}?t=1"));
            assert_eq!(arrived[0].body, body.as_bytes());
            assert_eq!(arrived[0].header("content-type"), Some(content_type));
        }
    }
}

/// A body that another charset or a more lenient mapper could read differently arrives in plain ASCII with the same
/// meaning.
#[tokio::test]
async fn callouts_arrive_in_a_spelling_with_one_reading() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(11776, "138 0013 8000").await;
    for (body, expected) in [
        (
            "\u{feff}{\"called\":\"138 0013 8000\",\"callcontrolid\":11776}",
            r#"{"called":"138 0013 8000","callcontrolid":11776}"#,
        ),
        (
            r#"{"x":"你\",'called':'2',\"","called":"138 0013 8000\u0000","callcontrolid":11776}"#,
            r#"{"x":"\u4f60\u0022,'called':'2',\u0022","called":"138 0013 8000","callcontrolid":11776}"#,
        ),
    ] {
        lab.simulator.clear_journal();
        let request = Request::put(format!("{API}/voicecall/101/previewCallout")).header("guid", &agent.guid);
        let request = request.header("content-type", "application/json; charset='utf-8'");
        lab.send(&request.body(body)).await.passed();
        let arrived = lab.simulator.callouts();
        assert_eq!(arrived.len(), 1, "{body}");
        assert_eq!(arrived[0].body, expected.as_bytes(), "{body}");
    }
}

/// A success does not end the preview: after Call_Out_Fail the agent tries the next number of the same list.
#[tokio::test]
async fn all_numbers_of_a_list_can_be_called_in_turn() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100,101,103,105").await;
    for number in ["100", "101", "103", "105", "100"] {
        assert_eq!(judged(&agent, 7, number).await, "ok", "{number}");
        let failed = json!({"eventType": "AgentEvent_Call_Out_Fail", "workNo": "101", "content": {"called": number}});
        lab.simulator.inject(id(101), failed);
        assert_eq!(agent.poll().await.json()["event"]["eventType"], "AgentEvent_Call_Out_Fail");
    }
    for number in ["10", "1001", "100,101", "102", "00"] {
        assert_ne!(judged(&agent, 7, number).await, "ok", "{number}");
    }
    assert_eq!(lab.simulator.callouts().len(), 5);
}

/// Number, control ID and agent must belong together.
#[tokio::test]
async fn a_number_is_valid_only_with_its_control_id_and_for_its_agent() {
    let lab = lenient().start().await;
    let (one, other, third) = (lab.agent(101).await, lab.agent(102).await, lab.agent(103).await);
    one.shown(7, "05712345").await;
    one.shown(8, "05719999").await;
    other.shown(9, "05710000").await;
    for (agent, control_id, number, expected) in [
        (&one, 7, "05712345", "ok"),
        (&one, 8, "05719999", "ok"),
        (&one, 8, "05712345", "number_not_in_preview"),
        (&one, 7, "05719999", "number_not_in_preview"),
        (&one, 9, "05710000", "control_id_mismatch"),
        (&other, 9, "05710000", "ok"),
        (&other, 7, "05712345", "control_id_mismatch"),
        (&third, 7, "05712345", "unknown_preview"),
    ] {
        assert_eq!(judged(agent, control_id, number).await, expected, "{} {control_id} {number}", agent.number);
    }
    assert_eq!(lab.simulator.callouts().len(), 3);
}

#[tokio::test]
async fn the_newest_previews_of_an_agent_stay() {
    let lab = lenient().config(|config| config.previews.per_agent = 2).start().await;
    let agent = lab.agent(101).await;
    for control_id in 1..=4 {
        agent.shown(control_id, "05712345").await;
    }
    let mut verdicts = Vec::new();
    for control_id in 1..=4 {
        verdicts.push(judged(&agent, control_id, "05712345").await);
    }
    assert_eq!(verdicts, ["control_id_mismatch", "control_id_mismatch", "ok", "ok"]);
    assert_eq!(lab.metric("previewgate_previews_evicted_total{cause=\"per_agent\"}"), 2.0);
    assert_eq!(lab.metric("previewgate_previews_cached"), 2.0);
}

/// A control ID is announced twice, first without numbers. The numbers add up.
#[tokio::test]
async fn announcements_of_one_control_id_add_up() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    let first = json!({"eventType": "AgentEvent_Preview", "workNo": "101", "content": {"controlid": 0}});
    lab.simulator.inject(id(101), first);
    agent.poll().await.passed();
    assert_eq!(judged(&agent, 0, "05712345").await, "number_not_in_preview");
    agent.shown(0, "05712345").await;
    agent.shown(0, "05719999").await;
    for number in ["05712345", "05719999"] {
        assert_eq!(judged(&agent, 0, number).await, "ok");
    }
}

/// The vendor's C# client waits for `100 Continue`, and closes its connection after each answer.
#[tokio::test]
async fn a_callout_with_expect_100_continue_is_forwarded() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    for (number, expected) in [("05712345", "ok"), ("05719999", "number_not_in_preview")] {
        let body = format!(r#"{{"called":"{number}","callcontrolid":"7"}}"#);
        let head = Request::put(format!("{API}/voicecall/101/previewcallout"))
            .header("guid", &agent.guid)
            .header("Content-Type", "application/json; charset=UTF-8")
            .header("Expect", "100-continue")
            .header("Connection", "close")
            .header("Content-Length", body.len().to_string());
        let mut wire = lab.connect().await;
        wire.write(&head.bytes()).await;
        assert_eq!(wire.head().await.status, 100);
        wire.write(body.as_bytes()).await;
        assert_eq!(verdict(&wire.answer().await), expected);
        wire.closed().await;
    }
    let arrived = lab.simulator.callouts();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].header("expect"), None);
}

#[tokio::test]
async fn a_chunked_callout_is_forwarded() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    let body = r#"{"called":"05712345","callcontrolid":7}"#;
    let chunks: String =
        body.as_bytes().chunks(5).map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c))).collect();
    let request = agent.callout_request(&Value::Null).header("Transfer-Encoding", "chunked");
    let mut wire = lab.connect().await;
    let answer = wire.send(&request.body(chunks + "0\r\n\r\n")).await.passed();
    assert_eq!(answer.retcode(), "0");
    assert_eq!(lab.simulator.callouts()[0].body, body.as_bytes());
    // The connection can take the next request.
    assert_eq!(
        verdict(&wire.send(&agent.callout_request(&json!({"called": "1", "callcontrolid": 7}))).await),
        "number_not_in_preview"
    );
}

#[tokio::test]
async fn one_connection_carries_a_poll_and_a_callout() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    let mut wire = lab.connect().await;
    for control_id in 1..=20 {
        lab.simulator.preview(id(101), ControlId(control_id), "05712345");
        wire.send(&agent.poll_request()).await.passed();
        let callout = agent.callout_request(&json!({"called": "05712345", "callcontrolid": control_id}));
        assert_eq!(verdict(&wire.send(&callout).await), "ok", "{control_id}");
    }
}

#[tokio::test]
async fn concurrent_callouts_are_judged_independently() {
    let lab = lenient().config(|config| config.runtime.workers = 2).start().await;
    let mut agents = Vec::new();
    for number in 101..117 {
        let agent = lab.agent(number).await;
        agent.shown(i64::from(number), &format!("0571{number}")).await;
        agents.push(agent);
    }
    let asked = agents.iter().flat_map(|agent| {
        (101..117_u32).map(move |other| async move {
            let said = judged(agent, i64::from(other), &format!("0571{other}")).await;
            assert_eq!(said == "ok", agent.number == other, "{} as {other}: {said}", agent.number);
        })
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(lab.simulator.callouts().len(), 16);
    assert_eq!(lab.metric(&callouts_total("rejected", "control_id_mismatch")), 240.0);
}
