//! Why connections and heads of clients did not become requests.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::StaticFamily;
use super::label_words::words;
use crate::failure::HeadFault;
use crate::label_enum;

const ACCEPT_ERRORS: &str = "previewgate_accept_errors";
const HANDSHAKE_FAILURES: &str = "previewgate_tls_handshake_failures";
const HEADS_REFUSED: &str = "previewgate_heads_refused";
const PROXY_HEADER_FAULTS: &str = "previewgate_proxy_header_faults";

label_enum! {
    /// Why a connection could not be accepted.
    pub enum AcceptError {
        /// The process or the system has no file descriptor left.
        Descriptors = "descriptors",
        /// The system has no memory left.
        Memory = "memory",
        /// The client has left before.
        Gone = "gone",
        /// Anything else.
        Other = "other",
    }
}

label_enum! {
    /// Why a TLS handshake with a client failed.
    pub enum HandshakeFailure {
        /// The client sent no certificate, and one is demanded.
        NoCertificate = "no_certificate",
        /// The client's certificate is not accepted.
        BadCertificate = "bad_certificate",
        /// The client does not accept the gateway's certificate.
        Distrusted = "distrusted",
        /// No version, cipher suite or group in common.
        Incompatible = "incompatible",
        /// The client speaks another protocol than HTTP/1.1 (ALPN).
        NoHttp = "no_http",
        /// The bytes are no TLS.
        NotTls = "not_tls",
        /// The client sent another alert.
        Alert = "alert",
        /// The client closed the connection.
        Closed = "closed",
        /// The handshake took longer than `limits.handshake_timeout`.
        Timeout = "timeout",
        /// Anything else.
        Other = "other",
    }
}

label_enum! {
    /// Why a connection has no usable PROXY header.
    pub enum ProxyHeaderFault {
        /// The peer is no trusted proxy.
        Untrusted = "untrusted_peer",
        /// The connection begins with something else.
        Missing = "missing",
        /// The header does not follow the protocol, or is for another transport than TCP.
        Malformed = "malformed",
        /// The header is longer than any real one.
        TooLong = "too_long",
        /// The connection ended within the header.
        Incomplete = "incomplete",
        /// The header was not complete in time.
        Timeout = "timeout",
    }
}

/// Connections that end before their first request.
#[derive(Debug)]
pub struct ClientConnectionMetrics {
    accept_errors: StaticFamily<Counter>,
    handshake_failures: StaticFamily<Counter>,
    heads_refused: StaticFamily<Counter>,
    proxy_header_faults: StaticFamily<Counter>,
}

impl ClientConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            accept_errors: StaticFamily::by("reason", words!(AcceptError), Counter::default),
            handshake_failures: StaticFamily::by("reason", words!(HandshakeFailure), Counter::default),
            heads_refused: StaticFamily::by("reason", words!(HeadFault), Counter::default),
            proxy_header_faults: StaticFamily::by("reason", words!(ProxyHeaderFault), Counter::default),
        };
        let help = "Connections that could not be accepted";
        registry.register(ACCEPT_ERRORS, help, metrics.accept_errors.clone());
        let help = "TLS handshakes with clients that failed";
        registry.register(HANDSHAKE_FAILURES, help, metrics.handshake_failures.clone());
        let help = "Request heads that were refused";
        registry.register(HEADS_REFUSED, help, metrics.heads_refused.clone());
        let help = "Connections closed for want of a usable PROXY header";
        registry.register(PROXY_HEADER_FAULTS, help, metrics.proxy_header_faults.clone());
        metrics
    }

    /// Counts a connection that could not be accepted.
    pub fn not_accepted(&self, error: AcceptError) {
        self.accept_errors.count(error.index());
    }

    /// Counts a TLS handshake that failed.
    pub fn no_handshake(&self, failure: HandshakeFailure) {
        self.handshake_failures.count(failure.index());
    }

    /// Counts a request head that was refused.
    pub fn head_refused(&self, fault: HeadFault) {
        self.heads_refused.count(fault.index());
    }

    /// Counts a connection without a usable PROXY header.
    pub fn no_proxy_header(&self, fault: ProxyHeaderFault) {
        self.proxy_header_faults.count(fault.index());
    }
}
