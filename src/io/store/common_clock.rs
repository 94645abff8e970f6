//! The clock that previews are judged by: the gateway's own, or that of the Redis that several gateways share. With Redis,
//! each gateway measures at every heartbeat how far its own clock is from Redis's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::preview::{Clock, Timestamp, millis};

/// A larger error of a clock is a *step*: everything that has a time by the clock of before gets a new time.
pub(crate) const STEP: Duration = Duration::from_secs(2);

/// Redis's time, as far as it is known; the gateway's own before the first heartbeat, and without Redis.
pub(crate) struct CommonClock {
    own: Arc<dyn Clock>,
    /// How far Redis's clock is ahead of the own one, in milliseconds.
    ahead: AtomicI64,
}

/// A time, and how far Redis's clock was ahead when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    pub(super) ahead: i64,
}

impl CommonClock {
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, ahead: AtomicI64::new(0) }
    }

    /// The gateway's own clock.
    pub(crate) fn own(&self) -> &Arc<dyn Clock> {
        &self.own
    }

    /// Redis's clock showed `theirs` between `asked` and `answered` by the own clock. Returns by how much the present estimate
    /// is wrong: by nothing if it explains that. So it changes only when the clocks drift apart or one of them is set.
    pub(crate) fn error(&self, asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> i64 {
        let difference = |own: Timestamp| signed(theirs).saturating_sub(signed(own));
        let (least, most) = (difference(answered), difference(asked));
        let ahead = self.ahead.load(Ordering::Relaxed);
        ahead.clamp(least, most.max(least)).saturating_sub(ahead)
    }

    /// The clock goes on by so many milliseconds.
    pub(crate) fn correct(&self, by: i64) {
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// The time, in a form that [`Self::today`] can bring up to date.
    pub(super) fn read(&self) -> Reading {
        let ahead = self.ahead.load(Ordering::Relaxed);
        Reading { at: moved(self.own.now(), ahead), ahead }
    }

    /// The time of an earlier reading, by the clock as it is now: after a step, another one than was read.
    pub(super) fn today(&self, reading: Reading) -> Timestamp {
        let by = self.ahead.load(Ordering::Relaxed).saturating_sub(reading.ahead);
        if is_step(by) { moved(reading.at, by) } else { reading.at }
    }
}

impl Clock for CommonClock {
    fn now(&self) -> Timestamp {
        self.read().at
    }

    fn wall(&self) -> Timestamp {
        self.own.wall()
    }
}

/// Whether an error of so many milliseconds is a step.
pub(crate) fn is_step(by: i64) -> bool {
    by.unsigned_abs() > millis(STEP)
}

/// So many milliseconds later, or earlier.
pub(crate) fn moved(time: Timestamp, by: i64) -> Timestamp {
    Timestamp(time.0.saturating_add_signed(by))
}

fn signed(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::ManualClock;

    #[test]
    fn an_own_clock_that_is_wrong_or_is_set_does_not_matter_after_the_next_heartbeat() {
        let own = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let clock = CommonClock::new(own.clone());
        assert_eq!(clock.now(), Timestamp(1_000_000));
        let heartbeat = |theirs: u64, took: u64| {
            let asked = own.now();
            own.set(Timestamp(asked.0 + took));
            clock.correct(clock.error(asked, Timestamp(theirs), own.now()));
        };
        let before = clock.read();
        // An hour behind. The answer took 10 ms: the time can be wrong by as much, and not by more.
        heartbeat(4_600_005, 10);
        assert!((4_600_005..=4_600_015).contains(&clock.now().0), "{:?}", clock.now());
        assert_eq!(clock.today(before), Timestamp(clock.now().0 - 10), "10 ms ago");
        // The estimate does not move with the jitter of the network.
        let before = clock.read();
        heartbeat(before.at.0 + 2, 10);
        assert_eq!(clock.now(), Timestamp(before.at.0 + 10));
        assert_eq!(clock.today(before), before.at);
        // NTP sets the own clock.
        own.set(Timestamp(4_601_000));
        heartbeat(4_601_000, 0);
        assert_eq!(clock.now(), Timestamp(4_601_000));
        own.set(Timestamp(100));
        heartbeat(4_601_001, 0);
        assert_eq!(clock.now(), Timestamp(4_601_001));
    }
}
