//! Names for requests that come without one.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// Makes request IDs: 64 random bits for the process and a counter. So they are unique among all instances, and sort in
/// the order of arrival within one.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// A new series.
    pub fn new() -> Self {
        let mut bits = [0; 8];
        // Without randomness no TLS works either. Zeros would make IDs that are not unique, which does no harm.
        let _ = aws_lc_rs::rand::fill(&mut bits);
        Self { process: u64::from_ne_bytes(bits), next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> HeaderValue {
        let id = format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}
