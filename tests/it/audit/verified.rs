//! What the gateway records, the verifier proves: each verdict follows again from the records, and nothing is in doubt
//! without a stated cause.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use previewgate::audit::note::Signer;
use previewgate::audit::verify::{Grade, Request as Verify, Result as Proof, Verification, verify};
use previewgate::preview::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::push::PushSite;
use crate::support::{
    API, AUDIT, Agent, AuditRecords, Lab, MovableClock, Request, Setup, Site, eventually, id, within,
};

fn verified(site: &Site, directories: &[PathBuf]) -> Verification {
    for directory in directories {
        AuditRecords::assert_follows_schema(directory);
    }
    let key = Signer::read(&site.path("audit.key")).unwrap().verifier().clone();
    verify(&Verify { directories, keys: &[key], anchor: None }).unwrap()
}

/// Ends the gateway and verifies its log.
async fn ended(lab: Lab) -> Verification {
    let Lab { gateway, site } = lab;
    gateway.close().await;
    verified(&site, &[site.path("audit")])
}

/// The log is proved, and has these decisions: verdict, reason, number. `by_rule` of them follow from the rule; something
/// else decided about the others.
#[track_caller]
fn assert_proved(verification: &Verification, decisions: &[(&str, &str, u64)], by_rule: u64) {
    assert_eq!(verification.findings.all(), []);
    assert_eq!(verification.result(), Proof::Proved);
    let found = &verification.decisions;
    let expected = decisions.iter().map(|(verdict, reason, count)| (((*verdict).into(), (*reason).into()), *count));
    assert_eq!(found.by_reason, expected.collect());
    let all: u64 = decisions.iter().map(|(.., count)| count).sum();
    assert_eq!((found.derived, found.not_by_rule, found.unknown), (by_rule, all - by_rule, 0));
    let sent: u64 = decisions.iter().filter(|(verdict, ..)| *verdict != "rejected").map(|(.., count)| count).sum();
    assert_eq!((found.answered + found.failed + found.not_sent, found.open), (sent, 0));
    let chain = &verification.chains[0];
    assert!(chain.closed && chain.sealed == chain.lines.map(|(_, last)| last), "{chain:?}");
}

async fn sign_in_again(lab: &Lab, number: u32) {
    let again = Request::put(format!("{API}/onlineagent/{number}/forcelogin")).json(&json!({"phonenum": "40038"}));
    assert_eq!(lab.send(&again).await.retcode(), "0");
}

/// Decisions, previews and ends are in order by one clock: here it stands still, and each sign-in moves it on.
#[tokio::test]
async fn events_of_one_millisecond_are_proved() {
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let lab = Setup::plain().audited().clock(clock).start().await;
    let agents = [lab.agent(101).await, lab.agent(102).await, lab.agent(103).await];
    for agent in &agents {
        agent.shown(7, "5550101").await;
        assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
        for _ in 0..3 {
            agent.poll().await;
        }
        agent.released().await;
        assert_eq!(agent.call(7, "5550101").await.verdict(), "unknown_preview");
    }
    let verification = ended(lab).await;
    assert_proved(&verification, &[("forwarded", "ok", 3), ("rejected", "unknown_preview", 3)], 6);
}

#[tokio::test]
async fn a_day_of_calls_and_refusals_is_proved() {
    let lab = Setup::plain().audited().start().await;
    let agent = lab.agent(101).await;
    for control_id in 7..10 {
        agent.shown(control_id, "05712345,05712346").await;
        assert_eq!(agent.call(control_id, "05712346").await.verdict(), "ok");
        for _ in 0..3 {
            agent.poll().await;
        }
        assert_eq!(agent.call(control_id, "05719999").await.verdict(), "number_not_in_preview");
        assert_eq!(agent.call(control_id + 50, "05712346").await.verdict(), "control_id_mismatch");
        agent.released().await;
    }
    assert_eq!(agent.call(7, "05712345").await.verdict(), "unknown_preview");
    sign_in_again(&lab, 101).await;
    let verification = ended(lab).await;
    let decisions = [
        ("forwarded", "ok", 3),
        ("rejected", "control_id_mismatch", 3),
        ("rejected", "number_not_in_preview", 3),
        ("rejected", "unknown_preview", 1),
    ];
    assert_proved(&verification, &decisions, 10);
    assert_eq!(verification.decisions.answered, 3);
}

