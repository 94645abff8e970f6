//! Names for requests, unique among all gateways.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bounded_text::BoundedText;
use crate::preview::RecordId;

/// A [`RequestId`] as text: two numbers of 64 bits, and a hyphen.
pub(super) type IdText = BoundedText<33>;

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
        f.write_str(self.text().as_str())
    }
}

impl RequestId {
    /// The ID of the audit record of the request's callout. Both have the same form.
    pub(super) fn record(self) -> RecordId {
        RecordId { run: self.process, number: self.number }
    }

    /// As text: 16 hexadecimal digits, a dash, and as many digits as the number has. Each request needs it at least once,
    /// so it is written without the machinery of `format!`.
    pub(super) fn text(self) -> IdText {
        let mut text = IdText::default();
        text.push_hex(self.process, 16);
        text.push(b'-');
        text.push_hex(self.number, self.number.checked_ilog2().unwrap_or_default() / 4 + 1);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_two_hexadecimal_numbers() {
        for (process, number, text) in [
            (0x64fd_9ca9_0e10_3750, 3, "64fd9ca90e103750-3"),
            (1, 0, "0000000000000001-0"),
            (0xabc, 0x10, "0000000000000abc-10"),
            (u64::MAX, 0xfff, "ffffffffffffffff-fff"),
            (u64::MAX, u64::MAX, "ffffffffffffffff-ffffffffffffffff"),
        ] {
            assert_eq!(RequestId { process, number }.to_string(), text);
            assert_eq!(text, format!("{process:016x}-{number:x}"));
        }
    }
}
