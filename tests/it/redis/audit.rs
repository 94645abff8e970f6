//! The audit logs of gateways that share previews: what one of them showed explains what another one decided.

use std::sync::Arc;
use std::time::Duration;

use previewgate::audit::verify::{Grade, Result as Proof};
use serde_json::json;

use super::lab::Shared;
use crate::support::{AuditRecords, Gateway, Kind, MovableClock, RedisServer, Setup, Site, eventually};

/// Longer than two clocks may differ.
const PAUSE: Duration = Duration::from_secs(10);

struct AuditedLab {
    site: Site,
    redis: RedisServer,
    clock: Arc<MovableClock>,
    a: Gateway,
    b: Gateway,
}

impl AuditedLab {
    /// Two gateways, each with an audit log of its own, `audit-a` and `audit-b`.
    async fn start() -> Option<Self> {
        let redis = RedisServer::start(Kind::Plain)?;
        // Only the gateways' clock is put forward. They must not correct it by Redis's.
        redis::cmd("ACL").arg(&["SETUSER", "default", "-time"]).exec(&mut redis.client()).unwrap();
        let site = Setup::plain().lenient().site().await;
        let clock = Arc::new(MovableClock::default());
        let start = |name: &str| {
            std::fs::create_dir(site.path(name)).unwrap();
            site.start_another_by(clock.clone(), &settings(name, &redis))
        };
        let (a, b) = (start("audit-a"), start("audit-b"));
        eventually("both gateways to be well", || a.is_well() && b.is_well()).await;
        Some(Self { site, redis, clock, a, b })
    }

    fn pause(&self) {
        self.clock.advance(PAUSE);
    }

    async fn ended(self) -> (Site, AuditRecords, AuditRecords) {
        self.a.close().await;
        self.b.close().await;
        let records = |name: &str| AuditRecords::read(&self.site.path(name));
        let (a, b) = (records("audit-a"), records("audit-b"));
        (self.site, a, b)
    }
}

