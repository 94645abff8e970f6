//! The course of one call: how it ended and how long it took, by the reports of the platform.

use crate::audit::record::Call;
use crate::preview::Timestamp;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// The two talked, and the call is over.
    Talked,
    /// The two talk; no end is reported.
    Talking,
    /// The call was not answered, or could not be made.
    Failed,
    /// The call ended before anybody answered it.
    NotAnswered,
    /// A telephone rings; nothing else is reported.
    Ringing,
}

impl Disposition {
    /// The word in tables.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Talked => "talked",
            Self::Talking => "talking",
            Self::Failed => "failed",
            Self::NotAnswered => "not_answered",
            Self::Ringing => "ringing",
        }
    }
}

/// When a phase began.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// By the clock of the gateway, which learns of it with the next poll.
    recorded: Timestamp,
    /// By the clock of the platform.
    generated: Option<u64>,
}

impl Start {
    /// By the platform's clock if both reports have its time, otherwise by the gateway's.
    fn until(self, later: Self) -> u64 {
        match (self.generated, later.generated) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            _ => later.recorded.0.saturating_sub(self.recorded.0),
        }
    }
}

/// The reports of the platform on one call. They may come in any order.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    alerting: Option<Start>,
    talking: Option<Start>,
    failed: Option<Start>,
    released: Option<Start>,
    last: Option<(Timestamp, String)>,
}

impl Course {
    /// Adds one report. Of several reports of one phase the first one counts: both ends of a call hang up.
    pub(super) fn add(&mut self, at: Timestamp, call: &Call<'_>) {
        self.note_last(at, &call.phase);
        let start = Start { recorded: at, generated: call.generated_at };
        match &*call.phase {
            "alerting" => keep_first(&mut self.alerting, Some(start)),
            "talking" => keep_first(&mut self.talking, Some(start)),
            "failed" => keep_first(&mut self.failed, Some(start)),
            "released" => keep_first(&mut self.released, Some(start)),
            _ => {}
        }
    }

    /// Adds the reports that another gateway recorded.
    pub(super) fn merge(&mut self, other: &Self) {
        keep_first(&mut self.alerting, other.alerting);
        keep_first(&mut self.talking, other.talking);
        keep_first(&mut self.failed, other.failed);
        keep_first(&mut self.released, other.released);
        if let Some((at, phase)) = &other.last {
            self.note_last(*at, phase);
        }
    }

    fn note_last(&mut self, at: Timestamp, phase: &str) {
        if self.last.as_ref().is_none_or(|(last, _)| *last <= at) {
            self.last = Some((at, phase.to_owned()));
        }
    }

    /// The last phase that the platform reported.
    pub(super) fn phase(&self) -> Option<&str> {
        self.last.as_ref().map(|(_, phase)| phase.as_str())
    }

    /// How the call went; `None` if the platform reported nothing.
    pub(super) fn disposition(&self) -> Option<Disposition> {
        match self {
            Self { talking: Some(_), released: Some(_), .. } => Some(Disposition::Talked),
            Self { talking: Some(_), .. } => Some(Disposition::Talking),
            Self { failed: Some(_), .. } => Some(Disposition::Failed),
            Self { released: Some(_), .. } => Some(Disposition::NotAnswered),
            Self { alerting: Some(_), .. } => Some(Disposition::Ringing),
            _ => None,
        }
    }

    /// How long the two talked, in milliseconds.
    pub(super) fn talked_ms(&self) -> Option<u64> {
        Some(self.talking?.until(self.released?))
    }

    /// How long a telephone rang, in milliseconds.
    pub(super) fn rang_ms(&self) -> Option<u64> {
        Some(self.alerting?.until(self.talking.or(self.failed).or(self.released)?))
    }
}

fn keep_first(known: &mut Option<Start>, other: Option<Start>) {
    if let Some(other) = other
        && known.is_none_or(|known| other.recorded < known.recorded)
    {
        *known = Some(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Digest;

    /// The reports `phase@milliseconds`, or `phase@milliseconds/milliseconds of the platform`.
    fn course(reports: &str) -> Course {
        let mut course = Course::default();
        for report in reports.split_whitespace() {
            let (phase, times) = report.split_once('@').unwrap();
            let (at, generated) = times.split_once('/').unwrap_or((times, ""));
            let call = Call {
                agent: 101,
                call_id: "1-2".into(),
                decision: None,
                event_type: "any".into(),
                phase: phase.into(),
                event: Digest::of(b"e"),
                generated_at: generated.parse().ok(),
            };
            course.add(Timestamp(at.parse().unwrap()), &call);
        }
        course
    }

    #[test]
    fn disposition_and_times_follow_from_the_reports() {
        use Disposition::{Failed, NotAnswered, Ringing, Talked, Talking};
        for (reports, disposition, rang, talked) in [
            ("", None, None, None),
            ("alerting@10", Some(Ringing), None, None),
            ("alerting@10 talking@30", Some(Talking), Some(20), None),
            ("alerting@10 talking@30 released@90", Some(Talked), Some(20), Some(60)),
            ("alerting@10 failed@40", Some(Failed), Some(30), None),
            ("alerting@10 failed@40 released@50", Some(Failed), Some(30), None),
            ("alerting@10 released@50", Some(NotAnswered), Some(40), None),
            ("released@50", Some(NotAnswered), None, None),
            // Both ends hang up, and both telephones ring.
            ("alerting@10 alerting@15 talking@30 released@90 released@99", Some(Talked), Some(20), Some(60)),
            // Another gateway recorded the beginning, and its log is read later.
            ("released@90 talking@30 alerting@10", Some(Talked), Some(20), Some(60)),
            // Its length is known by the platform's clock only: events wait for a poll.
            ("talking@30/1000 released@90/8000", Some(Talked), None, Some(7000)),
            ("talking@30/1000 released@90", Some(Talked), None, Some(60)),
            ("another@1", None, None, None),
        ] {
            let found = course(reports);
            assert_eq!(
                (found.disposition(), found.rang_ms(), found.talked_ms()),
                (disposition, rang, talked),
                "{reports}"
            );
        }
    }

    #[test]
    fn the_last_phase_is_that_of_the_latest_report() {
        assert_eq!(course("released@90 talking@30").phase(), Some("released"));
        assert_eq!(course("talking@30 released@30").phase(), Some("released"));
        let mut merged = course("talking@30");
        merged.merge(&course("alerting@10 released@90"));
        assert_eq!((merged.phase(), merged.rang_ms(), merged.talked_ms()), (Some("released"), Some(20), Some(60)));
    }
}
