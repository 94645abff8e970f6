//! What is counted, and what of it must be zero.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use previewgate::simulator::JournalEntry;

/// Shared by all agents.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) requests: AtomicU64,
    pub(crate) callouts: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Whole answers that tell of a fault of the platform.
    pub(crate) failures: AtomicU64,
    /// Kept connections that ended with a restart while they were idle.
    pub(crate) reconnected: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    wrong: AtomicU64,
    /// Even while one gateway serves, odd during a restart. Previews of another epoch may have been forgotten.
    epoch: AtomicU64,
    resident: Mutex<Vec<u64>>,
    /// Callouts that arrived, by their number: where from and when.
    arrived: Mutex<HashMap<u64, (SocketAddr, SystemTime)>>,
    pub(crate) finished: AtomicBool,
    pub(crate) at_work: AtomicUsize,
}

impl Ledger {
    /// Above [`Ledger::row`].
    pub(crate) const HEADING: &str =
        "   time  requests  callouts   refused  faulted  reconn.  lost  dupl.  wrong  RSS KiB";

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn restarting(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn restarted(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn lost(&self, what: &str) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let when = if self.epoch().is_multiple_of(2) { "while one gateway served" } else { "during a restart" };
        println!("LOST ({when}): {what}");
    }

    pub(crate) fn wrong(&self, what: &str) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        println!("WRONG: {what}");
    }

    /// Looks for callouts that arrived twice, or should not have arrived at all.
    pub(crate) fn look(&self, journal: &[Arc<JournalEntry>]) {
        let mut arrived = self.arrived.lock().unwrap();
        for entry in journal.iter().filter(|entry| entry.is_callout() && entry.complete) {
            let body = entry.json();
            let Some(number) = body["soak"].as_u64() else { continue };
            let here = (entry.peer, entry.time);
            let known = *arrived.entry(number).or_insert_with(|| {
                if body["honest"] == false {
                    self.wrong(&format!("callout {number} should not have arrived"));
                }
                here
            });
            if known != here {
                self.duplicated.fetch_add(1, Ordering::Relaxed);
                println!("DUPLICATED: callout {number}");
            }
        }
    }

    /// The numbers of the callouts that arrived.
    pub(crate) fn arrivals(&self) -> HashSet<u64> {
        self.arrived.lock().unwrap().keys().copied().collect()
    }

    /// Has the agents finish what they are doing.
    pub(crate) async fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        while self.at_work.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One row of the table.
    pub(crate) fn row(&self, elapsed: Duration, resident: u64) -> String {
        self.resident.lock().unwrap().push(resident);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{:>6}s {:>9} {:>9} {:>9} {:>8} {:>8} {:>5} {:>6} {:>6} {:>8}",
            elapsed.as_secs(),
            of(&self.requests),
            of(&self.callouts),
            of(&self.refused),
            of(&self.failures),
            of(&self.reconnected),
            of(&self.lost),
            of(&self.duplicated),
            of(&self.wrong),
            resident
        )
    }

    /// The exit code: whether everything that must be zero is.
    pub(crate) fn verdict(&self) -> ExitCode {
        let bad = [&self.lost, &self.duplicated, &self.wrong].map(|counter| counter.load(Ordering::Relaxed));
        let resident = self.resident.lock().unwrap();
        let (least, most) = (resident.iter().min().copied(), resident.iter().max().copied());
        println!("RSS from {} to {} KiB", least.unwrap_or(0), most.unwrap_or(0));
        println!("{} answers lost, {} callouts sent twice, {} verdicts or records wrong", bad[0], bad[1], bad[2]);
        println!("{}", if bad == [0; 3] { "fine" } else { "NOT FINE" });
        if bad == [0; 3] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
