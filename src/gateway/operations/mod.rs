//! The handling of each kind of request, after its head was classified and admitted.

mod call_count;
pub(super) mod callout;
pub(super) mod events;
pub(super) mod passthrough;
pub(super) mod push;
pub(super) mod session;
pub(super) mod websocket;
