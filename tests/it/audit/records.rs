//! Each kind of record, and what it refers to.

use serde_json::{Value, json};

use crate::support::{API, AUDIT, AuditRecords, Lab, Request, Setup, id};

/// A platform with the events that follow a call, and a gateway with an audit log.
async fn lab() -> Lab {
    Setup::plain().audited().start().await
}

async fn ended(lab: Lab) -> AuditRecords {
    let Lab { gateway, site } = lab;
    gateway.close().await;
    AuditRecords::assert_follows_schema(&site.path("audit"));
    AuditRecords::read(&site.path("audit"))
}

#[tokio::test]
async fn a_call_is_told_from_the_preview_to_the_conversation() {
    let lab = lab().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345,05712346").await;
    let answer = agent.call(7, "05712346").await;
    assert_eq!(answer.verdict(), "ok");
    let call_id = answer.json()["result"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        agent.poll().await;
    }
    lab.flush_log();
    let line = lab.log.line(|line| line["method"] == "previewCallout").await;
    let records = ended(lab).await;

    let shown = records.only("shown");
    assert_eq!(
        (&shown["agent"], &shown["control_id"], &shown["delivery"], &shown["event_type"]),
        (&json!(101), &json!(7), &json!("poll"), &json!("AgentEvent_Preview_CallOut_Ex"))
    );
    assert_eq!(shown["numbers"].as_array().unwrap().len(), 2);
    assert_eq!(records.only("delivered")["shown"], json!([shown["id"]]));
    assert_eq!(records.only("delivered")["result"], "written");

    let decision = records.only("decision");
    assert_eq!(
        (
            &decision["verdict"],
            &decision["reason"],
            &decision["mode"],
            &decision["judged_by"],
            &decision["session_match"]
        ),
        (&json!("forwarded"), &json!("ok"), &json!("enforce"), &json!("memory"), &json!("own"))
    );
    assert_eq!(decision["previews"][0]["shown"], json!([shown["id"]]));
    // The verifier finds the number among those that were shown, by its hash alone.
    assert_eq!(decision["called"]["hmacs"], json!([{"key": shown["key"], "hmac": shown["numbers"][1]["hmac"]}]));
    assert_eq!(decision["session"], shown["session"]);
    let outcome = records.only("outcome");
    assert_eq!(
        (&outcome["decision"], &outcome["result"], &outcome["status"], &outcome["retcode"], &outcome["call_id"]),
        (&decision["id"], &json!("answered"), &json!(200), &json!("0"), &json!(call_id))
    );
    let phases: Vec<_> = records.of("call").into_iter().map(|call| (&call["phase"], &call["decision"])).collect();
    let decision_id = &decision["id"];
    assert_eq!(phases, [(&json!("alerting"), decision_id), (&json!("talking"), decision_id)]);
    // The decision line is made from the same record.
    assert_eq!((&line["id"], &line["seq"]), (&decision["id"], &decision["seq"]));
    assert_eq!(line["instance"], records.0[0]["instance"]);
    let position = |record: &Value| record["seq"].as_u64().unwrap();
    assert!(position(shown) < position(decision) && position(decision) < position(outcome));
    assert_eq!(*records.kinds().last().unwrap(), "checkpoint");
}

#[tokio::test]
async fn a_refused_callout_has_a_decision_and_no_outcome() {
    let lab = lab().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    assert_eq!(agent.call(7, "05719999").await.verdict(), "number_not_in_preview");
    assert_eq!(agent.call(9, "05712345").await.verdict(), "control_id_mismatch");
    let records = ended(lab).await;
    let decisions = records.of("decision");
    let reasons: Vec<_> = decisions.iter().map(|decision| (&decision["verdict"], &decision["reason"])).collect();
    let rejected = json!("rejected");
    assert_eq!(reasons, [(&rejected, &json!("number_not_in_preview")), (&rejected, &json!("control_id_mismatch"))]);
    assert_eq!(decisions[1]["previews"][0]["control_id"], 7, "what the verdict follows from");
    assert!(records.of("outcome").is_empty());
}

