//! The vendor's dialect: bytes to domain and back, no sockets.

mod operation;

pub use operation::{Delivery, EventType, OperationName};