fn settings(directory: &str, redis: &RedisServer) -> String {
    format!(
        "audit.directory = \"{directory}\"\naudit.signing_key = \"audit.key\"\naudit.number_keys = \"audit-numbers\"\n{}",
        redis.settings()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_names_the_record_that_another_gateway_made() {
    let Some(lab) = AuditedLab::start().await else { return };
    lab.a.agent_from_elsewhere(101).shown(7, "100,200").await;
    lab.pause();
    assert_eq!(lab.b.call(101, 7, "200").await.verdict(), "ok");
    assert_eq!(lab.b.call(101, 7, "300").await.verdict(), "number_not_in_preview");
    // Announced through both, and again.
    lab.b.agent_from_elsewhere(101).shown(7, "300").await;
    lab.pause();
    lab.a.agent_from_elsewhere(101).shown(7, "400").await;
    lab.pause();
    for number in ["100", "300", "400"] {
        assert_eq!(lab.b.call(101, 7, number).await.verdict(), "ok", "{number}");
    }
    let (site, a, b) = lab.ended().await;
    let name = |records: &AuditRecords, position: usize| records.of("shown")[position]["id"].clone();
    let decisions = b.of("decision");
    assert_eq!(decisions[0]["previews"][0]["shown"], json!([name(&a, 0)]));
    assert_eq!(decisions[4]["previews"][0]["shown"], json!([name(&a, 0), name(&b, 0), name(&a, 1)]));
    assert!(decisions.iter().all(|decision| decision["judged_by"] == "shared"));

    let together = site.verify(&["audit-a", "audit-b"]);
    assert_eq!((together.result(), together.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!((together.decisions.derived, together.decisions.unknown), (5, 0));
    let alone = site.verify(&["audit-b"]);
    assert_eq!((alone.result(), alone.decisions.derived, alone.decisions.unknown), (Proof::Incomplete, 0, 5));
    for finding in alone.findings.of(Grade::Incomplete) {
        assert!(finding.message.contains("not in the given directories: another gateway recorded it"), "{finding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_at_the_other_gateway_is_recorded_and_nothing_is_forwarded_after_it() {
    let Some(lab) = AuditedLab::start().await else { return };
    for (control_id, end) in [(7, "cancel"), (8, "sign_out"), (9, "released")] {
        lab.a.agent_from_elsewhere(101).shown(control_id, "100").await;
        // The other gateway knows a preview of this agent, and not this one.
        lab.b.agent_from_elsewhere(101).shown(control_id + 10, "100").await;
        lab.pause();
        assert_eq!(lab.a.call(101, control_id, "100").await.verdict(), "ok");
        match end {
            "cancel" => _ = lab.b.cancel(101, control_id).await,
            "sign_out" => _ = lab.b.sign_out(101).await,
            _ => lab.b.agent_from_elsewhere(101).released().await,
        }
        lab.pause();
        assert_ne!(lab.a.call(101, control_id, "100").await.verdict(), "ok", "{end}");
    }
    let (site, _, b) = lab.ended().await;
    // What it does not know, it ends too.
    let elsewhere = b.of("ended").into_iter().filter(|end| end["shown"] == json!([]));
    let elsewhere: Vec<_> = elsewhere.map(|end| (end["control_id"].clone(), end["cause"].clone())).collect();
    assert!(elsewhere.contains(&(json!(7), json!("cancelled"))), "{elsewhere:?}");
    assert!(elsewhere.contains(&(json!(null), json!("signed_out"))), "{elsewhere:?}");
    assert!(elsewhere.contains(&(json!(null), json!("released"))), "{elsewhere:?}");
    let together = site.verify(&["audit-a", "audit-b"]);
    assert_eq!((together.result(), together.findings.all()), (Proof::Proved, &[][..]));
}

/// What `on_store_failure = "local"` permits, and what the logs of both gateways show afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callout_that_was_forwarded_after_an_end_that_the_other_gateway_recorded_is_found() {
    let Some(mut lab) = AuditedLab::start().await else { return };
    lab.b.agent_from_elsewhere(101).shown(7, "100").await;
    lab.b.agent_from_elsewhere(102).shown(7, "100").await;
    lab.pause();
    lab.redis.kill();
    // This gateway has never seen the preview.
    assert_eq!(lab.a.cancel(101, 7).await.retcode(), "0");
    lab.pause();
    for agent in [101, 102] {
        assert_eq!(lab.b.call(agent, 7, "100").await.verdict(), "ok", "its own memory still has the preview");
    }
    let (site, a, b) = lab.ended().await;
    let together = site.verify(&["audit-a", "audit-b"]);
    let broken: Vec<_> = together.findings.of(Grade::Broken).collect();
    assert_eq!((together.result(), broken.len()), (Proof::Broken, 1), "{broken:?}");
    let wrong = b.of("decision")[0];
    assert_eq!(broken[0].seq, wrong["seq"].as_u64());
    let end = a.only("ended")["seq"].as_u64().unwrap();
    assert!(broken[0].message.contains("was forwarded after its preview was over (cancelled, "), "{}", broken[0]);
    assert!(broken[0].message.contains(&format!(".jsonl seq {end})")), "{}", broken[0]);
    // Each log alone is sound.
    for name in ["audit-a", "audit-b"] {
        assert_eq!(site.verify(&[name]).findings.count(Grade::Broken), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_survives_a_restart_of_either_gateway() {
    let Some(lab) = AuditedLab::start().await else { return };
    lab.a.agent_from_elsewhere(101).shown(7, "100").await;
    lab.pause();
    let AuditedLab { site, redis, clock, a, b } = lab;
    a.close().await;
    b.close().await;
    let restarted = site.start_another_by(clock.clone(), &settings("audit-b", &redis));
    eventually("the gateway to be well", || restarted.is_well()).await;
    assert_eq!(restarted.call(101, 7, "100").await.verdict(), "ok");
    restarted.close().await;
    let b = AuditRecords::read(&site.path("audit-b"));
    let shown = AuditRecords::read(&site.path("audit-a")).only("shown")["id"].clone();
    assert_eq!((b.of("open").len(), &b.only("decision")["previews"][0]["shown"]), (2, &json!([shown])));
    assert_eq!(site.verify(&["audit-a", "audit-b"]).result(), Proof::Proved);
}
