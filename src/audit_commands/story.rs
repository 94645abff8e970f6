//! All records of one call: shown, delivered, decided, answered, and the platform's own events.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::arguments::Directories;
use super::error::Error;
use super::keys::hashes_of_number;
use crate::audit::record::{Decision, Delivered, Ended, KeyedMac, Record};
use crate::audit::verify::{Line, Scan};
use crate::preview::RecordId;

/// How the command line names a call.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Name {
    /// The platform's name for the call.
    #[arg(long, value_name = "CALL_ID")]
    call: Option<String>,
    /// The ID of a decision, or of the record of a preview.
    #[arg(long, value_name = "ID")]
    id: Option<RecordId>,
    /// All callouts of the number on the standard input, found by its hashes under the keys in this directory.
    #[arg(long, value_name = "DIR")]
    number_keys: Option<PathBuf>,
}

/// Options of commands about one call.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CallOptions {
    #[command(flatten)]
    pub(super) directories: Directories,
    #[command(flatten)]
    name: Name,
}

impl CallOptions {
    /// The stories of all callouts that match. Reads the log several times.
    pub(super) fn find(&self) -> Result<Vec<Story>, Error> {
        find(&self.directories.directories, &self.name)
    }
}

/// The records of one callout. Several callouts can have one preview.
pub(super) struct Story {
    pub(super) decision: Line,
    /// The previews that it was judged by.
    pub(super) shown: Vec<Line>,
    /// The decisions and outcomes of the earlier calls that it counts (`previews.calls_per_number`).
    pub(super) earlier: Vec<Line>,
    /// All other records that belong to it, in the order of time.
    pub(super) others: Vec<Line>,
}

impl Story {
    /// All its lines in the order of time.
    pub(super) fn lines(&self) -> Vec<&Line> {
        let mut lines: Vec<&Line> =
            [&self.shown, &self.earlier, &self.others].into_iter().flatten().chain([&self.decision]).collect();
        lines.sort_by_key(|line| (line.at, line.seq));
        lines
    }

    /// The decision's content.
    pub(super) fn record(&self) -> Option<Decision<'_>> {
        decision(&self.decision)
    }
}

pub(super) fn decision(line: &Line) -> Option<Decision<'_>> {
    match line.record() {
        Some(Record::Decision(decision)) => Some(decision),
        _ => None,
    }
}

/// Looks for the decisions first, and then for the records that belong to each of them.
fn find(directories: &[PathBuf], name: &Name) -> Result<Vec<Story>, Error> {
    let decisions = match (&name.call, name.id, &name.number_keys) {
        (Some(call), ..) => {
            let ids = decisions_of_call(directories, call)?;
            let needles: Vec<String> = ids.iter().map(ToString::to_string).collect();
            if ids.is_empty() {
                Vec::new()
            } else {
                find_decisions(directories, &needles, |decision| ids.contains(&decision.id))?
            }
        }
        (None, Some(wanted), _) => find_decisions(directories, &[wanted.to_string()], |decision| {
            decision.id == wanted || references(decision).contains(&wanted)
        })?,
        (None, None, Some(keys)) => decisions_of_number(directories, keys, &mut std::io::stdin().lock())?,
        (None, None, None) => Vec::new(),
    };
    decisions.into_iter().map(|decision| story(directories, decision)).collect()
}

