//! The time from the start until Redis was reached once. Until then a gateway does not know what other gateways know: it is not
//! ready, and callouts wait, both for `start_timeout` at most.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::preview::millis;

/// See the module.
pub(crate) struct Joining {
    joined: watch::Sender<bool>,
    deadline: Instant,
    timeout: Duration,
    /// Called once, to report that the time is over.
    reported: std::sync::Once,
}

impl Joining {
    /// Begins now.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            joined: watch::Sender::new(false),
            deadline: Instant::now() + timeout,
            timeout,
            reported: std::sync::Once::new(),
        }
    }

    /// Redis was reached.
    pub(super) fn joined(&self) {
        self.joined.send_replace(true);
    }

    /// Whether callouts still wait.
    pub(crate) fn is_going_on(&self) -> bool {
        !*self.joined.borrow() && Instant::now() < self.deadline
    }

    /// Waits until Redis was reached, or the time is over.
    pub(super) async fn wait(&self) {
        if self.is_going_on() {
            let mut joined = self.joined.subscribe();
            let _ = tokio::time::timeout_at(self.deadline, joined.wait_for(|joined| *joined)).await;
        }
    }

    /// One more attempt to use Redis failed. The first attempt after the end of the time reports that.
    pub(super) fn note_attempt(&self) {
        if *self.joined.borrow() || Instant::now() < self.deadline {
            return;
        }
        self.reported.call_once(|| {
            let start_timeout_ms = millis(self.timeout);
            tracing::warn!(
                target: "previewgate::store",
                start_timeout_ms,
                "shared store not reached since the start: callouts are handled as on_store_failure says"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_redis_is_reached_or_the_time_is_over() {
        let start = Instant::now();
        let joining = Joining::new(Duration::from_secs(5));
        assert!(joining.is_going_on());
        joining.wait().await;
        assert_eq!((start.elapsed(), joining.is_going_on()), (Duration::from_secs(5), false));
        let joining = Joining::new(Duration::from_secs(5));
        tokio::join!(joining.wait(), async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            joining.joined();
        });
        assert_eq!((start.elapsed(), joining.is_going_on()), (Duration::from_secs(7), false));
        joining.wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }
}
