//! What in previewgate talks to the outside: connections to clients and to the upstream, the store with Redis and the snapshot,
//! the audit log, and the simulated platform.
//!
//! The crate `previewgate` documents the whole, and shows what is public of this one.

pub mod audit;
pub mod downstream;
pub mod simulator;
pub mod store;
pub mod upstream;

use previewgate_core::{
    bounded_text, config, failure, label_enum, lazy_timer, log_throttle, poll_gate, preview, protocol, rfc3339, stream,
    telemetry, tls,
};
