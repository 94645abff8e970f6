//! The rule, applied again: derives the verdict on a callout from what the agent was shown according to the log.
//!
//! [`decide`] compares numbers for equality only, and two numbers are equal if and only if their hashes under one key are.
//! So the gateway's own rule runs here on hashes, and no number is needed.

use std::time::Duration;

use super::facts::{DecisionFact, ShownFact};
use crate::audit::record::JudgedPreview;
use crate::preview::{
    AgentPreviews, Announcement, Bounds, Callout, Change, ControlId, CountedCall, DialedNumber, Reason, Refusal, Rule,
    Timestamp, Verdict, decide, millis,
};

/// Clocks of two gateways, and the moment between judging and recording, may differ by this much.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// The end of the message about a preview whose record is missing.
pub(super) const NOT_THERE: &str = "is not in the given directories";

/// The result of deriving a verdict again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derived {
    /// The record has the verdict that follows from the other records.
    Same,
    /// Something other than the rule decided.
    NotByRule,
    /// Records that are needed are not there.
    Unknown(String),
    /// The record contradicts the others.
    Contradiction(String),
}

/// Derives the verdict; `shown` looks up the announcements that the decision refers to.
pub(super) fn derive<'s>(
    decision: &DecisionFact,
    shown: impl Fn(crate::preview::RecordId) -> Option<&'s ShownFact>,
) -> Derived {
    if let Err(contradiction) = check_policy(decision) {
        return Derived::Contradiction(contradiction);
    }
    let Some(recorded) = decision.reason.and_then(by_rule) else { return Derived::NotByRule };
    let mut previews = Vec::new();
    for judged in &decision.previews {
        let begin = previews.len();
        if judged.shown.is_empty() {
            return Derived::Unknown("its preview was not recorded when it was shown".to_owned());
        }
        for id in &judged.shown {
            match shown(*id) {
                Some(fact) => match check_reference(decision, judged.control_id, fact) {
                    Ok(()) => previews.push((fact, fact.place.at)),
                    Err(contradiction) => return Derived::Contradiction(contradiction),
                },
                None => return Derived::Unknown(format!("its preview {id} {NOT_THERE}")),
            }
        }
        let of_preview = previews.get_mut(begin..).unwrap_or_default();
        if let Some(skew) = clock_skew(decision, judged, of_preview.iter().map(|(fact, _)| *fact)) {
            let foreign = of_preview.iter_mut().filter(|(fact, _)| fact.place.chain != decision.place.chain);
            foreign.for_each(|(_, at)| *at = skew.by_own_clock(*at));
        }
    }
    if decision.reason == Some(Reason::NumberUsed) && decision.calls_per_number.is_none() {
        return Derived::Unknown("its previews.calls_per_number is not known".to_owned());
    }
    compare(decision, recorded, &previews)
}

/// The result of the rule that leads to this reason; `None` if something other than the rule decided.
fn by_rule(reason: Reason) -> Option<Reason> {
    match reason {
        Reason::Ok
        | Reason::UnknownPreview
        | Reason::ControlIdMismatch
        | Reason::NumberNotInPreview
        | Reason::PreviewExpired
        | Reason::NumberUsed => Some(reason),
        Reason::SignedOut => Some(Reason::UnknownPreview),
        _ => None,
    }
}

/// The verdict must be one that the reason and the configuration permit.
fn check_policy(decision: &DecisionFact) -> Result<(), String> {
    let (Some(verdict), Some(reason)) = (decision.verdict, decision.reason) else { return Ok(()) };
    let permitted = match verdict {
        Verdict::Forwarded => reason == Reason::Ok,
        Verdict::Rejected => reason != Reason::Ok,
        Verdict::Unverified => reason != Reason::Ok && (decision.mode == "monitor" || decision.allowed_by.is_some()),
    };
    if permitted {
        Ok(())
    } else {
        Err(format!("{verdict} with reason {reason} in mode {} is no possible verdict", decision.mode))
    }
}

/// A decision may only refer to what the same agent was shown before.
fn check_reference(decision: &DecisionFact, control_id: i64, shown: &ShownFact) -> Result<(), String> {
    let (place, before) = (&decision.place, &shown.place);
    let name = || format!("{} seq {}", before.file, before.seq);
    if Some(shown.agent) != decision.agent {
        return Err(format!("refers to what another agent was shown ({})", name()));
    }
    if shown.control_id != control_id {
        return Err(format!("refers to a preview with another control ID ({})", name()));
    }
    // The record of another gateway must have been there too, because its name cannot be guessed. Its time may be a later one:
    // then the clocks of the two differ.
    let is_later = before.chain == place.chain && before.seq > place.seq;
    if is_later { Err(format!("refers to what was shown later ({})", name())) } else { Ok(()) }
}

/// By how much the clock of another gateway differs from that of the gateway that made a decision.
pub(super) struct ClockSkew<'s> {
    /// The announcement that shows it.
    pub(super) shown: &'s ShownFact,
    /// What must be added to the times of that gateway, in milliseconds.
    correction_ms: i64,
}

impl ClockSkew<'_> {
    pub(super) fn by(&self) -> Duration {
        Duration::from_millis(self.correction_ms.unsigned_abs())
    }

    fn by_own_clock(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add_signed(self.correction_ms))
    }
}

