//! Limits how often a repeating problem is logged. Each occurrence is still counted in the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Allows one log line in each interval, across all threads.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    created: Instant,
    /// Milliseconds after `created` from which the next line is allowed.
    next: AtomicU64,
}

impl LogThrottle {
    /// The first line is allowed at once.
    pub fn every(interval: Duration) -> Self {
        Self { interval, created: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Whether a line may be logged now. `true` starts the next interval.
    pub fn allow(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.created.elapsed());
        let next = self.next.load(Ordering::Relaxed);
        let then = now.saturating_add(millis(self.interval));
        // Of several threads that ask at the same time, one succeeds.
        now >= next && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_one_line_in_an_interval() {
        let hourly = LogThrottle::every(Duration::from_secs(3600));
        assert_eq!([hourly.allow(), hourly.allow(), hourly.allow()], [true, false, false]);
        let always = LogThrottle::every(Duration::ZERO);
        assert_eq!([always.allow(), always.allow()], [true, true]);
    }
}
