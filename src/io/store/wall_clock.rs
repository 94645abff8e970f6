//! What becomes of previews when the machine's wall clock was wrong at the start, and NTP or an operator sets it.
//!
//! Previews are judged by a clock that is never set: what this process has seen itself has the right age, whatever the wall
//! clock says. Two things need the wall clock nevertheless, and so have to follow it:
//! - **Restored previews.** How long the gateway was down is known only from the wall clock. When that is set, their ages are
//!   computed again. None becomes younger than it was when it was saved.
//! - **Files**, and what a process that takes over gets: another process compares their times with its own wall clock.
//!
//! With Redis, the common clock decides instead, and this one is not followed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::common_clock::{is_step, moved};
use crate::preview::{Clock, Timestamp};

/// See the module.
#[derive(Default)]
pub(super) struct WallClock {
    wall: Mutex<Wall>,
    /// [`Wall::ahead`], for those who hold the lock of an agent and so must not wait.
    ahead: AtomicI64,
}

/// The wall clock, as far as it was followed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wall {
    /// How far it is ahead of the clock that judges, in milliseconds.
    pub(super) ahead: i64,
    restored: Option<RestoredTimes>,
}

/// When previews were saved, by the wall clock of then, and when they were restored, by the clock that judges.
#[derive(Clone, Copy, Debug)]
struct RestoredTimes {
    saved_at: Timestamp,
    restored_at: Timestamp,
}

/// New times for previews after a clock was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NewTimes {
    /// When previews were restored, by the clock of before. What is older was restored.
    restored_at: Option<Timestamp>,
    /// How many milliseconds later the times of restored previews are.
    restored: i64,
    /// The same for what this process has seen itself.
    own: i64,
}

impl NewTimes {
    pub(super) fn of(self, time: Timestamp) -> Timestamp {
        let is_restored = self.restored_at.is_some_and(|at| time <= at);
        moved(time, if is_restored { self.restored } else { self.own })
    }
}

impl RestoredTimes {
    /// By how much the times of restored previews change, as the wall clock would show them, if it is `to` ahead instead of
    /// `from`. A wall clock that shows a time before the save is certainly wrong: then the previews are as old as they were.
    fn change(self, from: i64, to: i64) -> i64 {
        let shown = |ahead: i64| moved(self.restored_at, ahead);
        let too_early = |now: Timestamp| i64::try_from(self.saved_at.0.saturating_sub(now.0)).unwrap_or(i64::MAX);
        too_early(shown(from)).saturating_sub(too_early(shown(to)))
    }
}

impl WallClock {
    /// The state, which does not change while this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, Wall> {
        self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the wall clock is ahead of the clock that judges, in milliseconds.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Previews that were saved at `saved_at` were restored at `now`.
    pub(super) fn restored(&self, saved_at: Timestamp, now: Timestamp) {
        self.hold().restored = Some(RestoredTimes { saved_at, restored_at: now });
    }

