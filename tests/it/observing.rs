//! The gateway records previews and their ends from the answers that pass, before the client can act on them.

use previewgate::preview::ControlId;
use previewgate::simulator::{Fault, Misbehaviour};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::callouts::{judged, lenient, verdict};
use crate::golden::{self, Delivery};
use crate::support::{API, Agent, Answer, Lab, Request, Scripted, id, within};

const PARSE_FAILURES: &str = "previewgate_event_parse_failures_total";
const UNREAD: &str = "previewgate_event_bodies_unread_total";

pub(crate) fn preview(work_no: &str, control_id: i64, number: &str) -> Value {
    let content = json!({"controlid": control_id, "dialeddigits": number});
    json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": work_no, "content": content})
}

/// An answer of an upstream, byte for byte.
pub(crate) fn answered(body: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

pub(crate) fn success() -> Vec<u8> {
    answered(br#"{"message":"","retcode":"0","result":"1-1"}"#, &[("Content-Type", "application/json")])
}

/// Every documented shape of a preview passes through a poll byte for byte, and its number can then be called.
#[tokio::test]
async fn every_golden_payload_is_recorded_when_it_is_polled() {
    // The releases between the files carry no time, because most of the files carry an older one.
    let lab = lenient().simulator(|simulator| simulator.events.generation_time = false).start().await;
    let agent = lab.agent(101).await;
    let mut wire = lab.connect().await;
    let (mut failures, mut called) = (0, 0);
    for file in golden::index().events {
        if !matches!(file.delivery, Delivery::Poll | Delivery::Foreign) {
            continue;
        }
        let (name, body) = (file.name(), file.body());
        lab.simulator.inject_raw(id(101), body.clone(), &file.headers());
        let answer = wire.send(&agent.poll_request()).await.passed();
        assert_eq!(answer.body, body, "{name}: passes unchanged");
        for (field, value) in file.headers() {
            assert_eq!(answer.header(field), value, "{name}");
        }
        let foreign = if file.delivery == Delivery::Foreign { file.expected.len() } else { 0 };
        failures += usize::from(file.unparsable) + file.unreadable + foreign;
        assert_eq!(lab.metric(PARSE_FAILURES), failures as f64, "{name}: counted");
        let shown = file.expected.iter().filter_map(|event| Some((event.control_id?, &event.numbers)));
        for (control_id, numbers) in shown.filter(|_| file.delivery == Delivery::Poll) {
            let dialable =
                numbers.iter().filter(|number| number.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            for number in dialable {
                let callout = agent.callout_request(&json!({"called": number, "callcontrolid": control_id}));
                assert_eq!(verdict(&wire.send(&callout).await), "ok", "{name}: {control_id}");
                called += 1;
            }
            let other = agent.callout_request(&json!({"called": "999", "callcontrolid": control_id}));
            assert_eq!(verdict(&wire.send(&other).await), "number_not_in_preview", "{name}");
        }
        // No preview is left for the next file.
        lab.simulator.release(id(101));
        wire.send(&agent.poll_request()).await.passed();
        assert_eq!(judged(&agent, 7, "88889039").await, "unknown_preview", "{name}");
    }
    assert!(called > 50, "{called}");
}

/// In a poll of all agents, each event belongs to the agent in its `workNo`.
#[tokio::test]
async fn events_of_an_all_agents_poll_go_to_their_agents() {
    for file in golden::index().events.iter().filter(|file| file.delivery == Delivery::PollAll) {
        let fields = file.headers();
        let upstream = Scripted::start(&[&answered(&file.body(), &fields), &success()]).await;
        let lab = lenient().upstreams(&[upstream.address]).start().await;
        let poll = Request::get(format!("{API}/agentevent/allagentevent")).guid("any");
        let answer = lab.send(&poll).await.passed();
        assert_eq!(answer.body, file.body(), "{}", file.name());
        assert_eq!(lab.metric(PARSE_FAILURES), file.unreadable as f64, "{}", file.name());
        for number in [101, 102, 103] {
            let mine = || file.expected.iter().filter(|event| event.agent == Some(number));
            let since = mine().rposition_of_end();
            for event in mine().skip(since) {
                for called in &event.numbers {
                    let body = json!({"called": called, "callcontrolid": event.control_id});
                    let callout =
                        Request::put(format!("{API}/voicecall/{number}/previewCallout")).guid("g").json(&body);
                    assert_eq!(verdict(&lab.send(&callout).await), "ok", "{}: {event:?}", file.name());
                }
            }
            let known = lab.admin(&format!("/previews/{number}")).await.json();
            let shown = mine().skip(since).filter(|event| event.control_id.is_some()).count();
            assert_eq!(known["previews"].as_array().unwrap().len(), shown, "{}: {known}", file.name());
        }
    }
}

trait AfterTheLastEnd {
    /// Count of previews to skip, so that only those after the last end are left.
    fn rposition_of_end(self) -> usize;
}

impl<'e, I: Iterator<Item = &'e golden::ExpectedEvent>> AfterTheLastEnd for I {
    fn rposition_of_end(self) -> usize {
        self.enumerate().filter(|(_, event)| event.ended).last().map_or(0, |(position, _)| position + 1)
    }
}

/// As soon as the client has the first byte of the answer, a callout over another connection is forwarded.
#[tokio::test]
async fn recorded_before_the_first_byte_goes_out() {
    let lab = lenient().config(|config| config.runtime.workers = 2).start().await;
    let agent = lab.agent(101).await;
    let (mut polling, mut calling) = (lab.connect().await, lab.connect().await);
    for control_id in 1..=200 {
        polling.write(&agent.poll_request().bytes()).await;
        lab.simulator.preview(id(101), ControlId(control_id), "100");
        let mut answer = polling.some().await;
        let callout = agent.callout_request(&json!({"called": "100", "callcontrolid": control_id}));
        assert_eq!(verdict(&calling.send(&callout).await), "ok", "{control_id}");
        while !answer.ends_with(b"}") {
            answer.extend(polling.some().await);
        }
    }
}

/// When two polls of one agent are answered at the same time, no preview is lost.
#[tokio::test]
async fn two_polls_answered_at_once_are_both_recorded() {
    let lab = lenient().config(|config| config.runtime.workers = 2).start().await;
    let agent = lab.agent(101).await;
    let (mut one, mut other) = (lab.connect().await, lab.connect().await);
    for round in 0..50 {
        let (first, second) = (2 * round + 1, 2 * round + 2);
        one.write(&agent.poll_request().bytes()).await;
        other.write(&agent.poll_request().bytes()).await;
        lab.simulator.preview(id(101), ControlId(first), "100");
        lab.simulator.preview(id(101), ControlId(second), "101");
        futures_util::future::join(one.answer(), other.answer()).await;
        assert_eq!(judged(&agent, first, "100").await, "ok");
        assert_eq!(judged(&agent, second, "101").await, "ok");
    }
}

/// The platform counts an event as delivered once the answer has begun; so does the gateway.
#[tokio::test]
async fn a_poll_is_recorded_although_its_client_has_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lab = lenient().upstreams(&[listener.local_addr().unwrap()]).start().await;
    let mut wire = lab.connect().await;
    wire.write(&Request::get(format!("{API}/agentevent/101")).guid("g").bytes()).await;
    let mut platform = within("the poll", listener.accept()).await.unwrap().0;
    until_blank_line(&mut platform).await;
    let body = json!({"message": "", "retcode": "0", "event": preview("101", 7, "100")}).to_string();
    let answer = answered(body.as_bytes(), &[("Content-Type", "application/json")]);
    let (beginning, rest) = answer.split_at(answer.len() - body.len() / 2);
    platform.write_all(beginning).await.unwrap();
    // Waits until the gateway has seen the head: the upstream metrics count the answer then.
    lab.metric_becomes("previewgate_upstream_duration_seconds_count{operation=\"getAgentEvent\"}", 1.0).await;
    drop(wire);
    lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 0.0).await;
    platform.write_all(rest).await.unwrap();
    lab.metric_becomes("previewgate_previews_cached", 1.0).await;
    let known = lab.admin("/previews/101").await.json();
    assert_eq!(known["previews"][0]["control_id"], 7);
}

async fn until_blank_line(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        within("a request head", socket.read_buf(&mut head)).await.unwrap();
    }
}

