//! The byte stream of one connection: a TCP socket, or an in-memory pipe.
//!
//! Everything above it (TLS, HTTP, timeouts) is the same for both. Pipes need no operating system, so tests run a whole
//! gateway over them on paused time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::sockets;

/// One end of a connection.
#[derive(Debug)]
pub enum Stream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// An in-memory pipe.
    Memory(DuplexStream),
    /// Another stream, of which some bytes were read too early.
    Rewound(Box<Rewound>),
}

/// See [`Stream::rewound`].
#[derive(Debug)]
pub struct Rewound {
    unread: Bytes,
    stream: Stream,
}

impl Stream {
    /// A TCP socket with the options that every connection has.
    pub fn tcp(socket: TcpStream) -> Self {
        sockets::prepare(&socket);
        Self::Tcp(socket)
    }

    /// The stream as if `unread`, which was read from it, had not been read yet.
    #[must_use]
    pub fn rewound(self, unread: Bytes) -> Self {
        if unread.is_empty() { self } else { Self::Rewound(Box::new(Rewound { unread, stream: self })) }
    }

    /// Makes the close discard all bytes that the peer has not read. Otherwise the system keeps them in its memory for as
    /// long as the peer does not read. A pipe is freed when both ends are dropped.
    pub fn abort(&self) {
        match self {
            Self::Tcp(socket) => drop(socket.set_zero_linger()),
            Self::Memory(_) => {}
            Self::Rewound(rewound) => rewound.stream.abort(),
        }
    }
}

impl Rewound {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, buffer),
            Self::Rewound(rewound) => rewound.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            Self::Rewound(rewound) => Pin::new(&mut rewound.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Memory(pipe) => Pin::new(pipe).poll_write_vectored(cx, slices),
            Self::Rewound(rewound) => Pin::new(&mut rewound.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Memory(pipe) => pipe.is_write_vectored(),
            Self::Rewound(rewound) => rewound.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn unread_bytes_come_first_and_once() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(b"later").await.unwrap();
        drop(ours);
        let mut stream = Stream::Memory(theirs).rewound(Bytes::from_static(b"first, "));
        let (mut start, mut all) = ([0; 3], String::new());
        stream.read_exact(&mut start).await.unwrap();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!((&start, all.as_str()), (b"fir", "st, later"));
    }
}
