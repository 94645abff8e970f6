//! Whether a client that is waited for within a message moves enough bytes.
//!
//! A byte now and then is not progress: a client that moves one byte a minute would hold memory, an upstream connection
//! and a place among `limits.requests` without end. Only time spent waiting for the client counts, never the time spent
//! waiting for the upstream.

use std::time::Duration;

use tokio::time::Instant;

/// The lowest rate that a client may have.
#[derive(Clone, Copy, Debug)]
pub struct MinRate {
    /// In each span of waiting this long …
    pub span: Duration,
    /// … this many bytes have to move; at least one.
    pub bytes: usize,
}

/// Measures the rate of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    waiting_since: Option<Instant>,
    /// Waited before that, since enough bytes last moved.
    waited: Duration,
    moved: usize,
}

impl RateMeter {
    /// Starts to wait for the client, unless it is waited for already. Returns when enough bytes must have moved.
    pub(super) fn deadline(&mut self, min_rate: MinRate) -> Instant {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        since + min_rate.span.saturating_sub(self.waited)
    }

    /// Records that `bytes` moved.
    pub(super) fn record(&mut self, bytes: usize, min_rate: MinRate) {
        self.waited += self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.waited.is_zero() {
            return;
        }
        self.moved += bytes;
        if self.moved >= min_rate.bytes {
            self.reset();
        }
    }

    /// Forgets the past: the message is complete, or no bytes wait for the client.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether the client is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_RATE: MinRate = MinRate { span: Duration::from_secs(60), bytes: 1000 };

    /// Waits `seconds`, then moves `bytes`. Returns whether that was in time.
    async fn step(meter: &mut RateMeter, seconds: u64, bytes: usize) -> bool {
        let deadline = meter.deadline(MIN_RATE);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let in_time = Instant::now() < deadline;
        meter.record(bytes, MIN_RATE);
        in_time
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_at_the_lowest_rate_is_never_too_slow() {
        let mut meter = RateMeter::default();
        for _ in 0..100 {
            assert!(step(&mut meter, 50, 1000).await);
            assert!(step(&mut meter, 25, 500).await);
            assert!(step(&mut meter, 25, 500).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_too_slow() {
        let mut meter = RateMeter::default();
        for _ in 0..5 {
            assert!(step(&mut meter, 10, 1).await);
        }
        assert!(!step(&mut meter, 10, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_waiting_for_the_client_does_not_count() {
        let mut meter = RateMeter::default();
        for _ in 0..100 {
            assert!(step(&mut meter, 0, 1).await);
            tokio::time::advance(Duration::from_secs(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_is_measured_from_its_start() {
        let mut meter = RateMeter::default();
        for _ in 0..100 {
            assert!(step(&mut meter, 59, 1).await);
            meter.reset();
        }
    }
}
