//! The audit log on a disk that fails in each way that a system call can: an error, once or for long, before or after some
//! bytes; a call that does not return; a call that is slow. The calls of the real program are replaced (`faulty_disk.c`).

use std::process::Command;

use previewgate::audit::verify::{Grade, Result as Proof};

use crate::support::{API, AUDIT, Agent, AuditRecords, Process, RUN, Request, Setup, Site, skip, within};

const FAILING: &str = "previewgate_audit_failing";

struct FaultyDisk {
    site: Site,
    gateway: Process,
    agent: Agent,
}

impl FaultyDisk {
    /// A gateway whose disk is well, and an agent who was shown 5550101 under 7. Nothing where there is no C compiler.
    async fn start(settings: &str) -> Option<Self> {
        let site = Setup::plain().lenient().audited().settings(settings).site().await;
        let library = site.path("faulty_disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/faulty_disk.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).status();
        if !compiled.is_ok_and(|status| status.success()) {
            skip("no C compiler (cc)");
            return None;
        }
        let mut command = site.shell(RUN);
        command.env("LD_PRELOAD", library).env("DISK_FAULT", site.path("fault"));
        let gateway = site.run_with(command).await;
        let agent = gateway.agent(101).await;
        agent.shown(7, "5550101").await;
        Some(Self { site, gateway, agent })
    }

    fn fails(&self, fault: &str) {
        self.site.write("fault", fault);
    }

    async fn refused(&self) {
        let answer = self.agent.call(7, "5550101").await;
        assert_eq!((answer.status, answer.own().reason.as_str()), (503, "audit_unavailable"));
    }

    /// The disk fails with `fault`, and is well again: callouts are refused meanwhile, and everything else goes on.
    async fn fails_and_recovers(&self, fault: &str) {
        self.forwarded().await;
        self.fails(fault);
        self.refused().await;
        self.becomes(1.0).await;
        self.everything_else_goes_on().await;
        self.refused().await;
        self.fails("");
        self.becomes(0.0).await;
        self.forwarded().await;
    }

    async fn forwarded(&self) {
        assert_eq!(self.agent.call(7, "5550101").await.verdict(), "ok");
    }

    /// Polls, sign-ins and everything else: none waits for the disk, and the failure is told.
    async fn everything_else_goes_on(&self) {
        for control_id in 20..24 {
            self.agent.shown(control_id, "5550102").await;
        }
        let other = Request::post(format!("{API}/onlineagent/101/handshake")).guid(&self.agent.guid);
        self.gateway.send(&other).await.passed();
        let signed_in = self.gateway.agent(102).await;
        signed_in.shown(1, "5550103").await;
        let ready = self.gateway.admin("/readyz").await;
        assert_eq!(ready.status, 200);
        assert!(ready.text().contains("the audit log cannot be written"), "{ready:?}");
    }

    async fn becomes(&self, failing: f64) {
        self.gateway.scraped_until(FAILING, |value| (value - failing).abs() < f64::EPSILON).await;
    }

    /// Ends the gateway; nothing was lost, nothing looks tampered with, and the directory has no more segments than this.
    async fn assert_whole(mut self, segments: usize) -> AuditRecords {
        assert!(self.gateway.stop().await.success());
        let directory = self.site.path("audit");
        let records = AuditRecords::read(&directory);
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).count();
        assert!(files <= segments, "{files} segments");
        let verification = self.site.verify(&["audit"]);
        assert_eq!(verification.findings.of(Grade::Broken).next(), None);
        assert_eq!((verification.decisions.open, verification.decisions.unknown), (0, 0));
        let rang = records.of("outcome").iter().filter(|outcome| outcome["result"] == "answered").count();
        assert_eq!(rang, self.site.handle.callouts().len());
        records
    }
}

