//! Waiting for something rare beside something frequent.
//!
//! The task of a connection is woken by each piece of data. To poll everything else that it waits for each time costs locks,
//! although nothing has happened.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only if it was woken itself, and not with each wake-up of its task.
pub(super) struct RarelyWoken<F> {
    future: F,
    wakeup: Option<Arc<Wakeup>>,
}

/// Wakes the task, and notes that it is for this future.
struct Wakeup {
    is_due: AtomicBool,
    task: Waker,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        // In this order: the task looks when it is woken.
        self.is_due.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<F> RarelyWoken<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, wakeup: None }
    }
}

impl<F: Future + Unpin> Future for RarelyWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // It was polled before, by the same task.
        let known = self.wakeup.take().filter(|wakeup| wakeup.task.will_wake(cx.waker()));
        let wakeup = match known {
            Some(wakeup) if !wakeup.is_due.load(Ordering::Acquire) => {
                self.wakeup = Some(wakeup);
                return Poll::Pending;
            }
            Some(wakeup) => wakeup,
            None => Arc::new(Wakeup { is_due: AtomicBool::new(false), task: cx.waker().clone() }),
        };
        // Before the future is polled: it may be woken again at once.
        wakeup.is_due.store(false, Ordering::Release);
        self.wakeup = Some(Arc::clone(&wakeup));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&wakeup.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn only_its_own_wake_ups_poll_it_and_none_is_lost() {
        let (sender, mut receiver) = watch::channel(0);
        let (polls, turns) = (Cell::new(0), Cell::new(0));
        let mut wait = pin!(receiver.wait_for(|value| *value == 3));
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            wait.as_mut().poll(cx).map(|value| *value.unwrap())
        });
        let mut rare = RarelyWoken::new(counted);
        let value = poll_fn(|cx| {
            turns.set(turns.get() + 1);
            // The task is woken ten times as often as the future.
            if turns.get() % 10 == 0 {
                sender.send_modify(|value| *value += 1);
            }
            cx.waker().wake_by_ref();
            Pin::new(&mut rare).poll(cx)
        });
        assert_eq!(value.await, 3);
        assert_eq!((polls.get(), turns.get()), (4, 30));
    }

    #[tokio::test]
    async fn another_task_that_polls_it_is_woken() {
        let (sender, mut receiver) = watch::channel(false);
        let wait = Box::pin(async move { *receiver.wait_for(|done| *done).await.unwrap() });
        let mut rare = RarelyWoken::new(wait);
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut rare).poll(cx))).await.is_pending());
        let other = tokio::spawn(rare);
        tokio::task::yield_now().await;
        sender.send_replace(true);
        assert!(other.await.unwrap());
    }
}
