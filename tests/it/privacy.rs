//! Personal data and credentials leave the gateway only towards their destination.

use std::time::Duration;

use previewgate::config::{AccessLog, Config};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::{Value, json};

use crate::callouts::lenient;
use crate::support::{API, Lab, Request, Scripted, id};

/// Secrets, planted where the protocol has them.
const SECRETS: [&str; 12] = [
    "SecretPassword",
    "SecretServiceToken",
    "SecretCookie",
    "SecretSetCookie",
    "SecretCallData",
    "SecretAuthorization",
    "SecretExtraField",
    "SecretQuery",
    "SecretSegment",
    "SecretGuid",
    "SecretSetGuid",
    "SecretBody",
];
/// Numbers that are shown, called, and refused.
const NUMBERS: [&str; 3] = ["88889039", "77778028", "66667017"];

fn talkative(config: &mut Config) {
    config.log.level = tracing::Level::TRACE;
    config.log.access = AccessLog::All;
}

/// Everything that operators can see.
async fn visible(lab: &Lab) -> Vec<(&'static str, String)> {
    lab.flush_log();
    let mut pages = vec![("log", lab.log.text())];
    for page in ["/metrics", "/config", "/previews/101", "/previews/102", "/upstreams", "/decisions", "/"] {
        pages.push((page, lab.admin(page).await.text()));
    }
    pages
}

async fn assert_nothing_shows(lab: &Lab, guids: &[String]) {
    for (page, text) in visible(lab).await {
        let secrets = SECRETS.iter().chain(&NUMBERS).copied().chain(guids.iter().map(String::as_str));
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {page}: {text}");
        }
    }
}

fn secretive(request: Request) -> Request {
    request
        .header("Cookie", "JSESSIONID=SecretCookie")
        .header("Authorization", "Basic SecretAuthorization")
        .header("service_token", "SecretServiceToken")
}

