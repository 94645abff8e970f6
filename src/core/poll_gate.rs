//! Polls a source only if it has something new.
//!
//! The task of a connection waits for several things, and each of them wakes it. To poll all of them each time costs locks and
//! calls through many layers, although most have nothing new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// See the module. All polls of one source must pass it.
#[derive(Default)]
pub struct PollGate {
    wakeup: Option<(Arc<Wakeup>, Waker)>,
    is_pending: bool,
}

/// Wakes the task, and notes that it is for this source.
struct Wakeup {
    is_due: AtomicBool,
    task: Waker,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order: the task looks when it is woken.
        self.is_due.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl PollGate {
    /// Polls the source, unless it was pending and has not woken the task since.
    pub fn poll<T>(&mut self, cx: &mut Context<'_>, source: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let (wakeup, waker) = match &mut self.wakeup {
            Some(known) if known.0.task.will_wake(cx.waker()) => known,
            // The source has another task from now on, and must know it.
            other => {
                self.is_pending = false;
                let wakeup = Arc::new(Wakeup { is_due: AtomicBool::new(false), task: cx.waker().clone() });
                other.insert((Arc::clone(&wakeup), wakeup.into()))
            }
        };
        if self.is_pending && !wakeup.is_due.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the source is polled: it may wake the task again at once.
        wakeup.is_due.store(false, Ordering::Release);
        let polled = source(&mut Context::from_waker(waker));
        self.is_pending = polled.is_pending();
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::{Pin, pin};

    use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn only_its_own_wake_ups_poll_it_and_none_is_lost() {
        let (sender, mut receiver) = watch::channel(0);
        let (polls, turns) = (Cell::new(0), Cell::new(0));
        let mut wait = pin!(receiver.wait_for(|value| *value == 3));
        let mut gate = PollGate::default();
        let value = poll_fn(|cx| {
            turns.set(turns.get() + 1);
            // The task is woken ten times as often as the future.
            if turns.get() % 10 == 0 {
                sender.send_modify(|value| *value += 1);
            }
            cx.waker().wake_by_ref();
            gate.poll(cx, |cx| {
                polls.set(polls.get() + 1);
                wait.as_mut().poll(cx).map(|value| *value.unwrap())
            })
        });
        assert_eq!(value.await, 3);
        assert_eq!((polls.get(), turns.get()), (4, 30));
    }

    #[tokio::test]
    async fn another_task_that_polls_it_is_woken() {
        let (sender, mut receiver) = watch::channel(false);
        let mut wait = Box::pin(async move { *receiver.wait_for(|done| *done).await.unwrap() });
        let mut gate = PollGate::default();
        assert!(poll_fn(|cx| Poll::Ready(gate.poll(cx, |cx| wait.as_mut().poll(cx)))).await.is_pending());
        let other = tokio::spawn(async move { poll_fn(|cx| gate.poll(cx, |cx| wait.as_mut().poll(cx))).await });
        tokio::task::yield_now().await;
        sender.send_replace(true);
        assert!(other.await.unwrap());
    }

    #[tokio::test]
    async fn what_was_ready_is_polled_again() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let mut gate = PollGate::default();
        let mut read = async || {
            let mut bytes = [0; 4];
            let mut buffer = ReadBuf::new(&mut bytes);
            poll_fn(|cx| gate.poll(cx, |cx| Pin::new(&mut theirs).poll_read(cx, &mut buffer))).await.unwrap();
            buffer.filled().to_vec()
        };
        ours.write_all(b"one two three").await.unwrap();
        assert_eq!([read().await, read().await], [b"one ", b"two "]);
        drop(ours);
        assert_eq!([read().await, read().await, read().await], [&b"thre"[..], b"e", b""]);
    }
}
