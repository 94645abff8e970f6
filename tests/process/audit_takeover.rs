//! `run --takeover` with an audit log: each process writes a chain of its own, and the log is complete over the change.

use std::collections::HashSet;

use previewgate::audit::verify::Result as Proof;
use previewgate::simulator::{Fault, Misbehaviour};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    Access, Agent, Arrivals, AuditRecords, Process, Setup, Site, Wire, eventually_async, outcome, within,
};

const TAKE_OVER: &str = "exec \"$PREVIEWGATE\" run --takeover --config \"$CONFIG\"";
const AGENTS: u32 = 4;

/// The gateway whose chain holds the record.
fn chain_of<'r>(records: &'r AuditRecords, record: &Value) -> &'r str {
    let position = records.0.iter().position(|other| other == record).unwrap();
    let opened = records.0[..position].iter().rev().find(|record| record["kind"] == "open").unwrap();
    opened["instance"].as_str().unwrap()
}

async fn take_over(site: &Site) -> Process {
    site.run_with(site.shell(TAKE_OVER)).await
}

/// Agents that call without end at the address that all processes share.
fn load(gateway: &Access, agents: &[Agent]) -> JoinSet<()> {
    let mut calling = JoinSet::new();
    for agent in agents.iter().cloned() {
        let address = gateway.address;
        calling.spawn(async move {
            for number in 0.. {
                // A connection each time: none of them ends with a process while a callout is on it.
                let Ok(mut wire) = Wire::plain(address).await else { panic!("refused") };
                let request = agent.callout(7, "5550101").id(&format!("{}-{number}", agent.number));
                assert_eq!(wire.send(&request).await.verdict(), "ok");
            }
        });
    }
    calling
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decision_is_lost_when_another_process_takes_over() {
    let settings = "log.access = \"none\"\nshutdown.drain = \"1h\"\naudit.segment_size = \"64KiB\"";
    let site = Setup::plain().lenient().audited().settings(settings).site().await;
    let mut gateway = site.run().await;
    let access = site.access();
    let agents: Vec<_> = (0..AGENTS).map(|number| access.agent_from_elsewhere(101 + number)).collect();
    for agent in &agents {
        agent.shown(7, "5550101").await;
    }
    let mut calling = load(&access, &agents);
    let mut arrivals = Arrivals::default();
    for _ in 0..4 {
        eventually_async("callouts", async || site.handle.callouts().len() > 60).await;
        // One that is on its way while the process changes.
        site.handle.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 500 }).on("previewCallout"));
        let next = take_over(&site).await;
        assert!(gateway.ended().await.success());
        gateway = next;
        assert!(calling.try_join_next().is_none(), "every callout was answered");
        arrivals.collect(&site);
    }
    eventually_async("callouts", async || site.handle.callouts().len() > 60).await;
    calling.shutdown().await;
    assert!(gateway.stop().await.success());
    arrivals.collect(&site);
    let arrived = arrivals.callouts;

    let records = AuditRecords::read(&site.path("audit"));
    let decided: HashSet<&str> =
        records.of("decision").iter().map(|decision| decision["request_id"].as_str().unwrap()).collect();
    let unknown: Vec<_> = arrived.iter().filter(|id| !decided.contains(id.as_str())).collect();
    assert!(unknown.is_empty() && arrived.len() > 300, "{} arrived, unknown: {unknown:?}", arrived.len());
    let verification = site.verify(&["audit"]);
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!((verification.decisions.open, verification.decisions.unknown), (0, 0));
    assert_eq!(verification.decisions.derived, records.of("decision").len() as u64);
    // Two chains take turns: what one process ended, the next but one goes on with.
    assert_eq!(verification.chains.len(), 2);
    assert!(verification.chains.iter().all(|chain| chain.closed && !chain.live));
    let starts = records.of("open").into_iter().filter(|open| open["cause"] == "start").count();
    assert_eq!(starts, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_old_process_are_in_its_own_chain() {
    let site = Setup::plain().lenient().audited().settings("shutdown.drain = \"1h\"").site().await;
    let mut old = site.run().await;
    let agent = old.agent(101).await;
    agent.shown(7, "5550101").await;
    site.handle.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 1500 }).on("previewCallout"));
    let calls = site.handle.requests() + 1;
    let mut calling = old.connect().await;
    calling.write(&agent.callout(7, "5550101").bytes()).await;
    within("the callout to arrive", site.handle.wait_for_requests(calls)).await;
    let mut new = take_over(&site).await;
    // Until its workers know, the old process may accept another connection.
    old.says("another process has taken over").await;
    eventually_async("a callout through the new process", async || {
        assert_eq!(agent.through(&new).call(7, "5550101").await.verdict(), "ok");
        let records = AuditRecords::read(&site.path("audit"));
        records.of("decision").iter().map(|decision| chain_of(&records, decision)).collect::<HashSet<_>>().len() == 2
    })
    .await;
    // Both write: the log can be verified meanwhile, and nothing looks broken.
    assert_ne!(site.verify(&["audit"]).result(), Proof::Broken);
    assert_eq!(calling.answer().await.passed().retcode(), "0");
    assert!(old.ended().await.success());
    assert!(new.stop().await.success());
    let verification = site.verify(&["audit"]);
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    let records = AuditRecords::read(&site.path("audit"));
    let decisions = records.of("decision");
    let outcomes = records.of("outcome");
    assert!(decisions.len() >= 2 && decisions.len() == outcomes.len(), "{decisions:?} {outcomes:?}");
    for decision in decisions {
        // Both refer to the one preview, which the old process recorded.
        assert_eq!(decision["previews"][0]["shown"][0], records.only("shown")["id"]);
        let outcome = outcomes.iter().find(|outcome| outcome["decision"] == decision["id"]).unwrap();
        assert_eq!(chain_of(&records, outcome), chain_of(&records, decision));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_that_fails_leaves_both_chains_whole() {
    let site = Setup::plain().lenient().audited().site().await;
    let mut old = site.run().await;
    let agent = old.agent(101).await;
    agent.shown(7, "5550101").await;
    // The new process opens the log, and then finds that it cannot listen for operators there.
    let settings = format!("{}\nadmin.socket = \"audit.key/admin\"", crate::support::AUDIT);
    site.configure(&settings);
    let (status, complaint) = outcome(site.shell(TAKE_OVER)).await;
    assert!(!status.success(), "{complaint}");
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
    assert!(old.stop().await.success());
    let verification = site.verify(&["audit"]);
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
}
