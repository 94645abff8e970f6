//! A timer for deadlines that hardly ever come: nearly every wait ends before.
//!
//! To arm and disarm a timer for each wait costs more than the wait itself. This one stays armed for an earlier deadline,
//! and is armed again only when it fires.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// See the module. Nothing is allocated before the first wait.
#[derive(Debug, Default)]
pub struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// The task is woken within `span` from now, or earlier. `before` is an instant that has passed: the clock is read only
    /// if the timer fires.
    pub fn wake_within(&mut self, span: Duration, before: Instant, cx: &mut Context<'_>) {
        let soon = before + span;
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(soon)));
        if timer.deadline() > soon {
            timer.as_mut().reset(soon);
        }
        while let Poll::Ready(()) = timer.as_mut().poll(cx) {
            timer.as_mut().reset(Instant::now() + span);
        }
    }

    /// Whether `deadline` has passed. If not, the task is woken by then, or earlier.
    pub fn is_overdue(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
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
    async fn the_task_is_woken_within_the_span_whatever_the_timer_was_armed_for() {
        let span = Duration::from_secs(30);
        // In the last case the clock must be read, so the task is woken once more.
        for (armed_for, before, expected) in [(None, 0, 30), (Some(10), 0, 10), (Some(90), 0, 30), (Some(90), 40, 0)] {
            let began = Instant::now();
            tokio::time::advance(Duration::from_secs(before)).await;
            let (start, mut timer) = (Instant::now(), LazyTimer::default());
            if let Some(seconds) = armed_for {
                let later = start + Duration::from_secs(seconds);
                poll_fn(|cx| Poll::Ready(timer.is_overdue(later, cx))).await;
            }
            let mut polls = 0;
            poll_fn(|cx| {
                timer.wake_within(span, began, cx);
                polls += 1;
                if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), expected, "{armed_for:?} {before}");
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
