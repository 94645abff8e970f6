//! Whether a client that is waited for in the middle of a message gets anywhere.
//!
//! A byte now and then is no progress: who sends or takes one every minute would hold memory, an upstream connection and
//! a place among `limits.requests` for ever. Only time spent waiting for the client counts, never the upstream's.

use std::time::Duration;

use tokio::time::Instant;

/// The slowest that a client may be.
#[derive(Clone, Copy, Debug)]
pub struct Slowest {
    /// In each span of waiting this long …
    pub span: Duration,
    /// … so many bytes have to move; at least one.
    pub bytes: usize,
}

/// How one direction of a connection moves.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waiting_since: Option<Instant>,
    /// Before that, since the last time that enough had moved.
    waited: Duration,
    moved: usize,
}

impl Pace {
    /// The client has to do something now. Says when it must have done enough.
    pub(super) fn waits(&mut self, slowest: Slowest) -> Instant {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        since + slowest.span.saturating_sub(self.waited)
    }

    /// The client did something: `bytes` moved.
    pub(super) fn moves(&mut self, bytes: usize, slowest: Slowest) {
        self.waited += self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.waited.is_zero() {
            return;
        }
        self.moved += bytes;
        if self.moved >= slowest.bytes {
            self.ends();
        }
    }

    /// The message is complete, or nothing waits to be taken.
    pub(super) fn ends(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWEST: Slowest = Slowest { span: Duration::from_secs(60), bytes: 1000 };

    /// Waits `seconds`, then moves `bytes`; says whether that was in time.
    async fn step(pace: &mut Pace, seconds: u64, bytes: usize) -> bool {
        let deadline = pace.waits(SLOWEST);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let in_time = Instant::now() < deadline;
        pace.moves(bytes, SLOWEST);
        in_time
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_up_is_waited_for_as_long_as_it_takes() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(step(&mut pace, 50, 1000).await);
            assert!(step(&mut pace, 25, 500).await);
            assert!(step(&mut pace, 25, 500).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_no_progress() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            assert!(step(&mut pace, 10, 1).await);
        }
        assert!(!step(&mut pace, 10, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_waited_does_not_count() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(step(&mut pace, 0, 1).await);
            tokio::time::advance(Duration::from_secs(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_message_begins_anew() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(step(&mut pace, 59, 1).await);
            pace.ends();
        }
    }
}
