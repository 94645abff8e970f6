//! Log lines, decision records and metrics: what operators and compliance officers see.
//!
//! - [`Logging`]: the log of one gateway, from `tracing` events to lines. [`LogWriter`] writes them off the data path.
//! - [`DecisionRecord`], [`AccessRecord`]: the two lines of a request, written at every level.
//! - [`Redactor`], [`sanitized`]: how numbers, and text that a client chose, appear.
//! - [`Metrics`]: every family of `GET /metrics`, one struct per subsystem.
//!
//! Nothing here is global: two gateways in one process share neither a log nor a counter.

mod access;
mod caller;
mod decision;
mod line;
mod line_kind;
mod line_style;
mod logging;
pub mod metrics;
mod redact;
mod writer;

pub use access::AccessRecord;
pub use caller::Caller;
pub use decision::{AuditRef, DecisionRecord};
pub use line_kind::{LOG_SCHEMA, LOG_SCHEMA_VERSION, LineKind};
pub use line_style::LineStyle;
pub use logging::{LevelHandle, Logging};
pub use metrics::Metrics;
pub(crate) use redact::is_printable_ascii;
pub use redact::{CalledHash, HashKey, LogText, Redactor, ShownNumber, bounded, sanitized};
pub use writer::{DropNotice, LineClass, LogGuard, LogWriter, Sink, WriterLimits, stdout};

/// Milliseconds with three decimals.
pub(crate) fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Target of decision records of callouts that were forwarded, or may have reached the upstream.
pub const DECISION_TARGET: &str = "previewgate::decision";
/// Target of decision records of callouts that were refused.
pub const REFUSAL_TARGET: &str = "previewgate::decision::refusal";
/// Target of access records.
pub const ACCESS_TARGET: &str = "previewgate::access";

#[cfg(test)]
pub(crate) mod testing {
    //! The log of a unit test: a sink that can be read and waited for.

    use std::io::{self, Write};
    use std::time::Duration;

    use tokio::sync::watch;

    /// A test that has to wait for longer has failed.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Everything that was logged; clones share it.
    #[derive(Clone, Default)]
    pub(crate) struct CapturedLog(watch::Sender<String>);

    impl CapturedLog {
        pub(crate) fn text(&self) -> String {
            self.0.borrow().clone()
        }

        /// Waits until these words have been logged so many times.
        pub(crate) async fn says(&self, words: &str, times: usize) {
            let mut log = self.0.subscribe();
            let logged = log.wait_for(|text| text.matches(words).count() >= times);
            if tokio::time::timeout(PATIENCE, logged).await.is_err() {
                panic!("{words:?} was not logged {times} times: {}", self.text());
            }
        }
    }

    impl Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send_modify(|text| text.push_str(str::from_utf8(bytes).unwrap()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
