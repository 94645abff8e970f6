//! How far the chain has come: the writer sets it, operators read it on the status page.

use std::sync::{Mutex, PoisonError};

use super::digest::Digest;
use crate::preview::Timestamp;

/// The end of the chain, and its last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The sequence number of the last line.
    pub seq: u64,
    /// The digest of the last line: the head of the chain.
    pub head: Digest,
    /// The last signed checkpoint of this process.
    pub checkpoint: Option<Sealed>,
}

/// A signed checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The last line that it covers.
    pub seq: u64,
    /// When it was signed.
    pub at: Timestamp,
}

/// Shared by the writer and those who ask. `None` until the first line is written.
#[derive(Debug, Default)]
pub(super) struct SharedProgress(Mutex<Option<Progress>>);

impl SharedProgress {
    /// The chain ends with this line.
    pub(super) fn reached(&self, seq: u64, head: Digest) {
        self.change(|before| Progress { seq, head, checkpoint: before.and_then(|before| before.checkpoint) });
    }

    /// The chain is sealed up to this line.
    pub(super) fn sealed(&self, sealed: Sealed) {
        self.change(|before| {
            let (seq, head) = before.map_or((sealed.seq, Digest::ZERO), |before| (before.seq, before.head));
            Progress { seq, head, checkpoint: Some(sealed) }
        });
    }

    pub(super) fn now(&self) -> Option<Progress> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, next: impl FnOnce(Option<Progress>) -> Progress) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = Some(next(*progress));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_stays_the_last_one_while_the_chain_grows() {
        let progress = SharedProgress::default();
        assert_eq!(progress.now(), None);
        progress.reached(1, Digest::of(b"1"));
        let checkpoint = Sealed { seq: 1, at: Timestamp(5) };
        progress.sealed(checkpoint);
        progress.reached(2, Digest::of(b"2"));
        let expected = Progress { seq: 2, head: Digest::of(b"2"), checkpoint: Some(checkpoint) };
        assert_eq!(progress.now(), Some(expected));
    }
}
