//! Towards the client: its bytes before hyper sees them, and its connection as the data path knows it.

pub mod framing;
mod gate;

pub use gate::{Connection, Gate, Serving, Waits};
