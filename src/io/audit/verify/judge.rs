//! Runs the rule over all decisions of a log, and links them with their outcomes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::calls::Calls;
use super::chain::Line;
use super::clocks::Clocks;
use super::facts::{DecisionFact, EndFact, Place, ShownFact};
use super::finding::{Findings, Grade};
use super::in_force::InForce;
use super::recent::{Over, Recent};
use super::rule::{self, Derived};
use crate::audit::record::{Lost, Outcome, Record};
use crate::audit::time::Rfc3339;
use crate::preview::{RecordId, Timestamp, Verdict};

/// A decision is judged when the log has been read this much further, in milliseconds. By then the records of all gateways
/// that concern it have been read.
const DELAY_MS: u64 = 120_000;
/// Maximum number of decisions whose previews are looked for a second time.
const MAX_LATER: usize = 100_000;

/// What was found about the decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// By verdict and reason.
    pub by_reason: BTreeMap<(String, String), u64>,
    /// The verdict follows from the records.
    pub derived: u64,
    /// Something other than the rule decided.
    pub not_by_rule: u64,
    /// Records that are needed are not there.
    pub unknown: u64,
    /// The upstream answered.
    pub answered: u64,
    /// The callout failed after it was sent: it may have rung.
    pub failed: u64,
    /// The callout was recorded, and then not sent.
    pub not_sent: u64,
    /// No outcome is recorded: it may have rung.
    pub open: u64,
}

/// Reads the lines of all chains in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Judge {
    recent: Recent,
    in_force: HashMap<usize, InForce>,
    waiting: VecDeque<DecisionFact>,
    /// Decisions whose previews were shown too long before to be remembered.
    later: Vec<DecisionFact>,
    /// What was called, for `previews.calls_per_number`.
    calls: Calls,
    /// Callouts that were forwarded after the end of their preview. The whole log tells how certain their order is.
    over: Vec<(DecisionFact, Over)>,
    clocks: Clocks,
    /// Decisions without outcome.
    open: HashMap<RecordId, OpenDecision>,
    /// The starts of gateways of which announcements were read.
    runs: HashSet<u64>,
    /// The chains whose beginning was pruned, and the time before which nothing is known.
    pruned_before: HashMap<usize, Timestamp>,
    pub(super) decisions: Decisions,
}

#[derive(Debug)]
struct OpenDecision {
    place: Place,
    agent: Option<u32>,
    control_id: Option<i64>,
    masked: String,
}

impl Judge {
    pub(super) fn pruned_before(&mut self, chain: usize, at: Timestamp) {
        self.pruned_before.insert(chain, at);
    }

    /// Takes one line into account.
    pub(super) fn read(&mut self, chain: usize, line: &Line, findings: &mut Findings) {
        let place = Place::new(chain, line);
        match line.record() {
            Some(Record::Shown(shown)) => {
                self.runs.insert(shown.id.run);
                self.recent.show(&shown, ShownFact::new(place, &shown));
            }
            Some(Record::Ended(ended)) => {
                if let Some(fact) = EndFact::new(place, &ended) {
                    self.recent.end(&ended, &fact);
                }
            }
            Some(Record::Config(config)) => {
                if let Some(ttl) = self.in_force.entry(chain).or_default().change(line.at, &config) {
                    self.recent.expect_ttl(ttl);
                }
            }
            Some(Record::Decision(decision)) => {
                let in_force = self.in_force.get(&chain);
                let limit = in_force.and_then(InForce::calls_per_number);
                let fact = DecisionFact::new(place, &decision);
                check_limit(&fact, limit, findings);
                let is_configured = in_force.is_some_and(|in_force| in_force.agrees(&fact));
                let calls_per_number = fact.calls_per_number.or(limit);
                self.decision(DecisionFact { calls_per_number, is_configured, ..fact }, findings);
            }
            Some(Record::Outcome(outcome)) => self.outcome(&place, &outcome, findings),
            Some(Record::Call(call)) => self.clocks.reported(&place, &call),
            Some(Record::Lost(lost)) => report_lost(&place, &lost, findings),
            _ => {}
        }
        self.judge_until(Timestamp(line.at.0.saturating_sub(DELAY_MS)), findings);
        let oldest = self.recent.forget(Timestamp(line.at.0.saturating_sub(DELAY_MS)));
        self.calls.forget_before(oldest);
        self.clocks.forget(line.at);
    }

