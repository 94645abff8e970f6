//! The log of the gateway: first kept for the report, later forwarded as it is written.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::Sink;

/// A sink that the demo can read; clones share it.
#[derive(Clone, Default)]
pub(super) struct CapturedLog(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    onward: Option<Sink>,
}

impl CapturedLog {
    /// The decision line of the request with this ID, as it was written.
    pub(super) fn decision_of(&self, request_id: &str) -> Option<String> {
        let captured = self.lock();
        let text = String::from_utf8_lossy(&captured.bytes);
        let is_it = |line: &&str| field(line, "request_id") == Some(request_id) && field(line, "decision").is_some();
        text.lines().find(is_it).map(str::to_owned)
    }

    /// Everything that was written.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// From now on, lines are written to `sink` and not kept.
    pub(super) fn pass_on_to(&self, sink: Sink) {
        self.lock().onward = Some(sink);
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a field in a line of `log.format = "text"`. Only for values that are single words.
pub(super) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut captured = self.lock();
        match &mut captured.onward {
            Some(sink) => sink.write(bytes),
            None => captured.bytes.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().onward.as_mut().map_or(Ok(()), |sink| sink.flush())
    }
}
