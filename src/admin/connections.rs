//! The connections of the admin listener: few at a time, and always room for one more.
//!
//! An orchestrator restarts a gateway whose health probe cannot connect. So when all places are taken, the connection that
//! has been idle for the longest time is closed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

/// The open connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// A logical clock: it ticks each time that a byte moves on any connection.
    clock: AtomicU64,
    open: Mutex<Vec<Place>>,
}

struct Place {
    moved: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Connections {
    /// Serves `stream` with `serve`, on its own task. If `max` connections are open already, the one that has been idle for
    /// the longest time is closed first.
    pub(super) fn spawn<S, F>(&self, max: usize, stream: S, serve: impl FnOnce(Active<S>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let moved = Arc::new(AtomicU64::new(self.0.tick()));
        let serving = serve(Active { stream, moved: Arc::clone(&moved), shared: Arc::clone(&self.0) });
        let mut open = self.0.lock();
        open.retain(|place| !place.task.is_finished());
        while open.len() >= max.max(1) {
            let most_idle = open.iter().enumerate().min_by_key(|(_, place)| place.moved.load(Ordering::Relaxed));
            let Some((position, _)) = most_idle else { break };
            open.swap_remove(position).task.abort();
        }
        open.push(Place { moved, task: tokio::spawn(serving).abort_handle() });
    }
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that records when a byte last moved.
pub(super) struct Active<S> {
    stream: S,
    moved: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

impl<S> Active<S> {
    fn record(&self, bytes: usize) {
        if bytes > 0 {
            self.moved.store(self.shared.tick(), Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Active<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.record(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Active<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.record(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// Sends every byte back.
    fn echo(connections: &Connections) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64);
        connections.spawn(2, server, |mut stream| async move {
            while let Ok(byte) = stream.read_u8().await {
                let _ = stream.write_u8(byte).await;
            }
        });
        client
    }

    async fn is_served(client: &mut DuplexStream) -> bool {
        client.write_u8(1).await.is_ok() && client.read_u8().await.is_ok()
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_longest_makes_room() {
        let connections = Connections::default();
        let (mut first, mut second) = (echo(&connections), echo(&connections));
        assert!(is_served(&mut second).await && is_served(&mut first).await);
        let mut third = echo(&connections);
        assert!(is_served(&mut third).await);
        assert!(!is_served(&mut second).await);
        assert!(is_served(&mut first).await);
        drop(first);
        assert!(is_served(&mut third).await, "the end of the first connection is noticed meanwhile");
        let mut fourth = echo(&connections);
        assert!(is_served(&mut third).await && is_served(&mut fourth).await);
    }
}