    fn decision(&mut self, decision: DecisionFact, findings: &mut Findings) {
        let verdict = decision.verdict.map_or("unknown", Verdict::as_str).to_owned();
        let reason = decision.reason.map_or("unknown", crate::preview::Reason::as_str).to_owned();
        *self.decisions.by_reason.entry((verdict, reason)).or_default() += 1;
        self.recent.expect_ttl(decision.ttl_ms);
        if decision.calls_per_number != Some(0) {
            self.calls.note(&decision);
        }
        if decision.may_ring() {
            let open = OpenDecision {
                place: decision.place.clone(),
                agent: decision.agent,
                control_id: decision.control_id,
                masked: decision.masked.clone(),
            };
            if let Some(first) = self.open.insert(decision.id, open) {
                let OpenDecision { place, .. } = first;
                let message =
                    format!("has the name of another decision without outcome ({} seq {})", place.file, place.seq);
                report(&decision, Grade::Broken, &message, findings);
            }
        }
        self.waiting.push_back(decision);
    }

    fn outcome(&mut self, place: &Place, outcome: &Outcome<'_>, findings: &mut Findings) {
        match &*outcome.result {
            "answered" => self.decisions.answered += 1,
            "not_sent" => {
                self.decisions.not_sent += 1;
                self.calls.not_sent(outcome.decision);
            }
            _ => self.decisions.failed += 1,
        }
        let decision = self.open.remove(&outcome.decision);
        if let Some(decision) = &decision {
            self.clocks.answered(&decision.place, outcome);
        }
        if decision.is_none() && !self.may_be_pruned(place) {
            let message = format!("is the outcome of {}, which is not a decision without outcome", outcome.decision);
            findings.broken(&*place.file, place.seq, message);
        }
    }

    /// Whether what this line refers to may have been in a segment that was pruned.
    fn may_be_pruned(&self, place: &Place) -> bool {
        const LONGEST_REQUEST_MS: u64 = 60 * 60 * 1000;
        let before = self.pruned_before.get(&place.chain);
        before.is_some_and(|before| place.at.0 < before.0.saturating_add(LONGEST_REQUEST_MS))
    }

    fn judge_until(&mut self, until: Timestamp, findings: &mut Findings) {
        while self.waiting.front().is_some_and(|decision| decision.place.at <= until) {
            let Some(decision) = self.waiting.pop_front() else { break };
            self.judge(decision, findings);
        }
    }

    fn judge(&mut self, decision: DecisionFact, findings: &mut Findings) {
        if !decision.is_configured
            && let Some(in_force) = self.in_force.get_mut(&decision.place.chain)
            && let Some(contradiction) = in_force.contradiction(&decision)
        {
            report(&decision, Grade::Broken, &contradiction, findings);
        }
        self.compare_clocks(&decision);
        if decision.may_ring()
            && let Some(over) = self.recent.ended_before(&decision)
        {
            self.over.push((decision.clone(), over));
        }
        if decision.calls_per_number.is_some_and(|limit| limit > 0) {
            for (grade, message) in self.calls.objections(&decision) {
                report(&decision, grade, &message, findings);
            }
        }
        match rule::derive(&decision, |id| self.recent.find(id)) {
            Derived::Unknown(_) if self.later.len() < MAX_LATER && decision.references().next().is_some() => {
                self.later.push(decision);
            }
            derived => self.count(&decision, derived, findings),
        }
    }

    /// A decision was made after the calls that it counts, and after its previews.
    fn compare_clocks(&mut self, decision: &DecisionFact) {
        for call in self.calls.counted_by(decision) {
            self.clocks.follows(call, &decision.place);
        }
        self.clocks.compare(decision, |id| self.recent.find(id));
    }

