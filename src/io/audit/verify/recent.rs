//! The previews that can still be called, and their ends. Older ones are forgotten, so the memory depends on the validity of
//! previews and not on the length of the log.

use std::collections::{HashMap, VecDeque};

use super::clocks::Clocks;
use super::facts::{DecisionFact, EndFact, Place, ShownFact};
use super::finding::Grade;
use super::rule::CLOCK_TOLERANCE;
use crate::audit::record::{Ended, Shown};
use crate::preview::{RecordId, Timestamp, Verdict};

/// Kept beyond the longest validity of a preview.
const MARGIN_MS: u64 = 60 * 60 * 1000;
/// The TTL until a configuration was read.
const DEFAULT_TTL_MS: u64 = 30 * 60 * 1000;

/// Recent announcements and ends.
#[derive(Debug)]
pub(super) struct Recent {
    shown: HashMap<RecordId, ShownFact>,
    ends: HashMap<RecordId, EndFact>,
    order: VecDeque<(Timestamp, RecordId)>,
    /// Ends of each agent's previews. They also end previews that other gateways showed.
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

    /// Forgets records that are too old to matter at `now`. Returns the time before which records are forgotten.
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
    pub(super) fn ended_before(&self, decision: &DecisionFact) -> Option<Over> {
        let basis = decision.previews.iter().filter(|preview| Some(preview.control_id) == decision.control_id);
        let listing = basis.flat_map(|preview| &preview.shown).filter_map(|id| Some((*id, self.find(*id)?)));
        let (id, shown) = listing
            .filter(|(_, fact)| fact.lists(&decision.called) == Some(true))
            .max_by_key(|(_, fact)| fact.place.at)?;
        let of_agent = self.agents.get(&shown.agent).into_iter().flatten().filter(|end| end.ends_elsewhere(shown));
        let ends = self.ends.get(&id).into_iter().chain(of_agent);
        let first = ends.filter(|end| end.place.is_before(&decision.place)).min_by_key(|end| end.place.at)?;
        Some(Over { end: first.place.clone(), cause: first.cause.clone(), shown: shown.place.clone() })
    }
}

/// The end of a preview that was called later.
#[derive(Debug)]
pub(super) struct Over {
    /// Its record.
    end: Place,
    cause: String,
    /// The announcement of the preview.
    shown: Place,
}

impl Over {
    /// The finding about a callout that was forwarded after this end. Its grade depends on how certain the order is.
    pub(super) fn objection(&self, decision: &DecisionFact, clocks: &Clocks) -> (Grade, String) {
        let doubt = self.doubt(decision, clocks);
        let grade = match (decision.verdict, doubt) {
            // The record of the callout says that it was forwarded without a valid preview.
            (Some(Verdict::Unverified), _) => Grade::Note,
            (_, None) => Grade::Broken,
            (_, Some(_)) => Grade::Incomplete,
        };
        let Self { end, cause, .. } = self;
        let doubt = doubt.map_or(String::new(), |doubt| format!(", as far as {doubt}"));
        (grade, format!("was forwarded after its preview was over ({cause}, {} seq {}){doubt}", end.file, end.seq))
    }

    /// Why the times of the records do not prove the order of announcement, end and callout; `None` if they do.
    fn doubt(&self, decision: &DecisionFact, clocks: &Clocks) -> Option<&'static str> {
        let (called, ended) = (&decision.place, &self.end);
        let is_own = called.chain == ended.chain;
        let before_call = called.at.since(ended.at);
        let after_shown = ended.at.since(self.shown.at);
        if is_own && decision.is_shared && before_call <= CLOCK_TOLERANCE {
            // The end is recorded at once. The store, which the callout is judged by, learns of it a moment later.
            Some("the shared store knew of the end already")
        } else if (!is_own && before_call <= clocks.doubt(called, ended))
            || (ended.chain != self.shown.chain && after_shown <= clocks.doubt(ended, &self.shown))
        {
            Some("the clocks of two gateways can tell")
        } else {
            None
        }
    }
}
