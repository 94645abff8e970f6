//! The flight recorder: `GET /decisions` on the admin listener.

use std::time::Duration;

use serde_json::{Value, json};

use crate::callouts::lenient;
use crate::support::{API, Agent, Lab, Request, Setup};

async fn decisions(lab: &Lab, query: &str) -> Vec<Value> {
    let answer = lab.admin(&format!("/decisions{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
    answer.json()["decisions"].as_array().unwrap().clone()
}

async fn call(lab: &Lab, agent: &Agent, control_id: i64, number: &str, name: &str) -> String {
    let body = json!({"called": number, "callcontrolid": control_id});
    lab.send(&agent.callout_request(&body).id(name)).await.verdict()
}

fn ids(decisions: &[Value]) -> Vec<&str> {
    decisions.iter().map(|decision| decision["request_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_decision_shows_what_the_agent_had_been_shown() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039,77778028").await;
    agent.shown(8, "66667017").await;
    assert_eq!(call(&lab, &agent, 7, "88889039", "valid").await, "ok");
    assert_eq!(call(&lab, &agent, 7, "55556006", "wrong").await, "number_not_in_preview");
    let all = decisions(&lab, "").await;
    assert_eq!(ids(&all), ["wrong", "valid"]);
    let [wrong, valid] = &all[..] else { panic!("{all:?}") };
    for (decision, expected) in [
        (valid, json!({"decision": "forwarded", "reason": "ok", "called": "******39", "retcode": "0", "status": 200})),
        (wrong, json!({"decision": "rejected", "reason": "number_not_in_preview", "called": "******06"})),
    ] {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&decision[name], value, "{name}: {decision}");
        }
        assert_eq!((&decision["agent_id"], &decision["control_id"]), (&json!(101), &json!(7)));
        assert!(decision["preview_age_ms"].is_f64() && decision["mode"] == "enforce", "{decision}");
        // The newest first, although the callout names the other one.
        let previews = decision["previews"].as_array().unwrap();
        let shown: Vec<_> = previews.iter().map(|preview| (&preview["control_id"], &preview["numbers"])).collect();
        assert_eq!(shown, [(&json!(8), &json!(["******17"])), (&json!(7), &json!(["******28", "******39"]))]);
    }
    assert!(valid["upstream"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{valid}");
    assert!(valid["upstream_ms"].is_f64() && wrong.get("upstream").is_none(), "{all:?}");
}

/// A refusal can be explained although the preview is gone: by what ended it, and when.
#[tokio::test]
async fn each_decision_shows_what_had_ended_earlier_previews() {
    let clock = std::sync::Arc::new(crate::support::MovableClock::default());
    let lab = lenient().clock(clock.clone()).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    agent.released().await;
    clock.advance(Duration::from_secs(5));
    assert_eq!(call(&lab, &agent, 7, "100", "released").await, "unknown_preview");
    agent.shown(8, "100").await;
    let sign_in = Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&json!({"phonenum": "40038"}));
    assert_eq!(lab.send(&sign_in).await.passed().retcode(), "0");
    assert_eq!(call(&lab, &agent, 8, "100", "signed-in").await, "unknown_preview");
    let [signed_in, released] = &decisions(&lab, "").await[..] else { panic!() };
    let causes = |decision: &Value| -> Vec<_> {
        let ended = decision["ended"].as_array().unwrap().iter();
        ended.map(|end| (end["control_id"].clone(), end["cause"].clone())).collect()
    };
    let of_release = (json!(7), json!("released"));
    assert_eq!(causes(released).first(), Some(&of_release), "{released}");
    assert!(released["ended"][0]["age_ms"].as_f64().unwrap() >= 5000.0, "{released}");
    assert_eq!(causes(signed_in)[..2], [(json!(8), json!("signed_in")), of_release], "{signed_in}");
    assert_eq!((released["previews"].clone(), signed_in["previews"].clone()), (json!([]), json!([])));
}

#[tokio::test]
async fn more_previews_than_an_agent_may_have_are_named_as_the_cause() {
    let lab = lenient().config(|config| config.previews.per_agent = 1).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    agent.shown(8, "200").await;
    assert_eq!(call(&lab, &agent, 7, "100", "x").await, "control_id_mismatch");
    let [decision] = &decisions(&lab, "").await[..] else { panic!() };
    assert_eq!(decision["ended"][0]["cause"], "made_room", "{decision}");
    assert_eq!(decision["previews"][0]["control_id"], 8);
}

/// What is refused before its previews are looked up is shown with them all the same.
#[tokio::test]
async fn malformed_and_foreign_callouts_show_the_previews_too() {
    let lab = Setup::plain().settings("validation.session = \"enforce\"").lenient().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100").await;
    stranger.shown(8, "200").await;
    lab.send(&agent.callout_request(&json!({"called": "100"})).id("malformed")).await;
    let foreign = agent.callout_request(&json!({"called": "100", "callcontrolid": 7}));
    lab.send(&foreign.without("guid").guid(&stranger.guid).id("foreign")).await;
    for (name, reason) in [("malformed", "missing_field"), ("foreign", "foreign_session")] {
        let [decision] = &decisions(&lab, &format!("?id={name}")).await[..] else { panic!() };
        assert_eq!((&decision["reason"], &decision["previews"][0]["control_id"]), (&json!(reason), &json!(7)));
    }
}

#[tokio::test]
async fn decisions_are_found_by_agent_id_and_reason() {
    let lab = lenient().start().await;
    let (one, other) = (lab.agent(101).await, lab.agent(102).await);
    one.shown(7, "100").await;
    call(&lab, &one, 7, "100", "a").await;
    call(&lab, &one, 9, "100", "b").await;
    call(&lab, &other, 7, "100", "c").await;
    let nobody = Request::put(format!("{API}/voicecall/0101/previewCallout")).guid("x").id("d");
    lab.send(&nobody.json(&json!({"called": "100", "callcontrolid": 7}))).await;
    for (query, expected) in [
        ("", &["d", "c", "b", "a"][..]),
        ("?agent=101", &["b", "a"]),
        ("?agent=102", &["c"]),
        ("?id=b", &["b"]),
        ("?agent=102&id=b", &[]),
        ("?reason=control_id_mismatch", &["b"]),
        ("?reason=invalid_agent_id", &["d"]),
        ("?limit=2", &["d", "c"]),
        ("?agent=101&limit=1", &["b"]),
    ] {
        assert_eq!(ids(&decisions(&lab, query).await), expected, "{query}");
    }
    for bad in ["?agent=0101", "?reason=no", "?limit=0", "?limit=x", "?x=1", "?id=a&id=b"] {
        let answer = lab.admin(&format!("/decisions{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.json()["error"].is_string(), "{bad}");
    }
}

/// The admin listener shows masked numbers even where the log is allowed to show whole ones.
#[tokio::test]
async fn numbers_are_masked_although_the_log_is_not() {
    let lab = lenient().config(|config| config.log.mask_numbers = false).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    call(&lab, &agent, 7, "88889039", "a").await;
    call(&lab, &agent, 7, "77778028", "b").await;
    let text = lab.admin("/decisions").await.text();
    assert!(text.contains("******39") && text.contains("******28"), "{text}");
    assert!(!text.contains("88889039") && !text.contains("77778028"), "{text}");
}

/// In the bounds of the recorder: what one client sends does not push out the callouts that were forwarded.
#[tokio::test]
async fn a_flood_of_refusals_leaves_the_callout_that_was_forwarded() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    call(&lab, &agent, 7, "100", "valid").await;
    let mut wire = lab.connect().await;
    let refused = agent.callout_request(&json!({"called": "999", "callcontrolid": 7}));
    for _ in 0..1100 {
        assert_eq!(wire.send(&refused).await.verdict(), "number_not_in_preview");
    }
    let all = decisions(&lab, "").await;
    assert_eq!(all.len(), 1000);
    assert_eq!(ids(&decisions(&lab, "?reason=ok").await), ["valid"]);
}

/// One rule after the other: the mode of a reason counts before that of the gateway.
#[tokio::test]
async fn single_reasons_are_enforced_in_monitor_mode() {
    let settings = "validation.mode = \"monitor\"\nvalidation.reasons.number_not_in_preview = \"enforce\"\n\
                    validation.reasons.ambiguous_path = \"enforce\"";
    let lab = Setup::plain().settings(settings).lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(call(&lab, &agent, 7, "999", "number").await, "number_not_in_preview");
    assert_eq!(call(&lab, &agent, 8, "100", "control-id").await, "ok");
    let path = format!("{API}/voicecall/101/previewCallou%74");
    let hidden = Request::put(path).guid(&agent.guid).json(&json!({"called": "100", "callcontrolid": 7}));
    assert_eq!(lab.send(&hidden.id("path")).await.verdict(), "ambiguous_path");
    let told = |name: &'static str| {
        let lab = &lab;
        async move {
            let decision = lab.log.decision(name).await;
            (decision["decision"].as_str().unwrap().to_owned(), decision["mode"].as_str().unwrap().to_owned())
        }
    };
    let pair = |verdict: &str, mode: &str| (verdict.to_owned(), mode.to_owned());
    assert_eq!(told("number").await, pair("rejected", "enforce"));
    assert_eq!(told("control-id").await, pair("unverified", "monitor"));
    assert_eq!(told("path").await, pair("rejected", "enforce"));
    assert!(lab.admin("/").await.text().contains("Refused only for number_not_in_preview and ambiguous_path."));
}
