//! Segments end and old ones are removed while agents call: nothing of what remains is missing, and the log can be verified
//! at any moment.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use previewgate::audit::prune::prune;
use previewgate::audit::verify::{Grade, Result as Proof};
use previewgate::preview::Clock;
use tokio::task::JoinSet;

use crate::support::{Agent, AuditRecords, Lab, MovableClock, Setup, eventually, within};

const AGENTS: u32 = 4;
const DAY: Duration = Duration::from_secs(24 * 3600);
const DAYS: usize = 7;

/// Agents that are shown previews and call, until they are told to stop.
fn load(lab: &Lab, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut calling = JoinSet::new();
    for number in 101..101 + AGENTS {
        let (agent, stop): (Agent, _) = (lab.agent_from_elsewhere(number), Arc::clone(stop));
        calling.spawn(async move {
            for control_id in 0.. {
                agent.shown(control_id, "5550101").await;
                for call in 0..10 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // A preview that was shown the day before has expired.
                    agent.call(control_id, if call % 5 == 4 { "5559999" } else { "5550101" }).await;
                }
            }
        });
    }
    calling
}

/// Verifies the directory, and prunes it by hand, again and again.
fn watch(
    directory: PathBuf,
    clock: Arc<MovableClock>,
    key: PathBuf,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<usize> {
    use previewgate::audit::note::Signer;
    use previewgate::audit::verify::{Request, verify};
    std::thread::spawn(move || {
        let keys = [Signer::read(&key).unwrap().verifier().clone()];
        let (directories, mut times) = ([directory], 0);
        while !stop.load(Ordering::Relaxed) {
            let verification = verify(&Request { directories: &directories, keys: &keys, anchor: None }).unwrap();
            assert_eq!(verification.findings.of(Grade::Broken).next(), None, "verification {times}");
            prune(&directories[0], clock.now(), 2 * DAY).unwrap();
            times += 1;
        }
        times
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_and_prunes_under_load_lose_nothing() {
    let clock = Arc::new(MovableClock::default());
    let settings = "audit.retention = \"2d\"\naudit.segment_size = \"64KiB\"\naudit.checkpoint_interval = \"1d\"\nlog.access = \"none\"";
    let setup = Setup::plain().lenient().audited().settings(settings).clock(clock.clone());
    let lab = setup.simulator(|simulator| simulator.journal_entries = 1_000_000).start().await;
    let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (directory, key) = (lab.site.path("audit"), lab.site.path("audit.key"));
    let watching = watch(directory.clone(), clock.clone(), key, Arc::clone(&over));
    let mut calling = load(&lab, &stop);
    let mut arrived_before_today = 0;
    for day in 0..DAYS {
        let before = lab.simulator.callouts().len();
        eventually(format!("callouts of day {day}"), || lab.simulator.callouts().len() > before + 60).await;
        arrived_before_today = lab.simulator.callouts().len();
        clock.advance(DAY);
    }
    let before = lab.simulator.callouts().len();
    eventually("callouts of the last day", || lab.simulator.callouts().len() > before + 60).await;
    stop.store(true, Ordering::Relaxed);
    within("the agents to stop", async { while calling.join_next().await.is_some() {} }).await;
    let taken = |kind: &str| lab.metric(&format!("previewgate_audit_records_total{{kind=\"{kind}\"}}"));
    let lost = |kind: &str| lab.metric(&format!("previewgate_audit_records_lost_total{{kind=\"{kind}\"}}"));
    let callouts = lab.simulator.callouts();
    assert!(lost("decision") == 0.0 && lost("shown") == 0.0 && lost("outcome") == 0.0);
    assert!(taken("outcome") == callouts.len() as f64, "{} {}", taken("outcome"), callouts.len());
    let Lab { gateway, site } = lab;
    gateway.close().await;
    over.store(true, Ordering::Relaxed);
    let times = tokio::task::spawn_blocking(move || watching.join().unwrap()).await.unwrap();
    assert!(times > 0);

    let verification = site.verify(&["audit"]);
    assert_eq!(verification.result(), Proof::Proved, "{:?}", verification.findings.of(Grade::Incomplete).next());
    let [chain] = &verification.chains[..] else { panic!() };
    assert!(chain.pruned >= 2 * DAYS / 2 && chain.segments > 2, "{chain:?}");
    assert_eq!((chain.sealed, chain.closed), (chain.lines.map(|(_, last)| last), true));
    assert!(verification.decisions.derived > 0);
    // Whatever rang today has its decision.
    let records = AuditRecords::read(&directory);
    let decided: HashSet<&str> =
        records.of("decision").iter().map(|decision| decision["request_id"].as_str().unwrap()).collect();
    for callout in &callouts[arrived_before_today..] {
        let id = callout.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-request-id")).unwrap();
        assert!(decided.contains(std::str::from_utf8(&id.1).unwrap()), "{id:?}");
    }
}
