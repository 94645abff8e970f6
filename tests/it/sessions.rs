//! Sessions: whose GUID it is, what ends with a session, and sign-ins by account.

use serde_json::{Value, json};

use crate::observing::{answered, preview, success};
use crate::support::{API, Lab, Request, Scripted, Setup, id};

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
    crate::support::within("the sign-out to arrive", lab.simulator.wait_for_requests(arrived)).await;
    drop(wire);
    crate::support::eventually("the previews to end", || {
        lab.running().services.ledger.local().previews(id(101)).is_none()
    })
    .await;
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