    fn count(&mut self, decision: &DecisionFact, derived: Derived, findings: &mut Findings) {
        match derived {
            Derived::Same => self.decisions.derived += 1,
            Derived::NotByRule => self.decisions.not_by_rule += 1,
            Derived::Contradiction(message) => report(decision, Grade::Broken, &message, findings),
            Derived::Unknown(message) => {
                self.decisions.unknown += 1;
                let shown_before = decision.previews.iter().map(|preview| preview.age_ms).min().unwrap_or_default();
                let shown_at = Timestamp(decision.place.at.0.saturating_sub(shown_before));
                let pruned = self.pruned_before.values().any(|before| shown_at <= *before);
                let grade = if pruned || !decision.may_ring() { Grade::Note } else { Grade::Incomplete };
                let whose = if message.ends_with(rule::NOT_THERE) { self.whose(decision) } else { "" };
                let reason = if pruned { " (its time is that of segments that were pruned)" } else { "" };
                report(decision, grade, &format!("cannot be derived: {message}{whose}{reason}"), findings);
            }
        }
    }

    /// Where the announcements may be that a decision refers to and that are missing.
    fn whose(&self, decision: &DecisionFact) -> &'static str {
        if decision.references().all(|id| self.runs.contains(&id.run)) {
            ": the gateway that recorded it is there, but not that segment"
        } else {
            ": another gateway recorded it, or this one in another directory"
        }
    }

    /// Ends the reading. Returns the announcements that are still needed.
    pub(super) fn finish(&mut self, findings: &mut Findings) -> HashSet<RecordId> {
        self.judge_until(Timestamp(u64::MAX), findings);
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_by_key(|decision| (decision.place.at, decision.place.seq));
        self.decisions.open = u64::try_from(open.len()).unwrap_or(u64::MAX);
        for OpenDecision { place, agent, control_id, masked } in open {
            let agent = agent.map_or("an unknown agent".to_owned(), |agent| format!("agent {agent}"));
            let control = control_id.map_or(String::new(), |id| format!(", control ID {id}"));
            let message = format!(
                "may have rung: {agent} called {masked}{control} at {}; no outcome is recorded",
                Rfc3339(place.at)
            );
            findings.add(Grade::Incomplete, &*place.file, Some(place.seq), message);
        }
        self.later.iter().flat_map(DecisionFact::references).collect()
    }

    /// Judges the remaining decisions with the announcements that have been found since, and everything for which the whole
    /// log must be known.
    pub(super) fn conclude(&mut self, found: &HashMap<RecordId, ShownFact>, findings: &mut Findings) {
        for decision in std::mem::take(&mut self.later) {
            self.clocks.compare(&decision, |id| found.get(&id));
            let derived = rule::derive(&decision, |id| found.get(&id));
            self.count(&decision, derived, findings);
        }
        for (decision, over) in std::mem::take(&mut self.over) {
            let (grade, message) = over.objection(&decision, &self.clocks);
            report(&decision, grade, &message, findings);
        }
        self.clocks.report(findings);
    }
}

fn report(decision: &DecisionFact, grade: Grade, message: &str, findings: &mut Findings) {
    findings.add(grade, &*decision.place.file, Some(decision.place.seq), format!("decision {} {message}", decision.id));
}

/// A decision that names a limit must name the one in force, which changes with a start only.
fn check_limit(decision: &DecisionFact, in_force: Option<u32>, findings: &mut Findings) {
    if let (Some(named), Some(limit)) = (decision.calls_per_number, in_force)
        && named != limit
    {
        let message = format!("was judged with previews.calls_per_number = {named}, which was not in force");
        report(decision, Grade::Broken, &message, findings);
    }
}

fn report_lost(place: &Place, lost: &Lost, findings: &mut Findings) {
    let counts: Vec<String> = lost.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let message = format!("records could not be written since {}: {}", Rfc3339(lost.since), counts.join(", "));
    findings.add(Grade::Incomplete, &*place.file, Some(place.seq), message);
}
