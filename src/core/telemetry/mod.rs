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
pub use redact::is_printable_ascii;
pub use redact::{CalledHash, HashKey, LogText, Redactor, ShownNumber, bounded, sanitized};
pub use writer::{DropNotice, LineClass, LogGuard, LogWriter, Sink, WriterLimits, stdout};

/// Milliseconds with three decimals.
pub fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod testing;
