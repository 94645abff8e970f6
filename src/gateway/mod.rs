//! The data path: what happens to a request between hyper and the upstream.
//!
//! A request's life, in the order of the files: [`entry`] (begins and records the exchange) → [`checks`] (what has
//! more than one reading goes no further) → [`shed`] (too much is refused early) → [`handler`] (by operation):
//! [`callout`] judges (by [`judgement`]), [`observe`] watches events and sessions, [`sign_in`] sees to it that pushes come to the gateway
//! and [`push`] relays them, everything else is streamed through. [`error`] is the one table from what went wrong to
//! what the client gets.

mod application;
mod body;
mod callout;
pub(crate) mod checks;
mod cors;
mod detached;
mod entry;
pub(crate) mod error;
mod exchange;
mod handler;
mod headers;
pub(crate) mod judgement;
mod observe;
mod push;
mod shed;
mod sign_in;
pub(crate) mod websocket;

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

pub use application::PushFault;
pub use cors::Origins;
pub use entry::AnsweredBody;
pub use error::GatewayError;
pub use exchange::RequestIds;
pub use push::{Push, PushSetupError};
pub use shed::Load;

use crate::config::Config;
use crate::downstream::Connection;
use crate::log_throttle::LogThrottle;
use crate::preview::{Clock, Timestamp};
use crate::store::Ledger;
use crate::telemetry::{Metrics, Redactor};
use crate::upstream::Client;

/// What the data path works with, shared by all workers. A reload makes another one with another configuration;
/// everything else is shared with it.
#[derive(Clone)]
pub struct Gateway {
    /// The configuration that requests are handled by.
    pub config: Config,
    /// The state of all agents: previews, sessions, recent ends.
    pub ledger: Arc<Ledger>,
    /// The time by which previews are judged.
    pub clock: Arc<dyn Clock>,
    /// Until when callouts of agents without a known preview are forwarded (`validation.warm_up`).
    pub warm_up_until: Option<Timestamp>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What may be said of numbers.
    pub redactor: Arc<Redactor>,
    /// What the upstream has granted to which origin.
    pub origins: Arc<Origins>,
    /// Names requests that come without a name.
    pub request_ids: Arc<RequestIds>,
    /// How pushes are relayed.
    pub push: Arc<Push>,
    /// How much is being done at once.
    pub load: Arc<Load>,
    /// Keep a broken upstream from filling the log.
    pub event_warnings: Arc<LogThrottle>,
    /// See `event_warnings`.
    pub upstream_warnings: Arc<LogThrottle>,
}

impl Gateway {
    /// Whether the previews that agents were shown before the start may still be unknown.
    pub fn is_warming_up(&self) -> bool {
        self.warm_up_until.is_some_and(|end| self.clock.now() < end)
    }
}

/// The service for one client connection: every layer of the data path, the outermost first.
pub fn stack(
    gateway: &Arc<Gateway>,
    client: &Arc<Client>,
    connection: &Arc<Connection>,
) -> impl Service<Request<Incoming>, Response = Response<AnsweredBody>, Error = Infallible, Future: Send> + Clone + use<>
{
    ServiceBuilder::new()
        // Outermost, so that whatever happens further in is answered, timed, counted and logged exactly once, also
        // when the client goes away in the middle.
        .layer(entry::EntryLayer::new(gateway, connection))
        // Outside everything that could have a defect, inside entry, which turns a panic into an answer like others.
        .layer(CatchPanicLayer::custom(entry::Panicked))
        // Before shedding: shedding must know a held poll from a callout, so that polls cannot starve callouts, and
        // knowing them takes microseconds. What was refused here has cost nothing yet.
        .layer(checks::ChecksLayer::new(gateway))
        // Before any body is read or any connection opened.
        .layer(shed::ShedLayer::new(gateway))
        .service(handler::Handler::new(client))
}
