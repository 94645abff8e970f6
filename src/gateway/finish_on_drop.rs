//! Work that must be finished although the client has left.
//!
//! hyper drops the future of a request when the connection ends. That is right as long as nothing has happened: a poll
//! that is dropped leaves its event in the platform's queue. It is wrong once something has consequences: an event
//! answer that has begun counts as delivered, and a callout that was sent may ring. From then on the work goes on in
//! the background. This costs a task only for the rare request whose client leaves at that moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

const CANCELLABLE: u8 = 0;
const MUST_FINISH: u8 = 1;
const DETACHED: u8 = 2;

/// A future that goes on in the background when it is dropped unfinished after [`Commitment::must_finish`].
pub struct FinishOnDrop<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    commitment: Commitment,
}

/// The work's own view: it says when it must be finished, and learns whether the client has left.
#[derive(Clone, Debug, Default)]
pub struct Commitment(Arc<AtomicU8>);

impl Commitment {
    /// From here on the work goes on, whether or not the client stays.
    pub fn must_finish(&self) {
        let _ = self.0.compare_exchange(CANCELLABLE, MUST_FINISH, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the client has left and the work goes on in the background.
    pub fn is_detached(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DETACHED
    }
}

impl<T: Send + 'static> FinishOnDrop<T> {
    /// Wraps the future that `work` makes.
    pub fn new<F: Future<Output = T> + Send + 'static>(work: impl FnOnce(Commitment) -> F) -> Self {
        let commitment = Commitment::default();
        let work = Some(Box::pin(work(commitment.clone())) as Pin<Box<dyn Future<Output = T> + Send>>);
        Self { work, commitment }
    }
}

impl<T: Send + 'static> Future for FinishOnDrop<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let output = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for FinishOnDrop<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Without a runtime the process is ending, and the work with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.commitment.0.swap(DETACHED, Ordering::Relaxed) == MUST_FINISH {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Polls a future once and drops it.
    async fn poll_and_drop<T: Send + 'static>(mut work: FinishOnDrop<T>) {
        let pending = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut work).poll(cx).is_pending())).await;
        assert!(pending);
    }

    #[tokio::test]
    async fn committed_work_is_finished_after_its_owner_has_dropped_it() {
        let (start, started) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let work = FinishOnDrop::new(|commitment| async move {
            commitment.must_finish();
            started.await.unwrap();
            done.send(commitment.is_detached()).unwrap();
        });
        poll_and_drop(work).await;
        start.send(()).unwrap();
        assert!(finished.await.unwrap());
    }

    #[tokio::test]
    async fn work_without_consequences_is_dropped() {
        let (start, started) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel::<()>();
        let work = FinishOnDrop::new(|_| async move {
            started.await.unwrap();
            done.send(()).unwrap();
        });
        poll_and_drop(work).await;
        assert!(start.send(()).is_err());
        assert!(finished.await.is_err());
    }
}
