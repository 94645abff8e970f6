//! The report for programs.

use std::io::{self, Write};

use super::day::{Callout, Day};
use crate::audit_commands::error::Error;

const COLUMNS: [&str; 20] = [
    "time",
    "agent",
    "verdict",
    "reason",
    "mode",
    "allowed_by",
    "number",
    "control_id",
    "shown_ms",
    "outcome",
    "retcode",
    "call_id",
    "phase",
    "talked_ms",
    "decision",
    "file",
    "seq",
    "tenant",
    "disposition",
    "rang_ms",
];

/// One row for each callout.
pub(super) fn csv(day: &Day, out: &mut impl Write) -> Result<(), Error> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS).map_err(io::Error::from)?;
    for callout in &day.callouts {
        writer.write_record(row(callout)).map_err(io::Error::from)?;
    }
    Ok(writer.flush()?)
}

fn row(callout: &Callout) -> [String; 20] {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: Option<u64>| value.map(|number| number.to_string()).unwrap_or_default();
    [
        callout.at.clone(),
        callout.agent.map(|agent| agent.to_string()).unwrap_or_default(),
        callout.verdict.clone(),
        callout.reason.clone(),
        callout.mode.clone(),
        text(&callout.allowed_by),
        text(&callout.number),
        callout.control_id.map(|id| id.to_string()).unwrap_or_default(),
        number(callout.shown_ms),
        text(&callout.outcome),
        text(&callout.retcode),
        text(&callout.call_id),
        text(&callout.phase),
        number(callout.talked_ms),
        callout.decision.clone(),
        callout.file.clone(),
        callout.seq.to_string(),
        // Columns that came later are last: programs may go by position.
        text(&callout.tenant),
        callout.disposition.unwrap_or_default().to_owned(),
        number(callout.rang_ms),
    ]
}

/// The whole day as one JSON object.
pub(super) fn json(day: &Day, out: &mut impl Write) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, day).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}
