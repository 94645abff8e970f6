//! Once in a while: a fault that repeats with every request is counted each time and logged now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Says yes at most once in an interval, whoever asks.
#[derive(Debug)]
pub struct Sparingly {
    interval: Duration,
    created: Instant,
    /// Milliseconds after `created` before which the answer is no.
    next: AtomicU64,
}

impl Sparingly {
    /// The first answer is yes.
    pub fn every(interval: Duration) -> Self {
        Self { interval, created: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Whether it is time again.
    pub fn now(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.created.elapsed());
        let next = self.next.load(Ordering::Relaxed);
        let then = now.saturating_add(millis(self.interval));
        // Of several who ask at the same time, one wins.
        now >= next && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_an_interval() {
        let hourly = Sparingly::every(Duration::from_secs(3600));
        assert_eq!([hourly.now(), hourly.now(), hourly.now()], [true, false, false]);
        let always = Sparingly::every(Duration::ZERO);
        assert_eq!([always.now(), always.now()], [true, true]);
    }
}
