//! Towards CC-Gateway or NSLB: which endpoint ([`route`]), how the endpoints are doing ([`health`], [`probe`]), kept
//! connections ([`pool`]), and the promise that nothing is ever sent twice ([`client`]).
//!
//! [`Upstream`] is what all workers share (endpoints, TLS, settings); each worker has a [`Client`] with connections of
//! its own, so that no request ever changes threads.

mod client;
mod connect;
mod dial;
mod endpoint;
mod failure;
mod health;
mod patience;
mod pool;
mod probe;
mod read_after_write_error;
mod reconnection;
mod request_body;
mod response_body;
mod route;
mod shared;
#[cfg(test)]
mod tests;
mod tls;

pub use client::{Client, Unsent, UpstreamResponse};
pub use dial::{Dial, DialError, TcpDial};
pub use endpoint::{Condition, Endpoint};
pub use failure::{Cause, Failure};
pub use request_body::{RequestBody, StreamedBody};
pub use response_body::UpstreamBody;
pub use route::{Route, RoutingKey};
pub use shared::Upstream;
pub use tls::client_tls;
