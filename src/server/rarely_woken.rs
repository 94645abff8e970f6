//! A future that is polled only if it was woken itself, and not with each wake-up of its task.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::poll_gate::PollGate;

/// See the module.
pub(super) struct RarelyWoken<F> {
    future: F,
    gate: PollGate,
}

impl<F> RarelyWoken<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, gate: PollGate::default() }
    }
}

impl<F: Future + Unpin> Future for RarelyWoken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, gate } = self.get_mut();
        gate.poll(cx, |cx| Pin::new(future).poll(cx))
    }
}
