//! `previewgate replay`: which past callouts another configuration would have decided otherwise, from the audit log alone.
//!
//! The agents' previews are built again from the `shown` and `ended` records, with hashes in place of numbers; the rule and
//! the policy are the gateway's own.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::PathBuf;

use super::error::Error;
use super::output::count;
use crate::audit::Rfc3339;
use crate::audit::record::{Decision, Ended, Record, Shown};
use crate::audit::verify::{Findings, Grade, Line, Log, is_only_forgotten};
use crate::config::{self, Config, Files, OnStoreFailure, StoreKind};
use crate::gateway::policy::{Objection, apply_policy, is_refused_as_foreign};
use crate::preview::{
    AgentPreviews, Announcement, Bounds, Callout, Change, ControlId, CountedCall, DialedNumber, Reason, RecordId,
    Refusal, ShownRef, Timestamp, Verdict, decide,
};
use crate::store::{Ownership, Unavailable};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A directory with an audit log; several for gateways that share previews.
    #[arg(long = "audit", required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The other configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the numbers only, not each callout.
    #[arg(long)]
    summary: bool,
}

/// A verdict and its reason.
type Outcome = (String, String);

/// Prints which callouts would be decided otherwise.
///
/// # Errors
/// [`Error`]
pub fn run(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    let config = config::load(&options.config, Files::Skip)?;
    let mut findings = Findings::default();
    let mut log = Log::open(&options.directories, &[], None, &mut findings)?;
    let mut replay = Replay { config, agents: HashMap::new(), calls: HashMap::new() };
    let (mut total, mut unknown, mut changes) = (0_u64, 0_u64, BTreeMap::<(Outcome, Outcome), u64>::new());
    while let Some((_, line)) = log.next(&mut findings)? {
        let Some(record) = line.record() else { continue };
        match record {
            Record::Shown(shown) => replay.show(line.at, &shown),
            Record::Ended(ended) => replay.end(line.at, &ended),
            Record::Decision(decision) => {
                total += 1;
                let before = (decision.verdict.to_string(), decision.reason.to_string());
                match replay.decide(line.at, &decision) {
                    None => unknown += 1,
                    Some(after) if after == before => {}
                    Some(after) => {
                        if !options.summary {
                            report(&line, &decision, &before, &after, out)?;
                        }
                        *changes.entry((before, after)).or_default() += 1;
                    }
                }
                replay.call(line.at, &decision);
            }
            Record::Outcome(outcome) if outcome.result == "not_sent" => replay.return_call(line.at, outcome.decision),
            _ => {}
        }
    }
    if let Some(finding) = findings.of(Grade::Broken).next() {
        writeln!(out, "the log is broken, and what follows may not be what happened: {finding}")?;
    }
    summarise(total, unknown, &changes, out)
}

fn report(
    line: &Line,
    decision: &Decision<'_>,
    before: &Outcome,
    after: &Outcome,
    out: &mut impl Write,
) -> Result<(), Error> {
    let agent = decision.agent.map_or("?".to_owned(), |agent| agent.to_string());
    let called = decision.called.as_ref().map_or("?", |called| &called.masked);
    let (at, file, seq) = (Rfc3339(line.at), &line.file, line.seq);
    writeln!(
        out,
        "{at}  agent {agent}  {called}: {} {}, would be {} {}  ({file} seq {seq})",
        before.0, before.1, after.0, after.1
    )?;
    Ok(())
}

fn summarise(
    total: u64,
    unknown: u64,
    changes: &BTreeMap<(Outcome, Outcome), u64>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let changed: u64 = changes.values().sum();
    writeln!(out, "{}, {changed} would be decided otherwise", count(total, "callout"))?;
    for ((before, after), number) in changes {
        writeln!(out, "{number:>8}  {} {}, would be {} {}", before.0, before.1, after.0, after.1)?;
    }
    if unknown > 0 {
        writeln!(out, "{unknown:>8}  cannot be told: their records are not comparable")?;
    }
    Ok(())
}

