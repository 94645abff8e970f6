//! One upstream address and its health.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::Instant;

use super::dial::DialError;
use super::failure::Cause;
use super::health::{FailureMode, Health, HealthTracker, Recovery};
use super::route::Candidate;
use crate::config;
use crate::preview::millis;
use crate::telemetry::metrics::{EndpointMetrics, UpstreamMetrics};
use crate::tls::{CertificateNotice, Period, TlsError};

/// One upstream address, shared by all workers.
pub struct Endpoint {
    /// `scheme://host:port`, for logs and metrics.
    pub name: Arc<str>,
    /// The name of the CC-Gateway node there, if it is configured.
    pub node: Option<Box<str>>,
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` that the upstream sees.
    pub(super) authority: HeaderValue,
    /// The name to verify, for an `https` endpoint.
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) metrics: Arc<EndpointMetrics>,
    /// Kept over a reload: a new configuration does not repair an endpoint.
    pub(super) health: Arc<HealthTracker>,
    /// The certificate that it last showed. Kept over a reload too.
    leaf: Arc<Leaf>,
    /// The interval of probes, and so the longest time that an unreachable endpoint stays ejected. `None` without
    /// probes.
    probe_interval: Option<Duration>,
}

/// The certificate that an endpoint last showed.
#[derive(Debug, Default)]
struct Leaf(Mutex<Option<(CertificateDer<'static>, Period)>>);

/// The health of an endpoint, for operators.
#[derive(Clone, Debug)]
pub struct Condition {
    /// It has been reached at least once.
    pub proven: bool,
    /// Not used while another endpoint is available.
    pub ejected: bool,
    /// When it was first reached, last ejected, or came back.
    pub since: SystemTime,
    /// The last failure; `None` if it is healthy or nothing is known yet.
    pub why: Option<String>,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// Time until it is tried again; `None` if it is in use.
    pub next_try_in: Option<Duration>,
}

impl Leaf {
    fn lock(&self) -> MutexGuard<'_, Option<(CertificateDer<'static>, Period)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    pub(super) fn new(
        configured: &config::UpstreamEndpoint,
        settings: &config::Upstream,
        metrics: &UpstreamMetrics,
        earlier: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let name: Arc<str> = configured.url.to_string().into();
        let authority = name.split_once("://").map_or(&*name, |(_, authority)| authority);
        let authority = HeaderValue::from_str(authority).map_err(|_| TlsError::ServerName(name.to_string()))?;
        let server_name = match configured.url.scheme {
            config::Scheme::Http => None,
            config::Scheme::Https => {
                let verified = settings.tls.server_name.as_ref().unwrap_or(&configured.url.host).clone();
                Some(ServerName::try_from(verified.clone()).map_err(|_| TlsError::ServerName(verified))?)
            }
        };
        let metrics = metrics.endpoint(&name);
        let health = earlier.map_or_else(|| Arc::new(HealthTracker::new()), |earlier| Arc::clone(&earlier.health));
        let leaf = earlier.map(|earlier| Arc::clone(&earlier.leaf)).unwrap_or_default();
        let state = health.state();
        metrics.health(state.proven && !state.ejected, !state.proven && !state.ejected);
        let probing = settings.probe.kind != Some(config::ProbeKind::None);
        Ok(Self {
            name,
            node: configured.node.as_deref().map(Into::into),
            host: configured.url.host.clone(),
            port: configured.url.port,
            authority,
            server_name,
            metrics,
            health,
            leaf,
            probe_interval: probing.then_some(settings.probe.interval),
        })
    }

    /// Its health, for operators.
    pub fn condition(&self) -> Condition {
        let state = self.health.state();
        Condition {
            proven: state.proven,
            ejected: state.ejected,
            since: state.since,
            why: state.why,
            failures_in_a_row: state.failures,
            next_try_in: state.ejected.then(|| state.next_try.saturating_duration_since(Instant::now())),
        }
    }

    /// When the certificate that it last showed is valid; `None` before the first handshake.
    pub fn certificate_period(&self) -> Option<Period> {
        self.leaf.lock().as_ref().map(|(_, period)| *period)
    }

    /// The notice for operators at `now` about the certificate that it last showed, if there is one.
    pub fn certificate_notice(&self, now: SystemTime) -> Option<CertificateNotice> {
        CertificateNotice::about(format!("endpoint {}", self.name), self.certificate_period()?, now)
    }

    /// Records the certificate that the endpoint has shown in a handshake. Returns whether it has changed. Logs a warning if
    /// it expires soon.
    pub(super) fn showed(&self, certificate: &CertificateDer<'_>) -> bool {
        {
            let mut leaf = self.leaf.lock();
            if leaf.as_ref().is_some_and(|(known, _)| known == certificate) {
                return false;
            }
            let Some(period) = Period::of(certificate) else { return false };
            self.metrics.certificate_not_after(period.end);
            *leaf = Some((certificate.clone().into_owned(), period));
        }
        if let Some(notice) = self.certificate_notice(SystemTime::now()) {
            notice.log();
        }
        true
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate { name: &self.name, node: self.node.as_deref(), health: self.health() }
    }

    pub(super) fn health(&self) -> Health {
        self.health.current(self.probe_interval.is_some())
    }

    /// Whether a probe is due.
    pub(super) fn wants_probe(&self) -> bool {
        self.probe_interval.is_some_and(|interval| self.health.wants_probe(interval))
    }

    /// The present request tries whether it is back.
    pub(super) fn begin_trial(&self) {
        self.health.begin_trial(self.probe_interval);
    }

    /// A connection was established for a request.
    pub(super) fn connected(&self) {
        self.note(self.health.connected(), "connected");
    }

    /// The head of a response has come.
    pub(super) fn answered(&self) {
        self.note(self.health.answered(), "answered");
    }

    /// A probe succeeded. `answered`: the endpoint responded to a request.
    pub(super) fn probed(&self, answered: bool) {
        self.note(self.health.probed(answered), "probe");
    }

    fn note(&self, recovery: Recovery, by: &'static str) {
        let endpoint = &*self.name;
        match recovery {
            Recovery::None => return,
            Recovery::Proven => tracing::debug!(target: "previewgate::upstream", endpoint, by, "endpoint is reachable"),
            Recovery::Back => tracing::info!(target: "previewgate::upstream", endpoint, by, "endpoint is back"),
        }
        self.metrics.health(true, false);
    }

    /// A failure to connect to this endpoint, or of a probe.
    pub(super) fn cause(&self, (kind, source): DialError) -> Cause {
        Cause { kind, endpoint: Arc::clone(&self.name), source: source.map(Into::into) }
    }

    /// It failed. The caller has counted the cause.
    pub(super) fn failed(&self, mode: FailureMode, cause: &Cause) {
        if self.health.failed(mode, cause, self.probe_interval) {
            self.metrics.health(false, false);
            let state = self.health.state();
            let next_try = state.next_try.saturating_duration_since(Instant::now());
            tracing::warn!(
                target: "previewgate::upstream",
                endpoint = &*self.name,
                error = %cause,
                failures_in_a_row = state.failures,
                next_try_ms = millis(next_try),
                "endpoint is passed over: requests go to another one, if one is available"
            );
        }
    }
}
