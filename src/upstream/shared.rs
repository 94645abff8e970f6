//! The upstream as all workers share it: endpoints with their health, TLS, and settings.

use std::sync::Arc;
use std::time::Duration;

use super::dial::Dial;
use super::endpoint::Endpoint;
use super::route::{self, Route, RoutingKey};
use super::tls;
use crate::config::{self, Balance, ProbeKind};
use crate::telemetry::Metrics;
use crate::tls::TlsError;

/// The upstream, shared by all workers.
pub struct Upstream {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) tls: Option<tokio_rustls::TlsConnector>,
    pub(super) probe: Probe,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
}

/// The settings of `[upstream]` and `[limits]` that clients use.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) body_idle_timeout: Duration,
    pub(super) max_idle_per_endpoint: usize,
    pub(super) preserve_host: bool,
    balance: Balance,
}

impl Upstream {
    /// Prepares the upstream, without connecting. Endpoints are reached by `dial`; those that `earlier` has as well
    /// keep their health.
    ///
    /// # Errors
    /// When the certificates or keys of `[upstream.tls]` cannot be used.
    pub fn new(
        config: &config::Config,
        metrics: Arc<Metrics>,
        dial: Arc<dyn Dial>,
        earlier: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let upstream = &config.upstream;
        let tls = tls::connector(upstream)?;
        let known = |name: &str| earlier?.endpoints.iter().find(|endpoint| *endpoint.name == *name);
        let endpoint = |configured: &config::UpstreamEndpoint| {
            Endpoint::new(configured, upstream, &metrics.upstream, known(&configured.url.to_string()))
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
        Ok(Self { endpoints, dial, tls, probe: Probe::new(upstream), settings, metrics })
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints for a request, in the order in which to try them.
    pub fn route(&self, key: RoutingKey<'_>) -> Route {
        route::order(self.endpoints.iter().map(Endpoint::candidate), self.settings.balance, key)
    }
}

/// How an endpoint is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// No probes.
    None,
    /// A TCP connection.
    Tcp,
    /// A TCP connection and a TLS handshake.
    Tls,
    /// A GET of this path; every status below 500 is a success.
    Http(String),
}

impl Probe {
    fn new(settings: &config::Upstream) -> Self {
        let encrypted = settings.endpoints.iter().any(|endpoint| endpoint.url.scheme == config::Scheme::Https);
        match (settings.probe.kind, &settings.probe.path) {
            (Some(ProbeKind::None), _) => Self::None,
            (Some(ProbeKind::Http), Some(path)) => Self::Http(path.clone()),
            (Some(ProbeKind::Tcp), _) => Self::Tcp,
            // The configuration guarantees that an `http` probe has a path and a `tls` probe an https endpoint.
            (Some(ProbeKind::Tls | ProbeKind::Http) | None, _) if encrypted => Self::Tls,
            (Some(ProbeKind::Tls | ProbeKind::Http) | None, _) => Self::Tcp,
        }
    }
}
