//! The report as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::advice::{Advice, advice, ratio};
use super::tally::{OfReason, Tally};
use crate::config::ReasonModes;
use crate::preview::{Reason, millis};

/// Maximum number of agents in the text. The JSON has all.
const MAX_AGENTS: usize = 20;
/// The length of the longest bar, in characters.
const BAR: f64 = 40.0;
/// The width of a paragraph, in characters.
const WIDTH: usize = 96;

/// The report for people.
pub(super) fn text(tally: &Tally) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = summary(&mut out, tally);
    let _ = reasons(&mut out, tally);
    let _ = agents(&mut out, tally);
    let _ = hours(&mut out, tally);
    let _ = recommendation(&mut out, tally);
    out
}

fn summary(out: &mut String, tally: &Tally) -> std::fmt::Result {
    let (first, last) = tally.period.map(|(first, last)| (minute(first), minute(last))).unwrap_or_default();
    writeln!(out, "{} callouts from {first} to {last} UTC", tally.callouts())?;
    let percent = |number| format!("{:.2} %", 100.0 * ratio(number, tally.callouts()));
    writeln!(out, "  {:>8}  forwarded", tally.forwarded)?;
    writeln!(out, "  {:>8}  would have been refused ({})", tally.unverified(), percent(tally.unverified()))?;
    writeln!(out, "  {:>8}  refused ({})", tally.rejected(), percent(tally.rejected()))?;
    if tally.from_audit {
        writeln!(out, "From an audit log, which was not verified here: `previewgate audit verify` does that.")?;
    }
    if tally.unreadable > 0 {
        writeln!(out, "{} of {} lines are not JSON and were left out.", tally.unreadable, tally.lines)?;
    }
    Ok(())
}

fn minute(at: std::time::SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().chars().take(16).collect::<String>().replace('T', " ")
}

fn reasons(out: &mut String, tally: &Tally) -> std::fmt::Result {
    writeln!(out, "\nBy reason              would be refused   refused   agents")?;
    for counts in tally.by_frequency() {
        let OfReason { reason, unverified, rejected, agents, .. } = counts;
        writeln!(out, "  {:<21}{unverified:>16}{rejected:>10}{:>9}", reason.as_str(), agents.len())?;
        if let Some(Advice { text, .. }) = advice(counts, tally) {
            for line in wrapped(&text) {
                writeln!(out, "      {line}")?;
            }
        }
    }
    if tally.reasons.is_empty() {
        writeln!(out, "  none")?;
    }
    Ok(())
}

fn agents(out: &mut String, tally: &Tally) -> std::fmt::Result {
    let mut objected: Vec<_> = tally.agents.iter().filter(|(_, number)| **number > 0).collect();
    if objected.is_empty() {
        return Ok(());
    }
    objected.sort_by_key(|(agent, number)| (std::cmp::Reverse(**number), **agent));
    writeln!(
        out,
        "\nBy agent: {} of {} had a callout that would have been refused",
        objected.len(),
        tally.agents.len()
    )?;
    let most = objected.first().map_or(1, |(_, number)| **number);
    for (agent, number) in objected.iter().take(MAX_AGENTS) {
        writeln!(out, "  {agent:<8}{number:>8}  {}", bar(**number, most))?;
    }
    if objected.len() > MAX_AGENTS {
        writeln!(out, "  and {} more; --format json has all", objected.len() - MAX_AGENTS)?;
    }
    Ok(())
}

fn hours(out: &mut String, tally: &Tally) -> std::fmt::Result {
    let most = tally.hours.values().map(|(_, objected)| *objected).max().unwrap_or_default();
    if most == 0 {
        return Ok(());
    }
    writeln!(out, "\nBy hour (UTC): would be refused, of all callouts")?;
    for (hour, (all, objected)) in &tally.hours {
        writeln!(out, "  {}:00  {objected:>8} of {all:<8}{}", hour.replace('T', " "), bar(*objected, most))?;
    }
    Ok(())
}

fn bar(number: u64, most: u64) -> String {
    let length = (ratio(number, most) * BAR).ceil();
    "#".repeat((1..=40).take_while(|step| f64::from(*step) <= length).count())
}

/// The reasons to enforce now, as a table for the configuration.
fn recommendation(out: &mut String, tally: &Tally) -> std::fmt::Result {
    let waiting = waiting(tally);
    if waiting.is_empty() {
        writeln!(out, "\nRecommendation: set validation.mode = \"enforce\" and reload.")?;
    } else {
        writeln!(out, "\nRecommendation: enforce everything except the reasons below, which need a look first.\n")?;
        writeln!(out, "[validation]\nmode = \"enforce\"\n\n[validation.reasons]")?;
        for reason in &waiting {
            writeln!(out, "{reason} = \"monitor\"")?;
        }
    }
    if tally.reasons.contains_key(Reason::ForeignSession.as_str()) {
        writeln!(out, "\nfor foreign_session, validation.session decides between enforce and monitor.")?;
    }
    Ok(())
}

/// The reasons that should not be enforced yet.
fn waiting(tally: &Tally) -> Vec<&'static str> {
    let waits = |counts: &&OfReason| advice(counts, tally).is_some_and(|advice| !advice.enforce);
    tally.reasons.values().filter(waits).map(|counts| counts.reason.as_str()).collect()
}

/// The report for programs.
pub(super) fn json(tally: &Tally) -> Value {
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    let reason = |counts: &&OfReason| {
        let advice = advice(counts, tally);
        json!({
            "reason": counts.reason.as_str(),
            "would_be_refused": counts.unverified,
            "refused": counts.rejected,
            "agents": counts.agents,
            "oldest_preview_ms": counts.oldest.map(millis),
            "enforce": advice.as_ref().map(|advice| advice.enforce),
            "advice": advice.map(|advice| advice.text),
        })
    };
    let never = tally.never_objected();
    json!({
        "from": tally.period.map(|(first, _)| time(first)),
        "to": tally.period.map(|(_, last)| time(last)),
        "callouts": tally.callouts(),
        "forwarded": tally.forwarded,
        "would_be_refused": tally.unverified(),
        "refused": tally.rejected(),
        "reasons": tally.by_frequency().iter().map(reason).collect::<Vec<_>>(),
        "never_objected": Reason::ALL.iter().filter(|reason| ReasonModes::can_name(**reason)).map(|reason| reason.as_str())
            .filter(|word| never.contains(word)).collect::<Vec<_>>(),
        "agents": tally.agents,
        "hours": tally.hours.iter().map(|(hour, (all, objected))| {
            json!({ "hour": format!("{hour}:00:00Z"), "callouts": all, "would_be_refused": objected })
        }).collect::<Vec<_>>(),
        "source": if tally.from_audit { "audit log, not verified" } else { "log" },
        "lines": tally.lines,
        "unreadable_lines": tally.unreadable,
    })
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