#[tokio::test]
async fn an_event_of_another_agent_in_a_single_poll_is_not_recorded() {
    let lab = lenient().start().await;
    let (one, other) = (lab.agent(101).await, lab.agent(102).await);
    other.shown(9, "100").await;
    for event in [preview("102", 7, "100"), json!({"eventType": "AgentEvent_Release_Preview", "workNo": "102"})] {
        lab.simulator.inject(id(101), event);
        one.poll().await.passed();
    }
    assert_eq!(judged(&one, 7, "100").await, "unknown_preview");
    assert_eq!(judged(&other, 7, "100").await, "control_id_mismatch");
    assert_eq!(judged(&other, 9, "100").await, "ok");
    assert_eq!(lab.metric(PARSE_FAILURES), 2.0);
}

/// An answer above the limit passes unchanged, and its previews are recorded.
#[tokio::test]
async fn answers_above_the_limit_pass_and_are_read() {
    let lab = lenient().config(|config| config.limits.event_body = 1024).start().await;
    let agent = lab.agent(101).await;
    for length in [100, 2000, 3_000_000] {
        let content = json!({"controlid": length, "dialeddigits": "100", "callData": "x".repeat(length)});
        let event = json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101", "content": content});
        lab.simulator.inject(id(101), event);
        let answer = agent.poll().await.passed();
        assert_eq!(answer.json()["event"]["content"], content);
        assert_eq!(judged(&agent, length as i64, "100").await, "ok", "{length}");
    }
    // This also holds without a Content-Length.
    let huge = Misbehaviour::new(Fault::HugeEvent { bytes: 100_000 }).on("agentevent");
    lab.simulator.misbehave(huge);
    assert!(agent.poll().await.passed().body.len() > 100_000);
    assert_eq!(lab.metric(UNREAD), 0.0);
}

