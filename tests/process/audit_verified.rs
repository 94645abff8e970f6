//! The log of the real program, as an auditor verifies it: `audit verify` after an orderly end, after `kill -9`, after a
//! restart with a snapshot, and after it was changed.

use std::path::PathBuf;
use std::process::Output;

use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::json;

use crate::support::{AUDIT, AuditRecords, Process, Request, Setup, Site, eventually, within};

const SNAPSHOT: &str = "previews.snapshot = \"previews.snapshot\"\npreviews.snapshot_interval = \"100ms\"";

/// Runs `previewgate audit …` beside the log; returns its exit code and what it printed.
async fn audit(site: &Site, arguments: &str) -> (i32, String) {
    let mut command = site.shell(&format!("exec \"$PREVIEWGATE\" audit {arguments}"));
    let output: Output = within("an audit command", command.current_dir(site.path("")).output()).await.unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The public half of the site's key, as an auditor has it.
async fn publish_key(site: &Site) {
    let (code, key) = audit(site, "public-key audit.key").await;
    assert_eq!(code, 0, "{key}");
    std::fs::write(site.path("audit.pub"), key).unwrap();
}

async fn verify(site: &Site, directory: &str) -> (i32, String) {
    audit(site, &format!("verify {directory} --public-key audit.pub")).await
}

async fn site(settings: &str) -> Site {
    let site = Setup::plain().lenient().audited().settings(settings).site().await;
    publish_key(&site).await;
    site
}

async fn kill(mut gateway: Process) {
    gateway.signal("KILL");
    gateway.ended().await;
}

/// Decisions of each kind, refused or not, under two modes and with a sign-out.
async fn work(site: &Site, gateway: &mut Process) {
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101,5550102").await;
    assert_eq!(agent.call(7, "5550102").await.verdict(), "ok");
    assert_eq!(agent.call(7, "5550199").await.reason(), "number_not_in_preview");
    assert_eq!(agent.call(8, "5550102").await.reason(), "control_id_mismatch");
    let half = agent.callout_request(&json!({})).without("Content-Length").body("{");
    assert_eq!(gateway.send(&half).await.reason(), "malformed_body");
    for mode in ["monitor", "enforce"] {
        site.configure(&format!("{AUDIT}\nvalidation.mode = \"{mode}\""));
        gateway.signal("HUP");
        gateway.says("configuration reloaded").await;
        assert_eq!(agent.call(7, "5550199").await.is_own(), mode == "enforce");
    }
    let sign_out = Request::new("DELETE", format!("{}/onlineagent/101/logout", crate::support::API)).guid(&agent.guid);
    assert_eq!(gateway.send(&sign_out).await.retcode(), "0");
    assert!(!agent.call(7, "5550101").await.reason().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_day_is_proved_and_a_changed_copy_of_it_is_not() {
    let site = site("").await;
    let mut gateway = site.run().await;
    work(&site, &mut gateway).await;
    assert!(gateway.stop().await.success());
    AuditRecords::assert_follows_schema(&site.path("audit"));
    let (code, printed) = verify(&site, "audit").await;
    assert_eq!(code, 0, "{printed}");
    for line in [
        "         1  forwarded ok\n",
        "         1  rejected control_id_mismatch\n",
        "         1  rejected malformed_body\n",
        "         2  rejected number_not_in_preview\n",
        "         1  unverified number_not_in_preview\n",
        "  6 derived again with the same verdict, 1 not by the rule, 0 cannot be derived\n",
        "outcomes: 2 answered, 0 failed, 0 not sent, 0 not recorded\n",
        "  unsealed  none\n",
        "result: proved",
    ] {
        assert!(printed.contains(line), "{line:?} in {printed}");
    }
    for (changed, original, replacement) in [
        ("verdict", "\"reason\":\"control_id_mismatch\"", "\"reason\":\"unknown_preview\""),
        ("mode", "\"mode\":\"monitor\"", "\"mode\":\"enforce\""),
        ("agent", "\"agent\":101", "\"agent\":102"),
    ] {
        copy(&site, changed, |text| text.replacen(original, replacement, 1));
        let (code, printed) = verify(&site, changed).await;
        assert!(code == 1 && printed.contains("\nbroken: ") && printed.contains(" seq "), "{changed}: {printed}");
        let (code, printed) = audit(&site, &format!("report {changed} --day 2026-01-01")).await;
        assert!(code == 1 && printed.contains("audit log: BROKEN"), "{changed}: {printed}");
    }
    assert_eq!(verify(&site, "elsewhere").await.0, 4);
}

/// Copies the log, changed, to another directory.
fn copy(site: &Site, name: &str, change: impl Fn(String) -> String) {
    std::fs::create_dir(site.path(name)).unwrap();
    for entry in std::fs::read_dir(site.path("audit")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(site.path(name).join(path.file_name().unwrap()), change(text)).unwrap();
    }
}

/// A call that is being made when the gateway is killed: it is named, and nothing else is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_leaves_a_log_that_names_each_call_that_may_have_rung() {
    let site = site(SNAPSHOT).await;
    let gateway = site.run().await;
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
    eventually("the preview in the snapshot", || {
        std::fs::read_to_string(site.path("previews.snapshot")).is_ok_and(|snapshot| snapshot.contains("5550101"))
    })
    .await;
    let before = site.handle.callouts().len();
    site.handle.misbehave(
        Misbehaviour::new(Fault::Break { at: Stage::AfterRequest, how: Ending::Stall }).on("previewCallout"),
    );
    let mut wire = gateway.connect().await;
    wire.write(&agent.callout(7, "5550101").bytes()).await;
    eventually("the callout at the platform", || site.handle.callouts().len() > before).await;
    kill(gateway).await;
    let (code, printed) = verify(&site, "audit").await;
    assert_eq!(code, 3, "{printed}");
    assert_eq!(printed.matches("may have rung: agent 101 called *****01, control ID 7").count(), 1, "{printed}");
    assert!(!printed.contains("broken"), "{printed}");

    // The next process goes on with the chain, and with the previews of the snapshot.
    site.handle.behave();
    let mut gateway = site.run().await;
    assert_eq!(agent.through(&gateway).call(7, "5550101").await.verdict(), "ok");
    assert_eq!(agent.through(&gateway).call(7, "5550199").await.reason(), "number_not_in_preview");
    assert!(gateway.stop().await.success());
    let records = AuditRecords::read(&site.path("audit"));
    assert_eq!(records.of("shown").len(), 1, "the decisions of the second process refer to it");
    AuditRecords::assert_follows_schema(&site.path("audit"));
    let (code, printed) = verify(&site, "audit").await;
    assert_eq!(code, 3, "{printed}");
    let derived = "  4 derived again with the same verdict, 0 not by the rule, 0 cannot be derived\n";
    assert!(
        printed.contains(derived) && printed.contains("outcomes: 2 answered, 0 failed, 0 not sent, 1 not recorded\n"),
        "{printed}"
    );
    // Each gap has its cause: the call, and the crash.
    let gaps: Vec<_> = printed.lines().filter(|line| line.starts_with("incomplete: ")).collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps.iter().any(|gap| gap.contains("the gateway or its disk failed after this line")), "{gaps:?}");
}
