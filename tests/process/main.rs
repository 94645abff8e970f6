//! The real program as a child process: its commands, faults of its environment, systemd, and its use of memory.

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

mod audit;
mod audit_cut;
mod audit_faults;
mod audit_takeover;
mod audit_verified;
mod check;
mod command_line;
mod crash;
mod explain;
mod hammer;
mod memory;
mod signals;
mod surroundings;
mod system_calls;
mod systemd;
mod takeover;
