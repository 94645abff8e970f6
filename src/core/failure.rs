//! The causes of failed requests, and who is to blame: the words that the upstream client, the gateway, the access log and
//! the metrics share.

use std::io;

use rustix::io::Errno;

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
        /// This machine has no descriptor, port or memory left for the connection. The endpoint is not at fault.
        LocalResources = "local_resources",
    }
}

/// Whether the system refused because this machine has no descriptors, local ports or memory left. Such an error says
/// nothing about the peer.
pub fn is_local_exhaustion(error: &io::Error) -> bool {
    // `raw_os_error` and not `kind`: the kinds of most of them are not stable.
    error.raw_os_error().map(Errno::from_raw_os_error).is_some_and(|errno| {
        [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM].contains(&errno)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_of_this_machine_is_distinguished_from_a_fault_of_the_peer() {
        let is_local = |errno: Errno| is_local_exhaustion(&errno.into());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM] {
            assert!(is_local(errno), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::PIPE] {
            assert!(!is_local(errno), "{errno}");
        }
        assert!(!is_local_exhaustion(&io::ErrorKind::OutOfMemory.into()), "no error of the system");
    }
}

label_enum! {
    /// Why a request head was refused. The refusal is answered, and the connection closed.
    pub enum HeadFault {
        /// More bytes than `limits.head_size`.
        TooLarge = "head_too_large",
        /// More than 100 fields.
        TooManyFields = "too_many_header_fields",
        /// The head took longer than `limits.head_timeout` from its first byte to its last.
        Timeout = "head_timeout",
        /// A line that does not end in CR LF, or a lone CR.
        LineEnd = "bad_line_end",
        /// Not `METHOD SP target SP HTTP/1.1` (or 1.0).
        RequestLine = "bad_request_line",
        /// A target that is not a path, or has characters that are not allowed in a URI.
        Target = "bad_request_target",
        /// A field name that is not a token, a folded line, or blanks before the colon.
        FieldName = "bad_header_name",
        /// Control characters in a field value, or non-ASCII characters in a field that decides something.
        FieldValue = "bad_header_value",
        /// No `Host`, more than one, or a value that cannot be a host.
        Host = "bad_host",
        /// A field that may occur once occurs twice.
        Repeated = "repeated_header",
        /// A length that is not a plain decimal number, or a length beside a transfer coding.
        Length = "bad_content_length",
        /// A transfer coding other than exactly `chunked`.
        Coding = "bad_transfer_encoding",
    }
}