#[tokio::test]
async fn no_secret_is_in_logs_metrics_or_pages() {
    let lab = lenient().config(talkative).simulator(|simulator| {
        simulator.events.call_data = "SecretCallData".to_owned();
    });
    let lab = lab.start().await;
    let body = json!({"password": "SecretPassword", "serviceToken": "SecretServiceToken", "phonenum": "66667017"});
    lab.send(&secretive(Request::put(format!("{API}/onlineagent/102?x=SecretQuery"))).json(&body)).await.passed();
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039,77778028").await;
    let callout = |called: &str, control_id: Value| {
        let body = json!({"called": called, "callcontrolid": control_id, "x": "SecretExtraField"});
        secretive(agent.callout_request(&body))
    };
    for request in [
        callout("88889039", json!(7)),
        callout("66667017", json!(7)),
        callout("77778028", json!(8)),
        callout("88889039,77778028", json!(7)),
        callout("88889039", json!("66667017x")),
        callout("88889039", json!(7)).without("guid"),
        callout("88889039", json!(7)).body(r#"{"called":88889039,"callcontrolid":7}"#),
        callout("88889039", json!(7)).body(r#"{"SecretBody":"88889039""#),
        callout("88889039", json!(7)).without("content-type").header("Content-Type", "text/SecretBody"),
        secretive(Request::put(format!("{API}/voicecall/88889039/previewCallout"))).guid("SecretGuid"),
        secretive(Request::put(format!("{API}/voicecall/101/previewCallout;SecretSegment"))).guid("SecretGuid"),
        secretive(Request::post(format!("{API}/textchat/SecretSegment/upload?q=SecretQuery")))
            .body("SecretBody 88889039"),
        secretive(Request::get("/SecretSegment?SecretQuery")),
        secretive(Request::get(format!("{API}/agentevent/101?calldata=SecretQuery"))).guid("SecretGuid"),
        secretive(Request::get(format!("{API}/ws/SecretSegment"))).header("Upgrade", "websocket"),
        secretive(Request::get(format!("{API}/x"))).header("Guid", "SecretGuid").header("guid", "SecretGuid"),
        secretive(Request::get(format!("{API}/x"))).header("Host", "Secret\u{e4}Segment"),
    ] {
        lab.send(&request).await;
    }
    for how in [Ending::Reset, Ending::Close] {
        for at in [Stage::BeforeRequest, Stage::AfterRequest, Stage::InsideHead, Stage::InsideBody] {
            lab.simulator.misbehave(Misbehaviour::new(Fault::Break { at, how }).on("previewCallout"));
            lab.send(&callout("88889039", json!(7))).await;
        }
    }
    lab.simulator.misbehave(Misbehaviour::new(Fault::GarbageStatusLine).on("previewCallout"));
    lab.send(&callout("88889039", json!(7))).await;
    // The log warns about unreadable answers, and does not quote them.
    let garbage =
        br#"{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","content":{"dialeddigits":"88889039"#;
    lab.simulator.inject_raw(
        id(101),
        garbage.as_slice(),
        &[("Set-GUID", "JSESSIONID=SecretSetGuid"), ("Set-Cookie", "SecretSetCookie")],
    );
    agent.poll().await.passed();
    lab.simulator.misbehave(Misbehaviour::new(Fault::GarbageBody).on("agentevent"));
    lab.simulator.preview(id(101), previewgate::preview::ControlId(9), "88889039");
    agent.poll().await.passed();
    assert_nothing_shows(&lab, &[agent.guid.clone(), lab.simulator.guid(id(102)).unwrap()]).await;
    // Without log lines the test would prove nothing.
    assert!(lab.log.lines().len() > 40, "{}", lab.log.text());
    let masked = lab.admin("/previews/101").await.text();
    assert!(masked.contains("******39"), "{masked}");
}

/// The log does not quote an upstream that sends invalid HTTP either.
#[tokio::test]
async fn a_broken_upstream_is_not_quoted() {
    for said in [
        "HTTP/1.1 200 OK\r\nSecretSetGuid\r\nContent-Length: 0\r\n\r\n",
        "SecretBody 88889039\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: SecretBody\r\n\r\n",
        "HTTP/1.1 200 SecretBody\r\nContent-Type: SecretBody\r\nContent-Encoding: SecretCallData\r\nContent-Length: 8\r\n\r\n88889039",
    ] {
        let upstream = Scripted::start(&[said.as_bytes()]).await;
        let lab = lenient().config(talkative).upstreams(&[upstream.address]).start().await;
        let mut wire = lab.connect().await;
        let _ = wire.try_send(&Request::get(format!("{API}/agentevent/101")).guid("SecretGuid")).await;
        assert_nothing_shows(&lab, &[]).await;
    }
}

#[tokio::test]
async fn equal_numbers_have_equal_hashes() {
    let lab = lenient().start().await;
    let (one, other) = (lab.agent(101).await, lab.agent(102).await);
    one.shown(7, "88889039").await;
    for (agent, number, name) in [(&one, "88889039", "a"), (&other, "88889039", "b"), (&one, "77778028", "c")] {
        let body = json!({"called": number, "callcontrolid": 7});
        lab.send(&agent.callout_request(&body).id(name)).await;
    }
    let hash = |line: Value| line["called_hash"].as_str().unwrap().to_owned();
    let (a, b, c) =
        (hash(lab.log.decision("a").await), hash(lab.log.decision("b").await), hash(lab.log.decision("c").await));
    assert_eq!(a, b);
    assert_ne!(a, c);
    assert!(a.len() == 16 && a.bytes().all(|byte| byte.is_ascii_hexdigit()), "{a}");
}

/// If the operator chooses whole numbers, they are in `called` only.
#[tokio::test]
async fn unmasked_numbers_are_in_called_only() {
    let lab = lenient().config(|config| {
        talkative(config);
        config.log.mask_numbers = false;
    });
    let lab = lab.start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    for number in ["88889039", "66667017"] {
        lab.send(&agent.callout_request(&json!({"called": number, "callcontrolid": 7})).id(&number[..2])).await;
    }
    assert_eq!(lab.log.decision("88").await["called"], "88889039");
    assert_eq!(lab.log.decision("66").await["called"], "66667017");
    tokio::time::timeout(Duration::from_secs(20), lab.log.access("66")).await.unwrap();
    for (page, text) in visible(&lab).await {
        for number in ["88889039", "66667017"] {
            let elsewhere = text.replace(&format!("\"called\":\"{number}\""), "");
            assert!(!elsewhere.contains(number), "{page}: {text}");
        }
    }
}
