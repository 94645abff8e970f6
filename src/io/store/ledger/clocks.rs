//! What the ledger does when a clock was set: the machine's, or the one that all gateways have in common.

use super::Ledger;
use crate::preview::{Change, Timestamp};
use crate::store::common_clock::moved;
use crate::store::wall_clock::{NewTimes, Wall};

impl Ledger {
    /// Looks whether the machine's wall clock was set. Called now and then. Returns by how many milliseconds it was set.
    pub fn follow_wall_clock(&self) -> Option<i64> {
        if self.shared.is_some() {
            return None;
        }
        let (by, times, _held) = self.wall.follow(&*self.time)?;
        let _locks: Vec<_> = self.lock_all();
        self.local.redate(|time| times.of(time));
        Some(by)
    }

    /// The clock of all gateways shows that this ledger's was wrong by `by` milliseconds, and is right from now on.
    pub(super) fn correct_clock(&self, by: i64, is_first: bool) {
        // No change is made meanwhile: each has a time of before, and gets a new one here, or has a time of afterwards.
        let _locks: Vec<_> = self.lock_all();
        self.time.correct(by);
        let times: NewTimes = self.wall.judge_by_another(by, is_first);
        self.local.redate(|time| times.of(time));
        if let Some(shared) = &self.shared {
            shared.redate(by);
        }
    }

    /// Previews that were saved at `saved_at` are restored at `now`.
    pub(in crate::store) fn note_restored(&self, saved_at: Timestamp, now: Timestamp) {
        self.wall.restored(saved_at, now);
        // What this process sees is later than that, also within one millisecond.
        self.time.boundary();
    }

    /// The wall clock, which is not followed while this is held.
    pub(in crate::store) fn hold_wall_clock(&self) -> std::sync::MutexGuard<'_, Wall> {
        self.wall.hold()
    }

    /// A change with its time, as another process understands it.
    pub(super) fn by_wall_clock(&self, change: Change, at: Timestamp) -> (Change, Timestamp) {
        let ahead = self.wall.ahead();
        (change.redated(|time| moved(time, ahead)), moved(at, ahead))
    }
}