/// No bound: it limits previews, and a call adds none.
const UNBOUNDED: Bounds = Bounds { per_agent: usize::MAX };

/// The state of all agents at a moment of the past.
struct Replay {
    config: Config,
    agents: HashMap<u32, Agent>,
    /// The preview of each call that counts.
    calls: HashMap<RecordId, (u32, ControlId)>,
}

#[derive(Default)]
struct Agent {
    previews: AgentPreviews,
    changed: Option<Timestamp>,
}

impl Replay {
    fn agent(&mut self, agent: u32, at: Timestamp) -> &mut Agent {
        let forgotten_after = self.config.previews.ttl.saturating_mul(2);
        let state = self.agents.entry(agent).or_default();
        // The store forgets an agent whose previews have not changed for this long.
        if state.changed.is_some_and(|changed| at.since(changed) > forgotten_after) {
            *state = Agent::default();
        }
        state
    }

    fn change(&mut self, agent: u32, at: Timestamp, change: Change) {
        let bounds = Bounds { per_agent: self.config.previews.per_agent };
        let state = self.agent(agent, at);
        state.previews.apply(change, at, bounds);
        state.changed = Some(at);
    }

    fn show(&mut self, at: Timestamp, shown: &Shown<'_>) {
        let numbers = shown.numbers.iter().map(|number| DialedNumber::new(format!("{}:{}", shown.key, number.hmac)));
        let announcement = Announcement {
            control_id: ControlId(shown.control_id),
            numbers: numbers.collect(),
            shown: vec![ShownRef { record: shown.id, key: shown.key, at: None }],
        };
        self.change(shown.agent, at, Change::Shown(announcement));
    }

    fn end(&mut self, at: Timestamp, ended: &Ended<'_>) {
        // The configuration decides what a store forgets. This replay forgets by the other configuration.
        if is_only_forgotten(ended) {
            return;
        }
        match ended.control_id.map(ControlId) {
            None => self.change(ended.agent, at, ended.before.map_or(Change::Ended, Change::EndedBefore)),
            Some(control_id) => {
                let known: Vec<RecordId> = match self.agent(ended.agent, at).previews.find(control_id) {
                    Some(preview) => preview.shown.iter().map(|shown| shown.record).collect(),
                    None => return,
                };
                // What was over before it was shown does not end what was shown before it. Where nothing is named, another
                // gateway showed it.
                if ended.shown.is_empty() || known.iter().all(|id| ended.shown.contains(id)) {
                    self.change(ended.agent, at, Change::Cancelled(control_id));
                }
            }
        }
    }

    /// A callout that was sent counts, even if the other configuration would have refused it.
    fn call(&mut self, at: Timestamp, decision: &Decision<'_>) {
        let (Some(agent), Some(control_id), Some(called)) = (decision.agent, decision.control_id, &decision.called)
        else {
            return;
        };
        if self.config.previews.calls_per_number == 0 || decision.verdict == Verdict::Rejected.as_str() {
            return;
        }
        let control_id = ControlId(control_id);
        // Each hash stands for the number; the preview lists one of them.
        let known = self.agent(agent, at).previews.find(control_id);
        let mut names = called.hmacs.iter().map(|hmac| DialedNumber::new(format!("{}:{}", hmac.key, hmac.hmac)));
        let listed = names.find(|name| known.is_some_and(|preview| preview.find(name).is_some()));
        let Some(number) = listed else { return };
        self.calls.insert(decision.id, (agent, control_id));
        let call = CountedCall { number, id: decision.id, at };
        self.agent(agent, at).previews.apply(Change::Called(control_id, call), at, UNBOUNDED);
    }

    fn return_call(&mut self, at: Timestamp, id: RecordId) {
        if let Some((agent, control_id)) = self.calls.remove(&id) {
            self.agent(agent, at).previews.apply(Change::CallReturned(control_id, id), at, UNBOUNDED);
        }
    }