/// Errors after which the same segment can be written again, and others after which it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_refuse_callouts_until_they_are_over() {
    for (fault, segments) in [
        ("write ENOSPC", 1),
        ("write EDQUOT", 1),
        ("write EROFS", 1),
        ("write EIO", 2),
        ("write ESTALE", 2),
        ("sync EIO", 2),
        ("sync ENOSPC", 2),
    ] {
        let settings = "audit.timeout = \"20s\"\naudit.durability = \"synced\"";
        let Some(disk) = FaultyDisk::start(settings).await else { return };
        disk.fails_and_recovers(fault).await;
        let records = disk.assert_whole(segments).await;
        assert_eq!(records.of("shown").len(), 6, "{fault}");
        // The first refusal has its record, which says that the telephone did not ring.
        let not_sent = records.of("outcome").iter().filter(|outcome| outcome["result"] == "not_sent").count();
        assert_eq!(not_sent, 1, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stands_still_refuses_callouts_after_the_timeout_and_then_at_once() {
    for fault in ["write stalls", "sync stalls"] {
        let settings = "audit.timeout = \"300ms\"\naudit.durability = \"synced\"";
        let Some(disk) = FaultyDisk::start(settings).await else { return };
        disk.fails_and_recovers(fault).await;
        let records = disk.assert_whole(1).await;
        assert_eq!(records.of("shown").len(), 6, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_forward_a_disk_that_stands_still_delays_callouts_and_loses_none() {
    let settings = "audit.timeout = \"300ms\"\naudit.on_failure = \"forward\"";
    let Some(disk) = FaultyDisk::start(settings).await else { return };
    disk.fails("write stalls");
    for _ in 0..3 {
        disk.forwarded().await;
    }
    disk.everything_else_goes_on().await;
    disk.fails("");
    disk.becomes(0.0).await;
    disk.forwarded().await;
    let records = disk.assert_whole(1).await;
    assert_eq!(records.of("decision").len(), 4);
    let unconfirmed = records.of("outcome").iter().filter(|outcome| outcome["unconfirmed"] == true).count();
    assert_eq!(unconfirmed, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_slow_and_interrupted_calls_refuse_nothing() {
    for fault in ["write short", "write EINTR", "sync slow"] {
        let settings = "audit.timeout = \"20s\"\naudit.durability = \"synced\"\nlog.access = \"none\"";
        let Some(disk) = FaultyDisk::start(settings).await else { return };
        disk.fails(fault);
        let calls = (0..20).map(|_| disk.forwarded());
        within("the calls", futures_util::future::join_all(calls)).await;
        assert!(disk.gateway.scraped(FAILING).await.abs() < f64::EPSILON, "{fault}");
        disk.fails("");
        let site_verified = disk.assert_whole(1).await;
        assert_eq!(site_verified.of("decision").len(), 20, "{fault}");
    }
}

/// A disk that stands still when the gateway starts: polls are served, and callouts are refused until it moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_disk_that_stands_still_serves_polls() {
    let Some(disk) = FaultyDisk::start("audit.timeout = \"300ms\"").await else { return };
    let FaultyDisk { site, mut gateway, .. } = disk;
    assert!(gateway.stop().await.success());
    site.configure(&format!("{AUDIT}\naudit.timeout = \"300ms\""));
    site.write("fault", "write stalls");
    let mut command = site.shell(RUN);
    command.env("LD_PRELOAD", site.path("faulty_disk.so")).env("DISK_FAULT", site.path("fault"));
    let gateway = site.run_with(command).await;
    let agent = gateway.agent_from_elsewhere(101);
    let disk = FaultyDisk { site, gateway, agent };
    disk.agent.shown(7, "5550101").await;
    disk.refused().await;
    disk.fails("");
    disk.becomes(0.0).await;
    disk.forwarded().await;
    assert_eq!(disk.site.verify(&["audit"]).findings.count(Grade::Broken), 0);
    let mut gateway = disk.gateway;
    assert!(gateway.stop().await.success());
    assert_eq!(disk.site.verify(&["audit"]).result(), Proof::Proved);
}
