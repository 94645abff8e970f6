//! The order in which things happen inside one gateway.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::preview::{Clock, Timestamp};

/// An instant in the life of one gateway, comparable with every other instant of the same process.
///
/// Milliseconds are too coarse for that: a sign-in and the first poll of the new session can fall into the same
/// millisecond. A moment therefore also carries a sequence number, which is different for each moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    sequence: u64,
    at: Timestamp,
}

impl Moment {
    /// The time by the gateway's clock.
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// Whether this moment came before `other`.
    pub fn is_before(self, other: Moment) -> bool {
        self.sequence < other.sequence
    }
}

/// Issues moments in order.
#[derive(Debug, Default)]
pub(super) struct Sequence(AtomicU64);

/// Issues times of which no two are the same, in order: the times at which push addresses are issued. Each is the present
/// time, or the next that is free.
#[derive(Debug, Default)]
pub(super) struct IssueTimes(AtomicU64);

impl IssueTimes {
    /// A time after every time issued before.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let next = |last: u64| now.0.max(last.saturating_add(1));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))).unwrap_or(0);
        Timestamp(next(last))
    }
}

impl Sequence {
    /// A new moment, later than every moment issued before.
    pub(super) fn next(&self, clock: &dyn Clock) -> Moment {
        Moment { sequence: self.0.fetch_add(1, Ordering::Relaxed), at: clock.now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_issued_twice() {
        let times = IssueTimes::default();
        assert_eq!([5, 5, 5, 9, 8].map(|now| times.next(Timestamp(now)).0), [5, 6, 7, 9, 10]);
    }
}
