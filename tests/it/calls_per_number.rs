//! `previews.calls_per_number`: how often a number of a preview may be called, and what counts as a call.

use futures_util::future::join_all;
use previewgate::audit::verify::{Request as Audit, Result as Proof, verify};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::{Value, json};

use crate::callouts::{judged, lenient};
use crate::support::{API, AuditRecords, Lab, Port, Request, within};

async fn lab(settings: &str) -> Lab {
    lenient().settings(&format!("runtime.workers = 2\n{settings}")).start().await
}

/// How often each number of the preview was called, by the page for operators.
async fn counted(lab: &Lab, control_id: i64) -> Vec<u64> {
    let page: Value = lab.admin("/previews/101").await.json();
    let previews = page["previews"].as_array().unwrap().clone();
    let preview = previews.into_iter().find(|preview| preview["control_id"] == control_id).unwrap();
    preview["calls"].as_array().unwrap().iter().map(|calls| calls.as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_number_of_each_preview_has_its_own_count() {
    let lab = lab("previews.calls_per_number = 2").await;
    let (agent, other) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "100,200").await;
    agent.shown(8, "100").await;
    other.shown(7, "100").await;
    for _ in 0..2 {
        assert_eq!(judged(&agent, 7, "100").await, "ok");
    }
    assert_eq!(judged(&agent, 7, "100").await, "number_used");
    // Numbers are compared whole: what is no number of the preview has no count.
    assert_eq!(judged(&agent, 7, "0100").await, "number_not_in_preview");
    assert_eq!(counted(&lab, 7).await, [2, 0]);
    for (agent, control_id, number) in [(&agent, 7, "200"), (&agent, 8, "100"), (&other, 7, "100")] {
        for verdict in ["ok", "ok", "number_used"] {
            assert_eq!(judged(agent, control_id, number).await, verdict, "{control_id} {number}");
        }
    }
    assert_eq!(lab.simulator.callouts().len(), 8);
}

#[tokio::test]
async fn without_the_limit_a_number_can_be_called_again_and_again() {
    let lab = lab("").await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    for _ in 0..20 {
        assert_eq!(judged(&agent, 7, "100").await, "ok");
    }
    assert!(lab.admin("/previews/101").await.json()["previews"][0].get("calls").is_none());
}

/// A repeated announcement is the same preview. A new one begins when the earlier one has ended.
#[tokio::test]
async fn the_count_ends_with_the_preview() {
    let lab = lab("previews.calls_per_number = 1").await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(judged(&agent, 7, "100").await, "ok");
    for numbers in ["100", "", "100,200"] {
        agent.shown(7, numbers).await;
        assert_eq!(judged(&agent, 7, "100").await, "number_used", "{numbers}");
    }
    assert_eq!(judged(&agent, 7, "200").await, "ok");
    agent.released().await;
    agent.shown(7, "100").await;
    assert_eq!(judged(&agent, 7, "100").await, "ok");
    let cancel = Request::put(format!("{API}/voicecall/101/cancelPreviewCallout")).guid(&agent.guid);
    assert_eq!(lab.send(&cancel.json(&json!({"callcontrolid": 7}))).await.retcode(), "0");
    agent.shown(7, "100").await;
    assert_eq!(judged(&agent, 7, "100").await, "ok");
    assert_eq!(judged(&agent, 7, "100").await, "number_used");
}

#[tokio::test]
async fn of_many_callouts_at_once_exactly_as_many_are_forwarded_as_are_permitted() {
    for limit in [1, 3] {
        let lab = lab(&format!("previews.calls_per_number = {limit}")).await;
        let agent = lab.agent(101).await;
        agent.shown(7, "100,200").await;
        // The platform answers late, so that no callout is over before the others are judged.
        let slow = Misbehaviour::new(Fault::Delay { milliseconds: 300 }).on("previewCallout");
        lab.simulator.misbehave(slow.always());
        let answers = join_all((0..40).map(|turn| judged(&agent, 7, ["100", "200"][turn % 2]))).await;
        let of = |verdict: &str| answers.iter().filter(|answer| *answer == verdict).count();
        assert_eq!((of("ok"), of("number_used")), (2 * limit, 40 - 2 * limit), "{answers:?}");
        assert_eq!(lab.simulator.callouts().len(), 2 * limit);
        assert_eq!(counted(&lab, 7).await, [limit as u64, limit as u64]);
    }
}

/// Callouts race with the end of their preview: each is judged by what is there when it is counted.
#[tokio::test]
async fn an_end_in_between_gives_no_further_call() {
    let lab = lab("previews.calls_per_number = 1").await;
    let agent = lab.agent(101).await;
    for control_id in 0..20 {
        agent.shown(control_id, "100").await;
        let before = lab.simulator.callouts().len();
        let calls = join_all((0..6).map(|_| judged(&agent, control_id, "100")));
        let (answers, ()) = tokio::join!(calls, agent.released());
        let rung = lab.simulator.callouts().len() - before;
        assert!(rung <= 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| *answer == "ok").count(), rung);
    }
}

