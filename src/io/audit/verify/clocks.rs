//! The clocks of several gateways, as far as their records show how much they differ.
//!
//! A decision names the record of its preview, and the platform reports on a call after its callout. So each of these records
//! was certainly made after the one that it follows from. If it has the earlier time, the clock of its gateway is behind. The
//! age of a preview in a decision is compared with the times of the two records as well.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::facts::{DecisionFact, Place, ShownFact};
use super::finding::{Findings, Grade};
use super::rule::{CLOCK_TOLERANCE, clock_skew};
use crate::audit::record::{Call, Outcome};
use crate::preview::{RecordId, Timestamp};

/// How long a callout waits for the first report on its call, and the other way round.
const WINDOW_MS: u64 = 10 * 60 * 1000;

/// What the records show about the clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// By the two chains: the pair of records that shows the greatest difference.
    differences: BTreeMap<(usize, usize), Difference>,
    calls: Calls,
}

/// Two records whose times show that two clocks differ.
#[derive(Debug)]
struct Difference {
    by: Duration,
    earlier: Place,
    later: Place,
}

impl Clocks {
    /// The record at `later` was certainly made after the one at `earlier`.
    pub(super) fn follows(&mut self, earlier: &Place, later: &Place) {
        if later.at < earlier.at {
            self.differ(earlier, later, earlier.at.since(later.at));
        }
    }

    /// The times of these records are wrong by so much, compared with each other.
    pub(super) fn differ(&mut self, earlier: &Place, later: &Place, by: Duration) {
        let pair = pair(earlier, later);
        let is_more = self.differences.get(&pair).is_none_or(|known| known.by < by);
        if earlier.chain != later.chain && is_more {
            self.differences.insert(pair, Difference { by, earlier: earlier.clone(), later: later.clone() });
        }
    }

    /// Compares a decision with the announcements of its previews.
    pub(super) fn compare<'s>(&mut self, decision: &DecisionFact, find: impl Fn(RecordId) -> Option<&'s ShownFact>) {
        for judged in &decision.previews {
            let shown = judged.shown.iter().filter_map(|id| find(*id));
            shown.clone().for_each(|fact| self.follows(&fact.place, &decision.place));
            if let Some(skew) = clock_skew(decision, judged, shown) {
                self.differ(&skew.shown.place, &decision.place, skew.by());
            }
        }
    }

    /// The upstream answered a callout with this outcome; `decision` is the record of the callout.
    pub(super) fn answered(&mut self, decision: &Place, outcome: &Outcome<'_>) {
        let Some(call_id) = &outcome.call_id else { return };
        if let Some((decision, report)) = self.calls.note(call_id, decision, |call| &mut call.decision) {
            self.follows(&decision, &report);
        }
    }

    /// The platform reported on a call.
    pub(super) fn reported(&mut self, place: &Place, call: &Call<'_>) {
        if let Some((decision, report)) = self.calls.note(&call.call_id, place, |call| &mut call.report) {
            self.follows(&decision, &report);
        }
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        self.calls.forget_before(Timestamp(now.0.saturating_sub(WINDOW_MS)));
    }

    /// How much two records must be apart before their times prove which one came first.
    pub(super) fn doubt(&self, one: &Place, other: &Place) -> Duration {
        if one.chain == other.chain {
            return Duration::ZERO;
        }
        let known = self.differences.get(&pair(one, other)).map(|difference| difference.by);
        CLOCK_TOLERANCE + known.unwrap_or_default()
    }

    /// Reports each two clocks that differ too much.
    pub(super) fn report(&self, findings: &mut Findings) {
        for Difference { by, earlier, later } in self.differences.values().filter(|known| known.by > CLOCK_TOLERANCE) {
            let seconds = by.as_millis().div_ceil(1000);
            let message = format!(
                "belongs to {} seq {}, and the clocks of these two gateways differ by about {seconds} s: times do not \
                 prove which of their records came first",
                earlier.file, earlier.seq
            );
            findings.add(Grade::Incomplete, &*later.file, Some(later.seq), message);
        }
    }
}

fn pair(one: &Place, other: &Place) -> (usize, usize) {
    (one.chain.min(other.chain), one.chain.max(other.chain))
}

/// Callouts and the first reports on their calls, by the platform's name for the call.
#[derive(Debug, Default)]
struct Calls {
    known: HashMap<String, KnownCall>,
    order: VecDeque<(Timestamp, String)>,
}

#[derive(Debug, Default)]
struct KnownCall {
    decision: Option<Place>,
    report: Option<Place>,
}

impl Calls {
    /// Takes one of the two records; returns both when both are known.
    fn note(
        &mut self,
        call_id: &str,
        place: &Place,
        part: impl FnOnce(&mut KnownCall) -> &mut Option<Place>,
    ) -> Option<(Place, Place)> {
        let known = self.known.entry(call_id.to_owned()).or_default();
        let part = part(known);
        if part.is_some() {
            return None;
        }
        *part = Some(place.clone());
        self.order.push_back((place.at, call_id.to_owned()));
        known.decision.clone().zip(known.report.clone())
    }

    fn forget_before(&mut self, oldest: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| *at < oldest) {
            let Some((_, call_id)) = self.order.pop_front() else { break };
            self.known.remove(&call_id);
        }
    }
}
