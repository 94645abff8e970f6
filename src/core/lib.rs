//! What everything in previewgate rests on: the rule, the vendor's protocol, the configuration, the log and the metrics.
//!
//! Nothing here talks to the outside. The crate `previewgate` documents the whole, and shows what is public of this one.

pub mod bounded_text;
pub mod config;
pub mod endpoint_url;
pub mod failure;
mod label_enum;
pub mod lazy_timer;
pub mod log_throttle;
pub mod poll_gate;
pub mod preview;
pub mod protocol;
pub mod rfc3339;
pub mod socket_passing;
pub mod sockets;
pub mod standard_output;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod tls;