/// A callout that cannot be understood has no verdict of the rule, and the log is whole all the same.
#[tokio::test]
async fn refusals_of_malformed_callouts_are_proved() {
    let lab = Setup::plain().lenient().audited().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    let callout = json!({"called": "05712345", "callcontrolid": 7});
    let path = |path: &str| Request::put(format!("{API}/voicecall/{path}")).guid(&agent.guid).json(&callout);
    let text = agent.callout_request(&callout).without("Content-Type").header("Content-Type", "text/plain");
    let post = Request::post(format!("{API}/voicecall/101/previewCallout")).guid(&agent.guid).json(&callout);
    let half = agent.callout_request(&callout).without("Content-Length").body("{\"called\":");
    let large = json!({"called": "05712345", "callcontrolid": 7, "x": "x".repeat(80 * 1024)});
    let requests = [
        ("ambiguous_path", path("101/previewCallout;x")),
        ("invalid_agent_id", path("0101/previewCallout")),
        ("invalid_content_type", text),
        ("malformed_body", half),
        ("method_not_allowed", post),
        ("missing_field", agent.callout_request(&json!({"callcontrolid": 7}))),
        ("missing_guid", agent.callout_request(&callout).without("Guid")),
        ("too_large", agent.callout_request(&large)),
    ];
    for (reason, request) in &requests {
        assert_eq!(lab.send(request).await.reason(), *reason);
    }
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let mut decisions = vec![("forwarded", "ok", 1)];
    decisions.extend(requests.iter().map(|(reason, _)| ("rejected", *reason, 1)));
    assert_proved(&ended(lab).await, &decisions, 1);
}

/// What ends a preview is recorded before the callout that comes after it, whatever it is.
#[tokio::test]
async fn callouts_after_each_end_of_a_preview_are_proved() {
    let lab = Setup::plain().lenient().audited().start().await;
    let mut expected = std::collections::BTreeMap::new();
    for (number, end) in
        (101..).zip(["release", "cancel", "sign-out", "forced sign-out", "sign-in", "shutdown", "no session"])
    {
        let agent = lab.agent(number).await;
        agent.shown(7, "05712345").await;
        assert_eq!(agent.call(7, "05712345").await.verdict(), "ok", "{end}");
        end_previews(&lab, &agent, end).await;
        let refused = agent.call(7, "05712345").await.reason().to_owned();
        *expected.entry(refused).or_insert(0) += 1;
    }
    let mut decisions: Vec<_> = expected.iter().map(|(reason, count)| ("rejected", reason.as_str(), *count)).collect();
    assert!(!expected.contains_key(""), "{expected:?}");
    decisions.push(("forwarded", "ok", 7));
    assert_proved(&ended(lab).await, &decisions, 14);
}

async fn end_previews(lab: &Lab, agent: &Agent, end: &str) {
    let number = agent.number;
    let session = |what: &str| Request::new("DELETE", format!("{API}/onlineagent/{number}/{what}")).guid(&agent.guid);
    match end {
        "release" => agent.released().await,
        "cancel" => {
            let path = format!("{API}/voicecall/{number}/cancelPreviewCallout");
            let request = Request::put(path).guid(&agent.guid).json(&json!({"callcontrolid": 7}));
            assert_eq!(lab.send(&request).await.retcode(), "0");
        }
        "sign-out" => assert_eq!(lab.send(&session("logout")).await.retcode(), "0"),
        "forced sign-out" => assert_eq!(lab.send(&session("forcelogout")).await.retcode(), "0"),
        "sign-in" => sign_in_again(lab, number).await,
        "shutdown" => {
            let event = json!({"eventType": "AgentOther_ShutdownService", "workNo": number.to_string(), "content": {}});
            lab.simulator.inject(id(number), event);
            agent.poll().await.passed();
        }
        _ => {
            lab.simulator.sign_out_directly(id(number));
            assert_ne!(agent.poll().await.retcode(), "0");
        }
    }
}