    /// The verdict under the other configuration; `None` if it cannot be derived from the records.
    fn decide(&mut self, at: Timestamp, decision: &Decision<'_>) -> Option<Outcome> {
        let recorded = Reason::ALL.iter().copied().find(|reason| reason.as_str() == decision.reason)?;
        let outcome = match recorded {
            Reason::Ok
            | Reason::UnknownPreview
            | Reason::ControlIdMismatch
            | Reason::NumberNotInPreview
            | Reason::PreviewExpired
            | Reason::NumberUsed
            | Reason::SignedOut
            | Reason::ForeignSession => self.apply_rule(at, decision, recorded)?,
            Reason::StoreUnavailable => Err(Objection::Unknowable(self.on_store_failure()?)),
            Reason::MalformedBody
            | Reason::MissingField
            | Reason::InvalidAgentId
            | Reason::InvalidContentType
            | Reason::MissingGuid
            | Reason::MethodNotAllowed
            | Reason::AmbiguousPath
            | Reason::TooLarge => Err(invalid(recorded)),
            // Load, faults and vanished clients do not depend on the configuration that is compared.
            _ => return Some((decision.verdict.to_string(), decision.reason.to_string())),
        };
        let warming_up = decision.allowed_by.as_deref() == Some("warm_up");
        Some(self.apply_policy(outcome, warming_up))
    }

    /// The treatment of callouts under the other configuration while its store is away. `None` if the gateway's own memory
    /// decides then: its content is not recorded.
    fn on_store_failure(&self) -> Option<Unavailable> {
        let StoreKind::Redis(redis) = &self.config.previews.store else { return None };
        match redis.on_store_failure {
            OnStoreFailure::Reject => Some(Unavailable::Reject),
            OnStoreFailure::Forward => Some(Unavailable::Forward),
            OnStoreFailure::Local => None,
        }
    }

    fn apply_policy(&self, outcome: Result<(), Objection>, warming_up: bool) -> Outcome {
        let refused = match &outcome {
            Err(Objection::Invalid { reason, .. }) => *reason,
            Err(Objection::ForeignSession) => Reason::ForeignSession,
            Err(Objection::Unknowable(_)) => Reason::StoreUnavailable,
            Ok(()) => Reason::Ok,
        };
        match apply_policy(outcome, &self.config.validation, warming_up) {
            Ok((verdict, reason)) => (verdict.as_str().to_owned(), reason.as_str().to_owned()),
            Err(_) => (Verdict::Rejected.as_str().to_owned(), refused.as_str().to_owned()),
        }
    }

    fn apply_rule(
        &mut self,
        at: Timestamp,
        decision: &Decision<'_>,
        recorded: Reason,
    ) -> Option<Result<(), Objection>> {
        let (agent, control_id) = (decision.agent?, ControlId(decision.control_id?));
        let session = match decision.session_match.as_deref() {
            Some("foreign") => Ownership::NotOwn,
            Some("own") => Ownership::Own,
            _ => Ownership::Unknown,
        };
        if is_refused_as_foreign(session, &self.config.validation) {
            return Some(Err(Objection::ForeignSession));
        }
        let rule = self.config.previews.rule();
        let called = decision.called.as_ref()?;
        let previews = &self.agent(agent, at).previews;
        let results = called.hmacs.iter().map(|hmac| {
            let called = DialedNumber::new(format!("{}:{}", hmac.key, hmac.hmac));
            decide(&Callout { called, control_id }, previews, at, rule)
        });
        // A number has a hash for each month; the one that is listed counts.
        let best = results.min_by_key(|result| match result {
            Ok(_) => 0,
            Err(Refusal::NumberUsed { .. }) => 1,
            Err(Refusal::PreviewExpired { .. }) => 2,
            Err(_) => 3,
        })?;
        Some(match best {
            Ok(_) if session.is_foreign() => Err(Objection::ForeignSession),
            Ok(_) => Ok(()),
            Err(Refusal::UnknownPreview) if recorded == Reason::SignedOut => Err(invalid(recorded)),
            Err(refusal) => Err(invalid(refusal.reason())),
        })
    }
}

fn invalid(reason: Reason) -> Objection {
    Objection::Invalid { reason, message: reason.as_str().into() }
}
