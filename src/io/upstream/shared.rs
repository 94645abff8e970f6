//! The upstream as all workers share it: endpoints with their health, TLS, and settings.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::dial::Dial;
use super::endpoint::Endpoint;
use super::failure::Cause;
use super::health::FailureMode;
use super::reconnection::Reconnection;
use super::route::{self, Route, RoutingKey};
use super::tls;
use crate::config::{self, Balance, ProbeKind};
use crate::failure::FailureKind;
use crate::log_throttle::LogThrottle;
use crate::preview::AgentId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CertificateRole;
use crate::tls::TlsError;

/// The upstream, shared by all workers.
pub struct Upstream {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) tls: Option<tokio_rustls::TlsConnector>,
    pub(super) probe: Probe,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    /// For requests that wait until an endpoint can be reached.
    pub(super) reconnection: Reconnection,
    local_warnings: LogThrottle,
}

/// Minimum interval between two lines that this machine has no descriptor, port or memory left.
const LOCAL_WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The settings of `[upstream]` and `[limits]` that clients use.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) body_idle_timeout: Duration,
    pub(super) max_idle_per_endpoint: usize,
    pub(super) preserve_host: bool,
    pub(super) poll_patience: Duration,
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
            poll_patience: upstream.poll_patience,
            balance: upstream.balance,
        };
        let reconnection = Reconnection::default();
        let local_warnings = LogThrottle::every(LOCAL_WARNING_INTERVAL);
        Ok(Self { endpoints, dial, tls, probe: Probe::new(upstream), settings, metrics, reconnection, local_warnings })
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Sets the metric of the endpoints' certificate that expires first.
    pub fn report_certificates(&self) {
        let ends = self.endpoints.iter().filter_map(|endpoint| endpoint.certificate_period());
        self.metrics.process.certificate_not_after(CertificateRole::Upstream, ends.map(|period| period.end).min());
    }

    /// A connection to `endpoint` could not be established. That ejects it, unless this machine is at fault.
    pub(super) fn connection_failed(&self, endpoint: &Endpoint, cause: &Cause) {
        if cause.kind != FailureKind::LocalResources {
            endpoint.failed(FailureMode::Unreachable, cause);
            return;
        }
        // If it is ejected, the next attempt would need the same resources at once.
        endpoint.begin_trial();
        if self.local_warnings.allow() {
            tracing::error!(
                target: "previewgate::upstream",
                error = %cause,
                "this machine has no descriptor, port or memory left for a connection to the upstream; no endpoint is at fault"
            );
        }
    }

    /// What decides about the endpoint of a request. If there is only one endpoint, nothing has to be known of the request.
    pub fn routing_key<'a>(&self, agent: Option<AgentId>, guid: Option<&'a HeaderValue>) -> RoutingKey<'a> {
        if self.endpoints.len() > 1 { RoutingKey::new(agent, guid) } else { RoutingKey::default() }
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
