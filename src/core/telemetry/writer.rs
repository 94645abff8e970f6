//! Writes log lines to the sink: a bounded buffer and one thread that empties it.
//!
//! A blocked stdout can block a whole runtime. Here a worker thread copies its line into memory and continues. If the
//! buffer is full, the line is dropped and counted, and a notice with the number of dropped lines is logged as soon as
//! the sink accepts lines again. Availability comes before completeness: a full disk must not stop calls.
//!
//! `tracing-appender` is the usual crate for this and is not used here, because its non-blocking writer loses lines
//! silently at three points: it counts lines that do not fit into its queue, but neither logs the count nor counts the
//! lines of a failed write; it gives no way to wait until accepted lines are written; and after a write that ended
//! within a line it appends the next line to the fragment. A log that compliance relies on needs the count, the notice,
//! the flush and whole lines.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::label_enum;

label_enum! {
    /// What a line is about. The order is that in which lines are dropped when the buffer fills.
    pub enum LineClass {
        /// A request that was answered, in the access log.
        Access = "access",
        /// A callout that was refused, so that no telephone rang.
        Refusal = "refusal",
        /// Anything else that the gateway reports.
        Message = "message",
        /// A callout that was forwarded, or may have reached the upstream.
        Call = "call",
    }
}

impl LineClass {
    /// The part of a buffer that may be full for a line of this class to be accepted.
    fn share(self, capacity: usize) -> usize {
        let quarters = match self {
            Self::Access => 1,
            Self::Refusal => 2,
            Self::Message => 3,
            Self::Call => 4,
        };
        capacity / 4 * quarters + capacity % 4
    }
}

/// The destination of finished lines.
pub type Sink = Box<dyn Write + Send>;

/// Formats the line, with its line feed, that reports a number of dropped lines.
pub type DropNotice = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// Bounds of the writer.
#[derive(Clone, Copy, Debug)]
pub struct WriterLimits {
    /// Bytes of lines that wait to be written. Further lines are dropped.
    pub buffer: usize,
    /// Minimum time between two batches: a busy gateway then makes one write per batch instead of one per line.
    pub pause: Duration,
    /// Time that the exit waits for lines that are still in the buffer.
    pub exit: Duration,
}

impl Default for WriterLimits {
    /// 8 MiB hold about 15,000 decision lines. A delay of 2 ms is not noticeable in a log.
    fn default() -> Self {
        Self { buffer: 8 << 20, pause: Duration::from_millis(2), exit: Duration::from_secs(1) }
    }
}

/// Accepts lines and never blocks on the sink. Clones write to the same sink.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Shared>);

/// Stops the writer when dropped. Lines in the buffer are written first, for at most [`WriterLimits::exit`].
#[derive(Debug)]
#[must_use = "dropping the guard ends the log"]
pub struct LogGuard {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    timeout: Duration,
}

impl LogWriter {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// The system refused another thread.
    pub fn start(sink: Sink, limits: WriterLimits, notice: DropNotice) -> io::Result<(Self, LogGuard)> {
        let shared = Arc::new(Shared::new(limits.buffer));
        let pump = Pump { shared: Arc::clone(&shared), output: Output { sink, torn: false }, notice, reported: 0 };
        let thread = thread::Builder::new().name("log".into()).spawn(move || pump.run(limits))?;
        let guard = LogGuard { shared: Arc::clone(&shared), thread: Some(thread), timeout: limits.exit };
        Ok((Self(shared), guard))
    }

