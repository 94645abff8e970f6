//! A stream that can still be read after writing to it has failed.
//!
//! A server that refuses a large upload responds early (413) and closes the connection. Because it has not read all of the
//! request, its system resets the connection, and the next write fails. hyper then gives up the connection, and with it
//! the response that has already arrived. So writes to a broken connection report success here, and the reading side,
//! which ends when the response has been read, decides the outcome.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::poll_gate::PollGate;

/// A stream whose write errors do not end reading; see the module.
pub(super) struct ReadAfterWriteError<S> {
    stream: S,
    reads: PollGate,
    write_failed: bool,
}

impl<S> ReadAfterWriteError<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, reads: PollGate::default(), write_failed: false }
    }

    /// `offered`: the bytes reported as written if the peer is gone.
    fn outcome(&mut self, offered: usize, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        match written {
            Err(error) if is_hang_up(&error) => {
                self.write_failed = true;
                Poll::Ready(Ok(offered))
            }
            other => Poll::Ready(other),
        }
    }
}

/// Whether the peer is gone, so that reading ends too. After other errors the reading side might wait without end.
fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted | NotConnected)
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAfterWriteError<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, reads, .. } = self.get_mut();
        reads.poll(cx, |cx| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAfterWriteError<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.outcome(bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(offered));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.outcome(offered, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        let flushed = std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.outcome(0, flushed.map(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
