//! A clock that tests can move.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use previewgate::preview::{Clock, SystemClock, Timestamp};

/// The system's clock, which a test can put forward. It goes on by itself: events that follow each other have different
/// times, as the gateway expects.
#[derive(Default)]
pub(crate) struct MovableClock {
    system: SystemClock,
    /// Milliseconds.
    ahead: AtomicU64,
}

impl MovableClock {
    /// Puts the clock forward.
    pub(crate) fn advance(&self, step: Duration) {
        self.ahead.fetch_add(u64::try_from(step.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Timestamp {
        self.system.now().after(Duration::from_millis(self.ahead.load(Ordering::Relaxed)))
    }
}