#[tokio::test]
async fn previews_that_expire_are_proved() {
    let clock = Arc::new(MovableClock::default());
    let lab = Setup::plain().lenient().audited().clock(clock.clone()).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    // The same preview, announced again with another number: each number has an age of its own.
    agent.shown(7, "05712346").await;
    clock.advance(Duration::from_secs(2 * 60));
    assert_eq!(agent.call(7, "05712345").await.verdict(), "preview_expired");
    assert_eq!(agent.call(7, "05712346").await.verdict(), "ok");
    assert_proved(&ended(lab).await, &[("forwarded", "ok", 2), ("rejected", "preview_expired", 1)], 3);
}

/// Each setting that lets a callout through although the rule refuses it, in force one after the other.
#[tokio::test]
async fn modes_and_settings_that_forward_are_proved_under_reloads() {
    let lab = Setup::plain().lenient().audited().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    for (settings, number, reason) in [
        ("", "05712345", "ok"),
        ("", "05719999", "number_not_in_preview"),
        ("validation.mode = \"monitor\"", "05719999", "ok"),
        ("validation.reasons.number_not_in_preview = \"monitor\"", "05719999", "ok"),
        (
            "validation.mode = \"monitor\"\nvalidation.reasons.number_not_in_preview = \"enforce\"",
            "05719999",
            "number_not_in_preview",
        ),
        ("", "05719999", "number_not_in_preview"),
    ] {
        lab.reload_with(&format!("{AUDIT}\n{settings}"));
        assert_eq!(agent.call(7, number).await.verdict(), reason, "{settings}");
    }
    lab.reload_with(&format!("{AUDIT}\nvalidation.on_unknown_preview = \"forward\""));
    let other = lab.agent(102).await;
    assert_eq!(other.call(7, "05712345").await.verdict(), "ok");
    let Lab { gateway, site } = lab;
    gateway.close().await;
    let decisions = AuditRecords::read(&site.path("audit"));
    let allowed: Vec<_> = decisions
        .of("decision")
        .iter()
        .filter(|decision| decision["verdict"] == "unverified")
        .map(|decision| (decision["mode"].clone(), decision["allowed_by"].clone()))
        .collect();
    let by = |mode: &str, setting: Value| (json!(mode), setting);
    let expected =
        [by("monitor", Value::Null), by("enforce", json!("reasons")), by("enforce", json!("on_unknown_preview"))];
    assert_eq!(allowed, expected);
    let decisions = [
        ("forwarded", "ok", 1),
        ("rejected", "number_not_in_preview", 3),
        ("unverified", "number_not_in_preview", 2),
        ("unverified", "unknown_preview", 1),
    ];
    assert_proved(&verified(&site, &[site.path("audit")]), &decisions, 7);
}

#[tokio::test]
async fn a_time_of_warming_up_is_proved() {
    let lab = Setup::plain().lenient().audited().settings("validation.warm_up = \"1h\"").start().await;
    let agent = lab.agent(101).await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    assert_proved(&ended(lab).await, &[("unverified", "unknown_preview", 1)], 1);
}

#[tokio::test]
async fn callouts_of_foreign_sessions_are_proved() {
    let lab = Setup::plain().lenient().audited().start().await;
    let (agent, stranger) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "05712345").await;
    let foreign = agent.callout(7, "05712345").without("Guid").guid(&stranger.guid);
    assert_eq!(lab.send(&foreign).await.verdict(), "ok");
    lab.reload_with(&format!("{AUDIT}\nvalidation.session = \"enforce\""));
    assert_eq!(lab.send(&foreign).await.verdict(), "foreign_session");
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let decisions = [("forwarded", "ok", 1), ("rejected", "foreign_session", 1), ("unverified", "foreign_session", 1)];
    assert_proved(&ended(lab).await, &decisions, 1);
}

