//! What records say about previews and callouts, as values that outlive their lines.

use std::rc::Rc;

use super::chain::Line;
use crate::audit::ShortList;
use crate::audit::digest::Mac;
use crate::audit::record::{Decision, Ended, JudgedPreview, KeyedMac, Shown};
use crate::preview::{MAX_NUMBER_BYTES, NumberKeyId, Reason, RecordId, Timestamp, Verdict};

/// A line of one of the chains that are read together.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which chain, by its position among them.
    pub(super) chain: usize,
    pub(super) file: Rc<str>,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
}

impl Place {
    pub(super) fn new(chain: usize, line: &Line) -> Self {
        Self { chain, file: Rc::clone(&line.file), seq: line.seq, at: line.at }
    }

    /// Whether the record was made before another one. In one chain the earlier record has the smaller number as well: the
    /// clock of a host may have been set back between two starts of its gateway.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.at < other.at && (self.chain != other.chain || self.seq < other.seq)
    }
}

/// A preview that an agent was shown.
#[derive(Clone, Debug)]
pub(super) struct ShownFact {
    pub(super) place: Place,
    pub(super) agent: u32,
    pub(super) control_id: i64,
    pub(super) key: NumberKeyId,
    pub(super) numbers: Vec<Mac>,
}

impl ShownFact {
    pub(super) fn new(place: Place, shown: &Shown<'_>) -> Self {
        // The gateway keeps no number that is longer; its mask is as long as itself, or cut off.
        let kept = shown.numbers.iter().filter(|number| number.masked.chars().count() <= MAX_NUMBER_BYTES);
        let numbers = kept.map(|number| number.hmac).collect();
        Self { place, agent: shown.agent, control_id: shown.control_id, key: shown.key, numbers }
    }

    /// Whether it lists the number that a callout asks for; `None` if their hashes cannot be compared.
    pub(super) fn lists(&self, called: &[KeyedMac]) -> Option<bool> {
        let called = called.iter().find(|called| called.key == self.key)?;
        Some(self.numbers.contains(&called.hmac))
    }
}

/// Whether a gateway forgot a preview that is not over: it was too old, or there were too many.
pub fn is_only_forgotten(ended: &Ended<'_>) -> bool {
    matches!(&*ended.cause, "expired" | "per_agent" | "capacity")
}

/// A preview that ended, or all previews of an agent.
#[derive(Clone, Debug)]
pub(super) struct EndFact {
    pub(super) place: Place,
    pub(super) cause: String,
    /// `None`: every preview of the agent.
    control_id: Option<i64>,
    /// Only what was shown before this time.
    before: Option<Timestamp>,
}

impl EndFact {
    /// `None` if the gateway only forgot the preview: another one may still know it.
    pub(super) fn new(place: Place, ended: &Ended<'_>) -> Option<Self> {
        let (control_id, before) = (ended.control_id, ended.before);
        (!is_only_forgotten(ended)).then(|| Self { place, cause: ended.cause.to_string(), control_id, before })
    }

    /// Whether it ends a preview that another gateway showed. The gateway that showed it names each preview that it ends;
    /// others end more than they know. What was over before it was shown ends nothing else.
    pub(super) fn ends_elsewhere(&self, shown: &ShownFact) -> bool {
        let never_counted = matches!(&*self.cause, "outdated" | "earlier_session" | "failed_answer");
        !never_counted
            && self.place.chain != shown.place.chain
            && self.place.at > shown.place.at
            && self.control_id.is_none_or(|control_id| control_id == shown.control_id)
            && self.before.is_none_or(|before| shown.place.at < before)
    }
}

/// A callout that was judged.
#[derive(Clone, Debug)]
pub(super) struct DecisionFact {
    pub(super) place: Place,
    pub(super) id: RecordId,
    pub(super) agent: Option<u32>,
    /// `None`: a word that this program does not know.
    pub(super) verdict: Option<Verdict>,
    /// `None`: a word that this program does not know.
    pub(super) reason: Option<Reason>,
    pub(super) mode: String,
    pub(super) allowed_by: Option<String>,
    pub(super) called: ShortList<KeyedMac>,
    pub(super) masked: String,
    pub(super) control_id: Option<i64>,
    pub(super) previews: ShortList<JudgedPreview>,
    pub(super) ttl_ms: u64,
    /// The limit in force, if it is known: from this record, or from those before.
    pub(super) calls_per_number: Option<u32>,
    /// The earlier calls that it says count.
    pub(super) calls: Vec<RecordId>,
    /// Other gateways knew of the previews that it was judged by.
    pub(super) is_shared: bool,
    /// Its mode and its TTL are those of the configuration before it in the chain.
    pub(super) is_configured: bool,
}

impl DecisionFact {
    pub(super) fn new(place: Place, decision: &Decision<'_>) -> Self {
        let verdict = Verdict::ALL.iter().find(|verdict| verdict.as_str() == decision.verdict);
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == decision.reason);
        let called = decision.called.as_ref();
        Self {
            place,
            id: decision.id,
            agent: decision.agent,
            verdict: verdict.copied(),
            reason: reason.copied(),
            mode: decision.mode.to_string(),
            allowed_by: decision.allowed_by.as_ref().map(ToString::to_string),
            called: called.map(|called| called.hmacs.clone()).unwrap_or_default(),
            masked: called.map(|called| called.masked.to_string()).unwrap_or_default(),
            control_id: decision.control_id,
            previews: decision.previews.clone(),
            ttl_ms: decision.ttl_ms,
            calls_per_number: Some(decision.calls_per_number).filter(|limit| *limit > 0),
            calls: decision.calls.clone(),
            is_shared: decision.judged_by.as_deref() == Some("shared"),
            is_configured: false,
        }
    }

    /// Whether the upstream may have received it.
    pub(super) fn may_ring(&self) -> bool {
        self.verdict != Some(Verdict::Rejected)
    }

    /// The announcements that it was judged by.
    pub(super) fn references(&self) -> impl Iterator<Item = RecordId> {
        self.previews.iter().flat_map(|preview| preview.shown.iter().copied())
    }
}
