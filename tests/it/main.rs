//! The gateway over real sockets and TLS, with the simulated CC-Gateway behind it.
//!
//! Every test has a [`support::Lab`] of its own: simulator, gateway and clients in this process, all ports chosen by
//! the system, so that all tests run at once. No test sleeps to synchronise: it waits for what it needs to have
//! happened, and time limits only say when a test has failed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod admin_access;
mod as_shown;
mod at_most_once;
mod audit;
mod blind_spots;
mod callers;
mod callouts;
mod calls_per_number;
mod certificates;
mod connections;
mod decisions;
mod endpoint_health;
mod examples;
mod golden;
mod hop_by_hop;
mod log_flood;
mod observability;
mod observing;
mod poll_patience;
mod privacy;
mod push;
mod redis;
mod refusals;
mod reload;
mod sessions;
mod shutdown;
mod simulator_page;
mod status_page;
mod streaming;
mod tls_sessions;
mod transparency;
mod upstream_faults;
mod websocket;
