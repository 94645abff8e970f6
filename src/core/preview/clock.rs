//! Time, injected.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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

    /// So much earlier; the epoch at the earliest.
    pub fn before(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(duration)))
    }
}

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current time. Never goes back.
    fn now(&self) -> Timestamp;

    /// The machine's time of day, which NTP or an operator can set. A clock without one has [`Self::now`].
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// The machine's clock: read once at the start, carried on by the time since boot, so that a step of the wall clock (NTP, an
/// operator) can neither revive nor expire a preview. The time since boot goes on while the machine is suspended: a preview
/// that was shown before is as old afterwards as it is to the agent.
#[derive(Debug)]
pub struct SystemClock {
    /// Since boot.
    started: Duration,
    started_at: Timestamp,
}

impl SystemClock {
    /// Anchors the clock at the present.
    pub fn new() -> Self {
        Self { started: since_boot(), started_at: time_of_day() }
    }
}

impl SystemClock {
    fn at(&self, since_boot: Duration) -> Timestamp {
        self.started_at.after(since_boot.saturating_sub(self.started))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.at(since_boot())
    }

    fn wall(&self) -> Timestamp {
        time_of_day()
    }
}

fn time_of_day() -> Timestamp {
    Timestamp(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The time since the machine was booted, in which suspended time counts.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// A clock that moves only when it is told to, for tests and for `explain`.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    wall_ahead: AtomicI64,
}

impl ManualClock {
    /// Stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { now: AtomicU64::new(start.0), wall_ahead: AtomicI64::new(0) }
    }

    /// Sets the wall clock of its machine: so many milliseconds ahead of this clock.
    pub fn set_wall_ahead(&self, by: i64) {
        self.wall_ahead.store(by, Ordering::Relaxed);
    }

    /// Moves to `time`.
    pub fn set(&self, time: Timestamp) {
        self.now.store(time.0, Ordering::Relaxed);
    }

    /// Moves on by `step`.
    pub fn advance(&self, step: Duration) {
        self.now.fetch_add(millis(step), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.now().0.saturating_add_signed(self.wall_ahead.load(Ordering::Relaxed)))
    }
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
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

    /// A preview of before is an hour old, although the processor has stood still.
    #[test]
    fn an_hour_in_which_the_machine_was_suspended_counts() {
        let clock = SystemClock { started: Duration::from_secs(50), started_at: Timestamp(7_000) };
        assert_eq!(clock.at(Duration::from_secs(51)), Timestamp(8_000));
        assert_eq!(clock.at(Duration::from_secs(51 + 3600)), Timestamp(8_000 + 3_600_000));
        assert_eq!(clock.at(Duration::ZERO), Timestamp(7_000));
        // That is what the system's time since boot does, and its monotonic time does not.
        let awake = clock_gettime(ClockId::Monotonic);
        assert!(i128::from(awake.tv_sec) <= i128::from(since_boot().as_secs()));
    }

    #[test]
    fn the_clock_of_the_machine_goes_on_from_the_time_of_day() {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second && first.0 >= millis(started), "{first:?} {second:?} {started:?}");
    }
}
