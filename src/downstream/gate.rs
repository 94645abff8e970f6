//! The gate between the socket and hyper: every byte of a client passes the [`Framer`] and every wait has an end.
//!
//! What the framer refuses never reaches hyper. A refused head is replaced by a harmless one of our own, so that the
//! refusal is answered in its turn by the ordinary stack (with request id, envelope, log line and metrics); the stack
//! recognises it by [`Connection::fault_of`], which no client can set.
//!
//! hyper has one timer for the head and the idle time together and none for a peer that stops reading or sending. All
//! the waits of one connection are kept here instead.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::framing::{Fault, Framer, HeadFault};
use super::pace::{Pace, Slowest};

/// What the gate and the service that serves the same connection know of each other.
#[derive(Debug)]
pub struct Connection {
    /// The address at the other end of the TCP connection.
    pub peer: SocketAddr,
    /// The same as text: every line of the log has it.
    pub peer_text: Box<str>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    in_flight: AtomicUsize,
    served: AtomicBool,
    fault: OnceLock<HeadFault>,
    opaque: AtomicBool,
    /// Kept as long as anything goes on for this connection: a worker that ends waits for it.
    _alive: mpsc::Sender<()>,
}

impl Connection {
    /// A connection from `peer` on which nothing has happened yet. `alive` is dropped with the last exchange.
    pub fn new(peer: SocketAddr, encrypted: bool, alive: mpsc::Sender<()>) -> Self {
        Self {
            peer,
            peer_text: peer.to_string().into(),
            encrypted,
            in_flight: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            fault: OnceLock::new(),
            opaque: AtomicBool::new(false),
            _alive: alive,
        }
    }

    /// Why the gate refused the head of this request, if it did. It is then the connection's last.
    ///
    /// hyper reads ahead: when a fault is known, the request before it may not have been served yet. The stand-in can
    /// be told from it: without `Host`, HTTP/1.1 never passes the framer.
    pub fn fault_of<B>(&self, request: &Request<B>) -> Option<HeadFault> {
        let stands_in = request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST);
        self.fault().filter(|_| stands_in)
    }

    /// Why the gate refused a head on this connection, if it did.
    fn fault(&self) -> Option<HeadFault> {
        self.fault.get().copied()
    }

    /// What the client sends from here on is no HTTP: it passes unexamined, and may come at any time.
    pub fn becomes_opaque(&self) {
        self.opaque.store(true, Ordering::Relaxed);
    }

    /// Marks a request as being served until the result is dropped: meanwhile the connection is not idle.
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    /// Whether a first request has come.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    fn is_serving(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }
}

/// A request is being served on a connection. See [`Connection::serving`].
#[derive(Debug)]
pub struct Serving(Arc<Connection>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The waits of one connection; see `[limits]`.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Established to the first byte.
    pub first_byte: Duration,
    /// First byte of a head to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// In the middle of a body, in either direction.
    pub body: Slowest,
}

