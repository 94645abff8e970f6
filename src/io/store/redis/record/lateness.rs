//! Whether a change still counts as written at once. A gateway that was paused, or whose first attempt met the write of another
//! gateway, does not know any more what came first: then the change keeps its own time.

use std::time::Duration;

use super::TimedChange;
use crate::preview::Timestamp;

/// How long after it was seen a change takes its place after everything that Redis has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct AtOnce {
    /// Any change.
    pub(in crate::store::redis) change: Duration,
    /// An end whose answer is still held, so that its client cannot have acted on it; `None` if no answer is held.
    pub(in crate::store::redis) held_end: Option<Duration>,
}

impl TimedChange {
    /// The change as an attempt at `now` writes it.
    #[must_use]
    pub(in crate::store::redis) fn attempted(&self, now: Timestamp, at_once: AtOnce) -> Self {
        let waited = now.since(self.seen);
        let is_held = self.is_end() && at_once.held_end.is_some_and(|held| waited <= held);
        Self { late: !is_held && (self.late || waited > at_once.change), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SessionRelation;
    use super::*;
    use crate::preview::{Announcement, Change, ControlId};

    #[test]
    fn a_change_that_waited_for_long_is_late_and_an_end_is_not_while_its_answer_is_held() {
        let at_once = |held: u64| AtOnce {
            change: Duration::from_millis(400),
            held_end: (held > 0).then_some(Duration::from_millis(held)),
        };
        let shown = Change::Shown(Announcement { control_id: ControlId(7), numbers: Vec::new(), shown: Vec::new() });
        for (change, held, waited, tried, expected) in [
            (shown.clone(), 0, 400, false, false),
            (shown.clone(), 0, 401, false, true),
            (shown.clone(), 0, 0, true, true),
            (shown, 5000, 401, false, true),
            (Change::Ended, 0, 401, false, true),
            (Change::Ended, 5000, 401, false, false),
            (Change::Ended, 5000, 5000, true, false),
            (Change::Ended, 5000, 5001, false, true),
            (Change::Ended, 0, 0, true, true),
        ] {
            let timed = TimedChange::new(change, Timestamp(10_000), SessionRelation::Any);
            let timed = TimedChange { late: tried, ..timed };
            let attempted = timed.attempted(Timestamp(10_000 + waited), at_once(held));
            assert_eq!(attempted.late, expected, "{timed:?} {held} {waited}");
        }
    }
}
