//! Which numbers of a preview were called, for `previews.calls_per_number`.
//!
//! The count belongs to the preview: it is kept, shared and forgotten with it. Each call has a name, so that a call that is
//! reported twice, by a journal and a snapshot or by two attempts to write, counts once, and so that exactly this call can be
//! given back.

use super::{DialedNumber, RecordId, Timestamp};

/// Calls that are kept for one preview: twice as many as it can have numbers.
pub const MAX_CALLS: usize = 256;
/// Memory for a call beside the characters of its number.
const CALL_OVERHEAD: usize = 64;

/// A call that was forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CountedCall {
    /// The number.
    pub number: DialedNumber,
    /// The name of its request, and of its decision in the audit log.
    pub id: RecordId,
    /// When it was counted.
    pub at: Timestamp,
}

/// The calls of one preview, the oldest first. Empty without `previews.calls_per_number`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCount(Vec<CountedCall>);

impl CallCount {
    /// Counts a call. The same call counts once.
    pub fn add(&mut self, call: CountedCall) {
        if self.0.iter().all(|known| known.id != call.id) && !self.is_full() {
            self.0.push(call);
        }
    }

    /// Whether `number` was called `calls_per_number` times; 0 is no limit. A call that finds no room to be counted is one
    /// too many.
    pub fn is_used(&self, number: &DialedNumber, calls_per_number: u32) -> bool {
        calls_per_number > 0 && (self.is_full() || self.of(number).count() >= calls_per_number as usize)
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_CALLS
    }

    /// Takes back a call that was not sent.
    pub fn give_back(&mut self, id: RecordId) {
        self.0.retain(|call| call.id != id);
    }

    /// The calls of `number`, compared as the rule compares numbers.
    pub fn of<'c>(&'c self, number: &'c DialedNumber) -> impl Iterator<Item = &'c CountedCall> {
        self.0.iter().filter(move |call| call.number == *number)
    }

    /// All calls, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &CountedCall> {
        self.0.iter()
    }

    /// Whether no call was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the calls that were counted for an earlier announcement of the same preview.
    pub(super) fn join(&mut self, earlier: CallCount) {
        let later = std::mem::replace(self, earlier);
        later.0.into_iter().for_each(|call| self.add(call));
    }

    /// Forgets calls before `moment`: their preview is over.
    pub(crate) fn forget_before(&mut self, moment: Timestamp) {
        self.0.retain(|call| call.at >= moment);
    }

    /// About the memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|call| CALL_OVERHEAD + call.number.reveal().len()).sum()
    }
}

impl FromIterator<CountedCall> for CallCount {
    fn from_iter<T: IntoIterator<Item = CountedCall>>(calls: T) -> Self {
        let mut count = Self::default();
        calls.into_iter().for_each(|call| count.add(call));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: &str, id: u64, at: u64) -> CountedCall {
        CountedCall { number: DialedNumber::new(number), id: RecordId { run: 1, number: id }, at: Timestamp(at) }
    }

    fn is_used(count: &CallCount, number: &str, limit: u32) -> bool {
        count.is_used(&DialedNumber::new(number), limit)
    }

    #[test]
    fn each_call_counts_once_for_exactly_its_number() {
        let mut count: CallCount = [call("100", 1, 1), call("100", 1, 1), call("100", 2, 2)].into_iter().collect();
        assert!(is_used(&count, "100", 2) && !is_used(&count, "100", 3) && !is_used(&count, "100", 0));
        for other in ["10", "1000", "+100", "100 ", ""] {
            assert!(!is_used(&count, other, 1), "{other:?}");
        }
        count.give_back(RecordId { run: 1, number: 2 });
        count.give_back(RecordId { run: 2, number: 1 });
        assert!(is_used(&count, "100", 1) && !is_used(&count, "100", 2) && !count.is_empty());
        count.give_back(RecordId { run: 1, number: 1 });
        assert!(count.is_empty());
    }

    #[test]
    fn what_finds_no_room_to_be_counted_is_one_too_many() {
        let mut count: CallCount = (0..MAX_CALLS as u64).map(|id| call("100", id, 1)).collect();
        assert!(is_used(&count, "200", 1) && !is_used(&count, "200", 0));
        count.add(call("200", 9999, 1));
        assert_eq!(count.iter().count(), MAX_CALLS);
        count.give_back(RecordId { run: 1, number: 0 });
        assert!(!is_used(&count, "200", 1));
    }

    #[test]
    fn calls_before_a_moment_are_forgotten_and_earlier_ones_join() {
        let count = |ids: &[u64]| ids.iter().map(|id| call("1", *id, *id)).collect::<CallCount>();
        let ids = |count: &CallCount| count.iter().map(|call| call.id.number).collect::<Vec<_>>();
        let mut later = count(&[1, 2, 3]);
        later.forget_before(Timestamp(2));
        assert_eq!(ids(&later), [2, 3]);
        later.join(count(&[1, 2]));
        assert_eq!(ids(&later), [1, 2, 3]);
    }
}
