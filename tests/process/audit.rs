//! The audit log of a gateway that is killed at random moments, whose disk is full or read-only, or who can open no file.

use std::collections::{HashMap, HashSet};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use previewgate::audit::segment::{SegmentName, chains};
use previewgate::audit::verify::Grade;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    AUDIT, Agent, Arrivals, AuditRecords, Process, RUN, Setup, Site, Wire, eventually_async, skip, within,
};

const FAILING: &str = "previewgate_audit_failing";
const AGENTS: u32 = 4;
/// How often the gateway is killed; thousands of times by hand.
const ROUNDS: &str = "PREVIEWGATE_AUDIT_KILLS";

async fn audited(settings: &str) -> Site {
    Setup::plain().lenient().audited().settings(settings).site().await
}

/// Agents that call without end until the gateway is gone.
async fn load(gateway: &Process, agents: &[Agent], round: usize) -> JoinSet<()> {
    let mut calling = JoinSet::new();
    for agent in agents {
        let agent = agent.through(gateway);
        agent.shown(7, "5550101").await;
        let address = gateway.address;
        calling.spawn(async move {
            let Ok(mut wire) = Wire::plain(address).await else { return };
            for number in 0.. {
                let request = agent.callout(7, "5550101").id(&format!("{}-{round}-{number}", agent.number));
                if wire.try_send(&request).await.is_err() {
                    return;
                }
            }
        });
    }
    calling
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "a long run of kills prints its numbers")]
async fn no_call_arrives_without_a_decision_before_it_however_often_the_gateway_is_killed() {
    let rounds: usize = std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(24);
    // A machine that is busy with something else must not be taken for a disk that fails.
    let settings = "log.access = \"none\"\naudit.segment_size = \"64KiB\"\naudit.timeout = \"20s\"";
    let site = audited(settings).await;
    let access = site.access();
    let agents: Vec<_> = (0..AGENTS).map(|number| access.agent_from_elsewhere(101 + number)).collect();
    let mut arrivals = Arrivals::default();
    for round in 0..rounds {
        if round % 8 == 7 {
            killed_at_start(&site, round).await;
        }
        let mut gateway = site.run().await;
        let mut calling = load(&gateway, &agents, round).await;
        // A prime step, so that the kills meet every phase of a callout.
        let until = site.handle.callouts().len() + 1 + round * 7 % 61;
        within("callouts", async {
            while site.handle.callouts().len() < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        gateway.signal("KILL");
        gateway.ended().await;
        calling.shutdown().await;
        arrivals.collect(&site);
        if round == 0 {
            begin_segment(&site, 980);
        }
        if round % 100 == 99 {
            println!("{} kills, {} arrivals", round + 1, arrivals.callouts.len());
        }
    }
    // One more start, which says how the segment before ended.
    let mut gateway = site.run().await;
    gateway.signal("KILL");
    gateway.ended().await;
    // What the last gateways had sent may have been read since.
    arrivals.collect(&site);
    assert!(arrivals.callouts.len() >= rounds);
    compare_with_log(&site, &arrivals.callouts);
}

/// No callout arrived without a decision, and `verify` names exactly those that may have rung.
#[allow(clippy::print_stdout, reason = "whoever kills it thousands of times wants the numbers")]
fn compare_with_log(site: &Site, arrived: &[String]) {
    let records = AuditRecords::read(&site.path("audit"));
    let decisions: HashMap<&str, &Value> = records
        .of("decision")
        .into_iter()
        .map(|decision| (decision["request_id"].as_str().unwrap(), decision))
        .collect();
    let outcomes: HashSet<&str> =
        records.of("outcome").into_iter().map(|outcome| outcome["decision"].as_str().unwrap()).collect();
    let unknown: Vec<_> = arrived.iter().filter(|id| !decisions.contains_key(id.as_str())).collect();
    assert!(unknown.is_empty(), "{} of {} arrived without a decision: {unknown:?}", unknown.len(), arrived.len());
    let open: HashSet<u64> = decisions
        .values()
        .filter(|decision| decision["verdict"] != "rejected" && !outcomes.contains(decision["id"].as_str().unwrap()))
        .map(|decision| decision["seq"].as_u64().unwrap())
        .collect();
    // The verifier names exactly those that may have rung, and takes none of the kills for tampering.
    let verification = site.verify(&["audit"]);
    assert_eq!(verification.findings.of(Grade::Broken).next(), None);
    let named =
        verification.findings.of(Grade::Incomplete).filter(|finding| finding.message.starts_with("may have rung"));
    assert_eq!(named.map(|finding| finding.seq.unwrap()).collect::<HashSet<u64>>(), open);
    assert_eq!(verification.decisions.derived, decisions.len() as u64);
    let open = open.len();
    println!("{} arrivals, {} decisions, {open} of them without outcome", arrived.len(), decisions.len());
}

/// Leaves an empty segment, as a gateway does that is killed when it has made the file. The segments of this day then have
/// numbers of three and of four digits.
fn begin_segment(site: &Site, number: u32) {
    let chain = chains([site.path("audit").as_path()]).unwrap().into_values().next().unwrap();
    let (latest, _) = chain.segments.into_iter().next_back().unwrap();
    let name = SegmentName { number, ..latest };
    std::fs::write(site.path("audit").join(name.file()), "").unwrap();
}

/// Kills a gateway at some moment between its start and its first callouts.
async fn killed_at_start(site: &Site, round: usize) {
    let mut process = site.shell(RUN).stdout(std::process::Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(round as u64 * 11 % 97)).await;
    process.kill().await.unwrap();
}

async fn refused(agent: &Agent) {
    let answer = agent.call(7, "5550101").await;
    assert_eq!((answer.status, answer.own().reason.as_str()), (503, "audit_unavailable"));
}

/// A gateway whose audit directory is a file system of its own, in a mount namespace of its own. `None` where that is not
/// permitted.
async fn on_a_small_disk(site: &Site) -> Option<(Process, PathBuf)> {
    let directory = site.path("audit");
    let mount = format!("mount -t tmpfs -o size=256k,mode=700 none {}", directory.display());
    let mut attempt = site.shell(&format!("unshare -m sh -c '{mount}' 2>/dev/null"));
    if !attempt.status().await.is_ok_and(|status| status.success()) {
        skip("a mount namespace (unshare -m)");
        return None;
    }
    let gateway = site.run_with(site.shell(&format!("exec unshare -m sh -c '{mount} && {RUN}'"))).await;
    let seen_from_here = PathBuf::from(format!("/proc/{}/root{}", gateway.id(), directory.display()));
    Some((gateway, seen_from_here))
}

async fn is_failing(gateway: &Process, failing: f64) {
    gateway.scraped_until(FAILING, |value| (value - failing).abs() < f64::EPSILON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_callouts_until_there_is_room() {
    let site = audited("audit.timeout = \"20s\"").await;
    let Some((gateway, disk)) = on_a_small_disk(&site).await else { return };
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
    fill(&disk.join("ballast"));
    // The last page of the segment may still have room.
    eventually_async("a refusal", async || agent.call(7, "5550101").await.status == 503).await;
    is_failing(&gateway, 1.0).await;
    agent.shown(8, "5550102").await;
    refused(&agent).await;
    std::fs::remove_file(disk.join("ballast")).unwrap();
    is_failing(&gateway, 0.0).await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
    let records = AuditRecords::read(&disk);
    assert_eq!(records.of("open").len(), 1, "the same segment goes on where it stopped");
    assert_eq!(records.of("shown").len(), 2, "nothing is lost");
}

/// Writes until there is no room.
fn fill(ballast: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_refuses_callouts_until_it_can_be_written() {
    let site = audited("audit.timeout = \"20s\"").await;
    let Some((gateway, disk)) = on_a_small_disk(&site).await else { return };
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
    // The last record of that call is written: nothing opens another segment before the disk is read-only.
    AuditRecords::when(&disk, |record| record["kind"] == "outcome").await;
    // A file that is open for writing keeps its file system writable: the segment is removed first, as by an error.
    let segment = std::fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        segment.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jsonl")).unwrap();
    std::fs::remove_file(segment).unwrap();
    remount(&site, &gateway, "ro").await;
    refused(&agent).await;
    is_failing(&gateway, 1.0).await;
    agent.shown(8, "5550102").await;
    remount(&site, &gateway, "rw").await;
    is_failing(&gateway, 0.0).await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
}

/// Mounts the gateway's disk again, read-only or not. While a file is open for writing it cannot become read-only: a bind
/// mount over it can.
async fn remount(site: &Site, gateway: &Process, mode: &str) {
    let directory = site.path("audit");
    let directory = directory.display();
    let command = match mode {
        "ro" => format!("mount --bind {directory} {directory} && mount -o remount,bind,ro {directory}"),
        _ => format!("umount {directory}"),
    };
    let script = format!("nsenter -t {} -m sh -c '{command}'", gateway.id());
    assert!(site.shell(&script).status().await.unwrap().success(), "{script}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_callouts_are_refused_until_there_are_some() {
    let settings = "limits.first_byte_timeout = \"1h\"\nlimits.idle_timeout = \"1h\"\naudit.timeout = \"20s\"";
    let site = audited(settings).await;
    let mut gateway = site.run_with(site.shell(&format!("ulimit -n 64 && {RUN}"))).await;
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.send(&agent.callout(7, "5550101")).await.verdict(), "ok");
    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    gateway.says("connection cannot be accepted").await;
    // The open segment can still be written.
    assert_eq!(kept.send(&agent.callout(7, "5550101")).await.verdict(), "ok");
    let directory = site.path("audit");
    let segment = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        segment.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jsonl")).unwrap();
    std::fs::remove_file(segment).unwrap();
    let answer = kept.send(&agent.callout(7, "5550101")).await;
    assert_eq!((answer.status, answer.own().reason.as_str()), (503, "audit_unavailable"));
    drop(crowd);
    is_failing(&gateway, 0.0).await;
    assert_eq!(agent.call(7, "5550101").await.verdict(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_nothing_and_reloads_leave_their_traces() {
    let site = audited("log.access = \"none\"\naudit.segment_size = \"64KiB\"").await;
    let mut gateway = site.run().await;
    let access = site.access();
    let agents: Vec<_> = (0..AGENTS).map(|number| access.agent_from_elsewhere(101 + number)).collect();
    let mut calling = load(&gateway, &agents, 0).await;
    for mode in ["monitor", "enforce"] {
        let before = site.handle.callouts().len();
        eventually_async("callouts", async || site.handle.callouts().len() > before + 150).await;
        site.configure(&format!(
            "{AUDIT}\nlog.access = \"none\"\naudit.segment_size = \"64KiB\"\nvalidation.mode = \"{mode}\""
        ));
        gateway.signal("HUP");
        gateway.says("configuration reloaded").await;
    }
    calling.shutdown().await;
    assert!(gateway.stop().await.success());
    let records = AuditRecords::read(&site.path("audit"));
    let opened = records.of("open");
    assert!(opened.len() > 3, "{}", opened.len());
    assert!(opened.iter().skip(1).all(|open| open["before"]["closed"] == true));
    let decided: HashSet<&str> =
        records.of("decision").iter().map(|decision| decision["request_id"].as_str().unwrap()).collect();
    let arrived = site.arrivals();
    assert!(arrived.len() > 300 && arrived.iter().all(|id| decided.contains(id.as_str())));
    let modes: Vec<_> = records
        .of("config")
        .iter()
        .filter(|config| config["trigger"] != "segment")
        .map(|config| (config["trigger"].as_str().unwrap(), config["mode"].as_str().unwrap()))
        .collect();
    assert_eq!(modes, [("start", "enforce"), ("sighup", "monitor"), ("sighup", "enforce")]);
    // Each segment can be read alone.
    assert_eq!(records.of("config").len(), 3 + opened.len() - 1);
}
