//! The order in which things happen inside one gateway.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::preview::{Clock, Timestamp};

/// An instant in the life of one gateway, comparable with every other instant of the same process.
///
/// Milliseconds are too coarse for that: a sign-in and the first poll of the new session can fall into the same
/// millisecond. A moment therefore also carries a sequence number, which is different for each moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    sequence: u64,
    at: Timestamp,
}

impl Moment {
    /// The time by the gateway's clock.
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// Whether this moment came before `other`.
    pub fn is_before(self, other: Moment) -> bool {
        self.sequence < other.sequence
    }
}

/// Issues moments in order.
#[derive(Debug, Default)]
pub(super) struct Sequence(AtomicU64);

impl Sequence {
    /// A new moment, later than every moment issued before.
    pub(super) fn next(&self, clock: &dyn Clock) -> Moment {
        Moment { sequence: self.0.fetch_add(1, Ordering::Relaxed), at: clock.now() }
    }
}
