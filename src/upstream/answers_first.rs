//! An answer is read even if the upstream does not want to hear the rest of the request.
//!
//! A server that refuses a large upload answers early (413) and closes; what it has not read makes the system reset
//! the connection, and the next write fails. hyper then gives up the connection, and with it the answer that is
//! already here. So writing into a connection that is broken "succeeds", and the reading side, which ends as soon as
//! the answer has been read, decides what became of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
pub(super) struct AnswersFirst<S> {
    stream: S,
    deaf: bool,
}

impl<S> AnswersFirst<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, deaf: false }
    }

    /// `offered`: what counts as written when nobody listens any more.
    fn outcome(&mut self, offered: usize, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        match written {
            Err(error) if is_hang_up(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(offered))
            }
            other => Poll::Ready(other),
        }
    }
}

/// The peer is gone: reading will come to an end too. Other errors may leave the reading side waiting.
fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted | NotConnected)
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswersFirst<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswersFirst<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
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
        if self.deaf {
            return Poll::Ready(Ok(offered));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.outcome(offered, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.outcome(0, flushed.map(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
