//! The decisions of audit logs.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tally::{Decided, Tally};
use crate::audit::record::{Decision, Record};
use crate::audit::verify::Scan;
use crate::preview::{Timestamp, Verdict};

/// Counts the decisions in these directories that are not before `start`.
pub(super) fn read(directories: &[PathBuf], start: Option<SystemTime>, tally: &mut Tally) -> io::Result<()> {
    const END_OF_TIME: &str = "9999-12-31";
    tally.from_audit = true;
    let needles = ["decision", "refusals"].map(|kind| format!("\"kind\":\"{kind}\""));
    let first = start.map(|start| humantime::format_rfc3339_seconds(start.max(UNIX_EPOCH)).to_string());
    let days = first.as_deref().and_then(|first| first.get(..10)).map(|first| (first, END_OF_TIME));
    Scan { directories, days, needles: &needles }.each(|_, line| {
        tally.lines += 1;
        match line.record() {
            Some(Record::Decision(decision)) => {
                if let Some(decided) = decided(line.at, &decision) {
                    tally.count(&decided, start);
                }
            }
            Some(Record::Refusals(refusals)) => {
                for (reason, times) in &refusals.reasons {
                    let Some((verdict, reason)) = Decided::words(Verdict::Rejected.as_str(), reason) else { continue };
                    let at = time(refusals.since);
                    let counted = Decided { at, verdict, reason, agent: None, preview_age: None, times: *times };
                    tally.count(&counted, start);
                }
            }
            _ => {}
        }
        Ok(())
    })
}

fn decided(at: Timestamp, decision: &Decision<'_>) -> Option<Decided> {
    let (verdict, reason) = Decided::words(&decision.verdict, &decision.reason)?;
    let of_number = decision.previews.iter().find_map(|preview| preview.number_age_ms);
    let named = decision.previews.iter().find(|preview| Some(preview.control_id) == decision.control_id);
    let preview_age = of_number.or(named.map(|preview| preview.age_ms)).map(Duration::from_millis);
    Some(Decided { at: time(at), verdict, reason, agent: decision.agent, preview_age, times: 1 })
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(UNIX_EPOCH)
}
