//! "A previewCallout and an event poll reach an upstream at most once, whatever fails": an upstream that counts what
//! arrives, thousands of injected faults, and the gateway in between. Then the upstream's odd manners, one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops where it fails, and prints its seed and figures"
)]

mod client;
mod faults;
mod gateway;
mod manners;
mod pool;
mod storm;
mod upstream;
