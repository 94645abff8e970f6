//! How a gateway recognises that Redis has lost writes.

/// Which life of Redis this is, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incarnation {
    /// Random, made by the first gateway that found none, or that missed its own last heartbeat.
    pub(super) epoch: Vec<u8>,
    /// The number of this gateway's heartbeats.
    pub(super) number: u64,
}

impl Incarnation {
    /// Whether writes may have been lost since `earlier`.
    pub(super) fn has_lost_writes_since(&self, earlier: &Incarnation) -> bool {
        self.epoch != earlier.epoch || self.number <= earlier.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_began_anew_or_went_back_has_lost_writes() {
        let at = |epoch: &[u8], number| Incarnation { epoch: epoch.to_vec(), number };
        let known = at(b"a", 10);
        for (found, expected) in
            [(at(b"a", 11), false), (at(b"b", 11), true), (at(b"a", 10), true), (at(b"", 99), true)]
        {
            assert_eq!(found.has_lost_writes_since(&known), expected, "{found:?}");
        }
    }
}
