//! What the log says about previews that can still be called: a log of any length takes the memory of the time for which
//! previews are valid.

use std::collections::{HashMap, VecDeque};

use super::facts::{DecisionFact, EndFact, ShownFact};
use super::rule::CLOCK_TOLERANCE;
use crate::audit::record::{Ended, Shown};
use crate::preview::{RecordId, Timestamp};

/// Kept beyond the longest validity of a preview.
const MARGIN_MS: u64 = 60 * 60 * 1000;
/// As long as no configuration was read.
const DEFAULT_TTL_MS: u64 = 30 * 60 * 1000;

/// Announcements and ends of the last time.
#[derive(Debug)]
pub(super) struct Recent {
    shown: HashMap<RecordId, ShownFact>,
    ends: HashMap<RecordId, EndFact>,
    order: VecDeque<(Timestamp, RecordId)>,
    /// Ends of each agent's previews: they count for what other gateways showed, too.
    agents: HashMap<u32, Vec<EndFact>>,
    ended_agents: VecDeque<(Timestamp, u32)>,
    ttl_ms: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            shown: HashMap::new(),
            ends: HashMap::new(),
            order: VecDeque::new(),
            agents: HashMap::new(),
            ended_agents: VecDeque::new(),
            ttl_ms: DEFAULT_TTL_MS,
        }
    }
}

impl Recent {
    /// Previews may be valid for this long.
    pub(super) fn expect_ttl(&mut self, ttl_ms: u64) {
        self.ttl_ms = self.ttl_ms.max(ttl_ms);
    }

    pub(super) fn show(&mut self, shown: &Shown<'_>, fact: ShownFact) {
        self.order.push_back((fact.place.at, shown.id));
        self.shown.insert(shown.id, fact);
    }

    pub(super) fn end(&mut self, ended: &Ended<'_>, fact: &EndFact) {
        for id in &ended.shown {
            self.order.push_back((fact.place.at, *id));
            self.ends.entry(*id).or_insert_with(|| fact.clone());
        }
        self.ended_agents.push_back((fact.place.at, ended.agent));
        self.agents.entry(ended.agent).or_default().push(fact.clone());
    }

    /// Forgets what is too old to matter at `now`; returns before which time that is.
    pub(super) fn forget(&mut self, now: Timestamp) -> Timestamp {
        let oldest = Timestamp(now.0.saturating_sub(self.ttl_ms.saturating_add(MARGIN_MS)));
        while self.order.front().is_some_and(|(at, _)| *at < oldest) {
            let Some((_, id)) = self.order.pop_front() else { break };
            if self.shown.get(&id).is_some_and(|fact| fact.place.at < oldest) {
                self.shown.remove(&id);
            }
            if self.ends.get(&id).is_some_and(|fact| fact.place.at < oldest) {
                self.ends.remove(&id);
            }
        }
        while self.ended_agents.front().is_some_and(|(at, _)| *at < oldest) {
            let Some((_, agent)) = self.ended_agents.pop_front() else { break };
            if let Some(ends) = self.agents.get_mut(&agent) {
                ends.retain(|end| end.place.at >= oldest);
                if ends.is_empty() {
                    self.agents.remove(&agent);
                }
            }
        }
        oldest
    }

    pub(super) fn find(&self, id: RecordId) -> Option<&ShownFact> {
        self.shown.get(&id)
    }

    /// The end of the preview that a callout was forwarded by, if it was over before.
    pub(super) fn ended_before(&self, decision: &DecisionFact) -> Option<Over<'_>> {
        let basis = decision.previews.iter().filter(|preview| Some(preview.control_id) == decision.control_id);
        let listing = basis.flat_map(|preview| &preview.shown).filter_map(|id| Some((*id, self.find(*id)?)));
        let (id, shown) = listing
            .filter(|(_, fact)| fact.lists(&decision.called) == Some(true))
            .max_by_key(|(_, fact)| fact.place.at)?;
        let of_agent = self.agents.get(&shown.agent).into_iter().flatten().filter(|end| end.ends_elsewhere(shown));
        let ends = self.ends.get(&id).into_iter().chain(of_agent);
        let first = ends.filter(|end| end.place.at < decision.place.at).min_by_key(|end| end.place.at)?;
        let after_shown = first.place.at.since(shown.place.at);
        let before_call = decision.place.at.since(first.place.at);
        let same_clock = first.place.chain == decision.place.chain && first.place.chain == shown.place.chain;
        let certain = same_clock || (before_call > CLOCK_TOLERANCE && after_shown > CLOCK_TOLERANCE);
        Some(Over { end: first, certain })
    }
}

/// A preview that was over when it was called.
pub(super) struct Over<'r> {
    pub(super) end: &'r EndFact,
    /// The clocks of two gateways leave no doubt.
    pub(super) certain: bool,
}
