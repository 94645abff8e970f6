//! Log lines, decision records and metrics: what operators and compliance officers see.
//!
//! - [`Logging`]: the log of one gateway, from `tracing` events to lines. [`LogWriter`] writes them off the data path.
//! - [`DecisionRecord`], [`AccessRecord`]: the two lines of a request, written at every level.
//! - [`Redactor`], [`sanitized`]: how numbers, and text that a client chose, appear.
//! - [`Metrics`]: every family of `GET /metrics`, one struct per subsystem.
//!
//! Nothing here is global: two gateways in one process share neither a log nor a counter.

mod access;
mod decision;
mod line;
mod logging;
pub mod metrics;
mod redact;
mod writer;

pub use access::AccessRecord;
pub use decision::DecisionRecord;
pub use logging::{LevelHandle, Logging};
pub use metrics::Metrics;
pub use redact::{CalledHash, HashKey, LogText, Redactor, ShownNumber, sanitized};
pub use writer::{DropNotice, LogGuard, LogWriter, Sink, WriterLimits, stdout};

/// Milliseconds with three decimals.
fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Target of decision records.
pub const DECISION_TARGET: &str = "previewgate::decision";
/// Target of access records.
pub const ACCESS_TARGET: &str = "previewgate::access";

#[cfg(test)]
pub(crate) mod testing {
    //! A sink that tests can read.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// The logged text. Clones share it.
    #[derive(Clone, Default)]
    pub(crate) struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl CapturedLog {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
