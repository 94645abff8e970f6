//! Work that must be finished although the client has left.
//!
//! hyper drops the future of a request when the connection ends. That is right until the request has consequences: an event
//! answer that has begun counts as delivered, and a callout that was sent may ring. From then on the work continues in the
//! background. This costs a task only for the rare request whose client leaves at that moment.
//!
//! A held poll is between the two. Its answer may be on its way when its client leaves, and the platform then counts the
//! event as delivered. But a poll that is kept for long takes events that the client's next poll should get. So it is
//! kept for [`GRACE`], and then dropped if no answer has begun.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Semaphore;

/// How long a held poll is kept after its client has left: longer than an answer needs to arrive, and shorter than the pause
/// of the vendor's clients before the next poll (docs/protocol.md 6.1).
const GRACE: Duration = Duration::from_millis(150);
/// Maximum number of polls that one gateway keeps at the same time.
const MAX_KEPT: usize = 1024;

/// Kept for the grace time.
const KEEP: u8 = 1;
/// Finished in any case.
const MUST_FINISH: u8 = 2;

/// Set when the client has left.
const DETACHED: u8 = 0x80;

/// The places for kept polls, shared by all requests of a gateway.
#[derive(Debug)]
pub struct KeptPolls(Arc<Semaphore>);

impl Default for KeptPolls {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_KEPT)))
    }
}

/// A future that goes on in the background when it is dropped unfinished after [`Commitment::must_finish`].
pub struct FinishOnDrop<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    owner: Arc<dyn Owner>,
}

/// What has the commitment of the work. For a request this is its context, so that the commitment is no allocation of its
/// own.
pub trait Owner: Send + Sync {
    /// The commitment of the work.
    fn commitment(&self) -> &Commitment;

    /// The places for polls that are kept.
    fn kept_polls(&self) -> &KeptPolls;
}

/// The work's own view: it says when it must be finished, and learns whether the client has left.
#[derive(Debug, Default)]
pub struct Commitment(AtomicU8);

impl Commitment {
    /// From here on the work goes on for a moment after the client has left.
    pub fn keep(&self) {
        self.0.fetch_or(KEEP, Ordering::Relaxed);
    }

    /// From here on the work goes on, whether or not the client stays.
    pub fn must_finish(&self) {
        self.0.fetch_or(MUST_FINISH, Ordering::Relaxed);
    }

    /// Whether the client has left and the work goes on in the background.
    pub fn is_detached(&self) -> bool {
        self.has(DETACHED)
    }

    fn has(&self, flag: u8) -> bool {
        self.0.load(Ordering::Relaxed) & flag != 0
    }
}

impl<T: Send + 'static> FinishOnDrop<T> {
    /// Wraps `work`, whose commitment `owner` has.
    pub fn new(owner: Arc<dyn Owner>, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), owner }
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
        let before = self.owner.commitment().0.fetch_or(DETACHED, Ordering::Relaxed);
        if before & MUST_FINISH != 0 {
            runtime.spawn(work);
        } else if before & KEEP != 0
            && let Ok(place) = Arc::clone(&self.owner.kept_polls().0).try_acquire_owned()
        {
            let owner = Arc::clone(&self.owner);
            runtime.spawn(async move {
                finish_or_drop(work, owner.commitment()).await;
                drop(place);
            });
        }
    }
}

/// Continues the work for the grace time, or until it is done if it must be finished.
async fn finish_or_drop<T>(mut work: Pin<Box<dyn Future<Output = T> + Send>>, commitment: &Commitment) {
    if tokio::time::timeout(GRACE, work.as_mut()).await.is_err() && commitment.has(MUST_FINISH) {
        work.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[derive(Default)]
    struct Work {
        commitment: Commitment,
        kept: KeptPolls,
    }

    impl Owner for Work {
        fn commitment(&self) -> &Commitment {
            &self.commitment
        }

        fn kept_polls(&self) -> &KeptPolls {
            &self.kept
        }
    }

    /// Polls a future once and drops it.
    async fn poll_and_drop<T: Send + 'static>(mut work: FinishOnDrop<T>) {
        let pending = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut work).poll(cx).is_pending())).await;
        assert!(pending);
    }

    #[tokio::test]
    async fn committed_work_is_finished_after_its_owner_has_dropped_it() {
        let (start, started) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let owner = Arc::new(Work::default());
        let work = FinishOnDrop::new(owner.clone(), async move {
            owner.commitment.must_finish();
            started.await.unwrap();
            done.send(owner.commitment.is_detached()).unwrap();
        });
        poll_and_drop(work).await;
        start.send(()).unwrap();
        assert!(finished.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn kept_work_is_finished_within_the_grace_time_or_dropped() {
        for (waits, commits, is_finished) in
            [(GRACE / 2, false, true), (GRACE * 2, false, false), (GRACE * 2, true, true)]
        {
            let (done, finished) = oneshot::channel::<()>();
            let owner = Arc::new(Work::default());
            let work = FinishOnDrop::new(owner.clone(), async move {
                owner.commitment.keep();
                tokio::time::sleep(GRACE / 4).await;
                if commits {
                    owner.commitment.must_finish();
                }
                tokio::time::sleep(waits).await;
                done.send(()).unwrap();
            });
            poll_and_drop(work).await;
            assert_eq!(finished.await.is_ok(), is_finished, "{waits:?} {commits}");
        }
    }

    #[tokio::test]
    async fn work_without_consequences_is_dropped() {
        let (start, started) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel::<()>();
        let work = FinishOnDrop::new(Arc::new(Work::default()), async move {
            started.await.unwrap();
            done.send(()).unwrap();
        });
        poll_and_drop(work).await;
        assert!(start.send(()).is_err());
        assert!(finished.await.is_err());
    }
}
