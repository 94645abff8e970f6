//! The metrics of one gateway, as `GET /metrics` shows them.
//!
//! There is one struct for each subsystem, with the methods that the subsystem calls and the metric names as constants.
//! Label values are words of enums, or endpoints from the configuration. A client can choose none of them.

mod audit;
mod client_connections;
mod data_path;
mod domain;
mod durations;
mod families;
mod label_words;
mod process;
mod push;
mod store;
mod system;
mod tenants;
mod text_format;
mod upstream;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub use audit::{AuditMetrics, UnrecordedCallout};
pub use client_connections::{AcceptError, ClientConnectionMetrics, HandshakeFailure, ProxyHeaderFault};
pub use data_path::{ConnectionMetrics, OpenConnections, OpenGuard, RequestMetrics, ShedKind, Side, StatusClass};
pub use domain::{
    CalloutMetrics, DropCause, EventMetrics, EvictionCause, NumberDropCause, PreviewMetrics, SnapshotMetrics,
};
pub use process::{CertificateRole, LogMetrics, ProcessMetrics};
pub use push::{PushMetrics, PushOutcome, SignInHandling};
pub use store::{StoreMetrics, StoreOperation, StoreOutcome};
pub use tenants::TenantMetrics;
pub use upstream::{EndpointMetrics, UpstreamMetrics};

/// Every metric of one gateway. All methods take `&self`.
#[derive(Debug)]
pub struct Metrics {
    /// Decisions.
    pub callouts: CalloutMetrics,
    /// Decisions by tenant.
    pub tenants: TenantMetrics,
    /// Events.
    pub events: EventMetrics,
    /// Pushes.
    pub pushes: PushMetrics,
    /// Previews that are remembered.
    pub previews: PreviewMetrics,
    /// The snapshot that survives a restart.
    pub snapshots: SnapshotMetrics,
    /// The Redis that gateways share.
    pub store: StoreMetrics,
    /// The audit log.
    pub audit: AuditMetrics,
    /// Requests of clients.
    pub requests: RequestMetrics,
    /// Connections of clients that end before their first request.
    pub client_connections: ClientConnectionMetrics,
    /// Connections, both sides.
    pub connections: ConnectionMetrics,
    /// Requests to CC-Gateway or NSLB.
    pub upstream: UpstreamMetrics,
    /// The log itself.
    pub log: LogMetrics,
    /// Configuration, certificates, panics.
    pub process: ProcessMetrics,
    registry: Registry,
}

impl Metrics {
    /// The `Content-Type` of [`Metrics::encode_text`].
    pub const TEXT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
    /// The `Content-Type` of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All counters at zero, without endpoints, certificates and validation mode.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(system::System));
        Self {
            callouts: CalloutMetrics::register(&mut registry),
            tenants: TenantMetrics::register(&mut registry),
            events: EventMetrics::register(&mut registry),
            pushes: PushMetrics::register(&mut registry),
            previews: PreviewMetrics::register(&mut registry),
            snapshots: SnapshotMetrics::register(&mut registry),
            store: StoreMetrics::register(&mut registry),
            audit: AuditMetrics::register(&mut registry),
            requests: RequestMetrics::register(&mut registry),
            client_connections: ClientConnectionMetrics::register(&mut registry),
            connections: ConnectionMetrics::register(&mut registry),
            upstream: UpstreamMetrics::register(&mut registry),
            log: LogMetrics::register(&mut registry),
            process: ProcessMetrics::register(&mut registry),
            registry,
        }
    }

    /// The older text format of Prometheus, which every scraper reads.
    pub fn encode_text(&self) -> String {
        text_format::from_open_metrics(&self.encode())
    }

    /// OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::with_capacity(64 << 10);
        // Writing into a string does not fail. If it did, the scraper would notice the missing end mark.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