/// A compressed answer is not decoded beyond the limit. It passes, and is counted.
#[tokio::test]
async fn a_small_answer_cannot_become_a_large_one() {
    use std::io::Write;
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 8 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    lab.simulator.inject_raw(id(101), bomb.clone(), &[("Content-Encoding", "gzip")]);
    assert_eq!(agent.poll().await.passed().body, bomb);
    assert_eq!(lab.metric(PARSE_FAILURES), 1.0);
}

/// Each request that ends an agent's previews, and requests that do not.
#[tokio::test]
async fn session_operations_end_previews_and_other_requests_do_not() {
    type Ending = (&'static str, fn(&Agent) -> Request, bool);
    fn of(agent: &Agent, method: &str, path: &str) -> Request {
        Request::new(method, format!("{API}/{path}")).guid(&agent.guid)
    }
    let cases: [Ending; 13] = [
        ("sign-in, refused: signed in already", |a| of(a, "PUT", "onlineagent/101").json(&json!({})), false),
        ("loginex, refused", |a| of(a, "PUT", "onlineagent/101/loginex").json(&json!({})), false),
        ("forced sign-in", |a| of(a, "PUT", "onlineagent/101/forcelogin").json(&json!({})), true),
        ("sign-out", |a| of(a, "DELETE", "onlineagent/101/logout"), true),
        ("forced sign-out", |a| of(a, "DELETE", "onlineagent/101/forcelogout"), true),
        ("sign-out, no permission", |a| of(a, "DELETE", "onlineagent/101/logout").without("guid").guid("x"), false),
        ("supervisor, no permission", |a| of(a, "POST", "qualitycontrol/102/forcelogout/101"), false),
        ("handshake", |a| of(a, "POST", "onlineagent/101/handshake"), false),
        ("updateGuid", |a| of(a, "POST", "onlineagent/101/updateGuid"), false),
        ("syncagentinfo", |a| of(a, "POST", "onlineagent/101/syncagentinfo"), false),
        ("cancel", |a| of(a, "PUT", "voicecall/101/cancelPreviewCallout").json(&json!({"callcontrolid": 7})), true),
        (
            "cancel, quoted",
            |a| of(a, "PUT", "voicecall/101/cancelpreviewcallout").json(&json!({"callcontrolid": "7"})),
            true,
        ),
        (
            "cancel of another",
            |a| of(a, "PUT", "voicecall/101/cancelPreviewCallout").json(&json!({"callcontrolid": 6})),
            false,
        ),
    ];
    for (what, request, ends) in cases {
        let lab = lenient().start().await;
        let (agent, _supervisor) = (lab.agent(101).await, lab.agent(102).await);
        agent.shown(7, "100").await;
        lab.send(&request(&agent)).await.passed();
        assert_eq!(judged(&agent, 7, "100").await != "ok", ends, "{what}");
    }
}

#[tokio::test]
async fn events_that_end_previews() {
    for event_type in ["AgentEvent_Release_Preview", "AgentOther_ShutdownService"] {
        let lab = lenient().start().await;
        let agent = lab.agent(101).await;
        agent.shown(7, "100").await;
        agent.shown(8, "101").await;
        lab.simulator.inject(id(101), json!({"eventType": event_type, "workNo": "101", "content": null}));
        agent.poll().await.passed();
        assert_eq!(judged(&agent, 7, "100").await, "unknown_preview", "{event_type}");
        assert_eq!(judged(&agent, 8, "101").await, "unknown_preview", "{event_type}");
        assert_eq!(lab.metric("previewgate_previews_cached"), 0.0);
    }
}

#[tokio::test]
async fn cancelling_ends_that_preview_only() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    agent.shown(8, "101").await;
    let cancel = |body: &str| {
        let request = Request::put(format!("{API}/voicecall/101/cancelPreviewCallout")).guid(&agent.guid);
        request.header("Content-Type", "application/json").body(body)
    };
    assert_eq!(lab.send(&cancel(r#"{"callcontrolid":7}"#)).await.passed().retcode(), "0");
    assert_eq!(judged(&agent, 7, "100").await, "control_id_mismatch");
    assert_eq!(judged(&agent, 8, "101").await, "ok");
    // The gateway cannot know which preview the platform takes back, so all end.
    agent.shown(7, "100").await;
    assert_eq!(lab.send(&cancel(r#"{"callcontrolid":9,"callcontrolid":7}"#)).await.passed().retcode(), "0");
    assert_eq!(judged(&agent, 8, "101").await, "unknown_preview");
}

/// Sign-in and sign-out through the supervisor.
#[tokio::test]
async fn a_supervisor_signs_another_agent_out() {
    let lab = lenient().start().await;
    let (agent, supervisor) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    supervisor.shown(8, "100").await;
    let forced = Request::post(format!("{API}/qualitycontrol/102/forcelogout/101")).guid(&supervisor.guid);
    assert_eq!(lab.send(&forced).await.passed().retcode(), "0");
    assert_eq!(judged(&agent, 7, "100").await, "signed_out");
    assert_eq!(judged(&supervisor, 8, "100").await, "ok");
}

/// A supervisor without a session gets 100-006, which says nothing about the agent.
#[tokio::test]
async fn a_supervisor_without_a_session_ends_no_previews() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    let forced = Request::post(format!("{API}/qualitycontrol/102/forcelogout/101")).guid("nobody");
    assert_eq!(lab.send(&forced).await.passed().retcode(), "100-006");
    assert_eq!(judged(&agent, 7, "100").await, "ok");
}

/// 100-006 and 100-008 say that the agent has no session, in answer to any request.
#[tokio::test]
async fn any_answer_without_session_ends_previews() {
    let paths = [
        ("GET", "agentevent/101"),
        ("PUT", "voicecall/101/previewCallout"),
        ("PUT", "voicecall/101/cancelPreviewCallout"),
        ("GET", "voicecall/101/answer"),
        ("POST", "onlineagent/101/handshake"),
        ("PUT", "onlineagent/101"),
        ("DELETE", "onlineagent/101/logout"),
    ];
    for retcode in ["100-006", "100-008", "100-007"] {
        for (method, path) in paths {
            let shown = json!({"message": "", "retcode": "0", "event": preview("101", 7, "100")}).to_string();
            let said = json!({"message": "no session", "retcode": retcode}).to_string();
            let json = [("Content-Type", "application/json;charset=UTF-8")];
            let script = [answered(shown.as_bytes(), &json), answered(said.as_bytes(), &json), success()];
            let upstream = Scripted::start(&script.each_ref().map(Vec::as_slice)).await;
            let lab = lenient().upstreams(&[upstream.address]).start().await;
            let request = |method: &str, path: &str| {
                let body = json!({"called": "100", "callcontrolid": 7});
                let request = Request::new(method, format!("{API}/{path}")).guid("g");
                if method == "PUT" { request.json(&body) } else { request }
            };
            lab.send(&request("GET", "agentevent/101")).await.passed();
            assert_eq!(lab.send(&request(method, path)).await.passed().retcode(), retcode, "{path}");
            let after = verdict(&lab.send(&request("PUT", "voicecall/101/previewCallout")).await);
            let expected = if retcode == "100-007" { "ok" } else { "signed_out" };
            assert_eq!(after, expected, "{retcode} to {method} {path}");
        }
    }
}

/// A client may ask for compressed answers, so the answer to a callout may be compressed.
#[tokio::test]
async fn compressed_answers_to_callouts_are_understood() {
    use std::io::Write;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        answered(&encoder.finish().unwrap(), &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")])
    };
    let shown = json!({"message": "", "retcode": "0", "event": preview("101", 7, "100")}).to_string();
    let script = [
        gzip(&shown),
        gzip(r#"{"message":"","retcode":"0","result":"1455885056-1095"}"#),
        gzip(r#"{"message":"","retcode":"100-006"}"#),
    ];
    let upstream = Scripted::start(&script.each_ref().map(Vec::as_slice)).await;
    let lab = lenient().upstreams(&[upstream.address]).start().await;
    let gzipped = |request: Request| request.guid("g").header("Accept-Encoding", "gzip");
    lab.send(&gzipped(Request::get(format!("{API}/agentevent/101")))).await.passed();
    let callout = |id: &str| {
        let request = gzipped(Request::put(format!("{API}/voicecall/101/previewCallout"))).id(id);
        request.json(&json!({"called": "100", "callcontrolid": 7}))
    };
    lab.send(&callout("first")).await.passed();
    let line = lab.log.decision("first").await;
    assert_eq!((&line["retcode"], &line["call_id"]), (&json!("0"), &json!("1455885056-1095")));
    lab.send(&callout("second")).await.passed();
    assert_eq!(lab.log.decision("second").await["retcode"], "100-006");
    assert_eq!(verdict(&lab.send(&callout("third")).await), "signed_out");
}

/// An answer that shows a failure changes nothing. One that may show a success ends the previews.
#[tokio::test]
async fn an_answer_that_is_no_success_changes_nothing() {
    for (method, path) in [
        ("PUT", "onlineagent/101"),
        ("PUT", "onlineagent/101/loginex"),
        ("PUT", "onlineagent/101/forcelogin"),
        ("DELETE", "onlineagent/101/logout"),
        ("DELETE", "onlineagent/101/forcelogout"),
        ("POST", "qualitycontrol/102/forcelogout/101"),
        ("PUT", "voicecall/101/cancelPreviewCallout"),
    ] {
        for (said, ends) in [
            (r#"{"message":"","retcode":"0"}"#, true),
            (r#"{"message":"","retcode":"000-003"}"#, false),
            ("<html>", true),
            ("", true),
            ("{\"retcode\":\"0\",\"retcode\":\"100-001\"}", true),
            ("{\"RetCode\":\"0\\u0000\"}\0", true),
            ("{\"retcode\":\"100-001\\u0000\"}", false),
        ] {
            let shown = json!({"message": "", "retcode": "0", "event": preview("101", 7, "100")}).to_string();
            let script = [answered(shown.as_bytes(), &[]), answered(said.as_bytes(), &[]), success()];
            let upstream = Scripted::start(&script.each_ref().map(Vec::as_slice)).await;
            let lab = lenient().upstreams(&[upstream.address]).start().await;
            lab.send(&Request::get(format!("{API}/agentevent/101")).guid("g")).await.passed();
            let body = json!({"called": "100", "callcontrolid": 7});
            lab.send(&Request::new(method, format!("{API}/{path}")).guid("g").json(&body)).await.passed();
            let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("g").json(&body);
            assert_eq!(verdict(&lab.send(&callout).await) != "ok", ends, "{method} {path}: {said}");
        }
    }
}

/// Events are counted by type and delivery.
#[tokio::test]
async fn events_are_counted_by_type_and_delivery() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    agent.shown(8, "100,101").await;
    lab.simulator.inject(id(101), json!({"eventType": "AgentEvent_Talking", "workNo": "101", "content": null}));
    agent.poll().await.passed();
    lab.simulator.preview(id(101), ControlId(9), "100");
    let all: Answer = lab.send(&Request::get(format!("{API}/agentevent/allagentevent")).guid(&agent.guid)).await;
    assert_eq!(all.passed().json()["event"].as_array().unwrap().len(), 1);
    let counted = |event: &str, delivery: &str, lab: &Lab| {
        lab.metric(&format!("previewgate_preview_events_total{{event_type=\"{event}\",delivery=\"{delivery}\"}}"))
    };
    for (event, delivery) in [
        ("AgentEvent_Preview_CallOut", "poll"),
        ("AgentEvent_Preview_CallOut_Ex", "poll"),
        ("other", "poll"),
        ("AgentEvent_Preview_CallOut", "poll_all"),
    ] {
        assert_eq!(counted(event, delivery, &lab), 1.0, "{event} {delivery}");
    }
    assert_eq!(judged(&agent, 9, "100").await, "ok");
}

/// A developer of an application sees in the log which preview reached which agent, and the cause of its end.
#[tokio::test]
async fn with_debug_the_log_shows_each_preview_that_is_recorded_and_each_that_ends() {
    let settings = "log.level = \"debug\"\npreviews.per_agent = 2";
    let lab = lenient().settings(settings).start().await;
    let agent = lab.agent(101).await;
    for control_id in 1..=4 {
        agent.shown(control_id, "05712345,05712346").await;
    }
    let cancel = Request::put(format!("{API}/voicecall/101/cancelPreviewCallout")).guid(&agent.guid);
    assert_eq!(lab.send(&cancel.json(&json!({"callcontrolid": 3}))).await.retcode(), "0");
    agent.released().await;
    lab.flush_log();
    let lines: Vec<Value> = lab.log.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for control_id in 1..=4 {
        let words = format!("preview {control_id} reached agent 101");
        let line = lines.iter().find(|line| line["message"] == words).unwrap_or_else(|| panic!("{words}: {lines:#?}"));
        assert!(line["numbers"].as_str().unwrap().starts_with("******45"), "{line}");
    }
    let ended = lines.iter().filter(|line| line["message"] == "preview ended");
    let ended: Vec<_> =
        ended.map(|line| (line["control_id"].as_i64().unwrap(), line["cause"].as_str().unwrap())).collect();
    let expected = [(1, "per_agent"), (2, "per_agent"), (3, "cancelled"), (4, "released")];
    assert_eq!(ended, expected, "{lines:#?}");
}
