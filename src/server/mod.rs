//! x
pub mod framing;
pub mod gate;
