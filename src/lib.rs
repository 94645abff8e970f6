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
//! bounded_text, label_enum, lazy_timer, log_throttle, rfc3339, socket_passing, sockets, standard_output, systemd, tls
//! ```
//!
//! `tests/architecture` reads this list. It also fails when two files use each other, directly or over other files.

pub mod admin;
pub mod app;
pub mod audit;
pub mod audit_commands;
mod bounded_text;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod downstream;
pub mod endpoint_url;
pub mod explain;
pub mod failure;
pub mod gateway;
mod label_enum;
mod lazy_timer;
mod log_throttle;
pub mod preview;
pub mod protocol;
pub mod reload;
pub mod report;
mod rfc3339;
pub mod schema;
pub mod server;
pub mod simulator;
mod socket_passing;
mod sockets;
mod standard_output;
pub mod store;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod upstream;

use label_enum::label_enum;
