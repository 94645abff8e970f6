//! The whole gateway over in-memory pipes, on paused time.
//!
//! Scenarios that `tests/it` has over sockets, and time limits at their production values: minutes and hours pass in a
//! moment, and every measured time is exact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

#[path = "../support/mod.rs"]
mod support;

mod callouts;
mod connections;
mod latency;
mod poll_rate;
mod sharing;
mod upstream;
