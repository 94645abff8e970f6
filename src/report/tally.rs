//! Counts of decisions: by verdict, by reason, by agent, by hour.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

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

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines of all kinds.
    pub(super) lines: u64,
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
        let verdict = Verdict::ALL.iter().copied().find(|verdict| verdict.as_str() == line.decision);
        let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == line.reason);
        let at = humantime::parse_rfc3339_weak(&line.ts);
        let (Some(verdict), Some(reason), Ok(at), "previewCallout") = (verdict, reason, at, line.method.as_str())
        else {
            return;
        };
        if start.is_some_and(|start| at < start) {
            self.too_old += 1;
            return;
        }
        self.count(&line, verdict, reason, at);
    }

    fn count(&mut self, line: &Line, verdict: Verdict, reason: Reason, at: SystemTime) {
        let (first, last) = self.period.unwrap_or((at, at));
        self.period = Some((first.min(at), last.max(at)));
        let unverified = u64::from(verdict == Verdict::Unverified);
        if let Some(agent) = line.agent_id {
            *self.agents.entry(agent).or_default() += unverified;
        }
        let hour = self.hours.entry(line.ts.chars().take("2026-11-22T10".len()).collect()).or_default();
        *hour = (hour.0 + 1, hour.1 + unverified);
        if verdict == Verdict::Forwarded {
            self.forwarded += 1;
            return;
        }
        let counts = self.reasons.entry(reason.as_str()).or_insert_with(|| OfReason::new(reason));
        counts.unverified += unverified;
        counts.rejected += 1 - unverified;
        if let (Some(agent), Verdict::Unverified) = (line.agent_id, verdict) {
            *counts.agents.entry(agent).or_default() += 1;
        }
        let age = line.preview_age_ms.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
        counts.oldest = counts.oldest.max(age);
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

impl OfReason {
    fn new(reason: Reason) -> Self {
        Self { reason, unverified: 0, rejected: 0, agents: BTreeMap::new(), oldest: None }
    }
}
