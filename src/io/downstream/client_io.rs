//! The stream between the socket and hyper: every byte of a client passes the [`Framer`], and every wait has a limit.
//!
//! Bytes that the framer refuses never reach hyper. A refused head is replaced by a harmless stand-in, so that the
//! ordinary stack answers the refusal in its turn (with request id, envelope, log line and metrics). The stack
//! recognises the stand-in by [`Connection::fault_of`]; no client can send it.
//!
//! hyper has one timer for head and idle time together, and none for a peer that stops reading or sending. So all
//! timeouts of a connection are kept here.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::framing::{Fault, Framer, HeadFault};
use super::rate::{MinRate, RateMeter};
use crate::lazy_timer::LazyTimer;
use crate::poll_gate::PollGate;
use crate::stream::Stream;

/// The timeouts of one connection; see `[limits]`.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the accepted connection to its first byte.
    pub first_byte: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Within a body, in either direction.
    pub body: MinRate,
}

/// How long a closing connection is still read, so that a reset does not destroy the last answer (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read from the socket at once. An incomplete head waits in memory, up to `limits.head_size` beyond this.
const READ_SIZE: usize = 16 * 1024;
/// Replaces a refused head. No client can send it: see [`Connection::fault_of`].
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// A client's socket behind the framer.
pub struct ClientIo<S> {
    socket: S,
    reads: PollGate,
    connection: Arc<Connection>,
    framer: Framer,
    /// Read, but not yet handed to hyper: the first `checked` bytes have passed the framer.
    waiting: Vec<u8>,
    checked: usize,
    timeouts: Timeouts,
    clocks: Clocks,
    timer: LazyTimer,
}

/// When each wait of the connection began.
struct Clocks {
    /// The last byte in either direction.
    moved: Instant,
    served_any: bool,
    head_since: Option<Instant>,
    reading: RateMeter,
    writing: RateMeter,
    closing_since: Option<Instant>,
}

