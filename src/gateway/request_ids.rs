//! Names for requests, unique among all gateways.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use crate::preview::RecordId;

/// Maximum length of an ID, in bytes: two numbers of 64 bits and a hyphen.
const MAX_LENGTH: usize = 33;

/// Makes request IDs: 64 random bits for the process and a counter. So they are unique among all instances, and sort in
/// the order of arrival within one.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

/// The gateway's own name for a request. Unlike the client's `X-Request-Id`, no two requests share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    process: u64,
    number: u64,
}

impl RequestIds {
    /// A new series.
    pub fn new() -> Self {
        let mut bits = [0; 8];
        // If the system has no random numbers, IDs start with zeros and are not unique. Then TLS does not work either.
        let _ = aws_lc_rs::rand::fill(&mut bits);
        Self { process: u64::from_ne_bytes(bits), next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> RequestId {
        RequestId { process: self.process, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.process, self.number)
    }
}

impl RequestId {
    /// The ID of the audit record of the request's callout. Both have the same form.
    pub(super) fn record(self) -> RecordId {
        RecordId { run: self.process, number: self.number }
    }

    /// As the value of a header field.
    pub(super) fn to_header(self) -> HeaderValue {
        // `to_string` would grow the text twice.
        let mut text = String::with_capacity(MAX_LENGTH);
        let _ = write!(text, "{self}");
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"))
    }
}