/// Compares an age in a decision with the times in the log, if another gateway recorded the announcement. Ages and times come
/// from different clocks then. A difference of more than an hour is not taken for one of clocks.
pub(super) fn clock_skew<'s>(
    decision: &DecisionFact,
    judged: &JudgedPreview,
    shown: impl Iterator<Item = &'s ShownFact> + Clone,
) -> Option<ClockSkew<'s>> {
    const MAX_SKEW_MS: u64 = 60 * 60 * 1000;
    let latest = shown.clone().max_by_key(|fact| fact.place.at).map(|fact| (fact, judged.age_ms));
    let listing = shown.filter(|fact| fact.lists(&decision.called) == Some(true)).max_by_key(|fact| fact.place.at);
    let listing = listing.zip(judged.number_age_ms);
    let is_foreign = |(fact, _): &(&ShownFact, u64)| fact.place.chain != decision.place.chain;
    let (shown, age_ms) = latest.filter(is_foreign).or_else(|| listing.filter(is_foreign))?;
    let signed = |ms: u64| i64::try_from(ms).ok();
    let correction_ms = signed(decision.place.at.0)? - signed(shown.place.at.0.checked_add(age_ms)?)?;
    let is_skew = (millis(CLOCK_TOLERANCE) + 1..=MAX_SKEW_MS).contains(&correction_ms.unsigned_abs());
    is_skew.then_some(ClockSkew { shown, correction_ms })
}

fn compare(decision: &DecisionFact, recorded: Reason, shown: &[(&ShownFact, Timestamp)]) -> Derived {
    let Some(control_id) = decision.control_id else {
        return Derived::Contradiction("was judged without a control ID".to_owned());
    };
    let shown = &in_order(shown);
    let Some(mut previews) = previews_of(decision, shown) else {
        return Derived::Unknown("its number was not hashed under the key of its preview".to_owned());
    };
    let callout = Callout { called: DialedNumber::new(CALLED), control_id: ControlId(control_id) };
    for id in &decision.calls {
        let call = CountedCall { number: DialedNumber::new(CALLED), id: *id, at: decision.place.at };
        previews.apply(
            Change::Called(ControlId(control_id), call),
            decision.place.at,
            Bounds { per_agent: usize::MAX },
        );
    }
    // The gateway judged by its own clock a moment before it made the record.
    let now = decision.place.at;
    let earlier = now.before(CLOCK_TOLERANCE);
    let ttl = Duration::from_millis(decision.ttl_ms);
    let rule = Rule { ttl, calls_per_number: decision.calls_per_number.unwrap_or_default() };
    let reason = |now| decide(&callout, &previews, now, rule).map_or_else(Refusal::reason, |_| Reason::Ok);
    let derived = reason(now);
    if [derived, reason(earlier), reason(now.after(CLOCK_TOLERANCE))].contains(&recorded) {
        return check_ages(decision, shown);
    }
    Derived::Contradiction(format!("has the reason {recorded}, and the rule gives {derived}"))
}

/// The number that the callout asks for, among the hashes of all other numbers.
const CALLED: &str = "called";

/// The agent's previews as the gateway had them after these announcements. A number is represented by its key and hash. The
/// number that is called is represented by [`CALLED`], because it may be listed under the keys of two months.
fn previews_of(decision: &DecisionFact, shown: &[(&ShownFact, Timestamp)]) -> Option<AgentPreviews> {
    let mut previews = AgentPreviews::default();
    // The representations are longer than numbers, so the bound is larger: it must not drop what the gateway kept.
    let bounds = Bounds { per_agent: shown.len().saturating_mul(16).max(1) };
    for &(fact, at) in shown {
        let is_relevant = Some(fact.control_id) == decision.control_id && !fact.numbers.is_empty();
        let called = decision.called.iter().find(|called| called.key == fact.key);
        if is_relevant && called.is_none() {
            return None;
        }
        let number = |mac| match called {
            Some(called) if called.hmac == mac => DialedNumber::new(CALLED),
            _ => DialedNumber::new(format!("{}:{mac}", fact.key)),
        };
        let numbers = fact.numbers.iter().copied().map(number).collect();
        let announcement = Announcement { control_id: ControlId(fact.control_id), numbers, shown: Vec::new() };
        previews.apply(Change::Shown(announcement), at, bounds);
    }
    Some(previews)
}

/// The announcements in the order in which the gateway learnt of them: that of the chain, or if several gateways showed them,
/// that of their times. The clock of a host may have been set back between two starts of its gateway.
fn in_order<'s>(shown: &[(&'s ShownFact, Timestamp)]) -> Vec<(&'s ShownFact, Timestamp)> {
    let chain = |fact: &ShownFact| fact.place.chain;
    let is_one_chain =
        shown.iter().all(|(fact, _)| shown.first().is_some_and(|(first, _)| chain(first) == chain(fact)));
    let mut in_order = shown.to_vec();
    if is_one_chain {
        in_order.sort_by_key(|(fact, _)| fact.place.seq);
    } else {
        in_order.sort_by_key(|(_, at)| *at);
    }
    in_order
}

/// The ages in the record must be those that follow from the times of the announcements.
fn check_ages(decision: &DecisionFact, shown: &[(&ShownFact, Timestamp)]) -> Derived {
    for judged in &decision.previews {
        let latest = shown.iter().rfind(|(fact, _)| fact.control_id == judged.control_id).map(|(_, at)| *at);
        let age = latest.map(|latest| millis(decision.place.at.since(latest)));
        let tolerance = millis(CLOCK_TOLERANCE);
        if age.is_some_and(|age| age.abs_diff(judged.age_ms) > tolerance) {
            return Derived::Contradiction(format!(
                "says that its preview was shown {} ms before, and it was {} ms",
                judged.age_ms,
                age.unwrap_or_default()
            ));
        }
    }
    Derived::Same
}