/// The decisions that led to the call with this name.
fn decisions_of_call(directories: &[PathBuf], call: &str) -> Result<BTreeSet<RecordId>, Error> {
    let mut found = BTreeSet::new();
    let needles = [serde_json::Value::from(call).to_string()];
    Scan { directories, days: None, needles: &needles }.each(|_, line| {
        match line.record() {
            Some(Record::Outcome(outcome)) if outcome.call_id.as_deref() == Some(call) => {
                found.insert(outcome.decision);
            }
            Some(Record::Call(event)) if event.call_id == call => found.extend(event.decision),
            _ => {}
        }
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

/// Callouts that asked for this number. The log has no number, only its hash in each month.
fn decisions_of_number(directories: &[PathBuf], keys: &Path, input: &mut impl Read) -> Result<Vec<Line>, Error> {
    let hashes: Vec<KeyedMac> = hashes_of_number(keys, input)?;
    let needles: Vec<String> = hashes.iter().map(|hash| hash.hmac.to_string()).collect();
    let asks_for_it = |decision: &Decision<'_>| {
        decision.called.as_ref().is_some_and(|called| called.hmacs.iter().any(|hash| hashes.contains(hash)))
    };
    if needles.is_empty() { Ok(Vec::new()) } else { find_decisions(directories, &needles, asks_for_it) }
}

fn find_decisions(
    directories: &[PathBuf],
    needles: &[String],
    is_wanted: impl Fn(&Decision<'_>) -> bool,
) -> Result<Vec<Line>, Error> {
    let mut found = Vec::new();
    Scan { directories, days: None, needles }.each(|_, line| {
        let wanted = decision(&line).is_some_and(|decision| is_wanted(&decision));
        if wanted {
            found.push(line);
        }
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

/// The records of the previews that a decision was judged by.
fn references(decision: &Decision<'_>) -> Vec<RecordId> {
    decision.previews.iter().flat_map(|preview| preview.shown.iter().copied()).collect()
}

fn story(directories: &[PathBuf], line: Line) -> Result<Story, Error> {
    let Some(record) = decision(&line) else {
        return Ok(Story { decision: line, shown: Vec::new(), earlier: Vec::new(), others: Vec::new() });
    };
    let (id, calls, references) = (record.id, record.calls.clone(), references(&record));
    let needles: Vec<String> = references.iter().chain(&calls).chain([&id]).map(ToString::to_string).collect();
    let (mut shown, mut earlier, mut others) = (Vec::new(), Vec::new(), Vec::new());
    Scan { directories, days: None, needles: &needles }.each(|_, line| {
        let part = match line.record() {
            Some(Record::Shown(record)) if references.contains(&record.id) => Some(&mut shown),
            Some(Record::Decision(record)) if calls.contains(&record.id) => Some(&mut earlier),
            Some(Record::Outcome(record)) if calls.contains(&record.decision) => Some(&mut earlier),
            Some(Record::Delivered(Delivered { shown, .. }) | Record::Ended(Ended { shown, .. }))
                if shown.iter().any(|id| references.contains(id)) =>
            {
                Some(&mut others)
            }
            Some(Record::Outcome(record)) if record.decision == id => Some(&mut others),
            Some(Record::Call(record)) if record.decision == Some(id) => Some(&mut others),
            _ => None,
        };
        if let Some(part) = part {
            part.push(line);
        }
        Ok::<_, Error>(())
    })?;
    others.extend(calls_seen_elsewhere(directories, &others)?);
    others.sort_by_key(|line| (line.at, line.seq));
    Ok(Story { decision: line, shown, earlier, others })
}

/// The records of other gateways about the call. They know its name, but not the decision that led to it.
fn calls_seen_elsewhere(directories: &[PathBuf], others: &[Line]) -> Result<Vec<Line>, Error> {
    let call_id = others.iter().find_map(|line| match line.record() {
        Some(Record::Outcome(outcome)) => outcome.call_id.map(std::borrow::Cow::into_owned),
        _ => None,
    });
    let Some(call_id) = call_id else { return Ok(Vec::new()) };
    let (needles, mut found) = ([serde_json::Value::from(call_id.as_str()).to_string()], Vec::new());
    Scan { directories, days: None, needles: &needles }.each(|_, line| {
        let belongs = match line.record() {
            Some(Record::Call(call)) => call.decision.is_none() && call.call_id == call_id,
            _ => false,
        };
        if belongs {
            found.push(line);
        }
        Ok::<_, Error>(())
    })?;
    Ok(found)
}
