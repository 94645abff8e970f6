//! previewgate: a validating reverse proxy for Huawei CC-Gateway.
//!
//! It stands between CTI applications and CC-Gateway (or NSLB), watches preview events go by, and lets a
//! `previewCallout` through only if it names a number and a control ID that this agent was really shown.
//!
//! Where to look first:
//! - the rule: [`preview::decide`]
//! - how events are read: [`protocol::parse_events`]
//! - what a request is for: [`protocol::classify`](protocol::classify())
//! - the life of a request, on one page: [`gateway`] and its `pipeline`
//! - how it is put together: [`app`]
//!
//! Imports point down. Each module uses only modules of lower lines; modules on one line do not use each other:
//!
//! ```layers
//! main
//! cli
//! demo, explain
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
//! label_enum, log_throttle, sockets, systemd, tls
//! ```
//!
//! `tests/architecture` reads this list. It also fails when two files use each other, directly or over other files.

pub mod admin;
pub mod app;
pub mod audit;
pub mod cli;
pub mod config;
pub mod demo;
pub mod downstream;
pub mod endpoint_url;
pub mod explain;
pub mod failure;
pub mod gateway;
mod label_enum;
mod log_throttle;
pub mod preview;
pub mod protocol;
pub mod reload;
pub mod server;
pub mod simulator;
mod sockets;
pub mod store;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod upstream;

use label_enum::label_enum;
