//! The order in which things happen inside one gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::common_clock::{CommonClock, Reading, moved};
use crate::preview::{Clock, Timestamp};

/// An instant in the life of one gateway, comparable with every other instant of the same process.
///
/// Milliseconds are too coarse for that: a sign-in and the first poll of the new session can fall into the same
/// millisecond. A moment therefore also carries a sequence number, which is different for each moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    sequence: u64,
    read: Reading,
}

impl Moment {
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
    clock: Arc<CommonClock>,
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
    pub(super) fn new(clock: Arc<CommonClock>) -> Self {
        Self { clock, earliest: AtomicU64::new(0), sequence: AtomicU64::new(0) }
    }

    /// A new moment, later than every moment issued before.
    pub(super) fn moment(&self) -> Moment {
        let read = self.clock.read();
        self.moment_at(Reading { at: self.ordered(read.at), ..read })
    }

    /// The time of a moment, by the clock as it is now: it may have been set since the moment was issued.
    pub(super) fn of(&self, moment: Moment) -> Timestamp {
        self.clock.today(moment.read)
    }

    /// The clock was wrong by so many milliseconds, and goes on from the right time. The caller gives everything that has a
    /// time by it a new one.
    pub(super) fn correct(&self, by: i64) {
        self.clock.correct(by);
        let moved = |earliest: u64| Some(moved(Timestamp(earliest), by).0);
        // Cannot fail.
        let _ = self.earliest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    /// A new moment whose time, too, is later than every time read before.
    pub(super) fn boundary(&self) -> Moment {
        let read = self.clock.read();
        let next = |earliest: u64| no_earlier(read.at.0, earliest).saturating_add(1);
        let order = Ordering::Relaxed;
        let earliest = self.earliest.fetch_update(order, order, |earliest| Some(next(earliest))).unwrap_or(0);
        self.moment_at(Reading { at: Timestamp(next(earliest)), ..read })
    }

    fn ordered(&self, now: Timestamp) -> Timestamp {
        Timestamp(no_earlier(now.0, self.earliest.load(Ordering::Relaxed)))
    }

    fn moment_at(&self, read: Reading) -> Moment {
        Moment { sequence: self.sequence.fetch_add(1, Ordering::Relaxed), read }
    }
}

impl Clock for LedgerTime {
    fn now(&self) -> Timestamp {
        self.ordered(self.clock.now())
    }

    fn wall(&self) -> Timestamp {
        self.clock.wall()
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
    fn a_time_before_the_earliest_counts_if_the_clock_was_set_back_by_more_than_the_greatest_lead() {
        for (now, earliest, expected) in [(5, 4, 5), (5, 9, 9), (0, MAX_LEAD, MAX_LEAD), (0, MAX_LEAD + 1, 0)] {
            assert_eq!(no_earlier(now, earliest), expected, "{now} {earliest}");
        }
    }

    #[test]
    fn a_boundary_is_later_than_all_times_before_it_and_none_after_it_is_earlier() {
        let clock = Arc::new(ManualClock::new(Timestamp(5)));
        let time = LedgerTime::new(Arc::new(CommonClock::new(clock.clone())));
        let before = time.moment();
        let (first, second) = (time.boundary(), time.boundary());
        assert_eq!([before, first, second].map(|moment| time.of(moment).0), [5, 6, 7]);
        assert!(before.is_before(first) && first.is_before(second) && !second.is_before(second));
        assert_eq!((time.now().0, time.of(time.moment()).0), (7, 7));
        clock.set(Timestamp(9));
        assert_eq!((time.now().0, time.of(time.boundary()).0, time.now().0), (9, 10, 10));
        clock.set(Timestamp(20));
        assert_eq!((time.of(time.moment()).0, time.now().0), (20, 20));
        clock.set(Timestamp(9_000));
        time.boundary();
        clock.set(Timestamp(30));
        assert_eq!(time.now().0, 30, "it was set back");
        let before = time.boundary();
        time.correct(3_600_000);
        assert_eq!(
            (time.of(before).0, time.now().0),
            (3_600_031, 3_600_031),
            "a moment of before the clock was corrected"
        );
        time.correct(-3_600_000);
        assert_eq!((time.of(before).0, time.now().0), (31, 31));
    }
}
