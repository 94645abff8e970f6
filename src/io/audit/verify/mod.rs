//! The verifier of the audit log: reads directories of one or more gateways in bounded memory and reports what they prove.
//!
//! Two verdicts are kept apart. *Integrity*: nothing was changed, removed or added ([`chain`] and its parts). *The rule*:
//! each verdict follows from what the agent was shown ([`judge`], [`rule`]). What is missing for a proof without a sign of
//! tampering makes the result incomplete, not broken.

mod abandoned;
mod anchors;
mod calls;
mod chain;
mod clocks;
mod facts;
mod files;
mod finding;
mod in_force;
mod judge;
mod lines;
mod log;
mod pruned;
mod recent;
mod rule;
mod scan;
mod segment_state;
mod summary;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use calls::Calls;
use facts::{DecisionFact, Place, ShownFact};

use super::note::Verifier;
use super::record::Record;
use crate::preview::RecordId;

pub use chain::Line;
pub use facts::is_only_forgotten;
pub use finding::{Finding, Findings, Grade};
pub use judge::Decisions;
pub use log::Log;
pub use rule::Derived;
pub use scan::Scan;
pub use summary::ChainSummary;

/// What is verified, and by what.
#[derive(Debug, Default)]
pub struct Request<'r> {
    /// The directories of all gateways that share previews.
    pub directories: &'r [PathBuf],
    /// The keys that may have signed checkpoints. With none, signatures are not checked.
    pub keys: &'r [Verifier],
    /// The name and the content of a file with signed notes that were kept elsewhere.
    pub anchor: Option<(&'r str, &'r str)>,
}

/// The result of a verification.
#[derive(Debug)]
pub struct Verification {
    /// Each chain.
    pub chains: Vec<ChainSummary>,
    /// All decisions.
    pub decisions: Decisions,
    /// Everything that was found.
    pub findings: Findings,
}

/// One word for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// Nothing was changed, every verdict follows, and nothing is missing.
    Proved,
    /// The log was changed, or the gateway broke its rule.
    Broken,
    /// Something is missing, and a crash or a full disk explains it.
    Incomplete,
    /// There is no log.
    Nothing,
}

impl Verification {
    /// The result in one word.
    pub fn result(&self) -> Result {
        if self.findings.count(Grade::Broken) > 0 {
            Result::Broken
        } else if self.chains.iter().all(|chain| chain.lines.is_none()) {
            Result::Nothing
        } else if self.findings.count(Grade::Incomplete) > 0 {
            Result::Incomplete
        } else {
            Result::Proved
        }
    }
}

/// Derives the verdict of one decision again, from the records of the previews that it refers to, and from the decisions
/// and outcomes of the earlier calls that it counts (`previews.calls_per_number`).
pub fn derive_again(decision: &Line, shown: &[Line], earlier: &[Line]) -> Derived {
    let Some(Record::Decision(record)) = decision.record() else {
        return Derived::Unknown("it is no decision".to_owned());
    };
    let place = |line: &Line| Place::new(usize::from(instance(line) != instance(decision)), line);
    let facts = shown.iter().filter_map(|line| match line.record() {
        Some(Record::Shown(record)) => Some((record.id, ShownFact::new(place(line), &record))),
        _ => None,
    });
    let facts: HashMap<RecordId, ShownFact> = facts.collect();
    let fact = DecisionFact::new(place(decision), &record);
    let mut calls = Calls::default();
    for line in earlier {
        match line.record() {
            Some(Record::Decision(record)) => calls.note(&DecisionFact::new(place(line), &record)),
            Some(Record::Outcome(outcome)) if outcome.result == "not_sent" => calls.not_sent(outcome.decision),
            _ => {}
        }
    }
    let mut missing = None;
    for (grade, message) in calls.objections(&fact) {
        match grade {
            Grade::Broken => return Derived::Contradiction(message),
            Grade::Incomplete | Grade::Note => missing = Some(Derived::Unknown(format!("it {message}"))),
        }
    }
    match rule::derive(&fact, |id| facts.get(&id)) {
        Derived::Same => missing.unwrap_or(Derived::Same),
        derived => derived,
    }
}

fn instance(line: &Line) -> &str {
    line.file.split('.').nth(1).unwrap_or_default()
}

/// How often a verification begins again because a gateway removed a segment meanwhile.
const ATTEMPTS: usize = 8;

/// Verifies directories together.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(request: &Request<'_>) -> io::Result<Verification> {
    // A gateway that prunes its log removes files that were listed a moment before.
    let removed = |attempt: &io::Result<_>| matches!(attempt, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let mut attempts = (1..ATTEMPTS).map(|_| verify_once(request));
    attempts.find(|attempt| !removed(attempt)).unwrap_or_else(|| verify_once(request))
}

fn verify_once(request: &Request<'_>) -> io::Result<Verification> {
    let mut findings = Findings::default();
    let mut log = Log::open(request.directories, request.keys, request.anchor, &mut findings)?;
    let mut judge = judge::Judge::default();
    for (chain, summary) in log.summaries().enumerate() {
        if let Some(before) = summary.pruned_before {
            judge.pruned_before(chain, before);
        }
    }
    while let Some((chain, line)) = log.next(&mut findings)? {
        judge.read(chain, &line, &mut findings);
    }
    let wanted = judge.finish(&mut findings);
    judge.conclude(&log::find_shown(request.directories, &wanted)?, &mut findings);
    let chains = log.summaries().cloned().collect();
    Ok(Verification { chains, decisions: judge.decisions, findings })
}