#[tokio::test]
async fn decisions_name_the_tenant_and_are_proved() {
    let tenants =
        "tenants = [{ name = \"north\", agents = [\"101-199\"] }, { name = \"south\", agents = [\"200-299\"] }]";
    let lab = Setup::plain().lenient().audited().settings(tenants).start().await;
    for number in [101, 201, 301] {
        let agent = lab.agent(number).await;
        agent.shown(7, "05712345").await;
        assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    }
    let Lab { gateway, site } = lab;
    gateway.close().await;
    let records = AuditRecords::read(&site.path("audit"));
    let of: Vec<_> = records.of("decision").iter().map(|decision| decision["tenant"].clone()).collect();
    assert_eq!(of, [json!("north"), json!("south"), Value::Null]);
    assert_proved(&verified(&site, &[site.path("audit")]), &[("forwarded", "ok", 3)], 3);
}

#[tokio::test]
async fn failures_of_the_upstream_are_proved_and_told_apart() {
    use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
    let mut lab = Setup::plain().lenient().audited().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    let reset = Fault::Break { at: Stage::AfterRequest, how: Ending::Reset };
    lab.simulator.misbehave(Misbehaviour::new(reset).on("previewCallout").of(id(101)));
    assert_eq!(agent.call(7, "05712345").await.status, 502);
    lab.site.stop_simulator().await;
    assert_eq!(agent.call(7, "05712345").await.status, 502);
    let verification = ended(lab).await;
    let found = verification.decisions.by_reason.clone();
    let failed: Vec<_> = found.iter().map(|((verdict, reason), n)| (verdict.as_str(), reason.as_str(), *n)).collect();
    let by_rule = verification.decisions.derived;
    assert_proved(&verification, &failed, by_rule);
    assert_eq!((verification.decisions.failed, verification.decisions.not_sent), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_previews_are_proved() {
    let site = PushSite::new().await;
    let gateway = site.start_with(&format!("{AUDIT}\n{}", PushSite::loopback()));
    assert_eq!(site.sign_in(site.call_back_sign_in()).await.retcode(), "0");
    for control_id in [7, 8] {
        site.handle.preview(id(101), previewgate::preview::ControlId(control_id), crate::push::NUMBER);
    }
    // The application calls from inside its push handler.
    within("two pushes", site.handle.wait_for_pushes(2)).await;
    assert_eq!(site.call_out(9).await, "control_id_mismatch");
    gateway.close().await;
    let records = AuditRecords::read(&site.path("audit"));
    assert!(records.of("shown").iter().all(|shown| shown["delivery"] != "poll"));
    let rejected = [("forwarded", "ok", 2), ("rejected", "control_id_mismatch", 1)];
    assert_proved(&verified(&site, &[site.path("audit")]), &rejected, 3);
}

/// A restart forgets previews, unless a snapshot keeps them: then a decision refers to what was shown before the restart.
#[tokio::test]
async fn a_gateway_that_starts_again_continues_the_chain_with_and_without_a_snapshot() {
    for (settings, second) in [("", "unknown_preview"), ("previews.snapshot = \"previews.snapshot\"", "ok")] {
        let settings = format!("{AUDIT}\n{settings}");
        let mut lab = Setup::plain().lenient().settings(&settings).start().await;
        let agent = lab.agent(101).await;
        agent.shown(7, "05712345").await;
        for round in 0..3 {
            let verdict = agent.call(7, "05712345").await.verdict();
            assert_eq!(verdict, if round == 0 { "ok" } else { second }, "{settings}");
            lab = lab.restart_with(&settings).await;
        }
        let verification = ended(lab).await;
        let decisions = match second {
            "ok" => vec![("forwarded", "ok", 3)],
            _ => vec![("forwarded", "ok", 1), ("rejected", "unknown_preview", 2)],
        };
        assert_proved(&verification, &decisions, 3);
        assert_eq!((verification.chains.len(), verification.chains[0].segments), (1, 4));
    }
}

/// Two gateways that know nothing of each other write one directory: each has a chain of its own.
#[tokio::test]
async fn two_gateways_in_one_directory_are_proved_together() {
    let lab = Setup::plain().lenient().audited().start().await;
    let other = lab.site.start_another(AUDIT);
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    assert_eq!(agent.through(&other).call(7, "05712345").await.verdict(), "unknown_preview");
    other.close().await;
    let verification = ended(lab).await;
    assert_proved(&verification, &[("forwarded", "ok", 1), ("rejected", "unknown_preview", 1)], 2);
    assert_eq!(verification.chains.len(), 2);
}

/// Agents who are shown previews, call, lose them and sign in again, all at once and over several connections: the log
/// must never say of a gateway that obeys its rule that it broke it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_gateway_is_proved() {
    const AGENTS: u32 = 6;
    let settings = "runtime.workers = 2\nlog.access = \"none\"\naudit.segment_size = \"64KiB\"";
    let lab = Setup::plain().lenient().audited().settings(settings).start().await;
    let mut working = JoinSet::new();
    for number in 101..101 + AGENTS {
        let agent = lab.agent(number).await;
        working.spawn(works(agent.clone(), u64::from(number)));
        working.spawn(calls(agent.clone(), 1));
        working.spawn(calls(agent, 2));
    }
    within("all agents", async { while working.join_next().await.is_some_and(|done| done.is_ok()) {} }).await;
    let Lab { gateway, site } = lab;
    gateway.close().await;
    let verification = verified(&site, &[site.path("audit")]);
    if let Some(broken) = verification.findings.of(Grade::Broken).next() {
        panic!("{broken}\n{}", before(&site, broken.seq.unwrap()));
    }
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    let found = &verification.decisions;
    let all: u64 = found.by_reason.values().sum();
    assert_eq!((found.derived, found.unknown), (all, 0), "{found:?}");
    assert!(found.by_reason.len() >= 3 && verification.chains[0].segments > 1, "{found:?}");
}

/// The records that led to this one, of the same agent.
fn before(site: &Site, seq: u64) -> String {
    let records = AuditRecords::read(&site.path("audit")).0;
    let agent = records.iter().find(|record| record["seq"] == seq).map(|record| record["agent"].clone());
    let of_agent = records.iter().filter(|record| agent.as_ref() == Some(&record["agent"]));
    let lines: Vec<String> =
        of_agent.filter(|record| record["seq"].as_u64() <= Some(seq + 5)).map(ToString::to_string).collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// The platform shows the agent previews and takes them back, in an order of the seed's choice.
async fn works(agent: Agent, seed: u64) {
    let mut random = seed;
    for round in 0..40 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (random >> 33) % 4 {
            0 => agent.released().await,
            1 => {
                let path = format!("{API}/voicecall/{}/cancelPreviewCallout", agent.number);
                let cancel = Request::put(path).guid(&agent.guid).json(&json!({"callcontrolid": round % 3}));
                agent.try_send(&cancel).await;
            }
            _ => agent.shown(round % 3, &format!("0571{}", round % 5)).await,
        }
    }
}

/// The application calls, sometimes a number of a preview.
async fn calls(agent: Agent, step: i64) {
    for round in 0..60 {
        agent.call(round * step % 3, &format!("0571{}", round % 5)).await;
    }
}

/// A gateway that is still running is verified too: what it has not written yet is no fault.
#[tokio::test]
async fn a_running_gateway_is_proved_when_its_records_are_written() {
    let lab = Setup::plain().lenient().audited().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let directories = [lab.site.path("audit")];
    eventually("the outcome in the log", || {
        let verification = verified(&lab.site, &directories);
        assert_ne!(verification.result(), Proof::Broken, "{:?}", verification.findings.all());
        verification.result() == Proof::Proved && verification.decisions.answered == 1
    })
    .await;
    assert!(verified(&lab.site, &directories).chains[0].live);
}
