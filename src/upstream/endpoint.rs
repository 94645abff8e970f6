//! One upstream address and how it has been doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use crate::config;
use crate::telemetry::metrics::{EndpointMetrics, UpstreamMetrics};
use crate::tls::TlsError;

/// Failures to connect, one after the other, before an endpoint is passed over.
const FAILURES_TO_EJECT: u32 = 1;
/// How long it is passed over at first; twice as long after each further failure.
const FIRST_EJECTION: Duration = Duration::from_secs(1);
/// How long it is passed over at most.
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// One upstream address, shared by all workers.
pub struct Endpoint {
    /// `scheme://host:port`, for logs and metrics.
    pub name: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` that the upstream sees.
    pub(super) authority: HeaderValue,
    /// The name to verify, for an `https` endpoint.
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) metrics: Arc<EndpointMetrics>,
    health: Health,
}

/// Passive: learnt from the connections that requests need.
struct Health {
    created: Instant,
    ejected: AtomicBool,
    failures: AtomicU32,
    /// Milliseconds after `created`.
    retry_at: AtomicU64,
}

impl Endpoint {
    pub(super) fn new(
        address: &config::Endpoint,
        server_name: Option<&str>,
        metrics: &UpstreamMetrics,
    ) -> Result<Self, TlsError> {
        let name: Arc<str> = address.to_string().into();
        let authority = name.split_once("://").map_or(&*name, |(_, authority)| authority);
        let authority = HeaderValue::from_str(authority).map_err(|_| TlsError::ServerName(name.to_string()))?;
        let server_name = match address.scheme {
            config::Scheme::Http => None,
            config::Scheme::Https => {
                let verified = server_name.unwrap_or(&address.host).to_owned();
                Some(ServerName::try_from(verified.clone()).map_err(|_| TlsError::ServerName(verified))?)
            }
        };
        let metrics = metrics.endpoint(&name);
        metrics.healthy(true);
        let health = Health {
            created: Instant::now(),
            ejected: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            retry_at: AtomicU64::new(0),
        };
        Ok(Self { name, host: address.host.clone(), port: address.port, authority, server_name, metrics, health })
    }

    /// Whether the endpoint should be tried in its turn. One that is ejected gets its next chance when the time has
    /// come, or when nothing else is left.
    pub fn is_available(&self) -> bool {
        !self.health.ejected.load(Ordering::Relaxed) || self.now() >= self.health.retry_at.load(Ordering::Relaxed)
    }

    /// A connection was established.
    pub(super) fn connected(&self) {
        self.health.failures.store(0, Ordering::Relaxed);
        if self.health.ejected.swap(false, Ordering::Relaxed) {
            self.metrics.healthy(true);
            tracing::info!(target: "previewgate::upstream", endpoint = &*self.name, "endpoint is back");
        }
    }

    /// No connection could be established.
    pub(super) fn unreachable(&self, why: &dyn std::fmt::Display) {
        let failures = self.health.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < FAILURES_TO_EJECT {
            return;
        }
        let doublings = (failures - FAILURES_TO_EJECT).min(8);
        let pause = FIRST_EJECTION.saturating_mul(1 << doublings).min(LONGEST_EJECTION);
        let retry_at = self.now().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self.health.retry_at.store(retry_at, Ordering::Relaxed);
        if !self.health.ejected.swap(true, Ordering::Relaxed) {
            self.metrics.healthy(false);
            tracing::warn!(target: "previewgate::upstream", endpoint = &*self.name, error = %why, "endpoint is passed over");
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.health.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
