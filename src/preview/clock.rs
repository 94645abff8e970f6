//! Time, injected.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(duration)))
    }
}

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current time. Never goes back.
    fn now(&self) -> Timestamp;
}

/// The machine's clock: read once at the start, carried on by the monotonic clock, so that a step of the wall clock
/// (NTP, an operator) can neither revive nor expire a preview.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl SystemClock {
    /// Anchors the clock at the present.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Timestamp(millis(since_epoch)) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.started_at.after(self.started.elapsed())
    }
}

/// A clock that moves only when told to, for tests and for `explain`.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Moves to `time`.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::Relaxed);
    }

    /// Moves on by `step`.
    pub fn advance(&self, step: Duration) {
        self.0.fetch_add(millis(step), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_has_a_distance_and_one_ahead_has_none() {
        let clock = ManualClock::new(Timestamp(5));
        clock.advance(Duration::from_millis(7));
        assert_eq!((clock.now(), clock.now().since(Timestamp(5))), (Timestamp(12), Duration::from_millis(7)));
        clock.set(Timestamp(3));
        assert_eq!((clock.now(), clock.now().since(Timestamp(12))), (Timestamp(3), Duration::ZERO));
        assert_eq!(Timestamp(u64::MAX).after(Duration::MAX), Timestamp(u64::MAX));
    }

    #[test]
    fn the_clock_of_the_machine_goes_on_from_the_time_of_day() {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second && first.0 >= millis(started), "{first:?} {second:?} {started:?}");
    }
}