#[tokio::test]
async fn each_end_of_a_preview_names_its_cause() {
    let lab = lab().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    agent.released().await;
    agent.shown(8, "05712345").await;
    let again = Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&json!({"phonenum": "40038"}));
    assert_eq!(lab.send(&again).await.retcode(), "0");
    let records = ended(lab).await;
    let shown: Vec<_> = records.of("shown").iter().map(|shown| json!([shown["id"]])).collect();
    let ends: Vec<_> = records
        .of("ended")
        .iter()
        .map(|end| (end["control_id"].clone(), end["shown"].clone(), end["cause"].clone()))
        .collect();
    assert_eq!(
        ends,
        [(json!(7), shown[0].clone(), json!("released")), (json!(8), shown[1].clone(), json!("signed_in"))]
    );
}

#[tokio::test]
async fn the_configuration_is_recorded_with_each_change_and_its_trigger() {
    let lab = lab().await;
    lab.reload_with(&format!("{AUDIT}\nvalidation.mode = \"monitor\""));
    lab.reload_with(&format!("{AUDIT}\nvalidation.mode = \"enforce\""));
    let records = ended(lab).await;
    let configs = records.of("config");
    let told: Vec<_> = configs.iter().map(|config| (&config["trigger"], &config["mode"])).collect();
    let (sighup, enforce) = (json!("sighup"), json!("enforce"));
    assert_eq!(told, [(&json!("start"), &enforce), (&sighup, &json!("monitor")), (&sighup, &enforce)]);
    let change = json!([{"key": "validation.mode", "old": "\"enforce\"", "new": "\"monitor\""}]);
    assert_eq!(configs[1]["changes"], change);
    assert!(configs[0]["changes"].as_array().unwrap().len() > 40, "every key at the start");
    assert_eq!(configs[0]["configuration"], configs[2]["configuration"]);
}

#[tokio::test]
async fn a_callout_without_an_answer_has_a_decision_and_an_unknown_outcome() {
    use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
    let lab = lab().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    lab.simulator.misbehave(
        Misbehaviour::new(Fault::Break { at: Stage::AfterRequest, how: Ending::Reset })
            .on("previewCallout")
            .of(id(101)),
    );
    assert_eq!(agent.call(7, "05712345").await.status, 502);
    let records = ended(lab).await;
    assert_eq!(records.only("decision")["verdict"], "forwarded");
    let outcome = records.only("outcome");
    assert_eq!((&outcome["result"], &outcome["reason"]), (&json!("failed"), &json!("upstream_failure")));
    assert_eq!(outcome["decision"], records.only("decision")["id"]);
}

#[tokio::test]
async fn a_callout_that_reaches_no_endpoint_was_not_sent() {
    let mut lab = lab().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    lab.site.stop_simulator().await;
    assert_eq!(agent.call(7, "05712345").await.status, 502);
    let outcome = ended(lab).await;
    assert_eq!(outcome.only("outcome")["result"], "not_sent");
}

#[tokio::test]
async fn only_the_configured_members_of_call_data_are_kept() {
    let settings = "audit.evidence = [\"callData:/consentId\", \"hash:callData:/customer\"]";
    let lab = Setup::plain().audited().settings(settings).start().await;
    let agent = lab.agent(101).await;
    let data = json!({"consentId": "c-4711", "customer": "hunter2", "other": "hunter3"}).to_string();
    let content = json!({"controlid": 7, "dialeddigits": "05712345", "callData": data});
    let event = json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101", "content": content});
    lab.simulator.inject(id(101), event);
    agent.poll().await.passed();
    let records = ended(lab).await;
    let evidence = &records.only("shown")["evidence"];
    assert_eq!(evidence["callData:/consentId"], "c-4711");
    assert_eq!(evidence["hash:callData:/customer"].as_str().unwrap().len(), 32);
    assert!(!serde_json::to_string(&records.0).unwrap().contains("hunter"));
}

/// The mode of a single reason let the callouts through, although `validation.mode` is "enforce".
#[tokio::test]
async fn reasons_in_monitor_mode_are_named_as_what_allowed_a_callout() {
    for reason in ["unknown_preview", "number_not_in_preview"] {
        let lab = lab().await;
        lab.reload_with(&format!("{AUDIT}\nvalidation.reasons.{reason} = \"monitor\""));
        let agent = lab.agent(101).await;
        if reason == "number_not_in_preview" {
            agent.shown(7, "05719999").await;
        }
        agent.call(7, "05712345").await;
        let records = ended(lab).await;
        let decision = records.only("decision");
        assert_eq!((&decision["verdict"], &decision["reason"]), (&json!("unverified"), &json!(reason)));
        assert_eq!((&decision["mode"], &decision["allowed_by"]), (&json!("enforce"), &json!("reasons")), "{reason}");
    }
}