    /// Looks at the wall clock. If it was set, returns by how many milliseconds, and the new times of previews, which must be
    /// in force before the guard is dropped. While a file is being written, this waits for the next look.
    pub(super) fn follow(&self, clock: &dyn Clock) -> Option<(i64, NewTimes, MutexGuard<'_, Wall>)> {
        let mut wall = match self.wall.try_lock() {
            Ok(wall) => wall,
            Err(TryLockError::Poisoned(wall)) => wall.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let (before, now, shown) = (wall.ahead, clock.now(), clock.wall());
        let ahead = i64::try_from(i128::from(shown.0) - i128::from(now.0)).ok()?;
        let by = ahead.saturating_sub(before);
        if !is_step(by) {
            return None;
        }
        wall.ahead = ahead;
        self.ahead.store(ahead, Ordering::Relaxed);
        let restored = wall.restored.map_or(0, |times| times.change(before, ahead).saturating_sub(by));
        Some((by, NewTimes { restored_at: wall.restored.map(|times| times.restored_at), restored, own: 0 }, wall))
    }

    /// The clock that judges was wrong by `by` milliseconds from the start on, and is set. `is_first`: nobody else has set it
    /// before. Later it is the reference that was set, and everything keeps its age.
    pub(super) fn judge_by_another(&self, by: i64, is_first: bool) -> NewTimes {
        let mut wall = self.hold();
        let before = wall.restored;
        if let Some(times) = &mut wall.restored {
            times.restored_at = moved(times.restored_at, by);
        }
        let restored = before.filter(|_| is_first).map_or(by, |times| times.change(0, by));
        NewTimes { restored_at: before.map(|times| times.restored_at), restored, own: by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::ManualClock;

    const MINUTE: i64 = 60_000;
    const SAVED: u64 = 1_000_000_000;

    /// How old a preview is of `age` at the save, 10 minutes before a restart at which the wall clock was wrong by `wrong`,
    /// after it was set by each of these steps. In minutes.
    fn ages(age: u64, wrong: i64, steps: &[i64]) -> Vec<u64> {
        let restored_at = Timestamp((SAVED + 10 * MINUTE as u64).saturating_add_signed(wrong));
        let (machine, wall) = (ManualClock::new(restored_at), WallClock::default());
        wall.restored(Timestamp(SAVED), restored_at);
        // As a snapshot restores it.
        let mut shown = Timestamp(Timestamp(SAVED).min(restored_at).0 - age * MINUTE as u64);
        let mut found = Vec::new();
        let mut ahead = 0;
        for step in std::iter::once(&0).chain(steps) {
            ahead += step * MINUTE;
            machine.set_wall_ahead(ahead);
            if let Some((by, times, _held)) = wall.follow(&machine) {
                assert_eq!(by, step * MINUTE);
                shown = times.of(shown);
                let own = machine.now().after(std::time::Duration::from_millis(1));
                assert_eq!(times.of(own), own, "what this process has seen keeps its age");
            }
            assert_eq!(wall.ahead(), ahead);
            found.push((machine.now().0 - shown.0) / MINUTE as u64);
        }
        found
    }

    #[test]
    fn a_restored_preview_has_its_true_age_when_the_wall_clock_is_right_and_is_never_younger_than_when_it_was_saved() {
        for (wrong, steps, expected) in [
            // It was right, and stays so.
            (0, &[][..], &[15][..]),
            // An hour behind: how long the gateway was down is not known, until NTP sets the clock.
            (-60 * MINUTE, &[60], &[5, 15]),
            // Half an hour, in two steps.
            (-30 * MINUTE, &[10, 20], &[5, 5, 15]),
            // By less than the gateway was down.
            (-4 * MINUTE, &[4], &[11, 15]),
            // An hour ahead.
            (60 * MINUTE, &[-60], &[75, 15]),
            // Wrong, then wrong the other way, then right.
            (60 * MINUTE, &[-180, 120], &[75, 5, 15]),
            // It was right, is set wrong, and right again.
            (0, &[60, -60, -60, 60], &[15, 75, 15, 5, 15]),
        ] {
            assert_eq!(ages(5, wrong, steps), expected, "{wrong} {steps:?}");
        }
    }

    #[test]
    fn a_clock_that_drifts_or_is_corrected_a_little_is_not_followed() {
        let (machine, wall) = (ManualClock::new(Timestamp(SAVED)), WallClock::default());
        machine.set_wall_ahead(2000);
        assert!(wall.follow(&machine).is_none());
        machine.set_wall_ahead(2001);
        assert_eq!(wall.follow(&machine).map(|(by, ..)| by), Some(2001));
        assert!(wall.follow(&machine).is_none());
        // A suspended machine: both clocks go on.
        machine.advance(std::time::Duration::from_secs(3600));
        assert!(wall.follow(&machine).is_none());
    }

    #[test]
    fn a_common_clock_changes_all_times_and_restored_ones_as_the_wall_clock_would() {
        let wall = WallClock::default();
        let start = Timestamp(SAVED - 50 * MINUTE as u64);
        wall.restored(Timestamp(SAVED), start);
        let times = wall.judge_by_another(60 * MINUTE, true);
        let minutes = |from: Timestamp, to: Timestamp| (to.0 as i64 - from.0 as i64) / MINUTE;
        let (restored, own) = (Timestamp(start.0 - 5 * MINUTE as u64), Timestamp(start.0 + 1));
        assert_eq!((minutes(restored, times.of(restored)), minutes(own, times.of(own))), (50, 60));
        // Later it is Redis's clock that was set.
        let times = wall.judge_by_another(-30 * MINUTE, false);
        let restored = Timestamp(restored.0 + 50 * MINUTE as u64);
        assert_eq!(minutes(restored, times.of(restored)), -30);
    }
}
