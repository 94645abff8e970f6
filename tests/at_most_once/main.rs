//! "A previewCallout and an event poll reach an upstream at most once, whatever fails": an upstream that counts what
//! arrives, thousands of injected faults, and the gateway in between. Then the upstream's odd manners, one at a time.
#![allow(clippy::print_stdout, reason = "figures and the seed, for whoever reads the test's output")]

mod client;
mod faults;
mod gateway;
mod manners;
mod pool;
mod storm;
mod upstream;
