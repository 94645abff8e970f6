//! Work that must be finished even if the one who asked for it goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that, when dropped unfinished, goes on in the background.
///
/// For what has consequences: an event answer that is already on its way (its previews must be recorded) and a callout
/// that the upstream may have seen (its outcome belongs into the log). Cheaper than a task for each: only the rare
/// one whose client vanishes becomes one.
pub(super) struct Detached<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>)
where
    T: Send + 'static;

impl<T: Send + 'static> Detached<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let output = std::task::ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the work with it.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_is_finished_although_nobody_waits_for_it() {
        let (start, started) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel::<()>();
        let mut work = Box::pin(Detached::new(async move {
            started.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(futures_poll(work.as_mut()).await.is_pending());
        drop(work);
        start.send(()).unwrap();
        finished.await.unwrap();
    }

    async fn futures_poll<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }
}
