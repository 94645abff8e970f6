//! Towards CC-Gateway or NSLB: which endpoint ([`route`]), how they are doing ([`health`], [`probe`]), kept connections
//! ([`pool`]), and the one promise that matters: nothing is ever sent twice ([`client`]).
//!
//! [`Upstream`] is what all workers share (configuration, TLS, health); each worker has a [`Client`] of its own with
//! its own connections, so that no request ever changes threads.

mod answers_first;
mod body;
mod client;
mod connect;
mod endpoint;
mod health;
mod pool;
mod probe;
mod route;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

pub use body::{AnswerBody, RequestBody, StreamedBody};
pub use client::Client;
pub use endpoint::{Condition, Endpoint};
use probe::Probe;
pub use route::{Route, RoutingKey};

use crate::config::{self, Balance};
use crate::telemetry::metrics::{FailureKind, Metrics};
use crate::tls::TlsError;

/// The upstream as all workers see it.
pub struct Upstream {
    endpoints: Vec<Endpoint>,
    tls: Option<tokio_rustls::TlsConnector>,
    probe: Probe,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// What a client needs of `[upstream]` and `[limits]`.
#[derive(Clone, Debug)]
struct Settings {
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_timeout: Duration,
    body_idle_timeout: Duration,
    max_idle_per_endpoint: usize,
    preserve_host: bool,
    balance: Balance,
}

impl Upstream {
    /// Prepares the upstream; connects to nothing yet. Endpoints that `earlier` had too keep their health.
    ///
    /// # Errors
    /// When the certificates or keys of `[upstream.tls]` cannot be used.
    pub fn new(config: &config::Config, metrics: Arc<Metrics>, earlier: Option<&Self>) -> Result<Self, TlsError> {
        let upstream = &config.upstream;
        let tls = tls::connector(upstream)?;
        let known = |name: &str| earlier?.endpoints.iter().find(|endpoint| *endpoint.name == *name);
        let endpoint = |address: &config::Endpoint| {
            Endpoint::new(address, upstream, &metrics.upstream, known(&address.to_string()))
        };
        let endpoints = upstream.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let settings = Settings {
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            idle_timeout: upstream.idle_timeout,
            body_idle_timeout: config.limits.body_idle_timeout,
            max_idle_per_endpoint: upstream.max_idle_per_endpoint,
            preserve_host: upstream.preserve_host,
            balance: upstream.balance,
        };
        Ok(Self { endpoints, tls, probe: Probe::new(upstream), settings, metrics })
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints for a request, in the order in which to try them.
    pub fn route(&self, key: RoutingKey<'_>) -> Route {
        let candidates: Vec<_> = self.endpoints.iter().map(Endpoint::candidate).collect();
        route::order(&candidates, self.settings.balance, key)
    }
}

/// An answer of the upstream: its head has arrived.
#[derive(Debug)]
pub struct Answer {
    /// The head, and the body on its way.
    pub response: Response<AnswerBody>,
    /// Position of the endpoint that answered.
    pub endpoint: usize,
}

/// Why there is no answer, and what is known about the request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upstream has not seen a byte of the request: it may be sent again.
    #[error("not sent: {0}")]
    NotSent(Cause),
    /// The upstream may have acted on it. It must never be sent again.
    #[error("outcome unknown: {0}")]
    MaybeSent(Cause),
}

impl Failure {
    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotSent(cause) | Self::MaybeSent(cause) => cause,
        }
    }
}

/// What went wrong on the way to an endpoint. For the log, not for the client.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at {endpoint}{}", Source(.source))]
pub struct Cause {
    /// The word for the metrics.
    pub kind: FailureKind,
    /// `scheme://host:port`, from the configuration.
    pub endpoint: Arc<str>,
    /// The library's own words.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Writes an error with everything that caused it.
struct Source<'a>(&'a Option<Box<dyn std::error::Error + Send + Sync>>);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = self.0.as_deref().map(|error| error as &(dyn std::error::Error + 'static));
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
