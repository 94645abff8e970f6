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
const OWN_DURATION: &str = "previewgate_own_duration_seconds";
const REQUESTS_SHED: &str = "previewgate_requests_shed";
const POLLS_DELAYED: &str = "previewgate_polls_delayed";
const HEAD_FAULTS: &str = "previewgate_head_faults";
const CONNECTIONS_OPEN: &str = "previewgate_connections_open";
const WEBSOCKETS_OPEN: &str = "previewgate_websockets_open";

label_enum! {
    /// The class of an HTTP status.
    pub enum StatusClass {
        /// Informational, such as 101 for a WebSocket.
        Informational = "1xx",
        /// Success. Every response of the vendor's API has this class.
        Success = "2xx",
        /// Redirection.
        Redirection = "3xx",
        /// Client error.
        ClientError = "4xx",
        /// Server error, of the gateway or the upstream.
        ServerError = "5xx",
        /// No response: the client left before.
        None = "none",
    }
}

impl StatusClass {
    /// The class of a status. 600 and above count as server errors.
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
    /// The kind of request or connection that was refused under load.
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
    own: StaticFamily<Histogram>,
    shed: StaticFamily<Counter>,
    polls_delayed: Counter,
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
        let own = StaticFamily::by("operation", words!(OperationName), duration_histogram);
        let shed = StaticFamily::by("kind", words!(ShedKind), Counter::default);
        let (polls_delayed, head_faults) = (Counter::default(), Counter::default());
        let help = "Polls that waited because their agent polls too often";
        registry.register(POLLS_DELAYED, help, polls_delayed.clone());
        registry.register(REQUESTS, "Requests that came to an end", finished.clone());
        registry.register(REQUEST_DURATION, "From the request head to the end of the answer", duration.clone());
        let help =
            "From the request head to the response head, without the time that the upstream or the application took";
        registry.register(OWN_DURATION, help, own.clone());
        registry.register(REQUESTS_SHED, "Turned away under load", shed.clone());
        registry.register(HEAD_FAULTS, "Request heads that were refused", head_faults.clone());
        Self { finished, duration, own, shed, polls_delayed, head_faults }
    }

    /// Counts a finished request; `status` is `None` if the client received none.
    pub fn finished(&self, operation: OperationName, status: Option<u16>, duration: Duration) {
        self.finished.count(operation.index() * StatusClass::ALL.len() + StatusClass::of(status).index());
        self.duration.observe(operation.index(), duration.as_secs_f64());
    }

    /// Records the gateway's own part of the time to a response head.
    pub fn own_part(&self, operation: OperationName, duration: Duration) {
        self.own.observe(operation.index(), duration.as_secs_f64());
    }

    /// Counts a poll that had to wait for its turn.
    pub fn poll_delayed(&self) {
        self.polls_delayed.inc();
    }

    /// Counts a refusal under load.
    pub fn shed(&self, kind: ShedKind) {
        self.shed.count(kind.index());
    }

    /// Counts a request head that was refused as ambiguous or malformed.
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
    /// Connections from clients.
    pub downstream: OpenConnections,
    /// Connections to endpoints.
    pub upstream: OpenConnections,
    /// WebSockets. Their content is not validated.
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
    /// Counts a connection until the guard is dropped.
    pub fn enter(&self) -> OpenGuard {
        self.0.inc();
        OpenGuard(self.0.clone())
    }

    /// The number of open connections.
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
