//! The audit log as an auditor sees it: directories that the writer made, read by the commands.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod calls;
mod commands;
mod gateway;
mod page;
mod python;
mod recipient;
mod reports;
mod rule;
mod schema;
mod several;
mod stories;
mod tampering;
mod tricks;