thread_local! {
    /// One read buffer for each worker, so that an idle connection has none.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

impl<S> ClientIo<S> {
    /// Wraps `socket`.
    pub fn new(socket: S, connection: Arc<Connection>, max_head_bytes: usize, timeouts: Timeouts) -> Self {
        let clocks = Clocks {
            moved: Instant::now(),
            served_any: false,
            head_since: None,
            reading: RateMeter::default(),
            writing: RateMeter::default(),
            closing_since: None,
        };
        let framer = Framer::new(max_head_bytes);
        Self {
            socket,
            reads: PollGate::default(),
            connection,
            framer,
            waiting: Vec::new(),
            checked: 0,
            timeouts,
            clocks,
            timer: LazyTimer::default(),
        }
    }

    /// When the present wait for input ends, and as which timeout.
    fn read_deadline(&mut self) -> Option<(Instant, Timeout)> {
        if !self.framer.in_head() {
            return Some((self.clocks.reading.deadline(self.timeouts.body), Timeout::Body));
        }
        let Clocks { moved, served_any, head_since, .. } = self.clocks;
        match head_since {
            Some(since) => Some((since + self.timeouts.head, Timeout::Head)),
            // The last request has no answer yet: this is the upstream's time, not the client's.
            None if self.connection.is_serving() => None,
            None if served_any => Some((moved + self.timeouts.idle, Timeout::Idle)),
            None => Some((moved + self.timeouts.first_byte, Timeout::Idle)),
        }
    }

    /// Checks the waiting bytes. A refused head is replaced by the stand-in.
    fn inspect(&mut self) -> io::Result<()> {
        match self.framer.advance(&self.waiting) {
            Ok(passed) => self.checked = passed.bytes,
            Err(Fault::Head(fault)) => self.refuse(fault),
            Err(Fault::Body(fault)) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
        self.note_partial_head(self.checked == 0 && !self.waiting.is_empty());
        Ok(())
    }

    /// Checks the bytes that were read into hyper's own buffer, and takes away what may not pass yet: that waits.
    fn inspect_in_place(&mut self, out: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        let input = out.filled().get(start..).unwrap_or_default();
        match self.framer.advance(input) {
            Ok(passed) => {
                self.waiting = input.get(passed.bytes..).unwrap_or_default().to_vec();
                self.note_partial_head(passed.bytes == 0);
                self.clocks.served_any |= passed.bytes > 0;
                out.set_filled(start + passed.bytes);
                Ok(())
            }
            Err(Fault::Head(fault)) => {
                self.refuse(fault);
                out.set_filled(start);
                Ok(())
            }
            Err(Fault::Body(fault)) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
    }

    /// Whether the beginning of a head, and nothing else, is there: the time for the rest runs from then on.
    fn note_partial_head(&mut self, partial: bool) {
        self.clocks.head_since = if partial { self.clocks.head_since.or_else(|| Some(Instant::now())) } else { None };
    }

    fn refuse(&mut self, fault: HeadFault) {
        self.connection.refuse(fault);
        self.waiting = STAND_IN.to_vec();
        self.checked = STAND_IN.len();
    }

    /// Hands checked bytes to hyper.
    fn drain_to(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.checked.min(out.remaining());
        out.put_slice(self.waiting.get(..count).unwrap_or_default());
        self.checked -= count;
        self.clocks.served_any = true;
        if count == self.waiting.len() {
            // This frees the memory: the next request may be ten seconds away.
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..count);
        }
    }

    /// How reading ends after this timeout; `None` if the refusal of a head is to be read.
    fn expire(&mut self, timeout: Timeout) -> Option<io::Result<()>> {
        match timeout {
            // No request is open: close without an answer.
            Timeout::Idle => Some(Ok(())),
            Timeout::Head => {
                self.refuse(HeadFault::Timeout);
                self.clocks.head_since = None;
                None
            }
            Timeout::Body => Some(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Which wait was too long.
#[derive(Clone, Copy)]
enum Timeout {
    Idle,
    Head,
    Body,
}

impl<S: AsyncRead + Unpin> ClientIo<S> {
    /// Reads from the socket: into hyper's buffer if nothing waits, behind the waiting bytes otherwise. Returns how many
    /// bytes came.
    fn poll_input(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if !self.waiting.is_empty() {
            let count = ready!(self.poll_fill(cx))?;
            if count > 0 {
                self.inspect()?;
            }
            return Poll::Ready(Ok(count));
        }
        let start = out.filled().len();
        ready!(self.reads.poll(cx, |cx| Pin::new(&mut self.socket).poll_read(cx, out)))?;
        let count = out.filled().len() - start;
        if count > 0 && !self.connection.is_raw() {
            self.inspect_in_place(out, start)?;
        }
        Poll::Ready(Ok(count))
    }

    /// Reads from the socket and appends to the waiting bytes. Returns how many bytes came.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut input = ReadBuf::new(buffer);
            ready!(self.reads.poll(cx, |cx| Pin::new(&mut self.socket).poll_read(cx, &mut input)))?;
            self.waiting.extend_from_slice(input.filled());
            Poll::Ready(Ok(input.filled().len()))
        })
    }
}

impl<S: AsyncRead + Unpin> ClientIo<S> {
    /// Waits until hyper has something to read: a whole head, or the end. hyper's buffers take 16 KiB, and a client may
    /// connect long before its first request.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn first_bytes(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_first_bytes(cx)).await
    }

    fn poll_first_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.checked == 0 && self.connection.fault().is_none() {
            match self.poll_fill(cx)? {
                Poll::Ready(0) => break,
                Poll::Ready(_) => {
                    self.clocks.moved = Instant::now();
                    self.inspect()?;
                }
                Poll::Pending => {
                    if let Some(end) = ready!(self.poll_read_timeout(cx)) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has not sent enough in time. See [`Self::expire`].
    fn poll_read_timeout(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let Some((deadline, timeout)) = self.read_deadline() else {
            // hyper does not poll again when it has written the answer; only the timer wakes it. Before this time the
            // connection cannot have been idle for too long.
            self.timer.wake_within(self.timeouts.idle, self.clocks.moved, cx);
            return Poll::Pending;
        };
        if self.timer.is_overdue(deadline, cx) { Poll::Ready(self.expire(timeout)) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        let start = out.filled().len();
        loop {
            if io.connection.is_raw() {
                io.checked = io.waiting.len();
            }
            if io.checked > 0 {
                io.drain_to(out);
                return Poll::Ready(Ok(()));
            }
            if io.connection.fault().is_some() {
                // The stand-in was the last request. After an end of file hyper would drop the answer to it.
                return Poll::Pending;
            }
            if !io.waiting.is_empty() && io.clocks.head_since.is_none() {
                // The next request of a pipeline, left from an earlier read.
                io.inspect()?;
                continue;
            }
            match io.poll_input(cx, out)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(count) => {
                    io.clocks.moved = Instant::now();
                    io.clocks.reading.record(count, io.timeouts.body);
                    if io.framer.in_head() {
                        io.clocks.reading.reset();
                    }
                    if out.filled().len() > start {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => {
                    if let Some(end) = ready!(io.poll_read_timeout(cx)) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }
}

/// A socket that can be closed at once.
pub trait Abort {
    /// Makes the close discard all bytes that the client has not read. Otherwise the system keeps them in its memory for
    /// as long as the client does not read.
    fn abort(&self);
}

impl Abort for Stream {
    fn abort(&self) {
        Self::abort(self);
    }
}

/// In-memory pipes (tests) keep nothing after they are dropped.
impl Abort for DuplexStream {
    fn abort(&self) {}
}

impl<S: Abort> Abort for Box<S> {
    fn abort(&self) {
        S::abort(self);
    }
}

impl<S: Abort> Abort for TlsStream<S> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

impl<S: AsyncWrite + Abort + Unpin> ClientIo<S> {
    /// Bounds how slowly the client may read an answer.
    fn watch_write(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &write {
            Poll::Ready(Ok(count)) => {
                self.clocks.moved = Instant::now();
                self.clocks.writing.record(*count, self.timeouts.body);
                write
            }
            Poll::Ready(Err(_)) => write,
            Poll::Pending => self.poll_reader_timeout(cx).map(Err),
        }
    }

    /// Ready when the client has not read enough in time.
    fn poll_reader_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = self.clocks.writing.deadline(self.timeouts.body);
        if !self.timer.is_overdue(deadline, cx) {
            return Poll::Pending;
        }
        self.socket.abort();
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        let write = Pin::new(&mut io.socket).poll_write(cx, bytes);
        io.watch_write(cx, write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        let write = Pin::new(&mut io.socket).poll_write_vectored(cx, bytes);
        io.watch_write(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        match Pin::new(&mut io.socket).poll_flush(cx) {
            Poll::Ready(flushed) => {
                // hyper flushes each time it is woken, also without data. Only a flush that had to wait shows progress.
                if io.clocks.writing.is_waiting() {
                    io.clocks.moved = Instant::now();
                }
                io.clocks.writing.reset();
                io.connection.flushed(flushed.is_ok());
                Poll::Ready(flushed)
            }
            Poll::Pending => io.poll_reader_timeout(cx).map(Err),
        }
    }

    /// Ends the gateway's side, then reads on for a moment if the client may still be sending: closing a socket with
    /// unread input resets the connection, and the client may then lose the answer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        let since = *io.clocks.closing_since.get_or_insert_with(Instant::now);
        let shut = Pin::new(&mut io.socket).poll_shutdown(cx)?;
        if io.timer.is_overdue(since + LINGER, cx) {
            return Poll::Ready(Ok(()));
        }
        ready!(shut);
        let unread = io.connection.fault().is_some() || !io.framer.in_head() || !io.waiting.is_empty();
        if !unread {
            return Poll::Ready(Ok(()));
        }
        loop {
            io.waiting.clear();
            match ready!(io.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => {}
            }
        }
    }
}