/// How long a closing connection is still read, so that the last answer is not lost to a reset (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// What is read from the socket at once; a pending head can wait in memory up to `limits.head_size` beyond it.
const READ_SIZE: usize = 16 * 1024;
/// Stands in for a head that was refused. No client can send it: see [`Connection::fault_of`].
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// A client's socket, seen through the framer.
pub struct Gate<S> {
    socket: S,
    connection: Arc<Connection>,
    framer: Framer,
    /// Read, but not passed on: `passable` bytes are checked, the rest is not.
    waiting: Vec<u8>,
    passable: usize,
    waits: Waits,
    clocks: Clocks,
    /// Armed for the nearest deadline or before it; re-armed lazily, because most deadlines move before they are due.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Since when the connection has been waiting for what.
struct Clocks {
    /// Last byte in either direction.
    moved: Instant,
    served_any: bool,
    head_since: Option<Instant>,
    reading: Pace,
    writing: Pace,
    closing_since: Option<Instant>,
}

thread_local! {
    /// One read buffer for a worker: an idle connection keeps none.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

impl<S> Gate<S> {
    /// Puts the gate in front of `socket`.
    pub fn new(socket: S, connection: Arc<Connection>, most_head_bytes: usize, waits: Waits) -> Self {
        let clocks = Clocks {
            moved: Instant::now(),
            served_any: false,
            head_since: None,
            reading: Pace::default(),
            writing: Pace::default(),
            closing_since: None,
        };
        let framer = Framer::new(most_head_bytes);
        Self { socket, connection, framer, waiting: Vec::new(), passable: 0, waits, clocks, timer: None }
    }

    /// When the present wait for input is over, and what that means.
    fn read_deadline(&mut self) -> Option<(Instant, Overdue)> {
        if !self.framer.in_head() {
            return Some((self.clocks.reading.waits(self.waits.body), Overdue::Body));
        }
        let Clocks { moved, served_any, head_since, .. } = self.clocks;
        match head_since {
            Some(since) => Some((since + self.waits.head, Overdue::Head)),
            // The answer to the last request is still to come: that is the upstream's time, not the client's.
            None if self.connection.is_serving() => None,
            None if served_any => Some((moved + self.waits.idle, Overdue::Idle)),
            None => Some((moved + self.waits.first_byte, Overdue::Idle)),
        }
    }

    /// Whether `deadline` has passed; if not, makes sure that the task is woken by then.
    fn is_overdue(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        loop {
            if Instant::now() >= deadline {
                return true;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            // Fired early, for a deadline that has moved since: arm it anew.
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) => timer.as_mut().reset(deadline),
                Poll::Pending => return false,
            }
        }
    }

    /// Lets the framer look at what is waiting. A refused head is replaced by the stand-in.
    fn examine(&mut self) -> io::Result<()> {
        match self.framer.advance(&self.waiting) {
            Ok(passed) => self.passable = passed.bytes,
            Err(Fault::Head(fault)) => self.refuse(fault),
            Err(Fault::Body(fault)) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
        self.clocks.head_since = match (self.passable, self.waiting.is_empty()) {
            (0, false) => self.clocks.head_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        Ok(())
    }

    fn refuse(&mut self, fault: HeadFault) {
        let _ = self.connection.fault.set(fault);
        self.waiting = STAND_IN.to_vec();
        self.passable = STAND_IN.len();
    }

    /// Hands checked bytes to hyper.
    fn pass_on(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.passable.min(out.remaining());
        out.put_slice(self.waiting.get(..count).unwrap_or_default());
        self.passable -= count;
        self.clocks.served_any = true;
        if count == self.waiting.len() {
            // Also gives the memory back: the next request may be ten seconds away.
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..count);
        }
    }

    fn overdue(&mut self, overdue: Overdue) -> Poll<io::Result<()>> {
        match overdue {
            // Nothing was asked: close without a word.
            Overdue::Idle => Poll::Ready(Ok(())),
            Overdue::Head => {
                self.refuse(HeadFault::Timeout);
                self.clocks.head_since = None;
                Poll::Pending
            }
            Overdue::Body => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// What a missed deadline means.
#[derive(Clone, Copy)]
enum Overdue {
    Idle,
    Head,
    Body,
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads from the socket behind what is waiting; says how many bytes came.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut input = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut input))?;
            self.waiting.extend_from_slice(input.filled());
            Poll::Ready(Ok(input.filled().len()))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            if gate.connection.opaque.load(Ordering::Relaxed) {
                gate.passable = gate.waiting.len();
            }
            if gate.passable > 0 {
                gate.pass_on(out);
                return Poll::Ready(Ok(()));
            }
            if gate.connection.fault().is_some() {
                // The stand-in was the last request. An end of file here would make hyper drop its answer.
                return Poll::Pending;
            }
            if !gate.waiting.is_empty() && gate.clocks.head_since.is_none() {
                // Left over from an earlier read: the next request of a pipeline.
                gate.examine()?;
                continue;
            }
            match gate.poll_fill(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(count) => {
                    gate.clocks.moved = Instant::now();
                    gate.clocks.reading.moves(count, gate.waits.body);
                    if !gate.connection.opaque.load(Ordering::Relaxed) {
                        gate.examine()?;
                    }
                    if gate.framer.in_head() {
                        gate.clocks.reading.ends();
                    }
                }
                Poll::Pending => {
                    let Some((deadline, overdue)) = gate.read_deadline() else {
                        // hyper does not ask again when it has written the answer: it waits to be woken. Before this
                        // time the connection cannot have been idle for too long.
                        gate.is_overdue(Instant::now() + gate.waits.idle, cx);
                        return Poll::Pending;
                    };
                    if !gate.is_overdue(deadline, cx) {
                        return Poll::Pending;
                    }
                    if let Poll::Ready(end) = gate.overdue(overdue) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }
}

/// A socket that can be closed at once.
pub trait Abort {
    /// Has closing throw away what the client has not taken. Else the system would go on offering it, in its own memory,
    /// for as long as the client likes.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        let _ = self.set_zero_linger();
    }
}

impl<S: Abort> Abort for TlsStream<S> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

impl<S: AsyncWrite + Abort + Unpin> Gate<S> {
    /// Bounds how slowly the client may read an answer.
    fn watch_write(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &write {
            Poll::Ready(Ok(count)) => {
                self.clocks.moved = Instant::now();
                self.clocks.writing.moves(*count, self.waits.body);
                write
            }
            Poll::Ready(Err(_)) => write,
            Poll::Pending => self.await_reader(cx).map(Err),
        }
    }

    /// Ready when the client has been waited for long enough.
    fn await_reader(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = self.clocks.writing.waits(self.waits.body);
        if !self.is_overdue(deadline, cx) {
            return Poll::Pending;
        }
        self.socket.abort();
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let write = Pin::new(&mut gate.socket).poll_write(cx, bytes);
        gate.watch_write(cx, write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let write = Pin::new(&mut gate.socket).poll_write_vectored(cx, bytes);
        gate.watch_write(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        match Pin::new(&mut gate.socket).poll_flush(cx) {
            Poll::Ready(flushed) => {
                // hyper flushes whenever it is woken, also when there is nothing: that is no sign of life.
                if gate.clocks.writing.is_waiting() {
                    gate.clocks.moved = Instant::now();
                }
                gate.clocks.writing.ends();
                Poll::Ready(flushed)
            }
            Poll::Pending => gate.await_reader(cx).map(Err),
        }
    }

    /// Ends our side, then reads on for a moment where the client may still be sending: closing a socket with unread
    /// input resets the connection, and the reset can overtake the answer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        let since = *gate.clocks.closing_since.get_or_insert_with(Instant::now);
        let shut = Pin::new(&mut gate.socket).poll_shutdown(cx)?;
        if gate.is_overdue(since + LINGER, cx) {
            return Poll::Ready(Ok(()));
        }
        ready!(shut);
        let unread = gate.connection.fault().is_some() || !gate.framer.in_head() || !gate.waiting.is_empty();
        if !unread {
            return Poll::Ready(Ok(()));
        }
        loop {
            gate.waiting.clear();
            match ready!(gate.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => {}
            }
        }
    }
}