    /// Puts one or more whole lines, line feeds included, into the buffer, or drops them.
    pub fn write(&self, class: LineClass, line: &[u8]) {
        let mut state = self.0.lock();
        if state.closing || state.buffer.len().saturating_add(line.len()) > class.share(self.0.capacity) {
            drop(state);
            let lines = line_feeds(line);
            self.0.dropped.fetch_add(lines, Ordering::Relaxed);
            if let Some(dropped) = self.0.dropped_by_class.get(class.index()) {
                dropped.fetch_add(lines, Ordering::Relaxed);
            }
            return;
        }
        state.buffer.extend_from_slice(line);
        state.accepted = state.accepted.wrapping_add(1);
        // The writer thread sleeps only if it found the buffer empty. Otherwise it takes the line without a wake-up.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        if waiting {
            self.0.work.notify_one();
        }
    }

    /// Waits until every line accepted so far was written or lost by the sink; false after `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        let state = self.0.lock();
        let target = state.accepted;
        self.0.wait_for(state, timeout, |state| state.settled >= target)
    }

    /// Lines that were lost: the buffer was full, the sink failed, or the writer had stopped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Lines of this class for which the buffer had no room, or that came after the end. Of lines that are lost with the
    /// sink, only the number is known.
    pub fn dropped_of(&self, class: LineClass) -> u64 {
        self.0.dropped_by_class.get(class.index()).map_or(0, |dropped| dropped.load(Ordering::Relaxed))
    }

    /// The number of failed writes to the sink.
    pub fn write_errors(&self) -> u64 {
        self.0.write_errors.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        let finished = self.shared.wait_for(state, self.timeout, |state| state.finished);
        // A thread that is blocked in the sink is not joined; the process ends without it.
        if finished && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The standard output, unbuffered and without the lock of `std::io::stdout`: a blocked log must not block other code
/// that prints at the exit, and the number of bytes written must be known.
pub fn stdout() -> Sink {
    use std::os::fd::AsFd;
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// The state that producers, the thread and the guard share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the thread at the first line and at the end.
    work: Condvar,
    /// Wakes callers of `flush` and the guard.
    progress: Condvar,
    capacity: usize,
    dropped: AtomicU64,
    dropped_by_class: [AtomicU64; LineClass::ALL.len()],
    write_errors: AtomicU64,
}

#[derive(Debug)]
struct State {
    buffer: Vec<u8>,
    /// Calls of `write` whose lines entered the buffer.
    accepted: u64,
    /// Count of lines among these that the thread has written or lost.
    settled: u64,
    /// The thread waits for the first line.
    waiting: bool,
    closing: bool,
    finished: bool,
}

impl Shared {
    fn new(capacity: usize) -> Self {
        // Allocates the whole capacity at once: untouched memory costs nothing, and no producer grows the buffer while it
        // holds the lock.
        let buffer = Vec::with_capacity(capacity);
        let state = State { buffer, accepted: 0, settled: 0, waiting: false, closing: false, finished: false };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            capacity,
            dropped: AtomicU64::new(0),
            dropped_by_class: Default::default(),
            write_errors: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock. If it did, continuing to log would still be better.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, state: MutexGuard<'_, State>, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let waited = self.progress.wait_timeout_while(state, timeout, |state| !done(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }
}

/// The writer thread.
struct Pump {
    shared: Arc<Shared>,
    output: Output,
    notice: DropNotice,
    /// The number of dropped lines that notices have reported.
    reported: u64,
}

impl Pump {
    fn run(mut self, limits: WriterLimits) {
        let mut batch = Vec::with_capacity(limits.buffer);
        while let Some(accepted) = self.next_batch(&mut batch) {
            if self.put(&batch) {
                self.report_drops();
            }
            self.settle(accepted);
            self.rest(limits.pause);
        }
        self.shared.lock().finished = true;
        self.shared.progress.notify_all();
    }

    /// Waits for lines and takes all of them; `None` at the end. Returns the value of `accepted` after this batch.
    fn next_batch(&self, batch: &mut Vec<u8>) -> Option<u64> {
        batch.clear();
        let mut state = self.shared.lock();
        while state.buffer.is_empty() && !state.closing {
            state.waiting = true;
            state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = false;
        std::mem::swap(&mut state.buffer, batch);
        (!batch.is_empty()).then_some(state.accepted)
    }

    /// Writes the lines and counts those that were lost. `true` if none was.
    fn put(&mut self, lines: &[u8]) -> bool {
        let unwritten = self.output.write(lines);
        let complete = unwritten.is_empty() && self.output.sink.flush().is_ok();
        if !complete {
            self.shared.write_errors.fetch_add(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(line_feeds(unwritten), Ordering::Relaxed);
        }
        complete
    }

    /// Writes the notice of dropped lines, after the lines that were accepted before them. A failed notice is not
    /// counted as a dropped line: the next batch repeats it.
    fn report_drops(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let news = dropped.saturating_sub(self.reported);
        if news > 0 && self.output.write(&(self.notice)(news)).is_empty() {
            let _ = self.output.sink.flush();
            self.reported = dropped;
        }
    }

    fn settle(&self, accepted: u64) {
        self.shared.lock().settled = accepted;
        self.shared.progress.notify_all();
    }

    /// Lets lines accumulate. `waiting` is false, so that only the end of the log interrupts the pause.
    fn rest(&self, pause: Duration) {
        let state = self.shared.lock();
        drop(self.shared.work.wait_timeout_while(state, pause, |state| !state.closing));
    }
}

struct Output {
    sink: Sink,
    /// The last write ended within a line. The next line must not continue it.
    torn: bool,
}

impl Output {
    /// Writes the lines and returns the bytes that could not be written.
    fn write<'a>(&mut self, lines: &'a [u8]) -> &'a [u8] {
        if self.torn && !write_most(&mut self.sink, b"\n").is_empty() {
            return lines;
        }
        let unwritten = write_most(&mut self.sink, lines);
        let written = lines.len().saturating_sub(unwritten.len());
        self.torn = lines.get(..written).and_then(|written| written.last()).is_some_and(|last| *last != b'\n');
        unwritten
    }
}

/// Like `write_all`, but returns the bytes that are left.
fn write_most<'a>(sink: &mut Sink, bytes: &'a [u8]) -> &'a [u8] {
    // Another process can make a shared standard output non-blocking. Wait as a blocking one would.
    const RETRY: Duration = Duration::from_millis(5);
    let mut rest = bytes;
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => break,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    rest
}

