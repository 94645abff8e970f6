//! What happens to callouts, and to everything else, when the audit log cannot be written.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{API, Agent, AuditRecords, Lab, Request, Setup, eventually};

/// Longer than any step of a test takes, also on a busy machine. A callout does not wait so long for a known failure.
const SLOW: &str = "audit.timeout = \"20s\"";
const FAILING: &str = "previewgate_audit_failing";

fn unrecorded(action: &str) -> String {
    format!("previewgate_audit_unrecorded_callouts_total{{action=\"{action}\"}}")
}

/// A gateway with an audit log, and an agent who was shown 05712345 under 7.
async fn lab(settings: &str) -> (Lab, Agent) {
    let lab = Setup::plain().lenient().audited().settings(settings).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    (lab, agent)
}

async fn refused(agent: &Agent) {
    let answer = agent.call(7, "05712345").await;
    assert_eq!((answer.status, answer.retcode().as_str()), (503, "100-007"), "{answer:?}");
    assert_eq!(answer.own().reason, "audit_unavailable");
}

/// Everything but callouts goes on: polls with and without previews, sign-ins, other requests.
async fn everything_else_goes_on(lab: &Lab, agent: &Agent, control_id: i64) {
    agent.shown(control_id, "05712346").await;
    let other = Request::post(format!("{API}/onlineagent/101/handshake")).guid(&agent.guid);
    lab.send(&other).await.passed();
    let ready = lab.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("the audit log cannot be written"), "{ready:?}");
    assert!(lab.metric(FAILING) == 1.0);
}

/// Callouts go through again, by themselves.
async fn recovers(lab: &Lab, agent: &Agent) {
    lab.metric_becomes(FAILING, 0.0).await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let ready = lab.admin("/readyz").await;
    assert_eq!(ready.text(), "ready\n");
}

/// What the chain says when it is over: every callout that reached the platform has a decision before it, and every decision
/// of a callout that did not says so.
fn assert_complete(records: &AuditRecords, arrived: usize) {
    let decisions = records.of("decision");
    let forwarded: Vec<_> = decisions.iter().filter(|decision| decision["verdict"] != "rejected").collect();
    let outcome = |id: &serde_json::Value| records.of("outcome").into_iter().find(|outcome| outcome["decision"] == *id);
    let sent = forwarded
        .iter()
        .filter(|decision| outcome(&decision["id"]).is_none_or(|outcome| outcome["result"] != "not_sent"));
    assert_eq!(sent.count(), arrived);
}

/// Removes the directory or puts something else in its place; `repair` undoes it.
async fn refuses_until_repaired(fail: impl Fn(&Path), repair: impl Fn(&Path)) {
    let (lab, agent) = lab(SLOW).await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    fail(&lab.site.path("audit"));
    refused(&agent).await;
    everything_else_goes_on(&lab, &agent, 8).await;
    // The failure is known: the next callout does not wait.
    refused(&agent).await;
    assert!(lab.metric(&unrecorded("refused")) == 2.0);
    assert_eq!(lab.simulator.callouts().len(), 1);
    repair(&lab.site.path("audit"));
    recovers(&lab, &agent).await;
    lab.flush_log();
    let log = lab.log.text();
    assert_eq!(log.matches("the audit log is written again").count(), 1, "{log}");
    let Lab { gateway, site } = lab;
    gateway.close().await;
    assert_eq!(site.handle.callouts().len(), 2);
    // The records of the first call are gone with the directory.
    let records = AuditRecords::read(&site.path("audit"));
    assert_complete(&records, 1);
    assert_eq!(records.only("refusals")["reasons"]["audit_unavailable"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callouts_are_refused_while_the_directory_is_gone() {
    refuses_until_repaired(
        |directory| fs::remove_dir_all(directory).unwrap(),
        |directory| fs::create_dir(directory).unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callouts_are_refused_while_a_file_is_in_the_place_of_the_directory() {
    refuses_until_repaired(
        |directory| {
            fs::remove_dir_all(directory).unwrap();
            fs::write(directory, "a file").unwrap();
        },
        |directory| {
            fs::remove_file(directory).unwrap();
            fs::create_dir(directory).unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_forward_callouts_are_sent_and_recorded_when_possible() {
    let (lab, agent) = lab(&format!("{SLOW}\naudit.on_failure = \"forward\"")).await;
    let directory = lab.site.path("audit");
    fs::remove_dir_all(&directory).unwrap();
    for _ in 0..3 {
        assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    }
    assert!(lab.metric(&unrecorded("forwarded")) == 3.0);
    fs::create_dir(&directory).unwrap();
    lab.metric_becomes(FAILING, 0.0).await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let Lab { gateway, site } = lab;
    gateway.close().await;
    let records = AuditRecords::read(&site.path("audit"));
    let unconfirmed: Vec<_> =
        records.of("outcome").iter().map(|outcome| outcome["unconfirmed"] == json!(true)).collect();
    assert_eq!(unconfirmed, [true, true, true, false]);
    assert_complete(&records, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_directory_that_cannot_be_written_refuses_callouts_until_it_can() {
    let site = Setup::plain().lenient().audited().site().await;
    let directory = site.path("audit");
    // The lock file cannot be made: a directory has its name, for every instance that is there already.
    let first = site.start(crate::support::AUDIT);
    first.close().await;
    let lock = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().unwrap() == "lock");
    let lock = lock.unwrap();
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let gateway = site.start(crate::support::AUDIT);
    let agent = gateway.agent(101).await;
    agent.shown(7, "05712345").await;
    refused(&agent).await;
    fs::remove_dir(&lock).unwrap();
    gateway.metric_becomes(FAILING, 0.0).await;
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    gateway.close().await;
    let records = AuditRecords::read(&directory);
    assert_eq!(records.of("open").len(), 2);
    assert_complete(&records, 1);
    assert_eq!(records.of("shown").len(), 1, "what could not be written at first is there");
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_disk_with_refusals() {
    let (lab, agent) = lab("log.access = \"none\"").await;
    let mut client = lab.client();
    let refusal = agent.callout(99, "1");
    for _ in 0..1000 {
        client.send(&refusal).await;
    }
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    let Lab { gateway, site } = lab;
    gateway.close().await;
    let records = AuditRecords::read(&site.path("audit"));
    let own = records.of("decision").iter().filter(|decision| decision["verdict"] == "rejected").count() as u64;
    assert!((300..1000).contains(&own), "{own}");
    let counted = records.only("refusals");
    assert_eq!(counted["client"], "127.0.0.1");
    assert_eq!(counted["reasons"]["control_id_mismatch"].as_u64().unwrap() + own, 1000);
    assert_eq!(records.of("outcome").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_segment_is_noticed_and_the_chain_goes_on() {
    let (lab, agent) = lab("").await;
    let directory = lab.site.path("audit");
    let segment = |directory: &Path| {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().unwrap() == "jsonl")
    };
    fs::remove_file(segment(&directory).unwrap()).unwrap();
    assert_eq!(agent.call(7, "05712345").await.verdict(), "ok");
    eventually("a new segment", || segment(&directory).is_some()).await;
}