#[tokio::test]
async fn a_call_whose_outcome_is_unknown_counts() {
    let lab = lab("previews.calls_per_number = 1").await;
    let agent = lab.agent(101).await;
    for (control_id, fault) in [
        (1, Fault::Break { at: Stage::AfterRequest, how: Ending::Reset }),
        (2, Fault::Break { at: Stage::AfterRequest, how: Ending::Close }),
    ] {
        agent.shown(control_id, "100").await;
        lab.simulator.misbehave(Misbehaviour::new(fault).on("previewCallout"));
        assert_eq!(judged(&agent, control_id, "100").await, "upstream_failure");
        assert_eq!(judged(&agent, control_id, "100").await, "number_used");
    }
    // Whatever the platform answers: the call was sent.
    agent.shown(3, "100").await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::ServerError { status: 500 }).on("previewCallout"));
    assert_eq!(agent.call(3, "100").await.status, 500);
    assert_eq!(judged(&agent, 3, "100").await, "number_used");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_get_its_call_back() {
    let lab = lab("previews.calls_per_number = 1").await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    let stall = Fault::Break { at: Stage::AfterRequest, how: Ending::Stall };
    lab.simulator.misbehave(Misbehaviour::new(stall).on("previewCallout"));
    let mut client = lab.connect().await;
    let before = lab.simulator.requests();
    client.write(&agent.callout(7, "100").bytes()).await;
    within("the callout", lab.simulator.wait_for_requests(before + 1)).await;
    drop(client);
    assert_eq!(judged(&agent, 7, "100").await, "number_used");
}

/// In any number, and beside callouts that are sent.
#[tokio::test]
async fn a_call_that_was_certainly_not_sent_is_given_back() {
    // Nothing listens there.
    let dead = Port::reserve();
    let settings = "runtime.workers = 2\npreviews.calls_per_number = 1";
    let lab = lenient().settings(settings).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100,200").await;
    assert_eq!(judged(&agent, 7, "200").await, "ok");
    lab.reload_with(&format!("{settings}\nupstream.endpoints = [\"http://{}\"]", dead.address));
    for _ in 0..5 {
        let answer = agent.call(7, "100").await;
        assert_eq!((answer.status, answer.own().reason.as_str()), (502, "upstream_failure"));
        assert!(answer.own().message.contains("not sent"), "{answer:?}");
        assert_eq!(counted(&lab, 7).await, [0, 1]);
    }
    lab.reload_with(settings);
    for verdict in ["ok", "number_used"] {
        assert_eq!(judged(&agent, 7, "100").await, verdict);
    }
    assert_eq!(judged(&agent, 7, "200").await, "number_used");
}

#[tokio::test]
async fn monitor_mode_forwards_and_goes_on_counting() {
    let lab = lab("previews.calls_per_number = 1\nvalidation.reasons.number_used = \"monitor\"").await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    for _ in 0..3 {
        assert_eq!(judged(&agent, 7, "100").await, "ok");
    }
    assert_eq!(judged(&agent, 7, "300").await, "number_not_in_preview");
    assert_eq!(counted(&lab, 7).await, [3]);
    let unverified = "previewgate_preview_callouts_total{decision=\"unverified\",reason=\"number_used\"}";
    assert!((lab.metric(unverified) - 2.0).abs() < f64::EPSILON);
    lab.reload_with("runtime.workers = 2\npreviews.calls_per_number = 1");
    assert_eq!(judged(&agent, 7, "100").await, "number_used");
}

/// The audit log names the calls that count, and its verifier derives the same verdicts from hashes.
#[tokio::test]
async fn the_audit_log_proves_each_verdict() {
    let lab = lenient().audited().settings("previews.calls_per_number = 2").start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345,05712346").await;
    agent.shown(7, "05712345").await;
    let answers = join_all((0..10).map(|_| judged(&agent, 7, "05712345"))).await;
    assert_eq!(answers.iter().filter(|answer| *answer == "ok").count(), 2, "{answers:?}");
    assert_eq!(judged(&agent, 7, "05712346").await, "ok");
    let directory = lab.site.path("audit");
    let Lab { gateway, site: _site } = lab;
    gateway.close().await;
    let records = AuditRecords::read(&directory);
    let decisions = records.of("decision");
    let of = |reason: &str| decisions.iter().filter(|decision| decision["reason"] == reason).collect::<Vec<_>>();
    let (forwarded, refused) = (of("ok"), of("number_used"));
    assert_eq!((forwarded.len(), refused.len()), (3, 8), "{decisions:#?}");
    for decision in refused {
        let calls = decision["calls"].as_array().unwrap();
        assert_eq!(calls.len(), 2);
        assert!(calls.iter().all(|call| forwarded.iter().any(|decision| decision["id"] == *call)));
    }
    let directories = [directory];
    let verification = verify(&Audit { directories: &directories, keys: &[], anchor: None }).unwrap();
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!((verification.decisions.derived, verification.decisions.not_by_rule), (11, 0));
}

/// A callout that cannot be recorded is not sent, and does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callout_that_cannot_be_recorded_does_not_count() {
    let settings = "previews.calls_per_number = 1\naudit.timeout = \"20s\"";
    let lab = lenient().audited().settings(settings).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    let directory = lab.site.path("audit");
    std::fs::remove_dir_all(&directory).unwrap();
    for _ in 0..3 {
        assert_eq!(judged(&agent, 7, "05712345").await, "audit_unavailable");
        assert_eq!(counted(&lab, 7).await, [0]);
    }
    std::fs::create_dir(&directory).unwrap();
    lab.metric_becomes("previewgate_audit_failing", 0.0).await;
    for verdict in ["ok", "number_used"] {
        assert_eq!(judged(&agent, 7, "05712345").await, verdict);
    }
}
