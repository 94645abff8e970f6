//! Counts of decisions: by verdict, by reason, by agent, by hour.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::preview::{Reason, Verdict};

/// The fields of a decision line that are counted.
#[derive(Deserialize)]
struct Line {
    ts: String,
    method: String,
    decision: String,
    reason: String,
    agent_id: Option<u32>,
    preview_age_ms: Option<f64>,
}

/// A decision, wherever it was recorded.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) at: SystemTime,
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) agent: Option<u32>,
    pub(super) preview_age: Option<Duration>,
    /// The number of such decisions: an audit log can hold refusals as a number only.
    pub(super) times: u64,
}

impl Decided {
    /// The words of a record; `None` if this program does not know them.
    pub(super) fn words(verdict: &str, reason: &str) -> Option<(Verdict, Reason)> {
        let verdict = Verdict::ALL.iter().copied().find(|known| known.as_str() == verdict)?;
        Some((verdict, Reason::ALL.iter().copied().find(|known| known.as_str() == reason)?))
    }
}

impl Line {
    fn decided(&self) -> Option<Decided> {
        let (verdict, reason) = Decided::words(&self.decision, &self.reason)?;
        let at = humantime::parse_rfc3339_weak(&self.ts).ok()?;
        let preview_age = self.preview_age_ms.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
        let agent = self.agent_id;
        (self.method == "previewCallout").then_some(Decided { at, verdict, reason, agent, preview_age, times: 1 })
    }
}

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines of all kinds.
    pub(super) lines: u64,
    /// Whether the lines are those of an audit log.
    pub(super) from_audit: bool,
    /// Lines that are not JSON.
    pub(super) unreadable: u64,
    /// Decisions before the period.
    pub(super) too_old: u64,
    /// The first and the last decision.
    pub(super) period: Option<(SystemTime, SystemTime)>,
    pub(super) forwarded: u64,
    /// By reason, in the order of their words.
    pub(super) reasons: BTreeMap<&'static str, OfReason>,
    /// All agents that made callouts, with the number that would have been refused.
    pub(super) agents: BTreeMap<u32, u64>,
    /// By hour, as in `2026-11-22T10`: all callouts, and those that would have been refused.
    pub(super) hours: BTreeMap<String, (u64, u64)>,
}

/// Decisions with one reason.
#[derive(Debug)]
pub(super) struct OfReason {
    pub(super) reason: Reason,
    /// Callouts that were forwarded although the rule refused them: enforce mode would refuse them.
    pub(super) unverified: u64,
    pub(super) rejected: u64,
    /// Agents with an unverified callout, and how many each had.
    pub(super) agents: BTreeMap<u32, u64>,
    /// The greatest age of a preview.
    pub(super) oldest: Option<Duration>,
}

impl Tally {
    /// Counts one line, if it is a decision that is not before `start`.
    pub(super) fn add(&mut self, line: &[u8], start: Option<SystemTime>) {
        self.lines += 1;
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            self.unreadable += u64::from(serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err());
            return;
        };
        if let Some(decided) = line.decided() {
            self.count(&decided, start);
        }
    }

    /// Counts a decision, if it is not before `start`.
    pub(super) fn count(&mut self, decided: &Decided, start: Option<SystemTime>) {
        let Decided { at, verdict, reason, agent, preview_age, times } = *decided;
        if start.is_some_and(|start| at < start) {
            self.too_old += times;
            return;
        }
        let (first, last) = self.period.unwrap_or((at, at));
        self.period = Some((first.min(at), last.max(at)));
        let unverified = if verdict == Verdict::Unverified { times } else { 0 };
        if let Some(agent) = agent {
            *self.agents.entry(agent).or_default() += unverified;
        }
        let hour = self.hours.entry(hour(at)).or_default();
        *hour = (hour.0 + times, hour.1 + unverified);
        if verdict == Verdict::Forwarded {
            self.forwarded += times;
            return;
        }
        let counts = self.reasons.entry(reason.as_str()).or_insert_with(|| OfReason::new(reason));
        counts.unverified += unverified;
        counts.rejected += times - unverified;
        if let (Some(agent), Verdict::Unverified) = (agent, verdict) {
            *counts.agents.entry(agent).or_default() += times;
        }
        counts.oldest = counts.oldest.max(preview_age);
    }

    /// All callouts.
    pub(super) fn callouts(&self) -> u64 {
        self.forwarded + self.unverified() + self.rejected()
    }

    /// Callouts that would have been refused.
    pub(super) fn unverified(&self) -> u64 {
        self.reasons.values().map(|counts| counts.unverified).sum()
    }

    /// Callouts that were refused.
    pub(super) fn rejected(&self) -> u64 {
        self.reasons.values().map(|counts| counts.rejected).sum()
    }

    /// The reasons, the most frequent first.
    pub(super) fn by_frequency(&self) -> Vec<&OfReason> {
        let mut reasons: Vec<_> = self.reasons.values().collect();
        reasons.sort_by_key(|counts| std::cmp::Reverse((counts.unverified, counts.rejected)));
        reasons
    }

    /// Reasons without any unverified callout.
    pub(super) fn never_objected(&self) -> BTreeSet<&'static str> {
        let seen = |word: &&str| self.reasons.get(word).is_some_and(|counts| counts.unverified > 0);
        Reason::ALL.iter().map(|reason| reason.as_str()).filter(|word| !seen(word)).collect()
    }
}

/// `2026-11-22T10`
fn hour(at: SystemTime) -> String {
    // Times before 1970 cannot be formatted. No gateway has recorded any.
    humantime::format_rfc3339_seconds(at.max(UNIX_EPOCH)).to_string().chars().take("2026-11-22T10".len()).collect()
}

impl OfReason {
    fn new(reason: Reason) -> Self {
        Self { reason, unverified: 0, rejected: 0, agents: BTreeMap::new(), oldest: None }
    }
}
