//! previewgate: a validating reverse proxy for Huawei CC-Gateway.
//!
//! It stands between CTI applications and CC-Gateway (or NSLB), watches preview events go by, and lets a
//! `previewCallout` through only if it names a number and a control ID that this agent was really shown.
//!
//! Where to look first:
//! - the rule: [`preview::decide`]
//! - how events are read: [`protocol::parse_events`]
//! - the life of a callout, a poll and a push: [`gateway`]
//! - how it is put together: [`app`]
//!
//! In the repository:
//! - `docs/architecture.md`: the map: life of a request, threads, who owns what, where to add things
//! - `docs/protocol.md`: the vendor's API; comments cite its sections
//! - `docs/operating.md`: topologies, TLS, reload, upgrade, limits, each reason
//! - `docs/configuration.md` and `config/previewgate.toml`: every key
//! - `docs/performance.md`: measurements, and how to repeat them
//! - `SECURITY.md`: what is protected against whom
//! - `CONTRIBUTING.md`: build, test, fuzz, style, lexicon
//!
//! Imports point down. Each module uses only modules of lower lines; modules on one line do not use each other:
//!
//! ```layers
//! main
//! cli
//! check, demo, explain, report, schema
//! audit_commands
//! app
//! admin
//! reload
//! server
//! gateway
//! upstream, downstream, store, audit, simulator
//! telemetry
//! protocol
//! config
//! preview
//! endpoint_url, failure, stream
//! bounded_text, label_enum, lazy_timer, log_throttle, poll_gate, rfc3339, socket_passing, sockets, standard_output, systemd, tls
//! ```
//!
//! Three crates share these lines: `previewgate-core` (in `src/core`) has those from `telemetry` down, `previewgate-io` (in
//! `src/io`) the one above it, and this one the rest. So an edit is compiled in a third of the time. Each crate names the
//! modules of those below as if they were its own, `crate::preview`.
//!
//! `tests/architecture` reads this list. It also fails when two files use each other, directly or over other files.

pub mod admin;
pub mod app;
pub mod audit_commands;
pub mod check;
pub mod cli;
pub mod demo;
pub mod explain;
pub mod gateway;
pub mod reload;
pub mod report;
pub mod schema;
pub mod server;
#[cfg(test)]
mod testing;

#[doc(inline)]
pub use previewgate_core::{config, endpoint_url, failure, preview, protocol, stream, systemd, telemetry, tls};
#[doc(inline)]
pub use previewgate_io::{audit, downstream, simulator, store, upstream};

use previewgate_core::{bounded_text, log_throttle, poll_gate, socket_passing, sockets, standard_output};
