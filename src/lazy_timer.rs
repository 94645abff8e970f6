//! A timer for deadlines that hardly ever come: nearly every wait ends before.
//!
//! To arm and disarm a timer for each wait costs more than the wait itself. This one stays armed for an earlier deadline,
//! and is armed again only when it fires.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// See the module. Nothing is allocated before the first wait.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Whether `deadline` has passed. If not, the task is woken by then, or earlier.
    pub(crate) fn is_overdue(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while let Poll::Ready(()) = timer.as_mut().poll(cx) {
            if Instant::now() >= deadline {
                return true;
            }
            // It fired for an earlier deadline.
            timer.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline() {
        let start = Instant::now();
        let mut timer = LazyTimer::default();
        // Later, earlier, later, and one that has passed.
        for (seconds, expected) in [(30, 30), (40, 40), (35, 40), (41, 41), (90, 90)] {
            let deadline = start + Duration::from_secs(seconds);
            poll_fn(|cx| if timer.is_overdue(deadline, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
            assert_eq!(start.elapsed().as_secs(), expected, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ends_early_leaves_no_trace() {
        let mut timer = LazyTimer::default();
        for _ in 0..100 {
            let deadline = Instant::now() + Duration::from_secs(30);
            assert!(!poll_fn(|cx| Poll::Ready(timer.is_overdue(deadline, cx))).await);
            tokio::time::advance(Duration::from_secs(25)).await;
        }
    }
}
