//! Connections of clients that never became requests: why.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::StaticFamily;
use super::label_words::words;
use crate::label_enum;

const PROXY_HEADER_FAULTS: &str = "previewgate_proxy_header_faults";

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
    proxy_header_faults: StaticFamily<Counter>,
}

impl ClientConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let proxy_header_faults = StaticFamily::by("reason", words!(ProxyHeaderFault), Counter::default);
        let help = "Connections closed for want of a usable PROXY header";
        registry.register(PROXY_HEADER_FAULTS, help, proxy_header_faults.clone());
        Self { proxy_header_faults }
    }

    /// Counts a connection without a usable PROXY header.
    pub fn no_proxy_header(&self, fault: ProxyHeaderFault) {
        self.proxy_header_faults.count(fault.index());
    }
}
