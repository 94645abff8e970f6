//! Who sent a request, and under which names it is found again. Decision and access lines have the same fields for it.

use std::fmt::Display;

use super::line::FieldSink;
use super::sanitized;

/// The longest subject of a certificate in a log line, in characters.
const MAX_SUBJECT: usize = 256;
/// The longest request ID of a client in a log line.
const MAX_REQUEST_ID: usize = 128;

/// Who sent a request.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The gateway's own name for the request. No two requests share it, in any instance.
    pub id: &'a str,
    /// The client's name for the request if it has one, otherwise `id`. The client receives it too.
    pub request_id: &'a str,
    /// The trace ID, from `traceparent`.
    pub trace_id: Option<&'a dyn Display>,
    /// The client's address: behind trusted proxies, what they say.
    pub client: &'a str,
    /// The tenant, if the configuration names tenants.
    pub tenant: Option<&'a str>,
    /// The subject of the client's certificate.
    pub subject: Option<&'a str>,
    /// SHA-256 of the client's certificate.
    pub sha256: Option<&'a str>,
}

impl Caller<'_> {
    pub(super) fn write(&self, fields: &mut impl FieldSink) {
        fields.string("id", self.id);
        fields.some_chosen("request_id", Some(self.request_id), MAX_REQUEST_ID);
        fields.some_display("trace_id", self.trace_id);
        fields.string("client", self.client);
        fields.some_string("tenant", self.tenant);
        fields.some_display("client_subject", self.subject.map(|subject| sanitized(subject, MAX_SUBJECT)));
        fields.some_string("client_sha256", self.sha256);
    }
}

#[cfg(test)]
impl Caller<'_> {
    /// For tests: a request with every name, without a certificate.
    pub(crate) fn sample() -> Caller<'static> {
        Caller {
            id: "64fd9ca90e103750-3",
            request_id: "0f3c",
            trace_id: Some(&"4bf92f3577b34da6a3ce929d0e0e4736"),
            client: "192.0.2.7:50123",
            tenant: None,
            subject: None,
            sha256: None,
        }
    }
}
