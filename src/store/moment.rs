//! The order in which things happen inside one gateway.

use std::sync::Arc;
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
    /// The time by the ledger's clock.
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// Whether this moment came before `other`.
    pub fn is_before(self, other: Moment) -> bool {
        self.sequence < other.sequence
    }
}

/// The time of one ledger.
///
/// Its times are those of the clock, moved on by milliseconds where that keeps the order of events: a session begins
/// later than everything that was recorded before, also within one millisecond. So times alone decide which previews
/// belong to a session, in this process, in a file and in a shared store.
pub(super) struct LedgerTime {
    clock: Arc<dyn Clock>,
    /// No time from now on is earlier than this.
    earliest: AtomicU64,
    sequence: AtomicU64,
}

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

/// How far the time moves on before the clock. If the clock was set back by more, the clock counts: it was wrong before.
const MAX_LEAD: u64 = 2000;

fn no_earlier(now: u64, earliest: u64) -> u64 {
    if earliest.saturating_sub(now) > MAX_LEAD { now } else { now.max(earliest) }
}

impl LedgerTime {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, earliest: AtomicU64::new(0), sequence: AtomicU64::new(0) }
    }

    /// A new moment, later than every moment issued before.
    pub(super) fn moment(&self) -> Moment {
        self.moment_at(self.now())
    }

    /// A new moment whose time, too, is later than every time read before.
    pub(super) fn boundary(&self) -> Moment {
        let now = self.clock.now().0;
        let next = |earliest: u64| no_earlier(now, earliest).saturating_add(1);
        let order = Ordering::Relaxed;
        let earliest = self.earliest.fetch_update(order, order, |earliest| Some(next(earliest))).unwrap_or(0);
        self.moment_at(Timestamp(next(earliest)))
    }

    fn moment_at(&self, at: Timestamp) -> Moment {
        Moment { sequence: self.sequence.fetch_add(1, Ordering::Relaxed), at }
    }
}

impl Clock for LedgerTime {
    fn now(&self) -> Timestamp {
        Timestamp(no_earlier(self.clock.now().0, self.earliest.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::ManualClock;

    #[test]
    fn no_time_is_issued_twice() {
        let times = IssueTimes::default();
        assert_eq!([5, 5, 5, 9, 8].map(|now| times.next(Timestamp(now)).0), [5, 6, 7, 9, 10]);
    }

    #[test]
    fn a_boundary_is_later_than_all_times_before_it_and_none_after_it_is_earlier() {
        let clock = Arc::new(ManualClock::new(Timestamp(5)));
        let time = LedgerTime::new(clock.clone());
        let before = time.moment();
        let (first, second) = (time.boundary(), time.boundary());
        assert_eq!([before, first, second].map(|moment| moment.at().0), [5, 6, 7]);
        assert!(before.is_before(first) && first.is_before(second) && !second.is_before(second));
        assert_eq!((time.now().0, time.moment().at().0), (7, 7));
        clock.set(Timestamp(9));
        assert_eq!((time.now().0, time.boundary().at().0, time.now().0), (9, 10, 10));
        clock.set(Timestamp(20));
        assert_eq!((time.moment().at().0, time.now().0), (20, 20));
        clock.set(Timestamp(9_000));
        time.boundary();
        clock.set(Timestamp(30));
        assert_eq!(time.now().0, 30, "it was set back");
    }
}
