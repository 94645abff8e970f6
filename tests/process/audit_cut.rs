//! Callouts that the platform has not answered when the process must end: each decision gets its outcome.

use previewgate::audit::verify::{Grade, Result as Proof};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};

use crate::support::{AuditRecords, Process, Setup, Site, Wire, eventually};

/// How the process is made to end while callouts are open.
type End = fn(&Process);

async fn site(settings: &str) -> Site {
    let site = Setup::plain().lenient().audited().settings(settings).site().await;
    let stall = Fault::Break { at: Stage::AfterRequest, how: Ending::Stall };
    site.handle.misbehave(Misbehaviour::new(stall).on("previewCallout").always());
    site
}

/// Sends two callouts that are not answered. The client of the second one leaves at once.
async fn open_callouts(site: &Site, gateway: &Process) -> Wire {
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    let before = site.handle.callouts().len();
    let (mut stays, mut leaves) = (gateway.connect().await, gateway.connect().await);
    stays.write(&agent.callout(7, "5550101").id("stays").bytes()).await;
    leaves.write(&agent.callout(7, "5550101").id("leaves").bytes()).await;
    eventually("the callouts at the platform", || site.handle.callouts().len() == before + 2).await;
    drop(leaves);
    stays
}

/// The log has an outcome for each decision, and is proved.
fn assert_nothing_is_open(site: &Site, when: &str) {
    AuditRecords::assert_follows_schema(&site.path("audit"));
    let records = AuditRecords::read(&site.path("audit"));
    let decisions = records.of("decision");
    assert_eq!(decisions.len(), 2, "{when}: {decisions:#?}");
    for decision in decisions {
        let outcomes = records.of("outcome");
        let outcome = outcomes.iter().find(|outcome| outcome["decision"] == decision["id"]);
        let outcome = outcome.unwrap_or_else(|| panic!("{when}: {decision} is open"));
        assert_eq!((&outcome["result"], &outcome["reason"]), (&"failed".into(), &"upstream_failure".into()), "{when}");
    }
    let verification = site.verify(&["audit"]);
    assert_eq!(verification.findings.of(Grade::Broken).next(), None, "{when}");
    assert_eq!(verification.result(), Proof::Proved, "{when}: {:?}", verification.findings.all());
    assert_eq!((verification.decisions.failed, verification.decisions.open), (2, 0), "{when}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callout_that_is_cut_at_the_end_of_the_process_has_an_outcome() {
    let again: End = |gateway| {
        gateway.signal("TERM");
        gateway.signal("INT");
    };
    let once: End = |gateway| gateway.signal("TERM");
    for (when, settings, end) in [
        ("at the drain deadline", "shutdown.drain = \"200ms\"\nruntime.workers = 2", once),
        ("by a second signal", "shutdown.drain = \"1h\"\nruntime.workers = 1", again),
    ] {
        let site = site(settings).await;
        let mut gateway = site.run().await;
        let _open = open_callouts(&site, &gateway).await;
        end(&gateway);
        assert!(gateway.ended().await.success(), "{when}");
        assert_nothing_is_open(&site, when);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callout_that_is_cut_after_a_takeover_has_an_outcome() {
    let site = site("shutdown.drain = \"200ms\"").await;
    let mut gateway = site.run().await;
    let _open = open_callouts(&site, &gateway).await;
    let take_over = "exec \"$PREVIEWGATE\" run --takeover --config \"$CONFIG\"";
    let mut successor = site.run_with(site.shell(take_over)).await;
    assert!(gateway.ended().await.success());
    assert!(successor.stop().await.success());
    assert_nothing_is_open(&site, "after a takeover");
}

/// The decision line says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decision_line_of_a_callout_that_is_cut_names_the_failure() {
    for audit in [true, false] {
        let setup = Setup::plain().lenient().settings("shutdown.drain = \"200ms\"");
        let site = if audit { setup.audited().site().await } else { setup.site().await };
        site.handle.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 600_000 }).on("previewCallout"));
        let mut gateway = site.run().await;
        let agent = gateway.agent(101).await;
        agent.shown(7, "5550101").await;
        let mut wire = gateway.connect().await;
        wire.write(&agent.callout(7, "5550101").bytes()).await;
        eventually("the callout at the platform", || !site.handle.callouts().is_empty()).await;
        gateway.signal("TERM");
        let line = gateway.says("\"method\":\"previewCallout\"").await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["decision"], &line["reason"]), (&"forwarded".into(), &"upstream_failure".into()), "{line}");
        assert!(gateway.ended().await.success());
    }
}