fn line_feeds(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::CapturedLog;
    use std::sync::mpsc;
    use std::time::Instant;

    const LIMITS: WriterLimits =
        WriterLimits { buffer: 64, pause: Duration::from_micros(100), exit: Duration::from_millis(50) };
    const PATIENCE: Duration = Duration::from_secs(20);

    fn notice() -> DropNotice {
        Box::new(|dropped| format!("{dropped} dropped\n").into_bytes())
    }

    /// Signals the beginning of each write and blocks it until the test opens the gate.
    struct GatedSink {
        began: mpsc::Sender<()>,
        gate: mpsc::Receiver<()>,
        log: CapturedLog,
    }

    impl Write for GatedSink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.began.send(());
            let _ = self.gate.recv();
            self.log.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (GatedSink, mpsc::Receiver<()>, mpsc::Sender<()>, CapturedLog) {
        let (began, beginning) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let log = CapturedLog::default();
        (GatedSink { began, gate, log: log.clone() }, beginning, open, log)
    }

    #[test]
    fn accepted_lines_are_written_in_order_before_the_guard_is_dropped() {
        let log = CapturedLog::default();
        let limits = WriterLimits { exit: PATIENCE, ..WriterLimits::default() };
        let (writer, guard) = LogWriter::start(Box::new(log.clone()), limits, notice()).unwrap();
        let expected: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            writer.write(LineClass::Call, line.as_bytes());
        }
        drop(guard);
        assert_eq!(log.text(), expected);
        writer.write(LineClass::Call, b"too late\n");
        assert_eq!(writer.dropped(), 1);
    }

    #[test]
    fn flush_waits_for_the_sink() {
        let log = CapturedLog::default();
        let (writer, _guard) = LogWriter::start(Box::new(log.clone()), LIMITS, notice()).unwrap();
        for round in 1..50 {
            writer.write(LineClass::Call, b"x\n");
            assert!(writer.flush(PATIENCE));
            assert_eq!(log.text().len(), 2 * round);
        }
    }

    #[test]
    fn a_blocked_sink_blocks_no_producer_and_drops_are_reported_later() {
        let (sink, beginning, open, log) = gated();
        let (writer, guard) = LogWriter::start(Box::new(sink), LIMITS, notice()).unwrap();
        writer.write(LineClass::Call, b"first\n");
        beginning.recv().unwrap();
        // The thread is blocked in the sink. The buffer of 64 bytes holds 8 lines of 8 bytes.
        for _ in 0..100 {
            writer.write(LineClass::Call, b"another\n");
        }
        assert_eq!(writer.dropped(), 92);
        assert!(!writer.flush(Duration::from_millis(1)));
        drop(open);
        assert!(writer.flush(PATIENCE));
        drop(guard);
        let text = log.text();
        let (notices, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.ends_with("dropped"));
        assert_eq!(lines.len(), 9, "{text}");
        assert_eq!(notices, ["92 dropped"], "{text}");
    }

    #[test]
    fn a_full_buffer_keeps_room_for_what_matters_more() {
        let (sink, beginning, open, log) = gated();
        let (writer, guard) = LogWriter::start(Box::new(sink), LIMITS, notice()).unwrap();
        writer.write(LineClass::Call, b"first\n");
        beginning.recv().unwrap();
        // The buffer of 64 bytes holds 8 lines of 8 bytes. Each class fills its quarter.
        for class in LineClass::ALL {
            for _ in 0..100 {
                writer.write(*class, format!("{:.7}\n", format!("{class}......")).as_bytes());
            }
            assert_eq!(writer.dropped_of(*class), 98, "{class}");
        }
        assert_eq!(writer.dropped(), 4 * 98);
        drop(open);
        assert!(writer.flush(PATIENCE));
        drop(guard);
        let text = log.text();
        let lines: Vec<_> = text.lines().collect();
        let [access, refusal, message, call] = ["access.", "refusal", "message", "call..."];
        let expected = ["first", "392 dropped", access, access, refusal, refusal, message, message, call, call];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_sink_that_never_returns_does_not_block_the_exit() {
        let (sink, beginning, _open, _log) = gated();
        let (writer, guard) = LogWriter::start(Box::new(sink), LIMITS, notice()).unwrap();
        writer.write(LineClass::Call, b"first\n");
        beginning.recv().unwrap();
        let started = Instant::now();
        drop(guard);
        assert!(started.elapsed() < PATIENCE);
    }

    /// Accepts `room` bytes, then fails until the test adds room.
    struct FullDisk {
        room: Arc<AtomicU64>,
        log: CapturedLog,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.load(Ordering::SeqCst).min(bytes.len() as u64);
            if room == 0 {
                return Err(io::Error::from(ErrorKind::StorageFull));
            }
            self.room.fetch_sub(room, Ordering::SeqCst);
            self.log.write(&bytes[..room as usize])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_lost_to_a_failing_sink_are_counted_and_a_torn_line_is_ended() {
        let (room, log) = (Arc::new(AtomicU64::new(9)), CapturedLog::default());
        let sink = FullDisk { room: Arc::clone(&room), log: log.clone() };
        let (writer, guard) = LogWriter::start(Box::new(sink), LIMITS, notice()).unwrap();
        for line in [&b"whole\n"[..], b"torn line\n", b"lost\n"] {
            writer.write(LineClass::Call, line);
            assert!(writer.flush(PATIENCE));
        }
        assert_eq!((writer.dropped(), writer.write_errors()), (2, 2));
        room.store(1000, Ordering::SeqCst);
        writer.write(LineClass::Call, b"well again\n");
        assert!(writer.flush(PATIENCE));
        drop(guard);
        assert_eq!(log.text(), "whole\ntor\nwell again\n2 dropped\n");
    }

    /// Fails first, like a pipe that another process made non-blocking, then accepts three bytes at a time.
    struct Reluctant(Vec<ErrorKind>, CapturedLog);

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(error) => Err(error.into()),
                None => self.1.write(&bytes[..bytes.len().min(3)]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_sink_loses_nothing() {
        let log = CapturedLog::default();
        let sink = Reluctant(vec![ErrorKind::Interrupted, ErrorKind::WouldBlock], log.clone());
        let (writer, _guard) = LogWriter::start(Box::new(sink), LIMITS, notice()).unwrap();
        writer.write(LineClass::Call, b"a line of some length\n");
        assert!(writer.flush(PATIENCE));
        assert_eq!((log.text().as_str(), writer.dropped()), ("a line of some length\n", 0));
    }
}
