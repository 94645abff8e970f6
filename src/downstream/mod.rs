//! Towards the client: its bytes before hyper sees them, and its connection as the data path knows it.

pub mod framing;
mod gate;
mod pace;

pub use gate::{Abort, Connection, Gate, Serving, Waits};
pub use pace::Slowest;
