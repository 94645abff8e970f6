//! What a verification says about one chain.

use crate::audit::digest::Digest;
use crate::preview::Timestamp;

/// The result of reading a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainSummary {
    /// Its name.
    pub instance: String,
    /// Its segments that were read.
    pub segments: usize,
    /// Segments of which only the last checkpoint is there.
    pub pruned: usize,
    /// The first and the last sequence number that were read.
    pub lines: Option<(u64, u64)>,
    /// The times of these lines.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The last line that a signed checkpoint covers.
    pub sealed: Option<u64>,
    /// When that checkpoint was signed.
    pub sealed_at: Option<Timestamp>,
    /// The last line that an anchor covers.
    pub anchored: Option<u64>,
    /// The last segment is complete, and the gateway ended with it.
    pub closed: bool,
    /// A gateway writes the chain at this moment.
    pub live: bool,
    /// The end of the pruned segments, if there are any.
    pub pruned_before: Option<Timestamp>,
    /// How long the gateway promised to keep segments.
    pub retention_days: u64,
    /// The longest time between two checkpoints.
    pub checkpoint_interval_ms: u64,
    /// The time of the first line that no checkpoint covers, and the latest time since.
    pub unsealed: Option<(Timestamp, Timestamp)>,
    /// The digest of the last line that was read.
    pub head: Option<Digest>,
    /// The last signed note that was read.
    pub last_note: Option<String>,
}
