//! The causes of failed requests, and who is to blame: the words that the upstream client, the gateway, the access log and
//! the metrics share. This module imports no other.

use crate::label_enum;

label_enum! {
    /// The party that caused a request to fail.
    pub enum Blame {
        /// The request did not fail.
        None = "none",
        /// The client sent an invalid request, or closed its connection too early.
        Client = "client",
        /// The gateway is overloaded or misconfigured, or has a defect.
        Gateway = "gateway",
        /// The upstream was unreachable, or did not answer with a complete HTTP response.
        Upstream = "upstream",
    }
}

label_enum! {
    /// The kind of failure of an attempt at an endpoint.
    pub enum FailureKind {
        /// The endpoint's name has no address.
        Resolve = "resolve",
        /// The connection was refused, or the endpoint is unreachable.
        Connect = "connect",
        /// The connection was not established within `upstream.connect_timeout`.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The endpoint reset the connection.
        Reset = "reset",
        /// There was no response within `upstream.response_timeout`.
        Timeout = "timeout",
        /// The response was not HTTP.
        Protocol = "protocol",
        /// The endpoint closed the connection before the response was complete.
        Closed = "closed",
        /// The client stopped sending its request.
        Aborted = "aborted",
    }
}
