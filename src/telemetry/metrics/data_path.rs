//! Requests of clients, and connections on both sides.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations::duration_histogram;
use super::families::StaticFamily;
use super::label_words::words;
use crate::label_enum;
use crate::protocol::OperationName;

const REQUESTS: &str = "previewgate_requests";
const REQUEST_DURATION: &str = "previewgate_request_duration_seconds";
const REQUESTS_SHED: &str = "previewgate_requests_shed";
const HEAD_FAULTS: &str = "previewgate_head_faults";
const CONNECTIONS_OPEN: &str = "previewgate_connections_open";
const WEBSOCKETS_OPEN: &str = "previewgate_websockets_open";

label_enum! {
    /// The hundreds of an HTTP status.
    pub enum StatusClass {
        /// Informational; `101` ends a request.
        Informational = "1xx",
        /// Success, and every answer of the vendor's API.
        Success = "2xx",
        /// Redirection.
        Redirection = "3xx",
        /// The client's fault.
        ClientError = "4xx",
        /// The gateway's or the upstream's.
        ServerError = "5xx",
        /// No answer: the client was gone.
        None = "none",
    }
}

impl StatusClass {
    /// The class of a status; what is no status at all (600 and above) counts as a server's error.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(..200) => Self::Informational,
            Some(200..300) => Self::Success,
            Some(300..400) => Self::Redirection,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
        }
    }
}

label_enum! {
    /// What was turned away under load.
    pub enum ShedKind {
        /// An event poll, above `limits.held_polls`.
        Poll = "poll",
        /// Another request, above `limits.requests`.
        Request = "request",
        /// A connection, above `limits.connections`.
        Connection = "connection",
        /// A connection, above `limits.connections_per_client`.
        ClientConnection = "client_connection",
    }
}

/// Requests of clients.
#[derive(Debug)]
pub struct RequestMetrics {
    finished: StaticFamily<Counter>,
    duration: StaticFamily<Histogram>,
    shed: StaticFamily<Counter>,
    head_faults: Counter,
}

impl RequestMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let finished = StaticFamily::by_pair(
            ("operation", words!(OperationName)),
            ("status_class", words!(StatusClass)),
            Counter::default,
        );
        let duration = StaticFamily::by("operation", words!(OperationName), duration_histogram);
        let shed = StaticFamily::by("kind", words!(ShedKind), Counter::default);
        let head_faults = Counter::default();
        registry.register(REQUESTS, "Requests that came to an end", finished.clone());
        registry.register(REQUEST_DURATION, "From the request head to the end of the answer", duration.clone());
        registry.register(REQUESTS_SHED, "Turned away under load", shed.clone());
        registry.register(HEAD_FAULTS, "Request heads that were refused", head_faults.clone());
        Self { finished, duration, shed, head_faults }
    }

    /// A request came to an end; `status` is `None` when the client never got one.
    pub fn finished(&self, operation: OperationName, status: Option<u16>, duration: Duration) {
        self.finished.count(operation.index() * StatusClass::ALL.len() + StatusClass::of(status).index());
        self.duration.observe(operation.index(), duration.as_secs_f64());
    }

    /// Something was turned away under load.
    pub fn shed(&self, kind: ShedKind) {
        self.shed.count(kind.index());
    }

    /// A request head was refused: it could be read in more than one way, or not at all.
    pub fn head_fault(&self) {
        self.head_faults.inc();
    }
}

label_enum! {
    /// The side of the gateway.
    pub enum Side {
        /// Towards clients.
        Downstream = "downstream",
        /// Towards CC-Gateway or NSLB.
        Upstream = "upstream",
    }
}

/// Connections that are open now.
#[derive(Debug)]
pub struct ConnectionMetrics {
    /// From clients.
    pub downstream: OpenConnections,
    /// To endpoints.
    pub upstream: OpenConnections,
    /// WebSockets, which nobody validates.
    pub websockets: OpenConnections,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = StaticFamily::by("side", words!(Side), Gauge::default);
        let side = |side: Side| OpenConnections(open.at(side.index()).cloned().unwrap_or_default());
        let websockets = Gauge::default();
        let metrics = Self {
            downstream: side(Side::Downstream),
            upstream: side(Side::Upstream),
            websockets: OpenConnections(websockets.clone()),
        };
        registry.register(CONNECTIONS_OPEN, "Connections that are open now", open);
        registry.register(WEBSOCKETS_OPEN, "WebSockets that are open now, unvalidated", websockets);
        metrics
    }
}

/// Connections of one side.
#[derive(Clone, Debug)]
pub struct OpenConnections(Gauge);

impl OpenConnections {
    /// Counts a connection for as long as the guard lives.
    pub fn enter(&self) -> OpenGuard {
        self.0.inc();
        OpenGuard(self.0.clone())
    }

    /// How many are open.
    pub fn open(&self) -> i64 {
        self.0.get()
    }
}

/// One open connection.
#[derive(Debug)]
#[must_use = "a connection counts only as long as its guard lives"]
pub struct OpenGuard(Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
