//! The clock of all gateways that share a Redis: each measures at every heartbeat how far its own clock is from Redis's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::preview::{Clock, Timestamp};

/// Redis's time, as far as it is known; before the first heartbeat the gateway's own.
pub(crate) struct CommonClock {
    own: Arc<dyn Clock>,
    /// How far Redis's clock is ahead of the own one, in milliseconds.
    ahead: AtomicI64,
}

impl CommonClock {
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, ahead: AtomicI64::new(0) }
    }

    /// The gateway's own clock.
    pub(crate) fn own(&self) -> &dyn Clock {
        &*self.own
    }

    /// Redis's clock showed `theirs` between `asked` and `answered` by the own clock. The present estimate stays if that
    /// explains it: it changes only when the clocks drift apart or one of them is set.
    pub(crate) fn measured(&self, asked: Timestamp, theirs: Timestamp, answered: Timestamp) {
        let difference = |own: Timestamp| signed(theirs).saturating_sub(signed(own));
        let (least, most) = (difference(answered), difference(asked));
        let ahead = self.ahead.load(Ordering::Relaxed);
        self.ahead.store(ahead.clamp(least, most.max(least)), Ordering::Relaxed);
    }
}

impl Clock for CommonClock {
    fn now(&self) -> Timestamp {
        let now = signed(self.own.now()).saturating_add(self.ahead.load(Ordering::Relaxed));
        Timestamp(u64::try_from(now).unwrap_or(0))
    }
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
            clock.measured(asked, Timestamp(theirs), own.now());
        };
        // An hour behind. The answer took 10 ms: the time can be wrong by as much, and not by more.
        heartbeat(4_600_005, 10);
        assert!((4_600_005..=4_600_015).contains(&clock.now().0), "{:?}", clock.now());
        // The estimate does not move with the jitter of the network.
        let before = clock.now();
        heartbeat(before.0 + 2, 10);
        assert_eq!(clock.now(), Timestamp(before.0 + 10));
        // NTP sets the own clock.
        own.set(Timestamp(4_601_000));
        heartbeat(4_601_000, 0);
        assert_eq!(clock.now(), Timestamp(4_601_000));
        own.set(Timestamp(100));
        heartbeat(4_601_001, 0);
        assert_eq!(clock.now(), Timestamp(4_601_001));
    }
}
