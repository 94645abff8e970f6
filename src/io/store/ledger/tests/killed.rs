//! A gateway that is killed while the shared store is away.

use crate::config::{OnEndTimeout, OnStoreFailure, RedisStore, RedisUrl};
use crate::store::snapshot::SnapshotFile;

use super::*;

const TTL: Duration = Duration::from_secs(60);

/// A ledger whose Redis cannot be reached.
pub(super) fn cut_off() -> (Ledger, Arc<Metrics>, ManualClock) {
    let store = StoreKind::Redis(Box::new(RedisStore {
        url: RedisUrl { host: "192.0.2.1".to_owned(), port: 6379, ..RedisUrl::default() },
        username: None,
        password_file: None,
        ca: None,
        prefix: "previewgate:".to_owned(),
        timeout: Duration::from_millis(200),
        start_timeout: Duration::ZERO,
        on_store_failure: OnStoreFailure::Local,
        local_grace: TTL,
        end_timeout: Duration::ZERO,
        on_end_timeout: OnEndTimeout::Pass,
    }));
    let config = Previews {
        ttl: TTL,
        per_agent: 16,
        max_agents: 100,
        calls_per_number: 0,
        snapshot: None,
        snapshot_interval: Duration::from_secs(10),
        session_key: None,
        store,
    };
    let (clock, metrics) = (Arc::new(ManualClock::new(Timestamp(1_700_000_000_000))), Arc::new(Metrics::new()));
    (Ledger::new(&config, clock, Arc::clone(&metrics)), metrics, ManualClock::new(Timestamp(1_700_000_000_000)))
}

fn waiting(metrics: &Metrics) -> bool {
    metrics.encode().contains("previewgate_store_agents_pending 1")
}

#[test]
fn ends_that_the_shared_store_lacks_survive_the_process_and_every_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let file = || SnapshotFile::open(directory.path().join("previews.snapshot"), TTL, 100).unwrap();
    for saves in 0..3 {
        let (ledger, metrics, clock) = cut_off();
        let snapshot = file();
        snapshot.restore(&ledger, clock.now());
        // From the second run on, the end is one of the run before.
        assert_eq!(waiting(&metrics), saves > 0, "{saves}");
        ledger.start_journal(snapshot.start_journal(Arc::clone(&metrics)).unwrap());
        if saves == 0 {
            ledger.end(agent(101), Change::Ended, EndCause::Released);
        }
        for _ in 0..saves {
            snapshot.save(&ledger, &clock).unwrap();
        }
        // The journal is written when the ledger is dropped; what `kill -9` leaves behind is the same.
        ledger.journal.get().unwrap().rotate(Vec::new(), 0).unwrap();
    }
    let (ledger, metrics, clock) = cut_off();
    file().restore(&ledger, clock.now());
    assert!(waiting(&metrics));
}

/// An end is of no use any more when no preview can be as old.
#[test]
fn ends_that_are_too_old_are_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let file = || SnapshotFile::open(directory.path().join("previews.snapshot"), TTL, 100).unwrap();
    let (ledger, metrics, _) = cut_off();
    let snapshot = file();
    ledger.start_journal(snapshot.start_journal(metrics).unwrap());
    ledger.end(agent(101), Change::Ended, EndCause::Released);
    ledger.journal.get().unwrap().rotate(Vec::new(), 0).unwrap();
    drop((ledger, snapshot));
    let (ledger, metrics, clock) = cut_off();
    clock.advance(TTL * 2 + Duration::from_millis(1));
    file().restore(&ledger, clock.now());
    assert!(!waiting(&metrics));
}
