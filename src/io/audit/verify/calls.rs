//! `previews.calls_per_number`: each decision names the earlier calls that count, and must name all of them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::facts::{DecisionFact, Place};
use super::finding::Grade;
use super::rule::CLOCK_TOLERANCE;
use crate::audit::ShortList;
use crate::audit::record::KeyedMac;
use crate::preview::{RecordId, Timestamp};

/// An agent and a control ID.
type PreviewKey = (u32, i64);

/// Callouts that may have rung, lately.
#[derive(Debug, Default)]
pub(super) struct Calls {
    previews: HashMap<PreviewKey, Vec<Call>>,
    order: VecDeque<(Timestamp, RecordId, PreviewKey)>,
    keys: HashMap<RecordId, PreviewKey>,
}

#[derive(Debug)]
struct Call {
    place: Place,
    id: RecordId,
    called: ShortList<KeyedMac>,
    /// The announcements of its preview.
    shown: HashSet<RecordId>,
    calls: Vec<RecordId>,
    is_shared: bool,
    not_sent: bool,
}

impl Calls {
    /// A decision was read.
    pub(super) fn note(&mut self, decision: &DecisionFact) {
        let (true, Some(key)) = (decision.may_ring(), key(decision)) else { return };
        let call = Call {
            place: decision.place.clone(),
            id: decision.id,
            called: decision.called.clone(),
            shown: shown(decision),
            calls: decision.calls.clone(),
            is_shared: decision.is_shared,
            not_sent: false,
        };
        self.previews.entry(key).or_default().push(call);
        self.keys.insert(decision.id, key);
        self.order.push_back((decision.place.at, decision.id, key));
    }

    /// The callout of this decision was certainly not sent.
    pub(super) fn not_sent(&mut self, decision: RecordId) {
        let calls = self.keys.get(&decision).and_then(|key| self.previews.get_mut(key));
        let call = calls.into_iter().flatten().find(|call| call.id == decision);
        call.into_iter().for_each(|call| call.not_sent = true);
    }

    /// The records of the calls that a decision counts.
    pub(super) fn counted_by(&self, decision: &DecisionFact) -> impl Iterator<Item = &Place> {
        let known = key(decision).and_then(|key| self.previews.get(&key)).map(Vec::as_slice).unwrap_or_default();
        known.iter().filter(|call| decision.calls.contains(&call.id)).map(|call| &call.place)
    }

    pub(super) fn forget_before(&mut self, oldest: Timestamp) {
        while self.order.front().is_some_and(|(at, ..)| *at < oldest) {
            let Some((_, id, key)) = self.order.pop_front() else { break };
            self.keys.remove(&id);
            if let Some(calls) = self.previews.get_mut(&key) {
                calls.retain(|call| call.id != id);
                if calls.is_empty() {
                    self.previews.remove(&key);
                }
            }
        }
    }

    /// What is wrong with the calls that a decision names.
    pub(super) fn objections(&self, decision: &DecisionFact) -> Vec<(Grade, String)> {
        let Some(key) = key(decision) else { return Vec::new() };
        let known = self.previews.get(&key).map(Vec::as_slice).unwrap_or_default();
        let mut objections = Vec::new();
        let mut named = HashSet::new();
        for id in &decision.calls {
            if !named.insert(*id) {
                objections.push((Grade::Broken, format!("counts the call {id} twice")));
                continue;
            }
            match known.iter().find(|call| call.id == *id) {
                Some(call) => objections.extend(call.objection_to_its_count(decision)),
                None => objections.push((Grade::Note, format!("counts the call {id}, which is not in what was read"))),
            }
        }
        // A callout that was refused may have been judged before a call that was recorded before it.
        let missing = known.iter().filter(|call| decision.may_ring() && !named.contains(&call.id));
        objections.extend(missing.filter_map(|call| call.objection_to_its_absence(decision)));
        objections
    }
}

impl Call {
    fn objection_to_its_count(&self, decision: &DecisionFact) -> Option<(Grade, String)> {
        let id = self.id;
        if is_same_number(&self.called, &decision.called) == Some(false) {
            return Some((Grade::Broken, format!("counts the call {id}, which is one of another number")));
        }
        // Two callouts that come at once are counted in one order and may be recorded in the other. The time of another gateway
        // says how the clocks differ: a name that cannot be guessed is not known before the call.
        let is_later =
            self.place.chain == decision.place.chain && self.place.at > decision.place.at.after(CLOCK_TOLERANCE);
        is_later.then(|| (Grade::Broken, format!("counts the call {id}, which is later")))
    }

    fn objection_to_its_absence(&self, decision: &DecisionFact) -> Option<(Grade, String)> {
        let concerns = self.id != decision.id
            && !self.not_sent
            && !self.calls.contains(&decision.id)
            && is_same_number(&self.called, &decision.called) == Some(true)
            && !self.shown.is_disjoint(&shown(decision));
        let is_own = self.place.chain == decision.place.chain;
        let is_earlier = if is_own {
            self.place.seq < decision.place.seq
        } else {
            // A gateway without its store knows only its own calls.
            self.is_shared && decision.is_shared && self.place.at.after(CLOCK_TOLERANCE) < decision.place.at
        };
        // A shared store may lose its memory; a gateway's own is proved.
        let is_certain = is_own && !self.is_shared && !decision.is_shared;
        let grade = if is_certain { Grade::Broken } else { Grade::Incomplete };
        let (id, file, seq) = (self.id, &self.place.file, self.place.seq);
        (concerns && is_earlier).then(|| (grade, format!("does not count the call {id} ({file} seq {seq})")))
    }
}

fn key(decision: &DecisionFact) -> Option<PreviewKey> {
    decision.agent.zip(decision.control_id)
}

/// The announcements of the preview that the callout names.
fn shown(decision: &DecisionFact) -> HashSet<RecordId> {
    let mine = decision.previews.iter().filter(|preview| Some(preview.control_id) == decision.control_id);
    mine.flat_map(|preview| preview.shown.iter().copied()).collect()
}

/// `None`: the hashes have no key in common.
fn is_same_number(one: &[KeyedMac], other: &[KeyedMac]) -> Option<bool> {
    let mut pairs = one.iter().filter_map(|mac| Some((mac, other.iter().find(|other| other.key == mac.key)?)));
    pairs.next().map(|(one, other)| one.hmac == other.hmac)
}
